//! JSON lines as flowprobe prints them: one flat object a line.

use anyhow::{Context as _, Result, bail};
use serde_json::{Map, Value};

/// One flow as printed. Reading a name that is not there is an error; null is `None`.
#[derive(Clone, Debug, PartialEq)]
pub struct Line(pub Map<String, Value>);

impl Line {
    /// The raw value of a field.
    ///
    /// # Errors
    /// When the line has no such field.
    pub fn field(&self, name: &str) -> Result<&Value> {
        self.0.get(name).with_context(|| format!("a flow line has no field `{name}`"))
    }

    /// A whole number; `None` when null.
    ///
    /// # Errors
    /// When the field is absent or not a number ≥ 0.
    pub fn maybe_u64(&self, name: &str) -> Result<Option<u64>> {
        match self.field(name)? {
            Value::Null => Ok(None),
            value => Ok(Some(value.as_u64().with_context(|| format!("`{name}` is {value}, not a number"))?)),
        }
    }

    /// A whole number that has to be there.
    ///
    /// # Errors
    /// When the field is absent, null or not a number ≥ 0.
    pub fn u64(&self, name: &str) -> Result<u64> {
        self.maybe_u64(name)?.with_context(|| format!("`{name}` is null"))
    }

    /// A text; `None` when null.
    ///
    /// # Errors
    /// When the field is absent or not a text.
    pub fn maybe_text(&self, name: &str) -> Result<Option<&str>> {
        match self.field(name)? {
            Value::Null => Ok(None),
            value => Ok(Some(value.as_str().with_context(|| format!("`{name}` is {value}, not a text"))?)),
        }
    }

    /// A text that has to be there.
    ///
    /// # Errors
    /// When the field is absent, null or not a text.
    pub fn text(&self, name: &str) -> Result<&str> {
        self.maybe_text(name)?.with_context(|| format!("`{name}` is null"))
    }

    /// Yes or no.
    ///
    /// # Errors
    /// When the field is absent or not a boolean.
    pub fn flag(&self, name: &str) -> Result<bool> {
        let value = self.field(name)?;
        value.as_bool().with_context(|| format!("`{name}` is {value}, not true or false"))
    }

    /// `rtt_histogram`: pairs of upper bound in µs and count, in the order printed. Empty when null.
    ///
    /// # Errors
    /// When the field is absent or of another shape.
    pub fn histogram(&self) -> Result<Vec<(f64, u64)>> {
        let value = self.field("rtt_histogram")?;
        if value.is_null() {
            return Ok(Vec::new());
        }
        let rows = value.as_array().with_context(|| format!("`rtt_histogram` is {value}, not an array"))?;
        rows.iter()
            .map(|row| match row.as_array().map(Vec::as_slice) {
                Some([bound, count]) => Ok((
                    bound.as_f64().with_context(|| format!("{bound} is no bound"))?,
                    count.as_u64().with_context(|| format!("{count} is no count"))?,
                )),
                _ => bail!("{row} is no [upper bound, count]"),
            })
            .collect()
    }
}

/// Parse complete lines; a last line without newline is left out, because its writer may not be done.
///
/// # Errors
/// When a line is not a JSON object.
pub fn parse_lines(text: &str) -> Result<Vec<Line>> {
    let complete = text.rfind('\n').map_or("", |end| &text[..end]);
    complete
        .lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| {
            serde_json::from_str(line)
                .map(Line)
                .with_context(|| format!("not a JSON object in a line: {line}"))
        })
        .collect()
}
