//! MRT RIB dumps (RFC 6396, TABLE_DUMP_V2) as RouteViews and RIPE RIS publish them.
//!
//! Records are parsed by bgpkit-parser, one at a time. A record has the paths of all peers of the collector; reading costs
//! about a microsecond a path.

use std::{io::BufRead, path::Path};

use bgpkit_parser::{
    ParserError,
    models::{EntryType, MrtMessage, RibEntry, TableDumpV2Message, TableDumpV2Type},
    parser::{RawMrtRecord, chunk_mrt_record},
};
use jiff::Timestamp;

use super::{Draft, origins::Origins};
use crate::networks::{
    fault::{Fault, Place},
    labels::Asn,
};

/// Whether a file begins like an MRT record: 4 bytes of time, then a type below 256, which text has not.
pub(super) fn looks_like(start: &[u8]) -> bool {
    start.get(4) == Some(&0)
}

pub(super) fn read(path: &Path, mut from: &mut dyn BufRead, draft: &mut Draft) -> Result<(), Fault> {
    let mut byte = 0;
    let mut origins = Origins::default();
    for number in 1.. {
        let fault = |what: String| Fault { place: Place::Record { number, byte }, ..Fault::file(path, what) };
        let record = match chunk_mrt_record(&mut from) {
            Ok(record) => record,
            Err(error) if matches!(error.error, ParserError::EofExpected) => break,
            Err(error) => return Err(fault(broken(&error.error))),
        };
        let length = record.total_bytes_len() as u64;
        draft.bgp.written_at = draft
            .bgp
            .written_at
            .or_else(|| Timestamp::from_second(record.common_header.timestamp.into()).ok());
        add(record, &mut origins, draft).map_err(fault)?;
        byte += length;
    }
    Ok(())
}

fn broken(error: &ParserError) -> String {
    format!("is broken: {error}; fetch the file again")
}

/// Adds the prefix of a record, if it is of unicast routes.
fn add(record: RawMrtRecord, origins: &mut Origins, draft: &mut Draft) -> Result<(), String> {
    let header = record.common_header;
    if header.entry_type != EntryType::TABLE_DUMP_V2 {
        return Err(format!(
            "is of type {:?}, not TABLE_DUMP_V2: give a RIB dump (`rib.*` or `bview.*`), not updates",
            header.entry_type
        ));
    }
    match TableDumpV2Type::try_from(header.entry_subtype) {
        Ok(
            TableDumpV2Type::RibIpv4Unicast
            | TableDumpV2Type::RibIpv6Unicast
            | TableDumpV2Type::RibIpv4UnicastAddPath
            | TableDumpV2Type::RibIpv6UnicastAddPath,
        ) => {}
        Ok(TableDumpV2Type::PeerIndexTable | TableDumpV2Type::GeoPeerTable) => return Ok(()),
        Ok(_) => {
            draft.bgp.skipped += 1;
            return Ok(());
        }
        Err(_) => {
            return Err(format!("has the unknown subtype {}; fetch the file again", header.entry_subtype));
        }
    }
    let declared = declared_entries(&record.message_bytes);
    let parsed = record.parse().map_err(|error| broken(&error))?;
    let MrtMessage::TableDumpV2Message(TableDumpV2Message::RibAfi(rib)) = parsed.message else {
        return Err("is no RIB entry, which its type says it is; fetch the file again".to_owned());
    };
    // The parser ends at the first entry that it does not understand, and says so only in its log.
    if declared.is_none_or(|declared| usize::from(declared) != rib.rib_entries.len()) {
        return Err(format!(
            "is broken in entry {} of {}; fetch the file again",
            rib.rib_entries.len() + 1,
            declared.unwrap_or_default()
        ));
    }
    origins.clear();
    for entry in &rib.rib_entries {
        match origin(entry) {
            Some(asn) => origins.add(asn),
            None => origins.add_other(),
        }
    }
    draft.add(rib.prefix.prefix, origins)
}

/// The number of entries that a RIB record says it has: after sequence number, length and bytes of the prefix.
fn declared_entries(body: &[u8]) -> Option<u16> {
    let at = 5 + usize::from(*body.get(4)?).div_ceil(8);
    Some(u16::from_be_bytes([*body.get(at)?, *body.get(at + 1)?]))
}

/// The last AS of the path; `None` if that is a set of several (or AS 0).
fn origin(entry: &RibEntry) -> Option<Asn> {
    let mut last = entry.attributes.as_path()?.iter_origins();
    let (first, more) = (last.next()?, last.next());
    more.is_none().then(|| Asn(first.to_u32())).filter(|asn| asn.0 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::networks::{
        Bgp,
        testing::mrt::{Dump, Path as AsPath},
    };

    fn read(bytes: Vec<u8>) -> Result<Bgp, String> {
        Bgp::read(Path::new("rib"), std::io::Cursor::new(bytes)).map_err(|fault| fault.to_string())
    }

    fn route(bgp: &Bgp, address: &str) -> Option<(String, Option<u32>)> {
        let (prefix, origin) = bgp.route(address.parse().unwrap())?;
        Some((prefix.to_string(), origin.asn().map(|asn| asn.0)))
    }

    #[test]
    fn a_dump_gives_prefixes_and_origins() {
        let dump = Dump::new(1_700_000_000)
            .peers(3)
            .rib(
                "192.0.2.0/24",
                &[AsPath::of(&[64510, 64500]), AsPath::of(&[64511, 64501]), AsPath::of(&[64512, 64500])],
            )
            .rib("192.0.0.0/16", &[AsPath::of(&[4_200_000_000])])
            .rib("0.0.0.0/0", &[AsPath::of(&[64999])])
            .rib("198.51.100.0/24", &[AsPath::of(&[64510]).then_set(&[64500, 64501])])
            .rib("198.51.101.0/24", &[AsPath::of(&[64510]).then_set(&[64502])])
            .rib("203.0.113.0/24", &[AsPath::of(&[])])
            .rib("2001:db8::/32", &[AsPath::of(&[64510, 64503])])
            .add_path("2001:db8:1::/48", &[AsPath::of(&[64504])]);
        let bgp = read(dump.bytes()).unwrap();
        assert_eq!(route(&bgp, "192.0.2.9"), Some(("192.0.2.0/24".to_owned(), Some(64500))));
        assert_eq!(route(&bgp, "192.0.3.9"), Some(("192.0.0.0/16".to_owned(), Some(4_200_000_000))));
        assert_eq!(route(&bgp, "198.51.100.1"), Some(("198.51.100.0/24".to_owned(), None)));
        assert_eq!(route(&bgp, "198.51.101.1"), Some(("198.51.101.0/24".to_owned(), Some(64502))));
        assert_eq!(route(&bgp, "203.0.113.1"), Some(("203.0.113.0/24".to_owned(), None)));
        assert_eq!(route(&bgp, "2001:db8:1::1"), Some(("2001:db8:1::/48".to_owned(), Some(64504))));
        assert_eq!(route(&bgp, "2001:db8:2::1"), Some(("2001:db8::/32".to_owned(), Some(64503))));
        assert_eq!(route(&bgp, "10.0.0.1"), None);
        assert_eq!((bgp.kind(), bgp.skipped(), bgp.remarked()), ("MRT RIB dump", 1, 3));
        assert_eq!(bgp.written_at().unwrap().as_second(), 1_700_000_000);
        assert_eq!(
            bgp.remark("192.0.2.0/24".parse().unwrap()).unwrap(),
            "2 origins: AS64500 in 2 paths, AS64501 in 1 path"
        );
    }

    #[test]
    fn faults_name_the_record() {
        let good = Dump::new(1).peers(1).rib("192.0.2.0/24", &[AsPath::of(&[64500])]);
        let first = Dump::new(1).peers(1).bytes().len();
        let whole = good.clone().bytes();
        let cut = read(whole[..whole.len() - 3].to_vec()).unwrap_err();
        assert!(cut.starts_with(&format!("rib: record 2 at byte {first}: is broken: ")), "{cut}");
        let updates = read(good.clone().record(16, 4, &[0; 30]).bytes()).unwrap_err();
        assert!(updates.contains("record 3 at byte") && updates.contains("not updates"), "{updates}");
        let subtype = read(good.clone().record(13, 99, &[0; 30]).bytes()).unwrap_err();
        assert!(subtype.contains("record 3 at byte") && subtype.contains("subtype 99"), "{subtype}");
        let mut short = whole.clone();
        // The number of entries: 12 bytes of header, then 4 + 1 + 3 of sequence and prefix.
        short[first + 12 + 9] = 2;
        let short = read(short).unwrap_err();
        assert!(short.ends_with("is broken in entry 2 of 2; fetch the file again"), "{short}");
        assert!(read(Dump::new(1).peers(1).bytes()).unwrap_err().contains("holds no unicast prefix"));
        let other = good.record(13, 3, &[0; 30]);
        assert_eq!(read(other.bytes()).unwrap().skipped(), 1);
    }
}
