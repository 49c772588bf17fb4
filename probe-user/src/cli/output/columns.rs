//! The columns of tables, and what `--columns` means.
//!
//! A table has columns of its own, with readable units; a field's name shows the field as it is in JSON.

use std::{net::IpAddr, str::FromStr};

use super::{super::Usage, Page, csv, human};
use crate::flow::{
    CloseReason, Flow,
    field::{FIELDS, Field, Kind, Measure},
    filter::{clean, nearest},
};

/// A column of a table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    /// As typed; the header shows it in capitals.
    pub(super) name: &'static str,
    pub(super) shape: Shape,
    /// Width before rows are known.
    pub(super) usual: usize,
    /// The larger, the sooner it goes on a narrow terminal; 0 never goes.
    pub(super) rank: u8,
    cell: Cell,
    /// The cell deserves a look.
    notable: fn(&Flow) -> bool,
}

#[derive(Clone, Copy, Debug)]
enum Cell {
    Made(fn(&Flow) -> Option<String>),
    Field(&'static Field),
}

/// How a column is aligned and what may be cut from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// To the right, whole.
    Number,
    /// To the left, whole.
    Word,
    /// To the left; cut in the middle, the port stays.
    Address,
    /// To the left; cut at its beginning.
    Path,
}

impl Column {
    pub(super) fn header(&self) -> String {
        match self.cell {
            Cell::Made(_) => self.name.to_uppercase(),
            Cell::Field(_) => self.name.to_owned(),
        }
    }

    /// What it shows of `flow`; `-` if there is no value.
    pub(super) fn cell(&self, flow: &Flow) -> String {
        let text = match self.cell {
            Cell::Made(make) => make(flow),
            Cell::Field(field) => field.of(flow).map(|value| {
                let mut text = String::new();
                // Writing to a string does not fail.
                let _ = csv::write(&mut text, value);
                text
            }),
        };
        text.map_or_else(|| "-".to_owned(), |text| clean(&text))
    }

    pub(super) fn is_notable(&self, flow: &Flow) -> bool {
        (self.notable)(flow)
    }

    fn of_field(field: &'static Field) -> Self {
        let (shape, usual) = match field.kind {
            Kind::Int => (Number, field.name.len()),
            Kind::Addr => (Address, 15),
            Kind::Time => (Word, 30),
            _ if field.name == "cgroup" => (Path, 24),
            _ => (Word, field.name.len()),
        };
        Self { name: field.name, shape, usual, rank: 0, cell: Cell::Field(field), notable: |_| false }
    }
}

/// `192.0.2.1:443`, `[2001:db8::1]:443`.
fn endpoint(addr: IpAddr, port: u16) -> Option<String> {
    Some(std::net::SocketAddr::new(addr, port).to_string())
}

fn time(us: Option<u32>) -> Option<String> {
    us.map(|us| human::micros(u64::from(us)))
}

fn number(value: impl Into<Option<u32>>) -> Option<String> {
    let value = value.into()?;
    Some(if value < 100_000 { value.to_string() } else { human::scaled(u64::from(value)) })
}

fn failed(flow: &Flow) -> bool {
    !matches!(flow.close_reason, None | Some(CloseReason::FinLocal | CloseReason::FinRemote))
}

const fn column(
    name: &'static str,
    shape: Shape,
    usual: usize,
    rank: u8,
    cell: fn(&Flow) -> Option<String>,
) -> Column {
    Column { name, shape, usual, rank, cell: Cell::Made(cell), notable: |_| false }
}

const fn marked(column: Column, notable: fn(&Flow) -> bool) -> Column {
    Column { notable, ..column }
}

use Shape::{Address, Number, Path, Word};

/// Rank of columns that only `wide` shows.
const WIDE: u8 = 100;

/// Every column of `wide`, in its order.
static COLUMNS: &[Column] = &[
    column("closed", Word, 9, 2, |f| Some(f.closed_at?.strftime("%H:%M:%SZ").to_string())),
    column("state", Word, 10, 2, |f| Some(f.state.short().to_owned())),
    marked(column("reason", Word, 19, 0, |f| Some(f.close_reason?.name().to_owned())), failed),
    column("role", Word, 6, 5, |f| Some(f.role?.name().to_owned())),
    column("local", Address, 21, 3, |f| endpoint(f.local_addr, f.local_port)),
    column("remote", Address, 21, 0, |f| endpoint(f.remote_addr, f.remote_port)),
    column("rtt", Number, 6, 0, |f| time(f.srtt_us)),
    column("min-rtt", Number, 7, 8, |f| time(f.min_rtt_us)),
    marked(column("retrans", Number, 7, 0, |f| number(f.retrans_segs)), |f| {
        f.retrans_segs.is_some_and(|n| n > 0)
    }),
    marked(column("loss", Number, 6, 0, |f| Measure::Loss.of(f).map(human::percent)), |f| {
        Measure::Loss.of(f).is_some_and(|loss| loss >= 1.0)
    }),
    column("sent", Number, 5, 1, |f| f.bytes_sent.map(human::scaled)),
    column("recv", Number, 5, 4, |f| f.bytes_received.map(human::scaled)),
    column("duration", Number, 8, 7, |f| Some(human::micros(f.duration_us?))),
    marked(column("error", Word, 12, 6, |f| f.error.map(str::to_owned)), |f| f.error.is_some()),
    column("cc", Word, 5, 9, |f| f.congestion_control.clone()),
    column("handshake", Number, 9, WIDE, |f| time(f.handshake_rtt_us)),
    column("rttvar", Number, 6, WIDE, |f| time(f.rttvar_us)),
    column("max-rtt", Number, 7, WIDE, |f| time(f.rtt_max_us)),
    column("samples", Number, 7, WIDE, |f| number(f.rtt_samples)),
    column("fast", Number, 5, WIDE, |f| number(f.retrans_fast)),
    column("rto", Number, 5, WIDE, |f| number(f.retrans_rto)),
    column("tlp", Number, 5, WIDE, |f| number(f.retrans_tlp)),
    column("stalls", Number, 6, WIDE, |f| {
        Some(f.stalls_rto?.saturating_add(f.stalls_zero_window?).saturating_add(f.stalls_other?).to_string())
    }),
    column("stalled", Number, 7, WIDE, |f| {
        let us = f.stall_rto_us?.saturating_add(f.stall_zero_window_us?).saturating_add(f.stall_other_us?);
        Some(human::micros(us))
    }),
    column("undone", Number, 6, WIDE, |f| number(f.undone_episodes)),
    column("spurious", Number, 8, WIDE, |f| number(f.spurious_segs)),
    column("rate", Number, 7, WIDE, |f| {
        f.delivery_rate_bytes_per_second.map(|rate| format!("{}/s", human::scaled(rate)))
    }),
    column("cwnd", Number, 5, WIDE, |f| number(f.cwnd_segs)),
    column("mss", Number, 5, WIDE, |f| number(f.mss_bytes)),
    column("unacked", Number, 7, WIDE, |f| number(f.unacked_segs)),
    column("unsent", Number, 6, WIDE, |f| f.unsent_bytes.map(|bytes| human::scaled(u64::from(bytes)))),
    column("first-fin", Word, 9, WIDE, |f| Some(f.first_fin?.name().to_owned())),
    column("adopted", Word, 7, WIDE, |f| Some(if f.adopted { "yes" } else { "no" }.to_owned())),
    column("uid", Number, 5, WIDE, |f| Some(f.uid?.to_string())),
    column("netns", Number, 10, WIDE, |f| Some(f.netns.to_string())),
    column("flow", Word, 20, WIDE, |f| Some(f.flow_id.clone())),
    column("cgroup", Path, 24, WIDE, |f| f.cgroup.as_deref().map(str::to_owned)),
];

/// The columns of a table that was not told which.
pub(super) fn usual(page: Page, wide: bool) -> Vec<Column> {
    let absent: &[&str] = match page {
        Page::Live => &["closed", "reason", "error"],
        Page::Ended => &["state"],
    };
    let shown = |column: &&Column| !absent.contains(&column.name) && (wide || column.rank < WIDE);
    COLUMNS.iter().filter(shown).copied().collect()
}

/// A name that `--columns` knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnName(String);

impl FromStr for ColumnName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name = text.trim().to_ascii_lowercase();
        let own = COLUMNS.iter().map(|column| column.name);
        if own.clone().any(|own| own == name) || Field::find(&name).is_some() {
            return Ok(Self(name));
        }
        Err(match nearest(&name, own.clone().chain(FIELDS.iter().map(|field| field.name))) {
            Some(near) => format!("unknown column, did you mean `{near}`?"),
            None => {
                format!("unknown column, use a field's name or one of {}", own.collect::<Vec<_>>().join(", "))
            }
        })
    }
}

/// What a table shows for these names.
pub(super) fn named(names: &[ColumnName]) -> Vec<Column> {
    let find = |name: &ColumnName| {
        let own = COLUMNS.iter().find(|column| column.name == name.0);
        own.map(|column| Column { rank: 0, ..*column }).or_else(|| Field::find(&name.0).map(Column::of_field))
    };
    names.iter().filter_map(find).collect()
}

/// The fields of these names, for programs.
pub(super) fn fields(names: Option<&[ColumnName]>) -> Result<Option<Vec<&'static Field>>, Usage> {
    let find = |name: &ColumnName| {
        Field::find(&name.0).ok_or_else(|| {
            let near = Measure::find(&name.0).map_or("", |measure| match measure {
                Measure::Field(field) => field.name,
                Measure::Loss | Measure::Bytes => "",
            });
            let hint = if near.is_empty() { String::new() } else { format!(", such as {near}") };
            Usage(format!(
                "`{}` is a column of tables: json, jsonl and csv take names of fields{hint}",
                name.0
            ))
        })
    };
    names.map(|names| names.iter().map(find).collect()).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::sample;

    #[test]
    fn every_field_is_a_column() {
        let names: Vec<ColumnName> = FIELDS.iter().map(|field| field.name.parse().unwrap()).collect();
        assert_eq!(named(&names).len(), FIELDS.len());
        assert_eq!(fields(Some(&names)).unwrap().unwrap().len(), FIELDS.len());
    }

    #[test]
    fn unknown_columns_are_refused_with_a_remedy() {
        assert!("remot".parse::<ColumnName>().unwrap_err().contains("`remote`"));
        assert!("xxxxxxxx".parse::<ColumnName>().unwrap_err().contains("closed, state"));
        let error = fields(Some(&["rtt".parse().unwrap()])).unwrap_err();
        assert!(error.0.contains("such as srtt_us"), "{error}");
    }

    #[test]
    fn every_cell_of_a_bare_flow_is_a_dash_or_known() {
        let flow = sample::bare();
        let cells = |name: &str| named(&[name.parse().unwrap()])[0].cell(&flow);
        for name in [
            "rtt",
            "min-rtt",
            "loss",
            "duration",
            "cc",
            "reason",
            "closed",
            "uid",
            "cgroup",
            "rate",
            "role",
            "stalls",
            "stalled",
            "undone",
            "first-fin",
        ] {
            assert_eq!(cells(name), "-", "{name}");
        }
        let full = |name: &str| named(&[name.parse().unwrap()])[0].cell(&sample::full());
        assert_eq!((full("stalls"), full("stalled")), ("3".to_owned(), "1.71s".to_owned()));
        assert_eq!(cells("retrans"), "21");
        assert_eq!(cells("sent"), "3.0M");
    }

    #[test]
    fn hostile_names_reach_no_terminal() {
        let flow = Flow {
            cgroup: Some("/\u{1b}]0;x\u{7}\n\u{9b}".into()),
            congestion_control: Some("\u{1b}c".to_owned()),
            ..sample::full()
        };
        for column in COLUMNS.iter().copied().chain(FIELDS.iter().map(Column::of_field)) {
            assert!(!column.cell(&flow).chars().any(char::is_control), "{}", column.name);
        }
    }
}
