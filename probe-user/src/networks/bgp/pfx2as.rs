//! CAIDA's prefix-to-AS text: `prefix`, length and origin in a line, with white space between.
//!
//! `_` joins the origins of a prefix that several ASes announce, the most frequent first; `,` joins the members of a set,
//! which is no single origin.

use std::{io::BufRead, path::Path};

use ipnet::IpNet;

use super::{Draft, origins::Origins};
use crate::networks::{fault::Fault, labels::Asn};

/// A line with sets of all ASes is shorter.
const LONGEST_LINE: usize = 1 << 20;

pub(super) fn read(path: &Path, from: &mut dyn BufRead, draft: &mut Draft) -> Result<(), Fault> {
    let mut bytes = Vec::new();
    let mut origins = Origins::default();
    for number in 1.. {
        bytes.clear();
        let mut limited = std::io::Read::take(&mut *from, LONGEST_LINE as u64);
        if limited.read_until(b'\n', &mut bytes).map_err(|error| Fault::unreadable(path, &error))? == 0 {
            break;
        }
        let fault = |what: String| Fault::line(path, number, what);
        let line = std::str::from_utf8(&bytes).map_err(|_| fault(expected("the line")))?.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let prefix = parse(line, &mut origins).map_err(fault)?;
        draft.add(prefix, &origins).map_err(fault)?;
    }
    Ok(())
}

/// Whether a line can be one of such a text.
pub(super) fn is_entry(line: &str) -> bool {
    parse(line, &mut Origins::default()).is_ok()
}

fn expected(what: &str) -> String {
    format!("{what} is no prefix-to-AS entry: `192.0.2.0 24 64500` is wanted, with tabs or blanks between")
}

fn parse(line: &str, origins: &mut Origins) -> Result<IpNet, String> {
    let shown = || format!("`{}`", line.chars().take(60).collect::<String>());
    let mut words = line.split_whitespace();
    let (Some(address), Some(len), Some(asns), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(expected(&shown()));
    };
    let prefix = address
        .parse()
        .ok()
        .zip(len.parse().ok())
        .and_then(|(address, len)| IpNet::new(address, len).ok())
        .ok_or_else(|| expected(&shown()))?;
    origins.clear();
    for origin in asns.split('_') {
        if let Ok(asn) = origin.parse::<Asn>() {
            origins.add_next(asn);
        } else if origin.split(',').all(is_number) {
            origins.add_other();
        } else {
            return Err(format!(
                "`{}` is no AS number: {}",
                origin.chars().take(60).collect::<String>(),
                WANTED
            ));
        }
    }
    Ok(prefix)
}

const WANTED: &str = "write 64500, 64500_64501 for several origins, or 64500,64501 for a set";

/// Also 0, which is no AS but stands in tables.
fn is_number(text: &str) -> bool {
    text.parse::<Asn>().is_ok() || text == "0"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::networks::Bgp;

    fn bgp(text: &'static str) -> Result<Bgp, String> {
        Bgp::read(Path::new("t"), text.as_bytes()).map_err(|fault| fault.to_string())
    }

    fn route(bgp: &Bgp, address: &str) -> Option<(String, Option<u32>)> {
        let (prefix, origin) = bgp.route(address.parse().unwrap())?;
        Some((prefix.to_string(), origin.asn().map(|asn| asn.0)))
    }

    #[test]
    fn origins_are_read_in_all_forms() {
        let bgp = bgp(
            "# CAIDA\n192.0.2.0\t24\t64500\n198.51.100.0\t24\t64502_64501\n203.0.113.0\t24\t64503,64504\n2001:db8:: 32 64505_64506,64507\n0.0.0.0 0 1\n",
        )
        .unwrap();
        assert_eq!(route(&bgp, "192.0.2.1"), Some(("192.0.2.0/24".to_owned(), Some(64500))));
        assert_eq!(route(&bgp, "198.51.100.1"), Some(("198.51.100.0/24".to_owned(), Some(64502))));
        assert_eq!(route(&bgp, "203.0.113.9"), Some(("203.0.113.0/24".to_owned(), None)));
        assert_eq!(route(&bgp, "2001:db8::1"), Some(("2001:db8::/32".to_owned(), Some(64505))));
        assert_eq!(route(&bgp, "10.0.0.1"), None);
        assert_eq!((bgp.skipped(), bgp.remarked(), bgp.written_at()), (1, 3, None));
        assert_eq!(bgp.kind(), "prefix-to-AS text");
        let remark = bgp.remark("198.51.100.0/24".parse().unwrap());
        assert_eq!(remark, Some("2 origins: AS64502, AS64501"));
        assert_eq!(bgp.remark("192.0.2.0/24".parse().unwrap()), None);
    }

    #[test]
    fn routes_to_one_host_are_left_out() {
        let bgp = bgp(
            "192.0.2.0 24 1\n192.0.2.7 32 2\n192.0.2.8 31 3\n2001:db8:: 32 4\n2001:db8::7 128 5\n2001:db8:: 64 6\n2001:db8:: 63 7\n",
        )
        .unwrap();
        let found = |address| route(&bgp, address).unwrap().0;
        assert_eq!((found("192.0.2.7"), found("192.0.2.8")), ("192.0.2.0/24".into(), "192.0.2.8/31".into()));
        assert_eq!(found("2001:db8::7"), "2001:db8::/63");
        assert_eq!(bgp.skipped(), 3);
    }

    #[test]
    fn faults_say_the_line() {
        for (text, says) in [
            ("192.0.2.0\t24\t64500\n192.0.2.0\t24\n", "t:2: `192.0.2.0\t24` is no prefix-to-AS entry"),
            ("192.0.2.0 33 1", "t:1: `192.0.2.0 33 1` is no"),
            ("192.0.2.0 24 1 2", "t:1: `192.0.2.0 24 1 2` is no"),
            ("192.0.2.0 24 x", "t:1: `x` is no AS number: write"),
            ("192.0.2.0 24 1__2", "t:1: `` is no AS number"),
            ("#\n", "t: holds no unicast prefix"),
            ("", "t: is empty"),
        ] {
            let fault = bgp(text).unwrap_err();
            assert!(fault.starts_with(says), "{text:?}: {fault}");
        }
    }
}
