//! docs/performance.md, made of the figures alone.

use std::fmt::Write as _;

use super::compare::Agreement;
use super::parts;
use super::peers;
use super::plot::{Plot, plots};
use super::sheet::{Part, Sheet};
use super::{budgets, table};

const HEAD: &str = "\
# What flowprobe costs

Made by `cargo xtask bench`; the figures are in performance.json. A cell is the median of the last run's measurements, with the
smallest and the largest behind it, of that run and of up to three before it, whatever their build: how much the machine's hours
differ is in the spread. All loads are on loopback, in network namespaces of their own, with reno, client and server of a connection
on one CPU: every connection has both ends here, and nothing but TCP and the observer is paid for. Figures of two machines do not
compare; those of one table do. Each part says how its figures stand to those of the runs before.

";

/// The document, and the plots that it shows.
pub(super) fn report(sheet: &Sheet) -> (String, Vec<Plot>) {
    let mut text = HEAD.to_owned();
    if sheet.parts.values().any(|part| part.quick) {
        text += "**Of the quick form, at least in part: it shows that the measuring works, and not what things cost.**\n\n";
    }
    let _ = writeln!(text, "## Budgets\n\n{}", budgets::table(sheet));
    let plots = plots(sheet);
    for question in &parts::ALL {
        let Some(part) = sheet.parts.get(question.name) else { continue };
        let _ = writeln!(text, "## {}\n\n{}\n\n{}\n", question.title, question.method, place(part));
        text += &table::tables(part, question.columns);
        for (what, why) in &part.absent {
            let _ = writeln!(text, "* {what}: not measured: {why}");
        }
        if !part.absent.is_empty() {
            text.push('\n');
        }
        if question.name == "rates" {
            text += "What the peers give for it: ";
            let gives: Vec<_> =
                peers::ALL.iter().map(|peer| format!("{}: {}", peer.name, peer.gives)).collect();
            let _ = writeln!(text, "{}.\n", gives.join("; "));
        }
        for plot in plots.iter().filter(|plot| shown_in(plot.file) == question.name) {
            let _ = writeln!(text, "![{}](performance/{})\n", plot.title, plot.file);
        }
    }
    (text.trim_end().to_owned() + "\n", plots)
}

fn shown_in(file: &str) -> &'static str {
    match file {
        "cpus.svg" | "cpus-rr.svg" => "cpus",
        "open.svg" => "open",
        _ => "sweep",
    }
}

fn place(part: &Part) -> String {
    let machine = &part.machine;
    let form = if part.quick { "Quick form" } else { "Full form" };
    // Of an earlier run the day may not be known.
    let date = if machine.date.is_empty() { String::new() } else { format!(", {}", machine.date) };
    let mut text = format!(
        "{form}{date}; Linux {}, {} × {}, {} MiB; load average at its start {:.2}.",
        machine.kernel, machine.cpus, machine.processor, machine.memory_mib, machine.load_average
    );
    if part.runs() > 1 {
        let _ = write!(text, " Spreads are of up to {} runs.", part.runs());
    }
    if let Some(sentence) = part.agreement.as_ref().and_then(Agreement::sentence) {
        text = text + "\n\n" + &sentence;
    }
    text
}
