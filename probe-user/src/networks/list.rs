//! Named lists of prefixes from text files.
//!
//! A line is `CIDR name`, or `CIDR` alone if the file as a whole has a name; `#` and `;` begin comments. A prefix is
//! kept in about 50 bytes.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Read},
    net::IpAddr,
    path::Path,
    sync::Arc,
};

use ipnet::IpNet;

use super::{
    fault::Fault,
    labels::check_name,
    table::{Table, TableBuilder},
};

/// The prefixes of one file.
#[derive(Debug, Default)]
pub struct List {
    table: Table<Arc<str>>,
    names: usize,
}

impl List {
    /// Reads a file; `name` is that of all its prefixes.
    ///
    /// # Errors
    /// A line is not understood, or says of a prefix what another line contradicts.
    pub fn read(path: &Path, from: impl Read, name: Option<&Arc<str>>) -> Result<Self, Fault> {
        let mut names: HashMap<String, Arc<str>> = HashMap::new();
        let mut table = TableBuilder::<Arc<str>>::default();
        let mut from = BufReader::new(from);
        let mut bytes = Vec::new();
        for number in 1.. {
            bytes.clear();
            if from.read_until(b'\n', &mut bytes).map_err(|error| Fault::unreadable(path, &error))? == 0 {
                break;
            }
            let fault = |what: String| Fault::line(path, number, what);
            let line = std::str::from_utf8(&bytes)
                .map_err(|_| fault("the line is not UTF-8: save the file as UTF-8 text".to_owned()))?;
            let Some((prefix, own)) = split(line) else { continue };
            let prefix = cidr(prefix).map_err(fault)?;
            let name = match (name, own) {
                (Some(name), "") => Arc::clone(name),
                (Some(name), own) => {
                    return Err(fault(format!(
                        "`{own}` stands after the prefix, but the configuration calls all of this file `{name}`: take one of them out"
                    )));
                }
                (None, "") => {
                    return Err(fault(
                        "the prefix has no name: write `CIDR name`, or give the file a name in the configuration"
                            .to_owned(),
                    ));
                }
                (None, own) => {
                    check_name(own).map_err(fault)?;
                    Arc::clone(names.entry(own.to_owned()).or_insert_with(|| own.into()))
                }
            };
            if !table.add(prefix, Arc::clone(&name)) {
                let present = table.get(prefix).map_or("", |name| name);
                if *present != *name {
                    return Err(fault(format!(
                        "{prefix} is `{name}` here and `{present}` in a line above: keep one of them"
                    )));
                }
            }
        }
        if table.is_empty() {
            return Err(Fault::file(path, "holds no prefix: write lines such as `192.0.2.0/24 name`"));
        }
        Ok(Self { table: table.build(), names: names.len().max(1) })
    }

    /// The longest prefix that holds the address, and its name.
    #[must_use]
    pub fn find(&self, address: IpAddr) -> Option<(IpNet, &Arc<str>)> {
        self.table.longest(address)
    }

    /// How many different names it has.
    #[must_use]
    pub const fn names(&self) -> usize {
        self.names
    }

    /// Its prefixes.
    #[must_use]
    pub const fn table(&self) -> &Table<Arc<str>> {
        &self.table
    }
}

/// Prefix and name (may be empty) of a line; `None` for one that says nothing.
fn split(line: &str) -> Option<(&str, &str)> {
    let line = line.strip_prefix('\u{feff}').unwrap_or(line);
    let end = line.find(['#', ';']).unwrap_or(line.len());
    let said = line.get(..end).unwrap_or_default().trim();
    if said.is_empty() {
        return None;
    }
    let (prefix, name) = said.split_once(char::is_whitespace).unwrap_or((said, ""));
    Some((prefix, name.trim()))
}

/// A prefix in CIDR notation, or an address alone, as people write them.
///
/// # Errors
/// It is neither, or has bits beyond its length; one sentence with the remedy.
pub(crate) fn cidr(text: &str) -> Result<IpNet, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(address.into());
    }
    let net: IpNet = text.parse().map_err(|_| {
        format!(
            "`{}` is no prefix: write it as 192.0.2.0/24 or 2001:db8::/32",
            text.chars().take(60).collect::<String>()
        )
    })?;
    if net.addr() == net.network() {
        Ok(net)
    } else {
        Err(format!("{net} has bits beyond its length: write {} or {}", net.trunc(), net.addr()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, name: Option<&str>) -> Result<List, String> {
        let name = name.map(Arc::from);
        List::read(Path::new("x.txt"), text.as_bytes(), name.as_ref()).map_err(|fault| fault.to_string())
    }

    fn name(list: &List, address: &str) -> Option<String> {
        list.find(address.parse().unwrap()).map(|(_, name)| name.to_string())
    }

    #[test]
    fn lines_name_prefixes() {
        let text = "\u{feff}# ours\n\n192.0.2.0/24 data centre 1 # rack\r\n192.0.2.128/25\tlab\n2001:db8::/32 v6\n198.51.100.7 one\n192.0.2.128/25 lab\n";
        let list = read(text, None).unwrap();
        assert_eq!(name(&list, "192.0.2.1").as_deref(), Some("data centre 1"));
        assert_eq!(name(&list, "192.0.2.129").as_deref(), Some("lab"));
        assert_eq!(name(&list, "2001:db8::9").as_deref(), Some("v6"));
        assert_eq!(name(&list, "198.51.100.7").as_deref(), Some("one"));
        assert_eq!(name(&list, "198.51.100.8"), None);
        assert_eq!((list.names(), list.table().lengths().totals()), (4, (3, 1)));
    }

    #[test]
    fn a_file_can_have_one_name() {
        let list = read("; drop list\n192.0.2.0/24 ; SBL1\n203.0.113.0/24", Some("drop")).unwrap();
        assert_eq!(name(&list, "203.0.113.9").as_deref(), Some("drop"));
        assert_eq!(list.names(), 1);
    }

    #[test]
    fn faults_say_the_line_and_the_remedy() {
        for (text, own, says) in [
            ("192.0.2.0/24 a\n192.0.2.0/33 b", None, "x.txt:2: `192.0.2.0/33` is no prefix: write it as"),
            (
                "192.0.2.1/24 a",
                None,
                "x.txt:1: 192.0.2.1/24 has bits beyond its length: write 192.0.2.0/24 or 192.0.2.1",
            ),
            ("\n192.0.2.0/24", None, "x.txt:2: the prefix has no name"),
            ("192.0.2.0/24 a", Some("b"), "x.txt:1: `a` stands after the prefix"),
            ("192.0.2.0/24 a\n#\n192.0.2.0/24 b", None, "x.txt:3: 192.0.2.0/24 is `b` here and `a`"),
            ("192.0.2.0/24 other", None, "x.txt:1: `other` is what groups"),
            ("# nothing\n", None, "x.txt: holds no prefix"),
        ] {
            let fault = read(text, own).unwrap_err();
            assert!(fault.starts_with(says), "{text:?}: {fault}");
            assert_eq!(fault.lines().count(), 1);
        }
        let fault = List::read(Path::new("x"), &b"192.0.2.0/24 a\n\xff\xfe"[..], None).unwrap_err();
        assert!(fault.to_string().starts_with("x:2: the line is not UTF-8"), "{fault}");
    }
}
