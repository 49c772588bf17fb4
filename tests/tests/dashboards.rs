//! Do the dashboards and rules that are shipped work? Rules pass `promtool check rules` and their own tests, and every
//! expression of every dashboard and rule has data in a real Prometheus that scrapes a daemon under some traffic: in one
//! with native histograms and in one without.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tests::kit::{Process, take_turn, wait_until};
use tests::link::{Direction, Link, Pick, Rule};
use tests::scenario::{Daemon, LONG, Prometheus, expect};
use tests::traffic::{Behaviour, Options, Server, connect, receive_all};

const BYTES: usize = 100_000;

/// The expressions hold with and without labels of networks; here they have some.
const CONFIGURATION: &str = "\
[networks]
labels = [\"prefix\", \"list\"]
lists = [\"networks.txt\"]

[[service]]
name = \"web\"
ports = [8080]
";

/// What stands for Grafana's variables: everything, and times that hold a few scrapes.
const VARIABLES: [(&str, &str); 8] = [
    ("$__rate_interval", "1m"),
    ("$__range", "5m"),
    ("$job", ".*"),
    ("$instance", ".*"),
    ("$service", ".*"),
    ("$prefix", ".*"),
    ("$asn", ".*"),
    ("$country", ".*"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The files of a folder with this end, by name; at least one.
fn files(folder: &str, end: &str) -> Result<Vec<PathBuf>> {
    let folder = root().join(folder);
    let entries = fs::read_dir(&folder).with_context(|| format!("no {}", folder.display()))?;
    let mut out: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    out.retain(|path| path.extension().is_some_and(|is| is == end));
    out.sort();
    ensure!(!out.is_empty(), "no {end} files in {}", folder.display());
    Ok(out)
}

fn promtool(words: [&str; 2], files: &[PathBuf]) -> Result<String> {
    let mut promtool = Command::new("promtool");
    promtool.args(words).args(files);
    let done = Process::run(promtool, LONG).context("install Debian's package `prometheus`")?;
    ensure!(done.code == Some(0), "promtool {words:?}: {}{}", done.out, done.err);
    Ok(done.out)
}

#[test]
fn rules_pass_promtool_and_their_own_tests() -> Result<()> {
    let rules = files("rules", "yml")?;
    let said = promtool(["check", "rules"], &rules)?;
    expect("files that promtool found right", said.matches("SUCCESS").count(), rules.len())?;
    let tests = files("rules/tests", "yml")?;
    promtool(["test", "rules"], &tests)?;
    let tests: Vec<String> = tests.iter().map(fs::read_to_string).collect::<Result<_, _>>()?;
    for alert in rule_lines(&rules, "- alert: ")? {
        let tested = tests.iter().any(|text| text.contains(&format!("alertname: {alert}\n")));
        ensure!(tested, "no test of {alert}");
    }
    Ok(())
}

/// What follows `key` in the rules, line by line.
fn rule_lines(rules: &[PathBuf], key: &str) -> Result<Vec<String>> {
    let mut out = Vec::new();
    for path in rules {
        let text = fs::read_to_string(path)?;
        out.extend(text.lines().filter_map(|line| Some(line.trim().strip_prefix(key)?.trim().to_owned())));
    }
    Ok(out)
}

/// The expressions of all dashboards, and one for each variable's series.
fn of_dashboards() -> Result<Vec<String>> {
    let mut out = Vec::new();
    for path in files("dashboards", "json")? {
        let dashboard: Value = serde_json::from_str(&fs::read_to_string(&path)?)?;
        let panels = dashboard["panels"].as_array().context("no panels")?;
        let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
        let before = out.len();
        for target in targets {
            out.push(target["expr"].as_str().context("no expression")?.to_owned());
        }
        ensure!(out.len() > before + 10, "{} has few expressions", path.display());
        for variable in dashboard["templating"]["list"].as_array().context("no variables")? {
            let Some(query) = variable["query"]["query"].as_str() else { continue };
            let inner = query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')'));
            let (series, label) =
                inner.and_then(|inner| inner.rsplit_once(", ")).context("no label_values")?;
            out.push(format!("count by ({label}) ({series})"));
        }
    }
    for expression in &mut out {
        for (variable, value) in VARIABLES {
            *expression = expression.replace(variable, value);
        }
        ensure!(!expression.contains('$'), "an unknown variable: {expression}");
    }
    out.sort();
    out.dedup();
    Ok(out)
}

/// The expressions of all recording rules, the series they record, and both sides of every comparison of an alert.
fn of_rules(server: &Prometheus) -> Result<Vec<String>> {
    let answer = server.rules()?;
    let groups = answer["data"]["groups"].as_array().context("no groups")?;
    let mut out = Vec::new();
    for rule in groups.iter().filter_map(|group| group["rules"].as_array()).flatten() {
        let expression = rule["query"].as_str().context("no expression")?;
        if rule["type"] == "recording" {
            out.push(expression.to_owned());
            out.push(rule["name"].as_str().context("no name")?.to_owned());
            continue;
        }
        for part in expression.split_whitespace().collect::<Vec<_>>().join(" ").split(" and ") {
            let part = part.strip_prefix("on (job, instance) ").unwrap_or(part);
            let sides = part.split(" > ").flat_map(|side| side.split(" == "));
            out.extend(sides.filter(|side| side.parse::<f64>().is_err()).map(str::to_owned));
        }
    }
    Ok(out)
}

/// The kernel counts runs of programs while this lives.
struct BpfStatistics(String);

impl BpfStatistics {
    const FILE: &'static str = "/proc/sys/kernel/bpf_stats_enabled";

    fn enable() -> Result<Self> {
        let before = fs::read_to_string(Self::FILE)?;
        fs::write(Self::FILE, "1").context("cannot set kernel.bpf_stats_enabled")?;
        Ok(Self(before))
    }
}

impl Drop for BpfStatistics {
    fn drop(&mut self) {
        let _ = fs::write(Self::FILE, &self.0);
    }
}

/// A download over 10 ms each way with one lost segment, and a refused connect.
fn traffic(link: &Link, server: &Server) -> Result<()> {
    let mut stream = connect(&link.client, server.address, &Options::default())??;
    expect("the bytes that arrived", receive_all(&mut stream)?, BYTES)?;
    ensure!(connect(&link.client, link.server_v6(9), &Options::default())?.is_err(), "nobody listens there");
    Ok(())
}

#[test]
fn every_expression_has_data() -> Result<()> {
    let _turn = take_turn()?;
    let _statistics = BpfStatistics::enable()?;
    let folder = tempfile::tempdir()?;
    let web = folder.path().join("web.yml");
    fs::write(&web, "# everybody is let in\n")?;
    let configuration = folder.path().join("flowprobe.toml");
    fs::write(&configuration, CONFIGURATION)?;
    fs::write(folder.path().join("networks.txt"), "192.0.2.0/24 tests\n")?;
    let daemon = Daemon::start_with(|command| {
        command.arg("--web.config.file").arg(&web).arg("--config").arg(&configuration);
    })?;
    let rules: Vec<String> = files("rules", "yml")?
        .iter()
        .map(|path| Ok(path.canonicalize()?.display().to_string()))
        .collect::<Result<_>>()?;
    let configuration = format!(
        "rule_files: {rules:?}\nscrape_configs:\n  - job_name: flowprobe\n    static_configs:\n      - targets: ['{}']\n",
        daemon.address
    );
    let servers = [Prometheus::start(&configuration, true)?, Prometheus::start(&configuration, false)?];
    let mut expressions = of_dashboards()?;
    let in_dashboards = expressions.len();
    expressions.extend(of_rules(&servers[0])?);
    ensure!(in_dashboards > 60 && expressions.len() > in_dashboards + 40, "few: {expressions:?}");

    let link = Link::builder().delay(Duration::from_millis(10)).build()?;
    link.rule(Rule::drop(Direction::ToClient, Pick::Data(12)));
    let server =
        Server::start(&link.server, link.server_v6(8080), Behaviour::Send(BYTES), &Options::default())?;
    let mut missing: Vec<(usize, &String)> =
        [0, 1].into_iter().flat_map(|at| expressions.iter().map(move |e| (at, e))).collect();
    let done = wait_until(LONG, "every expression has data", || {
        traffic(&link, &server)?;
        let mut still = Vec::new();
        for (at, expression) in std::mem::take(&mut missing) {
            let answer = servers[at].query(expression)?;
            if !answer.iter().any(|answered| answered.value.is_finite()) {
                still.push((at, expression));
            }
        }
        missing = still;
        Ok(missing.is_empty())
    });
    let list = |(at, expression): &(usize, &String)| {
        format!("{}: {expression}", if *at == 0 { "native" } else { "classic" })
    };
    done.with_context(|| {
        format!("without data:\n{}", missing.iter().map(list).collect::<Vec<_>>().join("\n"))
    })?;
    for server in servers {
        ensure!(!server.log().contains("level=error"), "Prometheus: {}", server.log());
        server.stop()?;
    }
    daemon.stop().map(drop)
}
