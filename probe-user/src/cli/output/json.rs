//! JSON: the API. An array, or one object a line, with the fields of the contract in its order.

use std::io::{self, BufWriter, Write};

use serde::{Serialize, Serializer, ser::SerializeMap as _};
use serde_json::ser::Formatter;

use super::Sink;
use crate::flow::{Flow, field::Field, filter::steers};

/// Some fields of a flow, as an object.
struct Chosen<'a>(&'a [&'static Field], &'a Flow);

impl Serialize for Chosen<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(Some(self.0.len()))?;
        for field in self.0 {
            map.serialize_entry(field.name, &field.of(self.1))?;
        }
        map.end()
    }
}

/// Compact, and of strings also what steers a terminal is escaped: the names of cgroups are their makers'.
struct Harmless;

impl Formatter for Harmless {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, out: &mut W, fragment: &str) -> io::Result<()> {
        let mut plain = fragment;
        while let Some(at) = plain.find(steers) {
            out.write_all(&plain.as_bytes()[..at])?;
            let mut rest = plain[at..].chars();
            if let Some(c) = rest.next() {
                // None of them needs more than four digits.
                write!(out, "\\u{:04x}", u32::from(c))?;
            }
            plain = rest.as_str();
        }
        out.write_all(plain.as_bytes())
    }
}

/// One object a line.
pub(super) struct Lines<W: Write> {
    fields: Option<Vec<&'static Field>>,
    out: BufWriter<W>,
}

impl<W: Write> Lines<W> {
    pub(super) fn new(fields: Option<Vec<&'static Field>>, out: W) -> Self {
        Self { fields, out: BufWriter::new(out) }
    }

    fn object(&mut self, flow: &Flow) -> io::Result<()> {
        let mut to = serde_json::Serializer::with_formatter(&mut self.out, Harmless);
        let written = match &self.fields {
            Some(fields) => Chosen(fields, flow).serialize(&mut to),
            None => flow.serialize(&mut to),
        };
        written.map_err(io::Error::from)
    }
}

impl<W: Write> Sink for Lines<W> {
    fn begin(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn flow(&mut self, flow: &Flow) -> io::Result<()> {
        self.object(flow)?;
        self.out.write_all(b"\n")
    }

    fn end(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// One array, written as flows come.
pub(super) struct Array<W: Write> {
    lines: Lines<W>,
    first: bool,
}

impl<W: Write> Array<W> {
    pub(super) fn new(fields: Option<Vec<&'static Field>>, out: W) -> Self {
        Self { lines: Lines::new(fields, out), first: true }
    }
}

impl<W: Write> Sink for Array<W> {
    fn begin(&mut self) -> io::Result<()> {
        self.lines.out.write_all(b"[")
    }

    fn flow(&mut self, flow: &Flow) -> io::Result<()> {
        self.lines.out.write_all(if self.first { b"\n" } else { b",\n" })?;
        self.first = false;
        self.lines.object(flow)
    }

    fn end(&mut self) -> io::Result<()> {
        self.lines.out.write_all(if self.first { b"]\n" } else { b"\n]\n" })?;
        self.lines.out.flush()
    }

    fn flush(&mut self) -> io::Result<()> {
        self.lines.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{
        Format, Page, Screen,
        tests::{view, written},
    };
    use crate::flow::{Flow, field::FIELDS, sample};

    #[test]
    fn a_line_is_the_flow_as_serde_writes_it() {
        let flows = [sample::full(), sample::bare()];
        let text = written(&view(Format::Jsonl, &[]), Page::Live, Screen::default(), &flows);
        let expected: String = flows.iter().map(|flow| serde_json::to_string(flow).unwrap() + "\n").collect();
        assert_eq!(text, expected);
        assert!(text.starts_with(r#"{"schema_version":1,"flow_id":"281474976710657.1","netns":4026531840,"#));
        assert!(text.contains(r#""opened_at":"2026-01-02T03:04:05.000006Z""#));
        assert!(text.contains(r#""rtt_histogram":[[22097,40],[37163,1],[null,1]]"#));
    }

    #[test]
    fn an_array_is_json_with_any_number_of_flows() {
        for count in 0..3 {
            let flows = vec![sample::full(); count];
            let text = written(&view(Format::Json, &[]), Page::Live, Screen::default(), &flows);
            let parsed: serde_json::Value = serde_json::from_str(&text).unwrap();
            let objects = parsed.as_array().unwrap();
            assert_eq!(objects.len(), count);
            assert!(objects.iter().all(|o| o.as_object().unwrap().len() == FIELDS.len()));
        }
    }

    #[test]
    fn chosen_fields_come_in_the_order_chosen() {
        let columns = view(Format::Jsonl, &["remote_port", "srtt_us", "cgroup", "flow_id"]);
        let text = written(&columns, Page::Live, Screen::default(), &[sample::bare()]);
        let expected = r#"{"remote_port":51234,"srtt_us":null,"cgroup":null,"flow_id":"281474976710657.1"}"#;
        assert_eq!(text, format!("{expected}\n"));
    }

    #[test]
    fn control_characters_are_escaped() {
        let name = "/a\u{1b}[31m\n\u{9b}2J\u{7f}\u{202e}ä";
        let flow = Flow { cgroup: Some(name.into()), ..sample::full() };
        for output in [Format::Jsonl, Format::Json] {
            let text =
                written(&view(output, &[]), Page::Live, Screen::default(), std::slice::from_ref(&flow));
            assert!(text.contains(r#""/a\u001b[31m\n\u009b2J\u007f\u202eä""#), "{text}");
            let parsed: serde_json::Value = serde_json::from_str(&text).unwrap();
            let object = parsed.get(0).unwrap_or(&parsed);
            assert_eq!(object["cgroup"], name);
        }
    }
}
