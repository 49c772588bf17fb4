//! `flowprobe flows`: live connections now.

use std::{
    io::{self, Write},
    ops::ControlFlow,
    path::Path,
};

use super::{
    args::FlowsArgs,
    output::{self, Page, Screen},
};
use crate::{
    flow::{
        Flow,
        filter::{Filter, clean},
        sort::{First, Sort},
    },
    source::{self, SnapshotEnd},
};

/// Gives every live connection to a function, until that breaks.
type Each<'a> = &'a mut dyn FnMut(Flow) -> ControlFlow<()>;

pub(super) fn run(args: &FlowsArgs, run_dir: &Path, config: Option<&Path>) -> anyhow::Result<()> {
    let out = io::stdout().lock();
    let filter = Filter::parse(&args.filter)?;
    let snapshot = |each: Each<'_>| source::snapshot(run_dir, &|| super::daemon::cut(config), each);
    let end = print(args, &filter, Screen::of_stdout(), out, snapshot)?;
    for note in notes(&filter, &end, run_dir) {
        // Nobody may be left to read it.
        let _ = writeln!(io::stderr(), "flowprobe: {note}");
    }
    Ok(())
}

fn print(
    args: &FlowsArgs,
    filter: &Filter,
    screen: Screen,
    out: impl Write,
    snapshot: impl FnOnce(Each<'_>) -> anyhow::Result<SnapshotEnd>,
) -> anyhow::Result<SnapshotEnd> {
    let mut sink = output::open(&args.view, Page::Live, screen, out)?;
    let sorted = args.sort.is_some() || args.limit.is_some() || args.view.output.is_table();
    let end = if sorted {
        let mut first = First::new(args.sort.unwrap_or(Sort::BYTES), args.limit.unwrap_or(usize::MAX));
        let end = snapshot(&mut |flow| {
            if filter.matches(&flow) {
                first.push(flow);
            }
            ControlFlow::Continue(())
        })?;
        sink.begin()?;
        for flow in first.finish() {
            sink.flow(&flow)?;
        }
        end
    } else {
        sink.begin()?;
        let mut written = Ok(());
        let end = snapshot(&mut |flow| {
            if filter.matches(&flow) {
                written = sink.flow(&flow);
            }
            if written.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        written?;
        end?
    };
    sink.end()?;
    Ok(end)
}

/// What is missing from what was shown.
fn notes(filter: &Filter, end: &SnapshotEnd, run_dir: &Path) -> Vec<String> {
    let mut notes = Vec::new();
    if !end.from_daemon {
        notes.push(format!(
            "no daemon answers in {}: roles, durations, round trips, causes and stalls are not known, and filters on them find nothing",
            run_dir.display()
        ));
    }
    if filter.wants_no_connection() {
        notes.push(
            "sockets that listen, are closed or are in time_wait are no connections and are never shown: ss lists them"
                .to_owned(),
        );
    }
    if let Some(reason) = &end.incomplete {
        notes.push(format!("connections may be missing: {}", clean(reason)));
    }
    if end.unseen_namespaces > 0 {
        notes.push(format!(
            "connections of {} network namespaces are missing, which could not be entered: run it as root on the host",
            end.unseen_namespaces
        ));
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cli::output::{Format, tests::view},
        flow::sample,
    };

    fn args(output: Format, words: &[&str]) -> FlowsArgs {
        let filter = words.iter().map(|word| (*word).to_owned()).collect();
        FlowsArgs { filter, view: view(output, &[]), sort: None, limit: None }
    }

    fn three() -> Vec<Flow> {
        (1..=3_u16)
            .map(|n| Flow { remote_port: n, bytes_acked: Some(u64::from(n)), ..sample::full() })
            .collect()
    }

    fn shown(args: &FlowsArgs) -> Vec<u64> {
        let mut out = Vec::new();
        let filter = Filter::parse(&args.filter).unwrap();
        print(args, &filter, Screen::default(), &mut out, |each| {
            let _ = three().into_iter().try_for_each(each);
            Ok(SnapshotEnd::default())
        })
        .unwrap();
        let lines = String::from_utf8(out).unwrap();
        let port = |line: &str| {
            let flow: serde_json::Value = serde_json::from_str(line).unwrap();
            flow["remote_port"].as_u64().unwrap()
        };
        lines.lines().map(port).collect()
    }

    #[test]
    fn filters_sorts_and_limits() {
        let all = args(Format::Jsonl, &[]);
        assert_eq!(shown(&all), [1, 2, 3]);
        assert_eq!(shown(&args(Format::Jsonl, &["dport", ">", "1"])), [2, 3]);
        assert_eq!(shown(&FlowsArgs { limit: Some(2), ..all.clone() }), [3, 2]);
        assert_eq!(shown(&FlowsArgs { sort: "-bytes".parse().ok(), ..all.clone() }), [1, 2, 3]);
        assert_eq!(shown(&args(Format::Jsonl, &["adopted"])), [0_u64; 0]);
    }

    #[test]
    fn the_first_failed_write_ends_the_walk() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
        }
        for format in [Format::Json, Format::Jsonl, Format::Csv, Format::Table] {
            let mut given = 0_u32;
            let error = print(&args(format, &[]), &Filter::default(), Screen::default(), Closed, |each| {
                while given < 10_000 && each(sample::full()).is_continue() {
                    given += 1;
                }
                Ok(SnapshotEnd::default())
            })
            .unwrap_err();
            assert!(crate::cli::is_broken_pipe(&error), "{format:?}: {error:?}");
            assert_eq!(given < 10_000, !format.is_table(), "{format:?}");
        }
    }

    #[test]
    fn a_broken_filter_asks_for_nothing() {
        let asked = run(&args(Format::Table, &["rtz"]), Path::new("/nonexistent"), None);
        assert_eq!(crate::cli::exit_code(&asked.unwrap_err()), 2);
    }

    fn of_a_daemon() -> SnapshotEnd {
        SnapshotEnd { from_daemon: true, ..SnapshotEnd::default() }
    }

    #[test]
    fn who_asks_for_listeners_is_told_that_they_are_no_connections() {
        let filter = Filter::parse(&["state", "listen"]).unwrap();
        let notes = notes(&filter, &of_a_daemon(), Path::new("/run/f"));
        assert!(matches!(&notes[..], [note] if note.contains("no connections")), "{notes:?}");
    }

    #[test]
    fn what_is_missing_is_said() {
        let filter = Filter::default();
        assert!(notes(&filter, &of_a_daemon(), Path::new("/run/f")).is_empty());
        let alone = notes(&filter, &SnapshotEnd::default(), Path::new("/run/f"));
        assert!(
            matches!(&alone[..], [note] if note.starts_with("no daemon answers in /run/f: roles")),
            "{alone:?}"
        );
        let end = SnapshotEnd {
            unseen_namespaces: 2,
            incomplete: Some("the walk was cut short".to_owned()),
            from_daemon: true,
        };
        let notes = notes(&filter, &end, Path::new("/run/f"));
        assert!(notes[0].ends_with("the walk was cut short"));
        assert!(notes[1].contains("2 network namespaces"));
    }
}
