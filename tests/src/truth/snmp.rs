//! `/proc/net/snmp` and `/proc/net/netstat` of one namespace: pairs of lines, names and values.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context as _, Result, ensure};

use crate::kit::Namespace;

/// The namespace's counters by `Group.Name`, such as `Tcp.RetransSegs` or `TcpExt.TCPDSACKRecv`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters(BTreeMap<String, i64>);

impl Counters {
    /// Read both files of a namespace.
    ///
    /// # Errors
    /// When `/proc` is not mounted or has another format.
    pub fn of(namespace: &Namespace) -> Result<Self> {
        // /proc/net belongs to the process; the thread that entered the namespace has its own.
        let text = namespace.run(|| -> std::io::Result<String> {
            Ok(fs::read_to_string("/proc/thread-self/net/snmp")?
                + &fs::read_to_string("/proc/thread-self/net/netstat")?)
        })?;
        let mut counters = Self::default();
        counters.add(&text.context("cannot read the namespace's counters: is /proc mounted?")?)?;
        Ok(counters)
    }

    fn add(&mut self, text: &str) -> Result<()> {
        let mut lines = text.lines();
        while let (Some(names), Some(values)) = (lines.next(), lines.next()) {
            let (group, names) =
                names.split_once(": ").with_context(|| format!("not a line of names: {names}"))?;
            let (same, values) =
                values.split_once(": ").with_context(|| format!("not a line of values: {values}"))?;
            ensure!(group == same, "{group} is followed by {same}");
            for (name, value) in names.split(' ').zip(values.split(' ')) {
                self.0.insert(
                    format!("{group}.{name}"),
                    value.parse().with_context(|| format!("{group}.{name}"))?,
                );
            }
        }
        Ok(())
    }

    /// A counter by `Group.Name`.
    ///
    /// # Errors
    /// When the kernel has no such counter.
    pub fn get(&self, name: &str) -> Result<i64> {
        self.0.get(name).copied().with_context(|| format!("this kernel has no counter {name}"))
    }

    /// How much a counter grew since `before`.
    ///
    /// # Errors
    /// When the kernel has no such counter, or it went back.
    pub fn since(&self, before: &Self, name: &str) -> Result<u64> {
        u64::try_from(self.get(name)? - before.get(name)?).with_context(|| format!("{name} went back"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_of_lines_become_counters() {
        let mut counters = Counters::default();
        counters.add("Tcp: MaxConn RetransSegs\nTcp: -1 17\nUdp: In\nUdp: 3\n").unwrap();
        assert_eq!(counters.get("Tcp.RetransSegs").unwrap(), 17);
        assert_eq!(counters.get("Tcp.MaxConn").unwrap(), -1);
        assert!(counters.get("Tcp.Missing").is_err());
        assert!(Counters::default().add("Tcp: A\nUdp: 1\n").is_err());
    }
}
