//! CSV (RFC 4180): the fields of the contract, a header first, nothing where there is no value.
//!
//! `rtt_histogram` is `upper:count;upper:count` with upper bounds in µs; the last bucket, which has none, is `:count`.

use std::{
    fmt::Write as _,
    io::{self, Write},
};

use super::Sink;
use crate::flow::{
    Flow,
    field::{FIELDS, Field, Value},
    filter::clean,
};

pub(super) struct Csv<W: Write> {
    fields: Vec<&'static Field>,
    header: bool,
    terminal: bool,
    cell: String,
    out: csv::Writer<W>,
}

impl<W: Write> Csv<W> {
    /// For a `terminal` control characters are replaced; files get what there is.
    pub(super) fn new(fields: Option<Vec<&'static Field>>, header: bool, terminal: bool, out: W) -> Self {
        let fields = fields.unwrap_or_else(|| FIELDS.iter().collect());
        Self { fields, header, terminal, cell: String::new(), out: csv::Writer::from_writer(out) }
    }
}

impl<W: Write> Sink for Csv<W> {
    fn begin(&mut self) -> io::Result<()> {
        if self.header {
            self.out.write_record(self.fields.iter().map(|field| field.name)).map_err(plain)?;
        }
        Ok(())
    }

    fn flow(&mut self, flow: &Flow) -> io::Result<()> {
        for field in &self.fields {
            self.cell.clear();
            if let Some(value) = field.of(flow) {
                write(&mut self.cell, value).map_err(io::Error::other)?;
            }
            if self.terminal {
                self.out.write_field(clean(&self.cell)).map_err(plain)?;
            } else {
                self.out.write_field(&self.cell).map_err(plain)?;
            }
        }
        self.out.write_record(None::<&[u8]>).map_err(plain)
    }

    fn end(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// The writer's own error under that of the format.
fn plain(error: csv::Error) -> io::Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        other => io::Error::other(format!("{other:?}")),
    }
}

/// A value as text; also what a table shows of a field.
pub(super) fn write(to: &mut String, value: Value<'_>) -> std::fmt::Result {
    match value {
        Value::Bool(value) => write!(to, "{value}"),
        Value::Int(value) => write!(to, "{value}"),
        Value::Text(value) => to.write_str(value),
        Value::Addr(value) => write!(to, "{value}"),
        Value::Time(value) => write!(to, "{value}"),
        Value::Histogram(buckets) => {
            for (n, (upper, count)) in buckets.iter().enumerate() {
                to.write_str(if n == 0 { "" } else { ";" })?;
                upper.map_or(Ok(()), |upper| write!(to, "{upper}"))?;
                write!(to, ":{count}")?;
            }
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{
        Format, Page, Screen,
        tests::{view, written},
    };
    use crate::{
        cli::args::View,
        flow::{Flow, field::FIELDS, sample},
    };

    #[test]
    fn the_header_is_the_contract_and_rows_have_its_fields() {
        let flow = Flow { cgroup: Some("/a,\"b\"\n\u{1b}".into()), ..sample::full() };
        let text = written(&view(Format::Csv, &[]), Page::Live, Screen::default(), &[flow, sample::bare()]);
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let names: Vec<String> = reader.headers().unwrap().iter().map(str::to_owned).collect();
        assert_eq!(names, FIELDS.iter().map(|field| field.name).collect::<Vec<_>>());
        let rows: Vec<csv::StringRecord> = reader.records().map(|row| row.unwrap()).collect();
        let cell =
            |row: usize, name: &str| rows[row].get(names.iter().position(|n| n == name).unwrap()).unwrap();
        assert_eq!(rows.len(), 2);
        assert_eq!(cell(0, "cgroup"), "/a,\"b\"\n\u{1b}");
        assert_eq!(cell(0, "rtt_histogram"), "22097:40;37163:1;:1");
        assert_eq!(cell(0, "opened_at"), "2026-01-02T03:04:05.000006Z");
        assert_eq!(cell(0, "adopted"), "false");
        assert_eq!(cell(1, "srtt_us"), "");
        assert_eq!(cell(1, "rtt_histogram"), "");
        assert_eq!(cell(1, "bytes_sent"), "3030408");
    }

    #[test]
    fn columns_and_no_header() {
        let view = View { no_header: true, ..view(Format::Csv, &["remote_addr", "srtt_us"]) };
        let text = written(&view, Page::Live, Screen::default(), &[sample::full(), sample::bare()]);
        assert_eq!(text, "198.51.100.7,20100\n198.51.100.7,\n");
    }

    #[test]
    fn a_terminal_gets_no_control_characters() {
        let flow = Flow { cgroup: Some("/\u{1b}[31m".into()), ..sample::full() };
        let screen = Screen { width: Some(80), colour: false };
        let text = written(&view(Format::Csv, &["cgroup"]), Page::Live, screen, &[flow]);
        assert_eq!(text, "cgroup\n/\u{fffd}[31m\n");
    }
}
