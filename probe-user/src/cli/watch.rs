//! `flowprobe watch`: each connection as it ends or fails.
//!
//! A row is written and flushed at once, so that a pipe sees it while the next connection still lives.

use std::{
    io::{self, Write},
    ops::ControlFlow,
    path::Path,
};

use super::{
    args::WatchArgs,
    output::{self, Page, Screen, Sink},
};
use crate::{
    flow::filter::Filter,
    source::{self, WatchEvent},
};

/// Gives every event to a function, until that breaks.
type Each<'a> = &'a mut dyn FnMut(WatchEvent) -> ControlFlow<()>;

pub(super) fn run(args: &WatchArgs, run_dir: &Path, config: Option<&Path>) -> anyhow::Result<()> {
    let out = io::stdout().lock();
    let watch = |each: Each<'_>| source::watch(run_dir, &|| super::daemon::cut(config), each);
    print(args, Screen::of_stdout(), out, &mut io::stderr(), watch)
}

fn print(
    args: &WatchArgs,
    screen: Screen,
    out: impl Write,
    notes: &mut dyn Write,
    watch: impl FnOnce(Each<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let filter = Filter::parse(&args.filter)?;
    let sink = output::open(&args.view, Page::Ended, screen, out)?;
    let mut printer = Printer { filter, sink, left: args.limit, lost: 0, begun: false };
    let mut written = Ok(());
    let watched = watch(&mut |event| match printer.take(event, notes) {
        Ok(next) => next,
        Err(error) => {
            written = Err(error);
            ControlFlow::Break(())
        }
    });
    written?;
    // The page is ended whatever ended the watch: half an array is no JSON.
    let ended = printer.end();
    watched?;
    Ok(ended?)
}

struct Printer<'a> {
    filter: Filter,
    sink: Box<dyn Sink + 'a>,
    /// Rows until the limit.
    left: Option<usize>,
    lost: u64,
    begun: bool,
}

impl Printer<'_> {
    fn take(&mut self, event: WatchEvent, notes: &mut dyn Write) -> io::Result<ControlFlow<()>> {
        match event {
            WatchEvent::Ready => {
                self.begin()?;
                self.sink.flush()?;
                // Notes that nobody can read are no reason to end.
                let _ = writeln!(notes, "flowprobe: watching, end with Ctrl-C");
            }
            WatchEvent::Lost { records } => {
                self.lost = self.lost.saturating_add(records);
                let _ = writeln!(notes, "flowprobe: {records} records lost, {} since the start", self.lost);
            }
            WatchEvent::Flow(flow) if self.filter.matches(&flow) => {
                self.begin()?;
                self.sink.flow(&flow)?;
                self.sink.flush()?;
                if let Some(left) = &mut self.left {
                    *left = left.saturating_sub(1);
                    if *left == 0 {
                        return Ok(ControlFlow::Break(()));
                    }
                }
            }
            WatchEvent::Flow(_) => {}
        }
        Ok(ControlFlow::Continue(()))
    }

    fn begin(&mut self) -> io::Result<()> {
        if std::mem::replace(&mut self.begun, true) { Ok(()) } else { self.sink.begin() }
    }

    fn end(mut self) -> io::Result<()> {
        self.begin()?;
        self.sink.end()
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, rc::Rc};

    use super::*;
    use crate::{
        cli::output::{Format, tests::view},
        flow::{Flow, sample},
    };

    #[derive(Clone, Default)]
    struct Shared(Rc<RefCell<Vec<u8>>>);

    impl Shared {
        fn text(&self) -> String {
            String::from_utf8(self.0.borrow().clone()).unwrap()
        }
    }

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.borrow_mut().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn args(output: Format, words: &[&str], limit: Option<usize>) -> WatchArgs {
        let filter = words.iter().map(|word| (*word).to_owned()).collect();
        WatchArgs { filter, view: view(output, &[]), limit }
    }

    fn ended() -> WatchEvent {
        WatchEvent::Flow(Box::new(sample::full()))
    }

    #[test]
    fn a_row_is_there_before_the_next_event() {
        for format in [Format::Table, Format::Wide, Format::Jsonl, Format::Json, Format::Csv] {
            let out = Shared::default();
            let seen = out.clone();
            print(&args(format, &[], None), Screen::default(), out.clone(), &mut Vec::new(), |each| {
                let _ = each(WatchEvent::Ready);
                for n in 1..4 {
                    let _ = each(ended());
                    let rows = seen.text().matches("198.51.100.7").count();
                    assert_eq!(rows, n, "{format:?}");
                }
                Ok(())
            })
            .unwrap();
        }
    }

    #[test]
    fn the_header_comes_once_and_first() {
        let out = Shared::default();
        print(&args(Format::Table, &[], None), Screen::default(), out.clone(), &mut Vec::new(), |each| {
            let _ = each(WatchEvent::Ready);
            assert!(out.text().starts_with("CLOSED"));
            let _ = each(ended());
            let _ = each(ended());
            Ok(())
        })
        .unwrap();
        assert_eq!(out.text().matches("REMOTE").count(), 1);
        assert_eq!(out.text().lines().count(), 3);
    }

    #[test]
    fn filter_and_limit_end_it() {
        let out = Shared::default();
        let mut given = 0_u16;
        print(
            &args(Format::Jsonl, &["dport", ">", "2"], Some(2)),
            Screen::default(),
            out.clone(),
            &mut Vec::new(),
            |each| {
                loop {
                    given += 1;
                    let flow = Flow { remote_port: given, ..sample::full() };
                    if each(WatchEvent::Flow(Box::new(flow))).is_break() {
                        return Ok(());
                    }
                }
            },
        )
        .unwrap();
        assert_eq!(given, 4);
        assert_eq!(out.text().lines().count(), 2);
    }

    #[test]
    fn losses_are_said_with_their_sum() {
        let mut notes = Vec::new();
        print(&args(Format::Json, &[], None), Screen::default(), Vec::new(), &mut notes, |each| {
            let _ = each(WatchEvent::Ready);
            let _ = each(WatchEvent::Lost { records: 3 });
            let _ = each(WatchEvent::Lost { records: 4 });
            Ok(())
        })
        .unwrap();
        let notes = String::from_utf8(notes).unwrap();
        assert!(notes.contains("watching"));
        assert!(notes.contains("4 records lost, 7 since the start"), "{notes}");
    }

    #[test]
    fn an_array_is_closed_when_interrupted_before_any_event() {
        let out = Shared::default();
        print(&args(Format::Json, &[], None), Screen::default(), out.clone(), &mut Vec::new(), |_| Ok(()))
            .unwrap();
        assert_eq!(out.text(), "[]\n");
    }
}
