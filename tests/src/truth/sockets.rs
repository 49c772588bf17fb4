//! `/proc/net/tcp6`: which sockets a namespace has, as the kernel prints them.

use std::fs;

use anyhow::{Context as _, Result};

use crate::kit::Namespace;

/// States in hexadecimal that are no connection: SYN_RECV (a request), TIME_WAIT, CLOSE, LISTEN of net/tcp_states.h.
const NO_CONNECTION: [&str; 4] = ["03", "06", "07", "0A"];

/// How many ends of IPv6 connections a namespace has now.
///
/// # Errors
/// When `/proc` is not mounted or has another format.
pub fn connected_v6(namespace: &Namespace) -> Result<usize> {
    // /proc/net belongs to the process; the thread that entered the namespace has its own.
    let text = namespace.run(|| fs::read_to_string("/proc/thread-self/net/tcp6"))?;
    count(&text.context("cannot read the namespace's sockets: is /proc mounted?")?)
}

fn count(text: &str) -> Result<usize> {
    let mut connected = 0;
    for line in text.lines().skip(1) {
        let state =
            line.split_whitespace().nth(3).with_context(|| format!("not a line about a socket: {line}"))?;
        connected += usize::from(!NO_CONNECTION.contains(&state));
    }
    Ok(connected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_counted() {
        let text = "  sl  local_address remote_address st tx_queue\n   0: 00:1F90 00:0000 0A 0:0\n   \
                    1: 00:1F90 00:A0E2 01 0:0\n   2: 00:A0E2 00:1F90 08 0:0\n   3: 00:A0E3 00:1F90 06 0:0\n";
        assert_eq!(count(text).unwrap(), 2);
        assert!(count("head\nx\n").is_err());
    }
}
