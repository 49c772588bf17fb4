//! Which of the kernel's counters do our records determine, and which only nearly?
//!
//! Every entry was read in the kernel's source, Linux 6.1 and 6.12; the functions named here are those that raise the
//! counter.

use super::Counters;
use crate::aggregate::NamespaceSums;

type Sum = fn(&NamespaceSums) -> u64;

const NOTHING: Sum = |_| 0;

/// What a connect that began before the probe came can do unseen until its handshake is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OlderConnect {
    /// Nothing that this counter counts.
    Nothing,
    /// Repeat its SYN.
    RepeatSyn,
    /// Be reset as soon as it is established.
    BeReset,
}

/// A counter of the kernel and the sum of ours that should equal it.
#[derive(Clone, Copy, Debug)]
pub struct Counter {
    /// The kernel's name.
    pub name: &'static str,
    /// Why the two differ by nature; `None` where they are equal.
    pub inherent: Option<&'static str>,
    ours: Sum,
    /// Of `ours`, those that the kernel may have left out: the records do not tell.
    uncertain: Sum,
    /// What the kernel may have counted beyond `ours`: the records do not tell.
    unseen: Sum,
    /// Ours is whole only with the synack hook.
    pub(super) synacks: bool,
    pub(super) older_connect: OlderConnect,
}

const fn counter(name: &'static str, ours: Sum) -> Counter {
    Counter {
        name,
        inherent: None,
        ours,
        uncertain: NOTHING,
        unseen: NOTHING,
        synacks: false,
        older_connect: OlderConnect::Nothing,
    }
}

/// All that are compared: the exact ones, then those that differ by nature.
pub static COUNTERS: [Counter; 10] = [
    // tcp_connect. A connect that its own kernel refuses for want of a route to send on is ours alone.
    counter("ActiveOpens", |sums| sums.connects_tried),
    // tcp_create_openreq_child, which also makes the children of Fast Open and of SYN cookies. The one that loses a race
    // for its request (inet_ehash_nolisten) or finds no memory is the kernel's alone.
    counter("PassiveOpens", |sums| sums.opened_server.wrapping_add(sums.unfinished_server)),
    // tcp_set_state: to CLOSE out of ESTABLISHED or CLOSE_WAIT.
    Counter {
        unseen: |sums| sums.without_callbacks,
        older_connect: OlderConnect::BeReset,
        ..counter("EstabResets", |sums| sums.resets)
    },
    // __tcp_retransmit_skb (with total_retrans, before the segment is handed down) and tcp_rtx_synack.
    Counter {
        synacks: true,
        older_connect: OlderConnect::RepeatSyn,
        ..counter("RetransSegs", |sums| sums.retransmitted_segs)
    },
    // tcp_xmit_retransmit_queue outside the Loss state, for sends that succeeded.
    Counter {
        uncertain: |sums| sums.retransmissions_failed,
        unseen: |sums| sums.retransmitted_unattributed,
        ..counter("TCPFastRetrans", |sums| sums.retransmitted_fast)
    },
    // __tcp_retransmit_skb for a segment with SYN, and tcp_rtx_synack.
    Counter {
        synacks: true,
        older_connect: OlderConnect::RepeatSyn,
        ..counter("TCPSynRetrans", |sums| sums.retransmitted_syns)
    },
    // __tcp_retransmit_skb when the send failed; it leaves EBUSY out, which tcp_transmit_skb does not give.
    Counter {
        unseen: |sums| sums.retransmitted_unattributed,
        older_connect: OlderConnect::RepeatSyn,
        ..counter("TCPRetransFail", |sums| sums.retransmissions_failed)
    },
    // tcp_retransmit_timer and tcp_syn_ack_timeout, against the callback in tcp_write_timeout.
    Counter {
        inherent: Some(
            "the kernel also counts the timers of requests that wait for the last ACK of their handshake",
        ),
        ..counter("TCPTimeouts", |sums| sums.timeouts)
    },
    // tcp_send_loss_probe.
    Counter {
        inherent: Some(
            "the kernel also counts probes with new data, which send nothing again, and leaves failed sends out",
        ),
        ..counter("TCPLossProbes", |sums| sums.retransmitted_probes)
    },
    // tcp_done out of SYN_SENT or SYN_RECV, and tcp_check_req.
    Counter {
        inherent: Some(
            "the kernel also counts requests that were reset, and leaves out connects that the program gave up",
        ),
        ..counter("AttemptFails", |sums| sums.connects_failed)
    },
];

impl Counter {
    /// Our sum.
    #[must_use]
    pub fn ours(&self, sums: &NamespaceSums) -> u64 {
        (self.ours)(sums)
    }

    /// The least and the most that the kernel may have counted by our records.
    pub(super) fn bounds(&self, sums: &NamespaceSums) -> (u64, u64) {
        let ours = self.ours(sums);
        (ours.saturating_sub((self.uncertain)(sums)), ours.saturating_add((self.unseen)(sums)))
    }

    /// Whether the kernel's counter is determined by our records.
    #[must_use]
    pub const fn is_exact(&self, synack_hook: bool) -> bool {
        self.inherent.is_none() && (synack_hook || !self.synacks)
    }

    /// The kernel's value; 0 where it has no such counter or it was not read.
    pub(super) fn of(&self, counters: Option<&Counters>) -> u64 {
        counters.and_then(|c| c.get(self.name)).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_records_leave_open_widens_the_bounds() {
        let sums = NamespaceSums {
            retransmitted_fast: 7,
            retransmissions_failed: 2,
            retransmitted_unattributed: 3,
            resets: 4,
            without_callbacks: 1,
            ..NamespaceSums::default()
        };
        let bounds = |name: &str| COUNTERS.iter().find(|c| c.name == name).map(|c| c.bounds(&sums));
        assert_eq!(bounds("TCPFastRetrans"), Some((5, 10)));
        assert_eq!(bounds("EstabResets"), Some((4, 5)));
        assert_eq!(bounds("RetransSegs"), Some((0, 0)));
    }

    #[test]
    fn without_the_synack_hook_two_counters_are_not_exact() {
        let exact = |hook| COUNTERS.iter().filter(|c| c.is_exact(hook)).map(|c| c.name).collect::<Vec<_>>();
        assert_eq!(exact(true).len(), 7);
        assert_eq!(exact(false).len(), 5);
        assert!(!exact(false).contains(&"RetransSegs"));
    }
}
