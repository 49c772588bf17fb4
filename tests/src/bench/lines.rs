//! JSON with a line for each figure: what a run changed is seen in a diff.

use std::io::{self, Write};

use anyhow::Result;
use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter, Serializer};

/// An object deeper than this is one line, with all that is in it: sheet, parts, part and figures have a line for each member.
const UNFOLDED: usize = 4;

/// `value` as text that ends with a line's end.
///
/// # Errors
/// When a value is of no kind that JSON has.
pub(super) fn json(value: &impl Serialize) -> Result<String> {
    let mut bytes = Vec::new();
    let lines = Lines { depth: 0, folded_at: None, pretty: PrettyFormatter::new() };
    value.serialize(&mut Serializer::with_formatter(&mut bytes, lines))?;
    bytes.push(b'\n');
    Ok(String::from_utf8(bytes)?)
}

struct Lines {
    /// How many objects are open.
    depth: usize,
    /// The depth of the object that is being written as one line.
    folded_at: Option<usize>,
    pretty: PrettyFormatter<'static>,
}

/// Passes a call on to the one or the other.
macro_rules! as_folded {
    ($self:ident, $call:ident($($argument:expr),*)) => {
        if $self.folded_at.is_some() {
            CompactFormatter.$call($($argument),*)
        } else {
            $self.pretty.$call($($argument),*)
        }
    };
}

impl Formatter for Lines {
    fn begin_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        as_folded!(self, begin_array(writer))
    }

    fn end_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        as_folded!(self, end_array(writer))
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        as_folded!(self, begin_array_value(writer, first))
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        as_folded!(self, end_array_value(writer))
    }

    fn begin_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.depth += 1;
        if self.depth > UNFOLDED && self.folded_at.is_none() {
            self.folded_at = Some(self.depth);
        }
        as_folded!(self, begin_object(writer))
    }

    fn end_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        let done = as_folded!(self, end_object(writer));
        if self.folded_at == Some(self.depth) {
            self.folded_at = None;
        }
        self.depth -= 1;
        done
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        as_folded!(self, begin_object_key(writer, first))
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        as_folded!(self, begin_object_value(writer))
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        as_folded!(self, end_object_value(writer))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json as value};

    #[test]
    fn a_figure_has_a_line() {
        let sheet = value!({"parts": {"a": {"figures": {"one": {"min": 1, "runs": [{"min": 2}]}, "two": {}}, "agreement": {"list": ["x", "y"]}}}});
        let text = super::json(&sheet).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), sheet);
        let lines: Vec<_> = text.lines().map(str::trim).collect();
        assert!(lines.contains(&r#""one": {"min":1,"runs":[{"min":2}]},"#), "{text}");
        assert!(lines.contains(&r#""x","#), "{text}");
    }
}
