//! Sums of one network namespace, to be laid beside the kernel's own in /proc/net/snmp.

use probe_common::record::role;

/// What was counted in one network namespace since the probe came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NamespaceSums {
    /// Segments sent again, those of requests that never completed among them when the synack hook is up (RetransSegs).
    pub retransmitted_segs: u64,
    /// Connections that this side opened.
    pub opened_client: u64,
    /// Connections that the peer opened (PassiveOpens, less those that died during their handshake).
    pub opened_server: u64,
    /// Connections whose opener is not known.
    pub opened_unknown: u64,
    /// Connects whose outcome is known, opened or failed (ActiveOpens, less those still under way).
    pub connects_tried: u64,
}

impl NamespaceSums {
    pub(super) const fn add_retransmitted(&mut self, segs: u64) {
        self.retransmitted_segs = self.retransmitted_segs.wrapping_add(segs);
    }

    pub(super) const fn add_opened(&mut self, opener: u8) {
        let sum = match opener {
            role::CLIENT => {
                self.connects_tried = self.connects_tried.wrapping_add(1);
                &mut self.opened_client
            }
            role::SERVER => &mut self.opened_server,
            _ => &mut self.opened_unknown,
        };
        *sum = sum.wrapping_add(1);
    }

    pub(super) const fn add_failed_connect(&mut self) {
        self.connects_tried = self.connects_tried.wrapping_add(1);
    }
}
