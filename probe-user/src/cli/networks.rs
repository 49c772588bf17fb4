//! `flowprobe networks`: which group an address falls in and why, and what is in a file of networks.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    net::IpAddr,
    path::Path,
};

use anyhow::Context as _;

use super::args::NetworksVerb;
use crate::{
    config::{self, Config},
    daemon::{open_sources, reload},
    networks::{Networks, file_stats},
};

pub(super) fn run(verb: &NetworksVerb, config: Option<&Path>) -> anyhow::Result<()> {
    let text = match verb {
        NetworksVerb::Lookup { addresses } => lookup(addresses, config)?,
        NetworksVerb::Stats { file } => file_stats(file, resident_bytes)
            .with_context(|| "the file cannot be used".to_owned())?
            .to_string(),
    };
    Ok(io::stdout().write_all(text.as_bytes())?)
}

fn lookup(addresses: &[IpAddr], named: Option<&Path>) -> anyhow::Result<String> {
    let config = Config::load(config::find(named).as_deref()).map_err(|faults| {
        let faults: Vec<_> = faults.iter().map(ToString::to_string).collect();
        anyhow::Error::msg(reload::sentence(&faults))
    })?;
    let networks = open_sources(&config)?.networks();
    Ok(addresses.iter().map(|address| answer(&networks, *address)).collect())
}

fn answer(networks: &Networks, address: IpAddr) -> String {
    let mut out = format!("{address}\n");
    for reason in networks.lookup(address) {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "  {reason}");
    }
    if networks.labels().is_empty() {
        out.push_str(
            "  no label of networks is configured: groups do not tell networks apart; set networks.labels\n",
        );
    }
    out
}

/// Resident memory of this process (proc_pid_statm(5)).
fn resident_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_answered_with_reasons() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("list.txt"), "192.0.2.0/25 lab\n").unwrap();
        let file = folder.path().join("f.toml");
        std::fs::write(&file, "[networks]\nlabels = ['prefix', 'list']\nlists = ['list.txt']\n").unwrap();
        let text =
            lookup(&["192.0.2.7".parse().unwrap(), "2001:db8::1".parse().unwrap()], Some(&file)).unwrap();
        assert!(
            text.starts_with("192.0.2.7\n  prefix     192.0.2.0/24         networks.v4_prefix_len is 24\n"),
            "{text}"
        );
        assert!(
            text.contains("  list       lab                  longest prefix is 192.0.2.0/25 in "),
            "{text}"
        );
        assert!(text.contains("2001:db8::1\n  prefix     2001:db8::/48 "), "{text}");
        std::fs::write(folder.path().join("list.txt"), "192.0.2.0/33 lab\n").unwrap();
        let error = lookup(&[], Some(&file)).unwrap_err().to_string();
        assert!(error.contains("list.txt:1: "), "{error}");
    }

    #[test]
    fn without_labels_it_says_so() {
        assert!(answer(&Networks::default(), [192, 0, 2, 7].into()).contains("set networks.labels"));
        assert!(resident_bytes().unwrap() > 1 << 20);
    }
}
