//! `flowprobe check --reconcile`: our sums beside the kernel's own counters.

use std::{
    io::{self, Write},
    process::ExitCode,
    time::Duration,
};

use serde_json::{Value, json};

use super::args::CheckFormat;
use crate::{
    config,
    flow::filter::clean,
    reconcile::{
        report::Row,
        run::{self, Comparison},
    },
};

pub(super) fn run(duration: Duration, format: CheckFormat) -> anyhow::Result<ExitCode> {
    let comparison = run::run(duration, &mut || {
        // Nobody may be left to read it.
        let _ = writeln!(io::stderr(), "flowprobe: counting for {duration:?}; Ctrl-C ends it early");
    })?;
    let mut out = io::stdout().lock();
    match format {
        CheckFormat::Table => out.write_all(table(&comparison).as_bytes())?,
        CheckFormat::Json => writeln!(out, "{:#}", json(&comparison))?,
    }
    out.flush()?;
    Ok(if comparison.report.agrees() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let range = Duration::from_millis(100)..=Duration::from_secs(3600);
    config::duration(text, range, "from 100ms to 1h, such as 10s,")
}

fn json(comparison: &Comparison) -> Value {
    let list = |rows: &[Row]| -> Value {
        let object = |row: &Row| {
            json!({
                "counter": row.counter,
                "flowprobe": row.flowprobe,
                "kernel": row.kernel,
                "difference": row.difference(),
                "exact": row.exact,
                "agrees": row.agrees,
                "why": row.why,
            })
        };
        rows.iter().map(object).collect()
    };
    let report = &comparison.report;
    let namespaces: Vec<_> = (report.namespaces.iter())
        .map(|(netns, rows)| json!({ "netns": netns, "counters": list(rows) }))
        .collect();
    json!({
        "agrees": report.agrees(),
        "kernel": comparison.kernel,
        "seconds": comparison.lasted.as_secs_f64(),
        "counters": list(&report.total),
        "namespaces": namespaces,
        "notes": comparison.notes,
    })
}

fn table(comparison: &Comparison) -> String {
    let report = &comparison.report;
    let (exact, other): (Vec<&Row>, Vec<&Row>) = report.total.iter().partition(|row| row.exact);
    let mut lines = vec![format!("kernel  {}", comparison.kernel), String::new()];
    lines.push(format!("{:<16}  {:>12}  {:>12}  {:>10}", "counter", "flowprobe", "kernel", "difference"));
    for (title, rows) in [("equal by nature", exact), ("not equal by nature", other)] {
        if rows.is_empty() {
            continue;
        }
        lines.push(title.to_owned());
        for row in rows {
            let mark = if row.agrees { "" } else { "  DIFFERS" };
            lines.push(format!(
                "  {:<14}  {:>12}  {:>12}  {:>10}{mark}",
                row.counter,
                row.flowprobe,
                row.kernel,
                row.difference()
            ));
            lines.extend(row.why.iter().map(|why| format!("    {why}")));
        }
    }
    if !comparison.notes.is_empty() {
        lines.push(String::new());
        lines.push("notes".to_owned());
        lines.extend(comparison.notes.iter().map(|note| format!("  {note}")));
    }
    lines.push(String::new());
    lines.push(verdict(comparison));
    lines.iter().map(|line| clean(line.trim_end()) + "\n").collect()
}

fn verdict(comparison: &Comparison) -> String {
    let report = &comparison.report;
    let seconds = comparison.lasted.as_secs_f64();
    if report.agrees() {
        let n = report.namespaces.len();
        return format!(
            "All exact counters agree over {seconds:.1} s (network namespaces with TCP at work: {n})."
        );
    }
    let differing = |rows: &[Row]| {
        rows.iter().filter(|row| !row.agrees).map(|row| row.counter).collect::<Vec<_>>().join(", ")
    };
    let of_each: Vec<_> = (report.namespaces.iter())
        .filter(|(_, rows)| rows.iter().any(|row| !row.agrees))
        .map(|(netns, rows)| format!("{} in network namespace {netns}", differing(rows)))
        .collect();
    format!("flowprobe and the kernel disagree over {seconds:.1} s: {}", of_each.join("; "))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::reconcile::report::Report;

    fn comparison(flowprobe: u64) -> Comparison {
        let agrees = flowprobe == 5;
        let why = if agrees { Vec::new() } else { vec!["lost \u{1b}".to_owned()] };
        let row = Row { counter: "RetransSegs", flowprobe, kernel: 5, exact: true, agrees, why };
        let by_nature = Row {
            counter: "TCPTimeouts",
            exact: false,
            agrees: true,
            why: vec!["requests".to_owned()],
            ..row.clone()
        };
        let rows = vec![row, by_nature];
        Comparison {
            kernel: "6.18.5".to_owned(),
            lasted: Duration::from_millis(1500),
            report: Report { total: rows.clone(), namespaces: BTreeMap::from([(7, rows)]), gone: 0 },
            notes: vec!["a note".to_owned()],
        }
    }

    #[test]
    fn agreement_is_said_in_one_line() {
        let text = table(&comparison(5));
        assert!(text.contains("  RetransSegs                5             5           0\n"), "{text}");
        assert!(text.contains("not equal by nature\n  TCPTimeouts "), "{text}");
        assert!(text.contains("    requests\n"), "{text}");
        assert!(
            text.ends_with("All exact counters agree over 1.5 s (network namespaces with TCP at work: 1).\n")
        );
        let json = json(&comparison(5));
        assert_eq!((&json["agrees"], &json["counters"][0]["difference"]), (&json!(true), &json!(0)));
        assert_eq!(json["namespaces"][0]["netns"], 7);
    }

    #[test]
    fn a_difference_names_its_counter_and_place() {
        let text = table(&comparison(3));
        assert!(text.contains("-2  DIFFERS\n    lost \u{fffd}\n"), "{text}");
        assert!(text.ends_with("disagree over 1.5 s: RetransSegs in network namespace 7\n"), "{text}");
        assert_eq!(json(&comparison(3))["agrees"], false);
        assert_eq!(json(&comparison(3))["counters"][0]["difference"], -2);
    }

    #[test]
    fn durations_are_checked() {
        assert_eq!(duration("10s"), Ok(Duration::from_secs(10)));
        for text in ["10", "0s", "2h", "-1s", ""] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
