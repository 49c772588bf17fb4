//! The names of a flow's enumerations, as the contract spells them.
//!
//! The same as in JSON (a test holds them together); used where a name is needed without a serializer.

use std::fmt;

use super::{CloseReason, Family, FirstFin, Role, RttSource, State};

macro_rules! names {
    ($type:ident { $($variant:ident = $name:literal),+ $(,)? }) => {
        impl $type {
            /// Every value, in the order of the contract.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// Its name in JSON, filters and labels.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.name())
            }
        }
    };
}

names!(Family { Ipv4 = "ipv4", Ipv6 = "ipv6" });
names!(Role { Client = "client", Server = "server" });
names!(FirstFin { Local = "local", Remote = "remote" });
names!(RttSource { RoundTrip = "round_trip", Sweep = "sweep" });
names!(State {
    Established = "established",
    SynSent = "syn_sent",
    SynRecv = "syn_recv",
    FinWait1 = "fin_wait1",
    FinWait2 = "fin_wait2",
    TimeWait = "time_wait",
    Close = "close",
    CloseWait = "close_wait",
    LastAck = "last_ack",
    Listen = "listen",
    Closing = "closing",
});
names!(CloseReason {
    FinLocal = "fin_local",
    FinRemote = "fin_remote",
    ResetSent = "reset_sent",
    ResetReceived = "reset_received",
    Timeout = "timeout",
    ConnectRefused = "connect_refused",
    ConnectTimeout = "connect_timeout",
    ConnectUnreachable = "connect_unreachable",
    ConnectReset = "connect_reset",
    Aborted = "aborted",
    Other = "other",
});

impl State {
    /// As `ss` writes it in its table.
    #[must_use]
    pub const fn short(self) -> &'static str {
        match self {
            Self::Established => "ESTAB",
            Self::SynSent => "SYN-SENT",
            Self::SynRecv => "SYN-RECV",
            Self::FinWait1 => "FIN-WAIT-1",
            Self::FinWait2 => "FIN-WAIT-2",
            Self::TimeWait => "TIME-WAIT",
            Self::Close => "UNCONN",
            Self::CloseWait => "CLOSE-WAIT",
            Self::LastAck => "LAST-ACK",
            Self::Listen => "LISTEN",
            Self::Closing => "CLOSING",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same<T: serde::Serialize + Copy>(all: &[T], name: fn(T) -> &'static str, count: usize) {
        assert_eq!(all.len(), count);
        for value in all {
            assert_eq!(serde_json::to_value(value).unwrap(), name(*value));
        }
    }

    #[test]
    fn names_are_those_of_json() {
        same(Family::ALL, Family::name, 2);
        same(Role::ALL, Role::name, 2);
        same(FirstFin::ALL, FirstFin::name, 2);
        same(RttSource::ALL, RttSource::name, 2);
        same(State::ALL, State::name, 11);
        same(CloseReason::ALL, CloseReason::name, 11);
    }
}
