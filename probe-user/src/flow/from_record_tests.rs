//! What becomes null, and what does not.

use probe_common::{
    fields::FIELD_COUNT,
    record::{
        flag::{ADOPTED, CALLBACKS, ESTABLISHED, FIN_LOCAL, FROM_DESTROY, WIPED},
        kind::{CLOSED, LIVE},
        role::SERVER,
    },
};

use super::*;
use crate::{
    aggregate::testing::record,
    flow::{
        FirstFin,
        field::{FIELDS, Value},
    },
};

fn context() -> Context {
    Context { places: [0; FIELD_COUNT], hz: 250, wall_offset_ns: 0 }
}

fn made(record: &FlowRecord) -> Flow {
    flow(record, &context(), None)
}

fn stalled(flags: u32) -> FlowRecord {
    let mut out = record(LIVE, SERVER, ESTABLISHED | flags);
    let c = &mut out.counters;
    (c.stalls_rto, c.stalls_zero_window, c.stalls_other) = (1, 2, 3);
    (c.stall_rto_us, c.stall_zero_window_us, c.stall_other_us) = (400_000, 5_000_000_000, 600_000);
    (c.loss_episodes, c.undone_episodes) = (4, 2);
    out
}

#[test]
fn stalls_are_known_where_callbacks_are_on() {
    let names = [
        ("stalls_rto", 1),
        ("stalls_zero_window", 2),
        ("stalls_other", 3),
        ("stall_rto_us", 400_000),
        ("stall_zero_window_us", 5_000_000_000),
        ("stall_other_us", 600_000),
        ("undone_episodes", 2),
    ];
    let (seen, unseen) = (made(&stalled(CALLBACKS)), made(&stalled(ADOPTED)));
    for (name, value) in names {
        let field = FIELDS.iter().find(|field| field.name == name).unwrap();
        assert_eq!(field.of(&seen), Some(Value::Int(value)), "{name}");
        assert_eq!(field.of(&unseen), None, "{name}");
    }
    let mut without = context();
    without.places[Field::UndoMarker as usize] = ABSENT;
    let flow = flow(&stalled(CALLBACKS), &without, None);
    assert_eq!((flow.undone_episodes, flow.stalls_rto), (None, Some(1)));
}

#[test]
fn the_first_fin_is_told_while_the_connection_lives_and_after() {
    assert_eq!(made(&record(LIVE, SERVER, ESTABLISHED)).first_fin, None);
    for kind in [LIVE, CLOSED] {
        let mut closing = record(kind, SERVER, ESTABLISHED | FIN_LOCAL);
        closing.state = state::FIN_WAIT2;
        assert_eq!(made(&closing).first_fin, Some(FirstFin::Local));
    }
}

#[test]
fn a_rate_of_the_connection_before_on_the_same_socket_is_none() {
    let mut second = record(LIVE, SERVER, ESTABLISHED);
    (second.rate_delivered_segs, second.rate_interval_us, second.mss_bytes) = (10, 20_000, 1_448);
    let first = made(&second);
    assert_eq!((first.delivery_rate_bytes_per_second, first.app_limited), (Some(724_000), Some(false)));
    second.generation = 1;
    let second = made(&second);
    assert_eq!((second.delivery_rate_bytes_per_second, second.app_limited), (None, None));
}

#[test]
fn bytes_left_are_null_where_the_socket_no_longer_tells() {
    let mut end = record(CLOSED, SERVER, ESTABLISHED);
    (end.state, end.unsent_seq, end.unacked_seq) = (state::ESTABLISHED, 40_000, 1_448);
    let seen = made(&end);
    assert_eq!((seen.unsent_bytes, seen.unacked_bytes), (Some(40_000), Some(1_448)));
    end.flags |= FROM_DESTROY;
    let unseen = made(&end);
    assert_eq!((unseen.unsent_bytes, unseen.unacked_bytes), (None, None));
}

#[test]
fn counts_that_the_socket_forgot_are_null() {
    let mut end = record(CLOSED, SERVER, ESTABLISHED | ADOPTED | FROM_DESTROY);
    end.counters.segs_out = 7;
    let kept = made(&end);
    assert_eq!((kept.segs_out, kept.bytes_sent), (Some(7), Some(end.counters.bytes_sent)));
    end.flags |= WIPED;
    let forgotten = serde_json::to_value(made(&end)).unwrap();
    for field in
        ["segs_out", "bytes_sent", "retrans_segs", "retrans_unattributed", "lost_segs_estimate", "busy_us"]
    {
        assert!(forgotten[field].is_null(), "{field} is {}", forgotten[field]);
    }
}

#[test]
fn the_estimate_of_losses_is_never_below_zero() {
    let mut lossy = record(LIVE, SERVER, ESTABLISHED | CALLBACKS);
    let c = &mut lossy.counters;
    // The kernel counts reports beyond what it sent again too, before it ignores them (tcp_dsack_seen).
    (c.retrans_segs, c.retrans_fast, c.spurious_segs, c.needless_segs) = (3, 3, 4, 4);
    assert_eq!(made(&lossy).lost_segs_estimate, Some(0));
    lossy.flags &= !CALLBACKS;
    assert_eq!(made(&lossy).lost_segs_estimate, Some(0), "by the peer's reports alone");
    lossy.counters.spurious_segs = 1;
    assert_eq!(made(&lossy).lost_segs_estimate, Some(2));
}
