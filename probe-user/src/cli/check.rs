//! `flowprobe check`: what this machine allows, and what is lost without the rest.

use std::{
    io::{self, Write},
    path::Path,
    process::ExitCode,
};

use serde_json::json;

use super::args::{CheckArgs, CheckFormat};
use crate::{
    flow::filter::clean,
    source::{self, CheckItem, CheckReport},
};

pub(super) fn run(args: &CheckArgs, run_dir: &Path) -> anyhow::Result<ExitCode> {
    if let Some(duration) = args.reconcile {
        return super::reconcile::run(duration, args.output);
    }
    let report = source::check(run_dir)?;
    let mut out = io::stdout().lock();
    match args.output {
        CheckFormat::Table => out.write_all(table(&report).as_bytes())?,
        CheckFormat::Json => writeln!(out, "{:#}", json(&report))?,
    }
    out.flush()?;
    Ok(if is_ready(&report) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn items(report: &CheckReport) -> impl Iterator<Item = &CheckItem> {
    report.privileges.iter().chain(&report.hooks).chain(&report.fields)
}

fn is_ready(report: &CheckReport) -> bool {
    items(report).all(|item| item.ok || !item.required)
}

fn json(report: &CheckReport) -> serde_json::Value {
    let list = |items: &[CheckItem]| -> serde_json::Value {
        let object = |item: &CheckItem| {
            json!({
                "name": item.name,
                "ok": item.ok,
                "required": item.required,
                "reason": item.reason,
                "lost_without": item.lost_without,
            })
        };
        items.iter().map(object).collect()
    };
    json!({
        "ok": is_ready(report),
        "kernel": report.kernel,
        "daemon": report.daemon,
        "privileges": list(&report.privileges),
        "hooks": list(&report.hooks),
        "fields": list(&report.fields),
        "notes": report.notes,
    })
}

fn table(report: &CheckReport) -> String {
    let mut lines = vec![
        format!("kernel  {}", report.kernel),
        format!("daemon  {}", report.daemon.as_deref().unwrap_or("not running")),
    ];
    let width = items(report).map(|item| item.name.chars().count()).max().unwrap_or(0);
    for (title, items) in
        [("privileges", &report.privileges), ("hooks", &report.hooks), ("fields", &report.fields)]
    {
        if items.is_empty() {
            continue;
        }
        lines.push(String::new());
        lines.push(title.to_owned());
        for item in items {
            lines.push(line(item, width));
            if !item.ok {
                lines.push(format!("  {:11}without it: {}", "", item.lost_without));
            }
        }
    }
    if !report.notes.is_empty() {
        lines.push(String::new());
        lines.push("notes".to_owned());
        lines.extend(report.notes.iter().map(|note| format!("  {note}")));
    }
    lines.push(String::new());
    lines.push(verdict(report));
    lines.iter().map(|line| clean(line.trim_end()) + "\n").collect()
}

fn line(item: &CheckItem, width: usize) -> String {
    let mark = match (item.ok, item.required) {
        (true, _) => "ok",
        (false, true) => "REQUIRED",
        (false, false) => "missing",
    };
    format!("  {mark:<9}  {:width$}  {}", item.name, item.reason.as_deref().unwrap_or_default())
}

fn verdict(report: &CheckReport) -> String {
    let missing = |required: bool| {
        let names: Vec<&str> = (items(report).filter(|item| !item.ok && item.required == required))
            .map(|item| item.name.as_str())
            .collect();
        names.join(", ")
    };
    match (missing(true), missing(false)) {
        (required, _) if !required.is_empty() => format!("flowprobe cannot run here without: {required}"),
        (_, optional) if !optional.is_empty() => format!("flowprobe can run here, with less: {optional}"),
        _ => "flowprobe can run here, with everything.".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(name: &str, ok: bool, required: bool) -> CheckItem {
        let reason = (!ok).then(|| "the kernel\u{1b} refuses it".to_owned());
        CheckItem {
            name: name.to_owned(),
            ok,
            required,
            reason,
            lost_without: "SYN-ACKs sent again".to_owned(),
        }
    }

    fn report(hook: CheckItem) -> CheckReport {
        CheckReport {
            kernel: "6.18.5".to_owned(),
            privileges: vec![item("CAP_BPF", true, true)],
            hooks: vec![hook],
            notes: vec!["a note".to_owned()],
            ..CheckReport::default()
        }
    }

    #[test]
    fn an_optional_hook_is_named_with_its_loss_and_is_no_failure() {
        let report = report(item("synack", false, false));
        let text = table(&report);
        assert!(text.contains("missing    synack   the kernel\u{fffd} refuses it"), "{text}");
        assert!(text.contains("without it: SYN-ACKs sent again"));
        assert!(text.ends_with("flowprobe can run here, with less: synack\n"));
        assert!(!text.replace('\n', "").chars().any(char::is_control));
        assert!(is_ready(&report));
    }

    #[test]
    fn a_required_hook_is_a_failure() {
        let report = report(item("life", false, true));
        assert!(table(&report).contains("cannot run here without: life"));
        assert!(!is_ready(&report));
        assert_eq!(json(&report)["ok"], false);
        assert_eq!(json(&report)["hooks"][0]["name"], "life");
        assert_eq!(json(&report)["daemon"], serde_json::Value::Null);
    }

    #[test]
    fn all_is_well_when_it_is() {
        let report = report(item("life", true, true));
        assert!(table(&report).ends_with("with everything.\n"));
        assert_eq!(json(&report)["ok"], true);
    }
}
