//! What connections left behind when they ended, and where they stood still before.

use probe_common::record::flag::{FIN_REMOTE, FROM_DESTROY};

use super::*;

#[test]
fn each_stall_has_one_cause() {
    let mut more = record(INCREMENT, CLIENT, ESTABLISHED);
    (more.counters.stalls_other, more.counters.stall_other_us, more.counters.stall_rto_us) =
        (1, 250_000, 5_000);
    let series = only(&sums(&[opening_with_losses(), more]), &CLIENT4);
    assert_eq!(StallCause::ALL.map(|cause| series.stalls(cause)), [1, 2, 1]);
    assert_eq!(StallCause::ALL.map(|cause| series.stall_us(cause)), [417_000, 1_300_000, 250_000]);
    assert_eq!(series.undone_episodes, 1);
}

#[test]
fn a_normal_close_leaves_nothing_and_is_no_failure() {
    // As servers close: first, after the peer, and at the same time as it. A client likewise.
    for role in [SERVER, CLIENT] {
        for (fin, last, reason) in [
            (FIN_LOCAL, state::FIN_WAIT2, CloseReason::FinLocal),
            (FIN_LOCAL, state::CLOSING, CloseReason::FinLocal),
            (FIN_REMOTE, state::LAST_ACK, CloseReason::FinRemote),
        ] {
            let mut end = record(CLOSED, role, ESTABLISHED | fin);
            (end.state, end.counters.bytes_sent) = (last, 1 << 20);
            let series = only(
                &sums(&[end]),
                &Group { family: Some(Family::Ipv4), ..Grouping::default().group_of(&end) },
            );
            assert_eq!((series.closed.get(reason), series.closed.total()), (1, 1));
            assert_eq!(series.closed_incomplete, Reasons::default());
            assert_eq!(series.closed_unsent_bytes, Reasons::default());
            assert_eq!(series.closed_unacked_bytes, Reasons::default());
            assert_eq!(series.connect_failures, Reasons::default());
        }
    }
}

#[test]
fn what_the_peer_never_got_is_counted_by_reason() {
    let end = |state, flags, errno: i32, unsent, unacked| {
        let mut end = record(CLOSED, SERVER, ESTABLISHED | flags);
        (end.state, end.error, end.unsent_seq, end.unacked_seq) = (state, errno as u32, unsent, unacked);
        end
    };
    let series = only(
        &sums(&[
            // The client left with a part unsent.
            end(state::ESTABLISHED, 0, libc::ECONNRESET, 40_000, 14_480),
            // The same after close(): our FIN waits behind the data.
            end(state::FIN_WAIT1, FIN_LOCAL, libc::ECONNRESET, 1_001, 0),
            // All was sent, the FIN too, and nothing of it acknowledged.
            end(state::FIN_WAIT1, FIN_LOCAL, libc::ETIMEDOUT, 0, 501),
            // Only the FIN was not acknowledged: nothing of the application's is missing.
            end(state::LAST_ACK, FIN_REMOTE, libc::ETIMEDOUT, 0, 1),
            // Seen at its destruction only: its sequence numbers tell nothing.
            end(state::CLOSE, FROM_DESTROY, libc::ECONNRESET, 77_777, 88),
        ]),
        &SERVER4,
    );
    let of = |counts: &Reasons| {
        [CloseReason::ResetReceived, CloseReason::Timeout].map(|reason| counts.get(reason))
    };
    assert_eq!(of(&series.closed), [3, 2]);
    assert_eq!((of(&series.closed_incomplete), series.closed_incomplete.total()), ([2, 1], 3));
    assert_eq!(of(&series.closed_unsent_bytes), [41_000, 0]);
    assert_eq!(of(&series.closed_unacked_bytes), [14_480, 500]);
}
