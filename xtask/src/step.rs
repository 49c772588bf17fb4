//! Running other programs: with their output in a log and a line of progress, in full view, or captured.
//!
//! Children never read the terminal (stdin is closed), so nothing waits for an answer in CI.

use std::{
    fs::{self, File},
    io::{self, BufRead as _, BufReader, IsTerminal as _, Read as _, Seek as _, SeekFrom, Write as _},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use crate::workspace;

/// Between two lines of progress.
const PROGRESS: Duration = Duration::from_secs(5);
/// Of a failed step's log, how many lines are shown.
const TAIL_LINES: usize = 25;

/// Says one line of what is being done.
pub(crate) fn say(text: &str) {
    println!("xtask: {text}");
    let _ = io::stdout().flush();
}

/// Runs `command` with its output in `target/setup/LOG.log`; shows that it lives, and the log's end if it fails.
pub(crate) fn logged(what: &str, log: &str, command: &mut Command) -> Result<()> {
    let log = workspace::setup_dir().join(format!("{log}.log"));
    workspace::make_dir(&workspace::setup_dir())?;
    let file = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
    say(what);
    let begun = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .spawn()
        .with_context(|| not_started(command))?;
    let status = wait(&mut child, |elapsed| {
        let last = tail(&log, 1).pop().unwrap_or_default();
        say(&format!("  {:>3} s  {}", elapsed.as_secs(), shortened(&last)));
    })?;
    if status.success() {
        say(&format!("  done in {}", seconds(begun.elapsed())));
        return Ok(());
    }
    for line in tail(&log, TAIL_LINES) {
        eprintln!("  | {line}");
    }
    bail!("{what}: failed ({status}); the whole output is in {}", log.display())
}

/// Runs `command` in full view.
pub(crate) fn shown(command: &mut Command) -> Result<()> {
    let status = command.stdin(Stdio::null()).status().with_context(|| not_started(command))?;
    if !status.success() {
        bail!("`{}` failed ({status})", line_of(command));
    }
    Ok(())
}

/// What `command` prints; an error holds its complaint.
pub(crate) fn captured(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| not_started(command))?;
    if !output.status.success() {
        bail!(
            "`{}` failed ({}): {}",
            line_of(command),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs `command` and hands each line of its standard output to `on_line` as it comes.
/// `None` when `limit` passed first; the child is killed then, by its id.
pub(crate) fn streamed(
    command: &mut Command,
    limit: Option<Duration>,
    mut on_line: impl FnMut(&str),
) -> Result<Option<ExitStatus>> {
    /// How often a silent child is looked at: a grandchild may hold the pipe open after the child is gone.
    const LOOK: Duration = Duration::from_millis(250);
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().with_context(|| not_started(command))?;
    let mut output = BufReader::new(child.stdout.take().context("a piped child has an output")?);
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        let mut line = Vec::new();
        while output.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
            let text = String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r']).to_owned();
            if sender.send(text).is_err() {
                break;
            }
            line.clear();
        }
    });
    let begun = Instant::now();
    loop {
        match lines.recv_timeout(LOOK) {
            Ok(line) => on_line(&line),
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) if child.try_wait()?.is_some() => break,
            Err(RecvTimeoutError::Timeout) => {}
        }
        if limit.is_some_and(|limit| begun.elapsed() > limit) {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
    }
    Ok(Some(child.wait()?))
}

/// Waits for `child` and calls `progress` every few seconds.
fn wait(child: &mut Child, mut progress: impl FnMut(Duration)) -> Result<ExitStatus> {
    const LOOK: Duration = Duration::from_millis(100);
    let begun = Instant::now();
    let mut next = PROGRESS;
    // The sender never sends: the receiver is a timer.
    let (_sender, timer) = mpsc::channel::<()>();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        let _ = timer.recv_timeout(LOOK);
        if begun.elapsed() >= next {
            progress(begun.elapsed());
            next += PROGRESS;
        }
    }
}

/// The last `count` lines of a file that may be long.
fn tail(file: &Path, count: usize) -> Vec<String> {
    const WINDOW_BYTES: u64 = 16 * 1024;
    let read = || -> io::Result<String> {
        let mut file = File::open(file)?;
        let start = file.metadata()?.len().saturating_sub(WINDOW_BYTES);
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_default();
    // A progress bar rewrites its line with carriage returns: only what stands there last counts.
    let lines: Vec<String> = text
        .lines()
        .filter_map(|line| line.rsplit('\r').find(|part| !part.trim().is_empty()))
        .map(str::to_owned)
        .collect();
    lines[lines.len().saturating_sub(count)..].to_vec()
}

fn shortened(line: &str) -> String {
    const WIDTH: usize = 80;
    line.trim().chars().take(WIDTH).collect()
}

/// `3.4 s` or `2 min 07 s`.
pub(crate) fn seconds(elapsed: Duration) -> String {
    if elapsed.as_secs() < 60 {
        format!("{:.1} s", elapsed.as_secs_f64())
    } else {
        format!("{} min {:02} s", elapsed.as_secs() / 60, elapsed.as_secs() % 60)
    }
}

/// Whether a person is looking, so that colour makes sense.
pub(crate) fn colour() -> &'static str {
    if io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none() { "always" } else { "never" }
}

fn line_of(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

fn not_started(command: &Command) -> String {
    format!("cannot start `{}`: is it installed and on PATH?", command.get_program().to_string_lossy())
}

/// Removes a directory if it is there.
pub(crate) fn remove_dir(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::{process::Command, time::Duration};

    use super::{captured, seconds, streamed};

    #[test]
    fn lines_come_one_by_one_and_the_status_is_the_childs() {
        let mut lines = Vec::new();
        let mut child = Command::new("sh");
        child.args(["-c", "printf 'one\\r\\ntwo\\nthree'; exit 3"]);
        let status = streamed(&mut child, None, |line| lines.push(line.to_owned())).unwrap();
        assert_eq!(lines, ["one", "two", "three"]);
        assert_eq!(status.and_then(|status| status.code()), Some(3));
    }

    #[test]
    fn a_child_past_its_limit_is_killed() {
        let mut child = Command::new("sleep");
        child.arg("60");
        let status = streamed(&mut child, Some(Duration::from_millis(1)), |_| ()).unwrap();
        assert!(status.is_none());
    }

    #[test]
    fn a_grandchild_that_keeps_the_pipe_does_not_hold_us() {
        let mut child = Command::new("sh");
        child.args(["-c", "sleep 20 & echo $!"]);
        let mut grandchild = String::new();
        let status = streamed(&mut child, Some(Duration::from_secs(10)), |line| grandchild = line.to_owned());
        captured(Command::new("kill").arg(&grandchild)).unwrap();
        assert!(status.unwrap().is_some());
    }

    #[test]
    fn an_error_holds_the_complaint() {
        let mut child = Command::new("sh");
        child.args(["-c", "echo no such luck >&2; exit 1"]);
        assert!(captured(&mut child).unwrap_err().to_string().contains("no such luck"));
    }

    #[test]
    fn times_read_well() {
        assert_eq!(seconds(Duration::from_millis(3_440)), "3.4 s");
        assert_eq!(seconds(Duration::from_secs(127)), "2 min 07 s");
    }
}
