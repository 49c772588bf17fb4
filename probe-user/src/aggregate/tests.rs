//! Lives of connections, told in records, and what must be in the sums after them.

use probe_common::{
    decode::{Record, decode},
    record::{
        Counters, FlowRecord,
        flag::{ACCOUNTED, ADOPTED, ESTABLISHED, FIN_LOCAL, OPENED},
        kind::{CLOSED, INCREMENT, LIVE},
        role::{CLIENT, SERVER, UNKNOWN},
    },
    tcp::{StallCause, state},
};
use proptest::prelude::*;

use super::*;
use crate::{
    aggregate::testing::{NETNS, opening_with_losses, record, synack, with_samples},
    flow::{
        CloseReason, Family, Role,
        from_record::{unacked_bytes, unsent_bytes},
    },
};

mod ends;
mod grouped;

const CLIENT4: Group = Group::plain(Some(Role::Client), Some(Family::Ipv4));
const SERVER4: Group = Group::plain(Some(Role::Server), Some(Family::Ipv4));
const UNKNOWN4: Group = Group::plain(None, Some(Family::Ipv4));

fn sums(records: &[FlowRecord]) -> Aggregator {
    let mut out = Aggregator::new(true);
    for record in records {
        out.add(record);
    }
    out
}

fn only(aggregator: &Aggregator, group: &Group) -> Arc<Series> {
    let groups = aggregator.snapshot().groups;
    assert_eq!(groups.keys().collect::<Vec<_>>(), [group]);
    Arc::clone(&groups[group])
}

fn in_order(mut record: FlowRecord) -> FlowRecord {
    record.flags |= FIN_LOCAL;
    record.state = state::FIN_WAIT2;
    record
}

#[test]
fn a_connection_that_was_swept_is_counted_once() {
    let mut end = in_order(opening_with_losses());
    (end.kind, end.flags) = (CLOSED, ESTABLISHED | ACCOUNTED | FIN_LOCAL);
    (end.opened_ns, end.now_ns) = (5_000_000_000, 8_000_000_000);
    let last = with_samples(record(INCREMENT, CLIENT, ESTABLISHED | ACCOUNTED), &[19_000]);

    let aggregator = sums(&[opening_with_losses(), last, end]);
    let series = only(&aggregator, &CLIENT4);
    assert_eq!((series.opened, series.live(), series.closed.total()), (1, 0, 1));
    assert_eq!(series.closed.get(CloseReason::FinLocal), 1);
    assert_eq!(
        (series.data_segs_out, series.bytes_sent),
        (107, 150_000),
        "the end's totals are no increment"
    );
    assert_eq!((series.rtt.count(), series.rtt.sum_us), (4, 100_500));
    assert_eq!((series.handshake_rtt.count(), series.handshake_rtt.sum_us), (1, 20_100));
    assert_eq!((series.min_rtt.count(), series.min_rtt.sum_us), (1, 20_000));
    assert_eq!(series.duration.sum_ns, 3_000_000_000);
    assert_eq!(
        aggregator.namespaces()[&NETNS],
        NamespaceSums {
            retransmitted_segs: 7,
            retransmitted_fast: 5,
            retransmitted_probes: 1,
            retransmitted_syns: 1,
            timeouts: 1,
            opened_client: 1,
            connects_tried: 1,
            ..NamespaceSums::default()
        }
    );
}

#[test]
fn a_connection_that_ended_between_sweeps_brings_all_at_its_end() {
    let mut end = in_order(opening_with_losses());
    (end.kind, end.flags) = (CLOSED, ESTABLISHED | FIN_LOCAL);
    let series = only(&sums(&[end]), &CLIENT4);
    assert_eq!((series.opened, series.live(), series.closed.total()), (1, 0, 1));
    assert_eq!((series.data_segs_out, series.rtt.count(), series.handshake_rtt.count()), (107, 3, 1));
    assert_eq!(series.duration.sum_ns, 0, "its beginning is not known");
    assert_eq!(series.duration.counts.iter().sum::<u64>(), 0);
}

#[test]
fn each_retransmission_has_one_cause() {
    let mut more = record(INCREMENT, CLIENT, ESTABLISHED);
    (more.counters.retrans_segs, more.counters.retrans_rto) = (10, 4);
    let aggregator = sums(&[opening_with_losses(), more]);
    let series = only(&aggregator, &CLIENT4);
    assert_eq!(Cause::ALL.map(|cause| series.retransmitted(cause)), [5, 4, 1, 1, 0, 0]);
    assert_eq!(series.unattributed, 6);
    assert_eq!(aggregator.snapshot().discrepancies, 0);

    let mut wrong = record(INCREMENT, CLIENT, ESTABLISHED);
    (wrong.counters.retrans_segs, wrong.counters.retrans_rto) = (1, 2);
    let aggregator = sums(&[wrong]);
    assert_eq!(only(&aggregator, &CLIENT4).unattributed, 0);
    assert_eq!(aggregator.snapshot().discrepancies, 1);
}

#[test]
fn a_failed_connect_is_no_connection() {
    let mut end = record(CLOSED, CLIENT, 0);
    end.state = state::SYN_SENT;
    end.error = libc::ETIMEDOUT as u32;
    (end.opened_ns, end.now_ns, end.min_rtt_us) = (1, 2, 7);
    (end.counters.segs_out, end.counters.retrans_segs, end.counters.retrans_syn) = (7, 6, 6);
    let aggregator = sums(&[end]);
    let series = only(&aggregator, &CLIENT4);
    assert_eq!((series.opened, series.closed.total(), series.live()), (0, 0, 0));
    assert_eq!(
        (series.connect_failures.total(), series.connect_failures.get(CloseReason::ConnectTimeout)),
        (1, 1)
    );
    assert_eq!((series.segs_out, series.retransmitted(Cause::Syn)), (7, 6));
    assert_eq!((series.min_rtt.count(), series.duration.sum_ns), (0, 0));
    assert_eq!(aggregator.namespaces()[&NETNS].connects_tried, 1);
}

#[test]
fn a_namespace_counts_openings_by_role_and_only_connects_as_tried() {
    let opened = |role| record(INCREMENT, role, ESTABLISHED | OPENED);
    let failed = |role| record(CLOSED, role, 0);
    let aggregator = sums(&[opened(CLIENT), opened(SERVER), opened(SERVER), failed(CLIENT), failed(SERVER)]);
    let expected = NamespaceSums {
        opened_client: 1,
        opened_server: 2,
        unfinished_server: 1,
        connects_tried: 2,
        connects_failed: 1,
        ..NamespaceSums::default()
    };
    assert_eq!(aggregator.namespaces()[&NETNS], expected);
}

#[test]
fn a_connect_that_was_swept_and_then_came_to_be_is_opened_once() {
    let mut syn = record(INCREMENT, CLIENT, 0);
    (syn.counters.retrans_segs, syn.counters.retrans_syn) = (1, 1);
    let open = record(INCREMENT, CLIENT, ESTABLISHED | ACCOUNTED | OPENED);
    let series = only(&sums(&[syn, open]), &CLIENT4);
    assert_eq!((series.opened, series.live(), series.retransmitted(Cause::Syn)), (1, 1, 1));
}

#[test]
fn an_adopted_connection_lives_but_was_not_opened() {
    let mut adopted = record(INCREMENT, UNKNOWN, ADOPTED | ESTABLISHED | OPENED);
    adopted.handshake_rtt_us = 9;
    let mut aggregator = sums(&[adopted]);
    let series = only(&aggregator, &UNKNOWN4);
    assert_eq!((series.opened, series.live(), series.handshake_rtt.count()), (0, 1, 0));

    let mut end = in_order(record(CLOSED, UNKNOWN, ADOPTED | ESTABLISHED | ACCOUNTED));
    end.now_ns = 77;
    aggregator.add(&end);
    let series = only(&aggregator, &UNKNOWN4);
    assert_eq!((series.closed.total(), series.live(), series.duration.sum_ns), (1, 0, 0));
}

#[test]
fn the_history_of_an_adopted_connection_is_not_news() {
    let mut end = in_order(record(CLOSED, UNKNOWN, ADOPTED | ESTABLISHED));
    (end.counters.bytes_sent, end.counters.retrans_segs) = (1 << 40, 99);
    let aggregator = sums(&[end]);
    let series = only(&aggregator, &UNKNOWN4);
    assert_eq!((series.bytes_sent, series.unattributed), (0, 0));
    assert_eq!((series.opened, series.closed.total(), series.live()), (0, 1, 0));
}

#[test]
fn the_smallest_round_trip_is_the_connections_own() {
    let ended = |own, windowed, generation| {
        let mut end = in_order(record(CLOSED, SERVER, ESTABLISHED | ACCOUNTED));
        (end.own_min_rtt_us, end.min_rtt_us, end.generation) = (own, windowed, generation);
        let series = only(&sums(&[end]), &SERVER4);
        (series.min_rtt.count(), series.min_rtt.sum_us)
    };
    assert_eq!(ended(300, 200, 0), (1, 200), "the smaller of both");
    assert_eq!(ended(300, 200, 1), (1, 300));
    assert_eq!(ended(u32::MAX, 200, 0), (1, 200));
    assert_eq!(ended(u32::MAX, 200, 1), (0, 0), "a connection before this one on the same socket");
    assert_eq!(ended(u32::MAX, u32::MAX, 0), (0, 0));
    // Whole milliseconds of the kernel come from the echoed timestamp.
    assert_eq!(ended(2_643, 2_000, 0), (1, 2_643));
    assert_eq!(ended(1_950, 2_000, 0), (1, 1_950));
    assert_eq!(ended(3_100, 2_000, 0), (1, 2_000), "more than a tick above it: there was a shorter one");
    assert_eq!(ended(u32::MAX, 2_000, 0), (1, 2_000));
}

#[test]
fn a_repeated_synack_is_counted_once_with_and_without_the_hook() {
    let mut child = record(INCREMENT, SERVER, ESTABLISHED | OPENED);
    (child.counters.retrans_segs, child.counters.retrans_synack, child.counters.retrans_fast) = (3, 1, 2);
    for (hook, synacks) in [(true, 2), (false, 1)] {
        let mut aggregator = Aggregator::new(hook);
        // One for a request that completes, one for a request that never does.
        aggregator.add_synack(&synack());
        aggregator.add_synack(&synack());
        aggregator.add(&child);
        let series = only(&aggregator, &SERVER4);
        assert_eq!(series.retransmitted(Cause::Synack), synacks, "hook {hook}");
        assert_eq!(series.retransmitted(Cause::Fast), 2);
        assert_eq!(series.unattributed, 0);
        assert_eq!(aggregator.namespaces()[&NETNS].retransmitted_segs, 2 + synacks);
        assert_eq!(aggregator.namespaces()[&NETNS].connects_tried, 0);
    }
}

#[test]
fn live_snapshots_add_nothing() {
    let mut live = opening_with_losses();
    live.kind = LIVE;
    assert!(sums(&[live]).snapshot().groups.is_empty());
}

#[test]
fn a_recount_sets_all_gauges_and_an_earlier_snapshot_stays() {
    let mut aggregator = sums(&[opening_with_losses()]);
    let before = aggregator.snapshot();
    aggregator.resync_live(&[(SERVER4, 2), (SERVER4, 3)]);
    let after = aggregator.snapshot();
    assert_eq!((after.groups[&CLIENT4].live(), after.groups[&SERVER4].live()), (0, 5));
    assert_eq!((before.groups[&CLIENT4].live(), before.groups.len()), (1, 1));
}

#[test]
fn a_namespace_that_is_gone_is_forgotten() {
    let mut aggregator = sums(&[opening_with_losses()]);
    aggregator.retain_namespaces(|inode| inode == NETNS);
    assert_eq!(aggregator.namespaces().len(), 1);
    aggregator.retain_namespaces(|inode| inode != NETNS);
    assert_eq!(aggregator.namespaces().len(), 0);
    assert_eq!(only(&aggregator, &CLIENT4).data_segs_out, 107);
}

/// Records with arbitrary content of which kind, role and family are often valid.
fn arbitrary() -> impl Strategy<Value = FlowRecord> {
    let words = proptest::collection::vec(any::<u64>(), size_of::<FlowRecord>() / 8);
    (words, CLOSED..=INCREMENT, 0u8..4, prop_oneof![Just(2u16), Just(10), any::<u16>()], 0u32..512).prop_map(
        |(words, kind, role, family, flags)| {
            let mut record: FlowRecord = bytemuck::pod_read_unaligned(bytemuck::cast_slice(&words));
            (record.abi, record.kind, record.role) = (probe_common::ABI_VERSION, kind, role);
            (record.family, record.flags) = (family, flags);
            record.netns %= 3;
            record
        },
    )
}

fn total(aggregator: &Aggregator, read: impl Fn(&Series) -> u64) -> u64 {
    aggregator.snapshot().groups.values().fold(0, |sum, series| sum.wrapping_add(read(series)))
}

fn expected<'a>(records: impl Iterator<Item = &'a FlowRecord>, read: impl Fn(&FlowRecord) -> u64) -> u64 {
    records.fold(0, |sum, record| sum.wrapping_add(read(record)))
}

proptest! {
    #[test]
    fn the_groups_add_up_to_what_was_added(
        records in proptest::collection::vec(arbitrary(), 0..40), synacks in 0u64..5, hook: bool,
    ) {
        let mut aggregator = Aggregator::new(hook);
        for record in &records {
            aggregator.add(record);
        }
        for _ in 0..synacks {
            aggregator.add_synack(&synack());
        }
        let has = |record: &FlowRecord, bit| record.flags & bit != 0;
        let growing = || records.iter().filter(|r| {
            r.kind == INCREMENT || r.kind == CLOSED && !has(r, ACCOUNTED) && !has(r, ADOPTED)
        });
        prop_assert_eq!(total(&aggregator, |s| s.bytes_sent), expected(growing(), |r| r.counters.bytes_sent));
        prop_assert_eq!(total(&aggregator, |s| s.bytes_acked), expected(growing(), |r| r.counters.bytes_acked));
        prop_assert_eq!(total(&aggregator, |s| s.bytes_received), expected(growing(), |r| r.counters.bytes_received));
        prop_assert_eq!(total(&aggregator, |s| s.segs_out), expected(growing(), |r| r.counters.segs_out.into()));
        prop_assert_eq!(total(&aggregator, |s| s.rtos), expected(growing(), |r| r.counters.rto_count.into()));
        prop_assert_eq!(total(&aggregator, |s| s.loss_episodes), expected(growing(), |r| r.counters.loss_episodes.into()));
        prop_assert_eq!(total(&aggregator, |s| s.loss_episode_us), expected(growing(), |r| r.counters.loss_episode_us));
        prop_assert_eq!(total(&aggregator, |s| s.needless_segs), expected(growing(), |r| r.counters.needless_segs.into()));
        prop_assert_eq!(total(&aggregator, |s| s.undone_episodes), expected(growing(), |r| r.counters.undone_episodes.into()));
        for (cause, stalls, us) in [
            (StallCause::Rto, (|c| c.stalls_rto) as fn(&Counters) -> u32, (|c| c.stall_rto_us) as fn(&Counters) -> u64),
            (StallCause::ZeroWindow, |c| c.stalls_zero_window, |c| c.stall_zero_window_us),
            (StallCause::Other, |c| c.stalls_other, |c| c.stall_other_us),
        ] {
            prop_assert_eq!(total(&aggregator, |s| s.stalls(cause)), expected(growing(), |r| stalls(&r.counters).into()));
            prop_assert_eq!(total(&aggregator, |s| s.stall_us(cause)), expected(growing(), |r| us(&r.counters)));
        }
        prop_assert_eq!(total(&aggregator, |s| s.busy_jiffies), expected(growing(), |r| r.counters.busy_jiffies.into()));
        prop_assert_eq!(total(&aggregator, |s| s.rtt.sum_us), expected(growing(), |r| r.counters.rtt_sum_us));
        prop_assert_eq!(
            total(&aggregator, |s| s.rtt.count()),
            expected(growing(), |r| r.rtt_histogram.iter().map(|count| u64::from(*count)).sum())
        );

        let attributed = |r: &FlowRecord| {
            let c = &r.counters;
            [c.retrans_fast, c.retrans_rto, c.retrans_tlp, c.retrans_syn, c.retrans_synack, c.retrans_other]
                .map(u64::from).iter().sum::<u64>()
        };
        let apart = |r: &FlowRecord| if hook { u64::from(r.counters.retrans_synack) } else { 0 };
        let events = if hook { synacks } else { 0 };
        prop_assert_eq!(
            total(&aggregator, |s| s.unattributed + Cause::ALL.iter().map(|cause| s.retransmitted(*cause)).sum::<u64>()),
            events + expected(growing(), |r| attributed(r).max(r.counters.retrans_segs.into()) - apart(r))
        );
        prop_assert_eq!(
            aggregator.snapshot().discrepancies,
            expected(growing(), |r| u64::from(attributed(r) > u64::from(r.counters.retrans_segs)))
        );
        prop_assert_eq!(
            aggregator.namespaces().values().map(|sums| sums.retransmitted_segs).sum::<u64>(),
            events + expected(growing(), |r| u64::from(r.counters.retrans_segs).saturating_sub(apart(r)))
        );

        let unsent = |r: &FlowRecord| unsent_bytes(r).unwrap_or(0).into();
        let unacked = |r: &FlowRecord| unacked_bytes(r).unwrap_or(0).into();
        let ends = || records.iter().filter(|r| r.kind == CLOSED && has(r, ESTABLISHED));
        prop_assert_eq!(total(&aggregator, |s| s.closed_unsent_bytes.total()), expected(ends(), unsent));
        prop_assert_eq!(total(&aggregator, |s| s.closed_unacked_bytes.total()), expected(ends(), unacked));
        prop_assert_eq!(
            total(&aggregator, |s| s.closed_incomplete.total()),
            ends().filter(|r| unsent(r) + unacked(r) > 0).count() as u64
        );

        let ended = records.iter().filter(|r| r.kind == CLOSED && has(r, ESTABLISHED)).count() as u64;
        let failed = records.iter().filter(|r| r.kind == CLOSED && !has(r, ESTABLISHED)).count() as u64;
        let began = records.iter().filter(|r| has(r, ESTABLISHED)).filter(|r| match r.kind {
            INCREMENT => has(r, OPENED),
            CLOSED => !has(r, ACCOUNTED),
            _ => false,
        });
        let (began, opened) = (began.clone().count() as i64, began.filter(|r| !has(r, ADOPTED)).count() as u64);
        prop_assert_eq!(total(&aggregator, |s| s.closed.total()), ended);
        prop_assert_eq!(total(&aggregator, |s| s.connect_failures.total()), failed);
        prop_assert_eq!(total(&aggregator, |s| s.opened), opened);
        prop_assert_eq!(
            aggregator.snapshot().groups.values().map(|series| series.live()).sum::<i64>(), began - ended as i64
        );
        prop_assert_eq!(
            aggregator.namespaces().values().map(|n| n.opened_client + n.opened_server + n.opened_unknown).sum::<u64>(),
            opened
        );
        // Closed lists only: role and family have three values each.
        prop_assert!(aggregator.snapshot().groups.len() <= 9);
        // Each reason that occurs is one that is exported.
        let listed = |reasons: &Reasons, list: &[CloseReason]| list.iter().map(|r| reasons.get(*r)).sum::<u64>();
        prop_assert_eq!(total(&aggregator, |s| listed(&s.closed, &CLOSE_REASONS)), ended);
        prop_assert_eq!(total(&aggregator, |s| listed(&s.connect_failures, &CONNECT_FAILURES)), failed);
    }

    #[test]
    fn no_bytes_that_decode_can_panic(words in proptest::collection::vec(any::<u64>(), size_of::<FlowRecord>() / 8), kind in 0u8..6) {
        let mut words = words;
        let [a, b] = probe_common::ABI_VERSION.to_ne_bytes();
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut words);
        (bytes[0], bytes[1], bytes[2]) = (a, b, kind);
        let mut aggregator = Aggregator::new(true);
        for length in [56, bytes.len()] {
            for _ in 0..3 {
                match decode(&bytes[..length]) {
                    Ok(Record::Flow(record)) => aggregator.add(&record),
                    Ok(Record::Synack(record)) => aggregator.add_synack(&record),
                    Err(_) => {}
                }
            }
        }
        let text = crate::export::prometheus::text(
            &aggregator.snapshot(), &crate::export::stats::SelfStats { jiffies_per_second: Some(250), ..Default::default() },
        );
        prop_assert!(text.is_ok());
    }
}
