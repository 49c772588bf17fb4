//! A real Prometheus server for one test: scrapes what it is told once a second, answers PromQL, gone with its guard.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;

use super::LONG;
use crate::kit::{Process, Stream, free_port, get, post, wait_until};

/// One series of an answer: its labels, and its value now.
#[derive(Clone, Debug, PartialEq)]
pub struct Answered {
    /// Labels by name, the name of the metric as `__name__`.
    pub labels: serde_json::Map<String, Value>,
    /// The value.
    pub value: f64,
}

/// A running server.
#[derive(Debug)]
pub struct Prometheus {
    process: Process,
    address: SocketAddr,
    _folder: TempDir,
}

impl Prometheus {
    /// Starts a server with a configuration (its sections beside `global`), with native histograms or without, and waits
    /// until it is ready. It scrapes and evaluates once a second.
    ///
    /// # Errors
    /// When it is not installed, refuses its configuration or is not ready in time.
    pub fn start(configuration: &str, native_histograms: bool) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let config = folder.path().join("prometheus.yml");
        let global = "global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}";
        fs::write(&config, format!("{global}\n{configuration}"))?;
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        let mut command = Command::new("prometheus");
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"));
        if native_histograms {
            command.arg("--enable-feature=native-histograms");
        }
        let mut process = Process::start(command, None).context("install Debian's package `prometheus`")?;
        wait_until(LONG, "Prometheus is ready", || {
            process.expect_running()?;
            Ok(get(address, "/-/ready").is_ok_and(|answer| answer.status == 200))
        })
        .with_context(|| process.output(Stream::Err))?;
        Ok(Self { process, address, _folder: folder })
    }

    /// As [`Prometheus::start`] with one job `flowprobe` for this address, and waits until it was scraped.
    ///
    /// # Errors
    /// As [`Prometheus::start`], and when the daemon cannot be scraped.
    pub fn scraping(target: SocketAddr, native_histograms: bool) -> Result<Self> {
        let job = format!(
            "scrape_configs:\n  - job_name: flowprobe\n    static_configs:\n      - targets: ['{target}']\n"
        );
        let mut server = Self::start(&job, native_histograms)?;
        server.wait_for_value("up{job=\"flowprobe\"}", |value| value == 1.0)?;
        Ok(server)
    }

    /// All series that a PromQL expression gives now.
    ///
    /// # Errors
    /// When the server refuses it.
    pub fn query(&self, expression: &str) -> Result<Vec<Answered>> {
        let mut form = String::from("query=");
        for byte in expression.bytes() {
            form.push_str(&format!("%{byte:02x}"));
        }
        let answer = post(self.address, "/api/v1/query", &form)?;
        ensure!(answer.status == 200, "Prometheus refuses {expression}: {}", answer.body);
        let body: Value = serde_json::from_str(&answer.body)?;
        if body["data"]["resultType"] == "scalar" {
            let value = body["data"]["result"][1].as_str().context("no value")?.parse()?;
            return Ok(vec![Answered { labels: serde_json::Map::new(), value }]);
        }
        let results = body["data"]["result"].as_array().context("no result")?;
        let answered = |result: &Value| {
            let value = result["value"][1].as_str().with_context(|| format!("{expression}: {result}"))?;
            Ok(Answered {
                labels: result["metric"].as_object().cloned().unwrap_or_default(),
                value: value.parse()?,
            })
        };
        results.iter().map(answered).collect()
    }

    /// The rules it has loaded, as its API tells them.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn rules(&self) -> Result<Value> {
        let answer = get(self.address, "/api/v1/rules")?;
        ensure!(answer.status == 200, "Prometheus does not tell its rules: {}", answer.body);
        Ok(serde_json::from_str(&answer.body)?)
    }

    /// The one value of an expression, once it satisfies `wanted`.
    ///
    /// # Errors
    /// When it does not in time, or the expression gives several values; the message has the last ones.
    pub fn wait_for_value(&mut self, expression: &str, wanted: impl Fn(f64) -> bool) -> Result<f64> {
        let mut last = Vec::new();
        wait_until(LONG, &format!("Prometheus has the value of {expression}"), || {
            self.process.expect_running()?;
            last = self.query(expression)?;
            ensure!(last.len() <= 1, "{expression} gives several values: {last:?}");
            Ok(last.first().is_some_and(|answered| wanted(answered.value)))
        })
        .with_context(|| format!("it is {last:?}; {}", self.process.output(Stream::Err)))?;
        last.first().map(|answered| answered.value).context("no value")
    }

    /// What it wrote about what it does not like.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.output(Stream::Err)
    }

    /// Ends it.
    ///
    /// # Errors
    /// When it does not end in time.
    pub fn stop(self) -> Result<()> {
        self.process.stop(LONG).map(drop)
    }
}
