//! Stages of a long run: each announced, timed and judged; the run goes on after a failed one, so that one look
//! at the end shows all that is wrong.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Result;

use crate::step::{say, seconds};

/// Tests that passed and failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Tests that passed.
    pub(crate) passed: u64,
    /// Tests that failed.
    pub(crate) failed: u64,
}

impl Counts {
    /// Adds what a line says, if it is a summary: libtest's `test result: ok. 3 passed; 0 failed; …`, or the
    /// scenario program's `3 passed, 0 failed` alone on a line. Says whether it was one.
    pub(crate) fn add_line(&mut self, line: &str) -> bool {
        let line = line.trim();
        let is_summary = line.starts_with("test result: ") || line.ends_with(" failed");
        let (true, Some(passed), Some(failed)) = (is_summary, before(line, "passed"), before(line, "failed"))
        else {
            return false;
        };
        self.passed += passed;
        self.failed += failed;
        true
    }
}

/// The number that stands before `word`.
fn before(line: &str, word: &str) -> Option<u64> {
    let words: Vec<&str> = line.split([' ', ';', ',', '.']).filter(|part| !part.is_empty()).collect();
    let place = words.iter().position(|part| *part == word)?;
    words.get(place.checked_sub(1)?)?.parse().ok()
}

/// What became of a stage.
enum Verdict {
    Passed,
    /// Why it failed.
    Failed(String),
    /// Why it was not run.
    Skipped(String),
}

struct Stage {
    name: String,
    elapsed: Duration,
    verdict: Verdict,
    counts: Option<Counts>,
}

/// The stages of one run.
#[derive(Default)]
pub(crate) struct Stages {
    done: Vec<Stage>,
}

impl Stages {
    /// Runs a stage that has no tests to count; says whether it passed.
    pub(crate) fn check(&mut self, name: &str, work: impl FnOnce() -> Result<()>) -> bool {
        self.add(name, || work().map(|()| None))
    }

    /// Runs a stage that counts tests; says whether it passed.
    pub(crate) fn tests(&mut self, name: &str, work: impl FnOnce(&mut Counts) -> Result<()>) -> bool {
        self.add(name, || {
            let mut counts = Counts::default();
            if let Err(error) = work(&mut counts) {
                eprintln!("error: {error:#}");
                // A stage that broke off is a failure even if no test of it says so.
                counts.failed = counts.failed.max(1);
            }
            Ok(Some(counts))
        })
    }

    /// Notes a stage that was left out, and why.
    pub(crate) fn skip(&mut self, name: &str, reason: &str) {
        say(&format!("{name}: not run: {reason}"));
        let verdict = Verdict::Skipped(reason.to_owned());
        self.done.push(Stage { name: name.to_owned(), elapsed: Duration::ZERO, verdict, counts: None });
    }

    fn add(&mut self, name: &str, work: impl FnOnce() -> Result<Option<Counts>>) -> bool {
        println!();
        say(&format!("== {name}"));
        let begun = Instant::now();
        let (verdict, counts) = match work() {
            Ok(counts @ Some(Counts { failed: 1.., .. })) => (Verdict::Failed(String::new()), counts),
            Ok(counts) => (Verdict::Passed, counts),
            Err(error) => (Verdict::Failed(format!("{error:#}")), None),
        };
        if let Verdict::Failed(reason) = &verdict
            && !reason.is_empty()
        {
            eprintln!("error: {reason}");
        }
        let passed = matches!(verdict, Verdict::Passed);
        self.done.push(Stage { name: name.to_owned(), elapsed: begun.elapsed(), verdict, counts });
        passed
    }

    /// The sum of what the stages counted.
    pub(crate) fn total(&self) -> Counts {
        let counts = self.done.iter().filter_map(|stage| stage.counts);
        counts.fold(Counts::default(), |sum, counts| Counts {
            passed: sum.passed + counts.passed,
            failed: sum.failed + counts.failed,
        })
    }

    /// Prints a line for each stage and, alone on the last line, the total; fails if any stage did.
    pub(crate) fn finish(&self) -> ExitCode {
        println!();
        for stage in &self.done {
            say(&stage.line());
        }
        if self.done.iter().any(|stage| stage.counts.is_some()) {
            let Counts { passed, failed } = self.total();
            println!("{passed} passed, {failed} failed");
        }
        let failed = self.done.iter().any(|stage| matches!(stage.verdict, Verdict::Failed(_)));
        if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }
}

impl Stage {
    fn line(&self) -> String {
        let word = match &self.verdict {
            Verdict::Passed => "ok",
            Verdict::Failed(_) => "FAILED",
            Verdict::Skipped(_) => "not run",
        };
        let counts = self.counts.map(|Counts { passed, failed }| format!("{passed} passed, {failed} failed"));
        let more = match &self.verdict {
            Verdict::Skipped(reason) => reason.clone(),
            _ => counts.unwrap_or_default(),
        };
        format!("{:<7}  {:<34} {:>12}  {more}", word, self.name, seconds(self.elapsed)).trim_end().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::{Counts, Stages};

    #[test]
    fn summaries_are_added_and_other_lines_are_not() {
        let mut counts = Counts::default();
        counts.add_line(
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.1s",
        );
        counts.add_line("test result: FAILED. 4 passed; 2 failed; 0 ignored");
        counts.add_line("7 passed, 1 failed");
        assert_eq!(counts, Counts { passed: 14, failed: 3 });
        for other in ["test retransmit::fast ... ok", "the scenario passed, nothing failed", "passed failed"]
        {
            assert!(!counts.add_line(other), "{other}");
        }
        assert_eq!(counts, Counts { passed: 14, failed: 3 });
    }

    #[test]
    fn a_stage_that_breaks_off_counts_as_failed() {
        let mut stages = Stages::default();
        assert!(stages.tests("good", |counts| {
            counts.add_line("5 passed, 0 failed");
            Ok(())
        }));
        assert!(!stages.tests("broken", |_| bail!("does not compile")));
        assert!(!stages.check("check", || bail!("no")));
        stages.skip("left out", "why not");
        assert_eq!(stages.total(), Counts { passed: 5, failed: 1 });
    }
}
