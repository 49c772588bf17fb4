//! What the kernel side could not do: each reason has a counter, and a label in the metrics.

/// What the programs could not do, counted in the map `LOSSES` under these indices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Loss {
    /// A ring buffer had no room for a closing connection's record.
    RingFullClosed = 0,
    /// A ring buffer had no room for a last increment.
    RingFullIncrement = 1,
    /// A ring buffer had no room for a repeated SYN-ACK.
    RingFullSynack = 2,
    /// The kernel refused storage for a new connection's state (memory, or optmem_max): a sweep takes it over when there is some.
    StateRefused = 3,
    /// A new connection's callbacks could not be switched on, or not again after they were taken.
    CallbacksRefused = 4,
    /// A round trip took place and the kernel told no sample (before 6.10, without SACK).
    RttUnknown = 5,
    /// The kernel refused storage for what went wrong in a connection: its causes are not known, and what the kernel counts of it
    /// is in no metric until there is memory.
    TroubleRefused = 6,
    /// The kernel refused storage for a wide histogram: a round trip is in the sums and not in the histogram.
    HistogramRefused = 7,
    /// The socket had forgotten its counters when its end was seen: what it added since the last sweep is in no metric, and its
    /// record has no counts.
    CountersWiped = 8,
    /// The kernel refused storage for the state of a connection that was to be taken over; each sweep tries again.
    TakeOverRefused = 9,
    /// A socket was connected again, and its former connection's end was not seen: it has no record.
    EndUnseen = 10,
    /// Another sock_ops program had switched off a live connection's callbacks, as a sweep found, which switches them on again where
    /// the kernel lets it: round trips and causes of retransmissions in between are not known.
    CallbacksTaken = 11,
}

impl Loss {
    /// All of them, in the order of their indices.
    pub const ALL: [Self; 12] = [
        Self::RingFullClosed,
        Self::RingFullIncrement,
        Self::RingFullSynack,
        Self::StateRefused,
        Self::CallbacksRefused,
        Self::RttUnknown,
        Self::TroubleRefused,
        Self::HistogramRefused,
        Self::CountersWiped,
        Self::TakeOverRefused,
        Self::EndUnseen,
        Self::CallbacksTaken,
    ];

    /// Value of the label `reason`.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::RingFullClosed => "ring_full_closed",
            Self::RingFullIncrement => "ring_full_increment",
            Self::RingFullSynack => "ring_full_synack",
            Self::StateRefused => "state_refused",
            Self::CallbacksRefused => "callbacks_refused",
            Self::RttUnknown => "rtt_unknown",
            Self::TroubleRefused => "trouble_refused",
            Self::HistogramRefused => "histogram_refused",
            Self::CountersWiped => "counters_wiped",
            Self::TakeOverRefused => "take_over_refused",
            Self::EndUnseen => "end_unseen",
            Self::CallbacksTaken => "callbacks_taken",
        }
    }
}
