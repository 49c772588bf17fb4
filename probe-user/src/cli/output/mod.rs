//! How flows are written: tables for people, JSON and CSV for programs.
//!
//! Every format takes flows one by one and shows the fields of the contract; only a table of live connections waits for
//! all of them, to know its widths.

use std::io::{self, IsTerminal as _, Write};

use clap::ValueEnum;

use super::{Usage, args::View};
use crate::flow::Flow;

pub mod columns;
mod csv;
pub mod human;
mod json;
mod layout;
mod table;

/// Formats of flows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// The columns that fit the terminal
    #[default]
    Table,
    /// All columns, however wide
    Wide,
    /// One array of objects
    Json,
    /// One object a line
    Jsonl,
    /// Comma-separated, a header first
    Csv,
}

impl Format {
    /// Made for eyes.
    #[must_use]
    pub fn is_table(self) -> bool {
        matches!(self, Self::Table | Self::Wide)
    }
}

/// Which columns a table has by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    /// Connections now: all rows are known before the first is written.
    Live,
    /// Connections as they end: a row is written at once.
    Ended,
}

/// Where a table is shown.
#[derive(Clone, Copy, Debug, Default)]
pub struct Screen {
    /// Columns of the terminal; `None` for a file or a pipe.
    pub width: Option<usize>,
    /// Colours are welcome.
    pub colour: bool,
}

impl Screen {
    /// Standard output of this process; NO_COLOR and TERM=dumb are honoured.
    #[must_use]
    pub fn of_stdout() -> Self {
        let stdout = io::stdout();
        if !stdout.is_terminal() {
            return Self::default();
        }
        let width = rustix::termios::tcgetwinsize(&stdout).map_or(0, |size| usize::from(size.ws_col));
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        Self { width: Some(if width == 0 { 80 } else { width }), colour: !no_color && !dumb }
    }
}

/// Takes flows and writes them.
pub trait Sink {
    /// Before the first flow.
    fn begin(&mut self) -> io::Result<()>;
    /// A flow.
    fn flow(&mut self, flow: &Flow) -> io::Result<()>;
    /// After the last flow.
    fn end(&mut self) -> io::Result<()>;
    /// Makes what was written visible to the reader.
    fn flush(&mut self) -> io::Result<()>;
}

/// The writer that `view` asks for.
///
/// # Errors
/// A column that the format does not have.
pub fn open<'a>(
    view: &View,
    page: Page,
    screen: Screen,
    out: impl Write + 'a,
) -> Result<Box<dyn Sink + 'a>, Usage> {
    let names = view.columns.as_deref();
    Ok(match view.output {
        Format::Table | Format::Wide => Box::new(table::Table::new(view, page, screen, out)),
        Format::Json => Box::new(json::Array::new(columns::fields(names)?, out)),
        Format::Jsonl => Box::new(json::Lines::new(columns::fields(names)?, out)),
        Format::Csv => {
            Box::new(csv::Csv::new(columns::fields(names)?, !view.no_header, screen.width.is_some(), out))
        }
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// What `view` makes of `flows`.
    pub(in crate::cli) fn written(view: &View, page: Page, screen: Screen, flows: &[Flow]) -> String {
        let mut out = Vec::new();
        let mut sink = open(view, page, screen, &mut out).unwrap();
        sink.begin().unwrap();
        for flow in flows {
            sink.flow(flow).unwrap();
        }
        sink.end().unwrap();
        sink.flush().unwrap();
        drop(sink);
        String::from_utf8(out).unwrap()
    }

    pub(in crate::cli) fn view(output: Format, columns: &[&str]) -> View {
        let columns = (!columns.is_empty()).then(|| columns.iter().map(|c| c.parse().unwrap()).collect());
        View { output, columns, no_header: false }
    }
}
