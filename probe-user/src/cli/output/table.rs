//! Tables for people.
//!
//! Live connections are laid out once all are known. Connections that end are written at once, in the widths that such
//! rows usually have. Off a terminal nothing is cut and nothing is left out; `wide` never cuts.

use std::io::{self, BufWriter, Write};

use anstyle::{AnsiColor, Style};
use unicode_width::UnicodeWidthStr as _;

use super::{
    super::args::View,
    Format, Page, Screen, Sink,
    columns::{self, Column, Shape},
    layout::{self, GAP, Layout},
};
use crate::flow::Flow;

const HEADER: Style = Style::new().bold();
const NOTABLE: Style = AnsiColor::Yellow.on_default();

/// A row's cells, each with whether it is notable.
type Row = Vec<(String, bool)>;

pub(super) struct Table<W: Write> {
    columns: Vec<Column>,
    header: bool,
    screen: Screen,
    /// Cells may be cut to their column.
    cuts: bool,
    out: BufWriter<W>,
    body: Body,
}

enum Body {
    /// Rows, kept until their widths are known.
    Kept(Vec<Row>),
    Streamed(Layout),
}

impl<W: Write> Table<W> {
    pub(super) fn new(view: &View, page: Page, screen: Screen, out: W) -> Self {
        let wide = view.output == Format::Wide;
        let columns = match &view.columns {
            Some(names) => columns::named(names),
            None => columns::usual(page, wide),
        };
        let screen = if wide { Screen { width: None, ..screen } } else { screen };
        let body = match page {
            Page::Live => Body::Kept(Vec::new()),
            Page::Ended => {
                let usual: Vec<usize> = columns.iter().map(|c| c.usual.max(c.header().width())).collect();
                let mut layout = layout::fit(&columns, &usual, screen.width);
                layout::grow(&mut layout, screen.width);
                Body::Streamed(layout)
            }
        };
        let header = !view.no_header;
        Self { columns, header, screen, cuts: screen.width.is_some(), out: BufWriter::new(out), body }
    }
}

impl<W: Write> Sink for Table<W> {
    fn begin(&mut self) -> io::Result<()> {
        if let (Body::Streamed(layout), true) = (&self.body, self.header) {
            header(&mut self.out, layout, self.screen)?;
        }
        Ok(())
    }

    fn flow(&mut self, flow: &Flow) -> io::Result<()> {
        let cell = |column: &Column| (column.cell(flow), column.is_notable(flow));
        match &mut self.body {
            Body::Kept(rows) => rows.push(self.columns.iter().map(cell).collect()),
            Body::Streamed(layout) => {
                let cells = layout.iter().map(|(column, width)| (cell(column), column, *width));
                line(&mut self.out, cells, self.cuts, self.screen.colour)?;
            }
        }
        Ok(())
    }

    fn end(&mut self) -> io::Result<()> {
        if let Body::Kept(rows) = &self.body {
            let natural: Vec<usize> = (self.columns.iter().enumerate())
                .map(|(n, column)| {
                    let header = if self.header { column.header().width() } else { 0 };
                    rows.iter().map(|row| row[n].0.width()).max().unwrap_or(0).max(header)
                })
                .collect();
            let layout = layout::fit(&self.columns, &natural, self.screen.width);
            if self.header {
                header(&mut self.out, &layout, self.screen)?;
            }
            for row in rows {
                let cells = layout.iter().filter_map(|(column, width)| {
                    let n = self.columns.iter().position(|own| own.name == column.name)?;
                    Some((row[n].clone(), column, *width))
                });
                line(&mut self.out, cells, self.cuts, self.screen.colour)?;
            }
        }
        self.out.flush()
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn header(out: &mut impl Write, layout: &Layout, screen: Screen) -> io::Result<()> {
    let style = if screen.colour { HEADER } else { Style::new() };
    write!(out, "{style}")?;
    let names = layout.iter().map(|(column, width)| ((column.header(), false), column, *width));
    cells(out, names, false, false)?;
    writeln!(out, "{style:#}")
}

fn line<'a>(
    out: &mut impl Write,
    row: impl Iterator<Item = ((String, bool), &'a Column, usize)>,
    cuts: bool,
    colour: bool,
) -> io::Result<()> {
    cells(out, row, cuts, colour)?;
    writeln!(out)
}

/// Cells side by side, without spaces at the end of the line.
fn cells<'a>(
    out: &mut impl Write,
    row: impl Iterator<Item = ((String, bool), &'a Column, usize)>,
    cuts: bool,
    colour: bool,
) -> io::Result<()> {
    let mut due = 0;
    for ((text, notable), column, width) in row {
        let text = if cuts { layout::cut(&text, column.shape, width) } else { text };
        let rest = width.saturating_sub(text.width());
        let (before, after) = if column.shape == Shape::Number { (rest, 0) } else { (0, rest) };
        let style = if colour && notable { NOTABLE } else { Style::new() };
        write!(out, "{:1$}{style}{text}{style:#}", "", due + before)?;
        due = after + GAP;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{view, written},
        *,
    };
    use crate::flow::sample;

    fn screen(width: usize) -> Screen {
        Screen { width: Some(width), colour: false }
    }

    fn long() -> Flow {
        let addr = |text: &str| text.parse().unwrap();
        Flow {
            local_addr: addr("2001:db8:85a3:1234:5678:8a2e:370:7334"),
            remote_addr: addr("2001:db8:ffff:eeee:dddd:cccc:bbbb:aaaa"),
            ..sample::full()
        }
    }

    #[test]
    fn a_table_off_a_terminal_is_whole_and_aligned() {
        let flows = [long(), sample::bare()];
        let text = written(&view(Format::Table, &[]), Page::Live, Screen::default(), &flows);
        assert!(text.contains("[2001:db8:ffff:eeee:dddd:cccc:bbbb:aaaa]:51234"), "{text}");
        assert!(!text.contains('…') && !text.contains('\u{1b}'));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(lines.iter().all(|line| line.trim_end() == *line));
        let ends = |line: &str, word: &str| line.find(word).map(|at| at + word.len());
        assert_eq!(ends(lines[0], "SENT"), ends(lines[1], "3.0M"));
        assert_eq!(ends(lines[0], "RTT"), ends(lines[1], "20.1ms"));
        assert_eq!(ends(lines[0], "LOSS"), ends(lines[1], "1.02%"));
    }

    #[test]
    fn no_line_is_wider_than_the_terminal_and_cuts_are_marked() {
        for page in [Page::Live, Page::Ended] {
            for width in 67..250 {
                let flows = [long(), sample::full(), sample::bare()];
                let text = written(&view(Format::Table, &[]), page, screen(width), &flows);
                for line in text.lines() {
                    assert!(line.width() <= width, "{page:?} {width}: {}\n{text}", line.width());
                }
                let whole = text.contains("[2001:db8:ffff:eeee:dddd:cccc:bbbb:aaaa]:51234");
                assert_eq!(whole, !text.contains("…]:51234"), "{page:?} {width}\n{text}");
            }
        }
    }

    #[test]
    fn wide_has_every_column_and_cuts_nothing() {
        let text = written(&view(Format::Wide, &[]), Page::Live, screen(40), &[long()]);
        for word in ["HANDSHAKE", "CGROUP", "NETNS", "/system.slice/nginx.service", ":aaaa]:51234"] {
            assert!(text.contains(word), "{word}: {text}");
        }
    }

    #[test]
    fn chosen_columns_are_shown_in_the_order_chosen() {
        let view = View { no_header: true, ..view(Format::Table, &["cc", "srtt_us", "rtt", "loss"]) };
        let text = written(&view, Page::Live, screen(10), &[sample::full(), sample::bare()]);
        assert_eq!(text, "cubic  20100  20.1ms  1.02%\n-          -       -      -\n");
    }

    #[test]
    fn colour_marks_what_deserves_a_look_and_changes_no_width() {
        let colour = Screen { colour: true, ..screen(120) };
        let lossless = Flow { retrans_segs: Some(0), lost_segs_estimate: Some(0), ..sample::full() };
        let text = written(&view(Format::Table, &[]), Page::Live, colour, &[sample::full(), lossless]);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("\u{1b}[1m"));
        assert_eq!(lines[1].matches("\u{1b}[33m").count(), 2, "{text:?}");
        assert!(!lines[2].contains('\u{1b}'), "{text:?}");
        let plain = anstyle_free(&text);
        let flows =
            [sample::full(), Flow { retrans_segs: Some(0), lost_segs_estimate: Some(0), ..sample::full() }];
        assert_eq!(plain, written(&view(Format::Table, &[]), Page::Live, screen(120), &flows));
    }

    fn anstyle_free(text: &str) -> String {
        text.replace("\u{1b}[1m", "").replace("\u{1b}[33m", "").replace("\u{1b}[0m", "")
    }
}
