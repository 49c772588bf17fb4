//! Sums of one network namespace, to be laid beside the kernel's own in /proc/net/snmp and netstat.
//!
//! Which counter each sum belongs to, and how exactly, is in `reconcile`.

use probe_common::{
    record::{Counters, FlowRecord, flag, role},
    tcp::state,
};

macro_rules! sums {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What was counted in one network namespace since the probe came.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct NamespaceSums {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl NamespaceSums {
            /// Both together.
            #[must_use]
            pub const fn plus(&self, other: &Self) -> Self {
                Self { $($name: self.$name.wrapping_add(other.$name),)* }
            }

            /// What was added since `before`.
            #[must_use]
            pub const fn since(&self, before: &Self) -> Self {
                Self { $($name: self.$name.wrapping_sub(before.$name),)* }
            }
        }
    };
}

sums! {
    /// Segments sent again, those of requests that never completed among them when the synack hook is up.
    retransmitted_segs,
    /// … of these outside of timeouts, probes and handshakes.
    retransmitted_fast,
    /// … of these as tail loss probes.
    retransmitted_probes,
    /// … of these SYNs and SYN-ACKs.
    retransmitted_syns,
    /// … of these on connections without callbacks, which tell no cause.
    retransmitted_unattributed,
    /// … of these with callbacks that did not leave the host.
    retransmissions_failed,
    /// Retransmission timeouts of sockets.
    timeouts,
    /// Connections that this side opened.
    opened_client,
    /// Connections that the peer opened.
    opened_server,
    /// Connections whose opener is not known.
    opened_unknown,
    /// Sockets that a listener made and that died before their handshake was complete (Fast Open).
    unfinished_server,
    /// Connects whose outcome is known, opened or failed.
    connects_tried,
    /// … of these failed.
    connects_failed,
    /// Connections that went from ESTABLISHED or CLOSE_WAIT to CLOSE.
    resets,
    /// Connections older than the probe on which callbacks could not be switched on: the state that they end in and
    /// the causes of their retransmissions are not seen.
    without_callbacks,
}

const fn add(sum: &mut u64, count: u64) {
    *sum = sum.wrapping_add(count);
}

impl NamespaceSums {
    /// A SYN-ACK that was sent again, and is not in the growth of any connection.
    pub(super) const fn add_synack(&mut self) {
        add(&mut self.retransmitted_segs, 1);
        add(&mut self.retransmitted_syns, 1);
    }

    /// What a connection counted. With the synack hook its SYN-ACKs came by themselves.
    pub(super) fn add_growth(&mut self, c: &Counters, synack_hook: bool) {
        let synacks = if synack_hook { 0 } else { c.retrans_synack };
        let counted_apart = c.retrans_synack - synacks;
        add(&mut self.retransmitted_segs, c.retrans_segs.saturating_sub(counted_apart).into());
        add(&mut self.retransmitted_fast, c.retrans_fast.into());
        add(&mut self.retransmitted_probes, c.retrans_tlp.into());
        add(&mut self.retransmitted_syns, u64::from(c.retrans_syn) + u64::from(synacks));
        let causes =
            [c.retrans_fast, c.retrans_rto, c.retrans_tlp, c.retrans_syn, c.retrans_synack, c.retrans_other];
        let attributed: u64 = causes.map(u64::from).iter().sum();
        add(&mut self.retransmitted_unattributed, u64::from(c.retrans_segs).saturating_sub(attributed));
        add(&mut self.retransmissions_failed, c.retrans_failed_segs.into());
        add(&mut self.timeouts, c.rto_count.into());
    }

    /// A connection that was opened while the probe watched.
    pub(super) const fn add_opened(&mut self, opener: u8) {
        let sum = match opener {
            role::CLIENT => {
                add(&mut self.connects_tried, 1);
                &mut self.opened_client
            }
            role::SERVER => &mut self.opened_server,
            _ => &mut self.opened_unknown,
        };
        add(sum, 1);
    }

    /// A connection that was taken over.
    pub(super) fn add_adopted(&mut self, record: &FlowRecord) {
        if record.flags & flag::CALLBACKS == 0 {
            add(&mut self.without_callbacks, 1);
        }
    }

    /// A connection that ended, or never came to be.
    pub(super) fn add_end(&mut self, record: &FlowRecord) {
        if record.flags & flag::ESTABLISHED == 0 {
            // The kernel counted the connect when it began.
            if record.flags & flag::ADOPTED == 0 {
                self.add_unfinished(record.role);
            }
            if record.role == role::CLIENT {
                add(&mut self.connects_failed, 1);
            }
        }
        if matches!(record.state, state::ESTABLISHED | state::CLOSE_WAIT) {
            add(&mut self.resets, 1);
        }
    }

    const fn add_unfinished(&mut self, role: u8) {
        match role {
            role::CLIENT => add(&mut self.connects_tried, 1),
            role::SERVER => add(&mut self.unfinished_server, 1),
            _ => {}
        }
    }

    /// What a connection that is still in its handshake has added to the kernel's counters. Its own record will bring
    /// all of it when the handshake is over.
    #[must_use]
    pub fn under_way(record: &FlowRecord, synack_hook: bool) -> Self {
        let mut sums = Self::default();
        sums.add_unfinished(record.role);
        sums.add_growth(&record.counters, synack_hook);
        sums
    }
}

#[cfg(test)]
mod tests {
    use probe_common::record::kind::{CLOSED, LIVE};

    use super::*;
    use crate::aggregate::testing::record;

    fn with_losses() -> FlowRecord {
        let mut out = record(LIVE, role::SERVER, 0);
        let c = &mut out.counters;
        (c.retrans_segs, c.retrans_fast, c.retrans_other, c.retrans_rto) = (20, 3, 1, 4);
        (c.retrans_tlp, c.retrans_synack, c.retrans_failed_segs, c.rto_count) = (2, 5, 1, 6);
        out
    }

    #[test]
    fn growth_is_sorted_by_the_kernels_counters() {
        let mut sums = NamespaceSums::default();
        sums.add_growth(&with_losses().counters, true);
        let with_hook = NamespaceSums {
            retransmitted_segs: 15,
            retransmitted_fast: 3,
            retransmitted_probes: 2,
            retransmitted_unattributed: 5,
            retransmissions_failed: 1,
            timeouts: 6,
            ..NamespaceSums::default()
        };
        assert_eq!(sums, with_hook);
        for _ in 0..5 {
            sums.add_synack();
        }
        let mut without_hook = NamespaceSums::default();
        without_hook.add_growth(&with_losses().counters, false);
        assert_eq!(sums, without_hook);
        assert_eq!(sums.since(&with_hook).plus(&with_hook), sums);
    }

    #[test]
    fn only_established_ends_are_resets() {
        for (last, resets) in [
            (state::ESTABLISHED, 1),
            (state::CLOSE_WAIT, 1),
            (state::FIN_WAIT1, 0),
            (state::LAST_ACK, 0),
            (state::SYN_SENT, 0),
            (state::CLOSE, 0),
        ] {
            let mut end = record(CLOSED, role::CLIENT, flag::ESTABLISHED);
            end.state = last;
            let mut sums = NamespaceSums::default();
            sums.add_end(&end);
            assert_eq!(sums, NamespaceSums { resets, ..NamespaceSums::default() }, "state {last}");
        }
    }

    #[test]
    fn what_never_came_to_be_was_tried() {
        let mut sums = NamespaceSums::default();
        sums.add_end(&record(CLOSED, role::CLIENT, 0));
        sums.add_end(&record(CLOSED, role::SERVER, 0));
        let failed = NamespaceSums { connects_tried: 1, unfinished_server: 1, ..NamespaceSums::default() };
        assert_eq!(sums, NamespaceSums { connects_failed: 1, ..failed });
        let client = NamespaceSums::under_way(&record(LIVE, role::CLIENT, 0), true);
        assert_eq!(client.plus(&NamespaceSums::under_way(&record(LIVE, role::SERVER, 0), true)), failed);
    }
}
