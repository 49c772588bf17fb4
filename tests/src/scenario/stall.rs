//! Stalls: data outstanding and nothing acknowledged for longer than max(3 × srtt, 200 ms). How often, how long, and why.
//!
//! The truth is the link's: [`crate::link::Pause`]. Round trips here are of 40 ms, so that 200 ms is the threshold. A pause
//! within [`SLACK_US`] of it may be counted or not, as the emulator's clock and the kernel's differ by scheduling.
//! Those of a closed window are in [`super::stall_window`], those of single losses in [`super::stall_repair`], what is none in
//! [`super::no_stall`].

use std::io::{self, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Result, anyhow, ensure};
use socket2::SockRef;

use super::download::PORT;
use super::situation::{Seen, Stage};
use super::{LONG, Probe, expect};
use crate::kit::{Line, monotonic_ns, pause, wait_until};
use crate::link::{Direction, Link, Pause, Pick, Rule};
use crate::traffic::{Behaviour, Options, Server, connect, drained, listen, receive_all, send_all};
use crate::truth::TcpInfo;

/// TCP_CLOSE of net/tcp_states.h.
const CLOSE: u8 = 7;
pub(super) const THRESHOLD_US: u64 = 200_000;
/// A round trip, and the timers' ticks and lateness.
pub(super) const SLACK_US: u64 = 60_000;
/// A blackout, or a reader's absence.
pub(super) const ABSENCE: Duration = Duration::from_millis(1500);

/// The six fields of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stalls {
    pub(super) rto: u64,
    pub(super) zero_window: u64,
    pub(super) other: u64,
    pub(super) rto_us: u64,
    pub(super) zero_window_us: u64,
    pub(super) other_us: u64,
}

impl Stalls {
    pub(super) const NONE: Self =
        Self { rto: 0, zero_window: 0, other: 0, rto_us: 0, zero_window_us: 0, other_us: 0 };

    /// A time without a stall, or a stall shorter than the threshold, is an error.
    pub(super) fn of(line: &Line) -> Result<Self> {
        let stalls = Self {
            rto: line.u64("stalls_rto")?,
            zero_window: line.u64("stalls_zero_window")?,
            other: line.u64("stalls_other")?,
            rto_us: line.u64("stall_rto_us")?,
            zero_window_us: line.u64("stall_zero_window_us")?,
            other_us: line.u64("stall_other_us")?,
        };
        let Self { rto, zero_window, other, rto_us, zero_window_us, other_us } = stalls;
        for (count, us) in [(rto, rto_us), (zero_window, zero_window_us), (other, other_us)] {
            ensure!(us >= count * THRESHOLD_US, "a stall is shorter than the threshold: {stalls:?}");
            ensure!(count > 0 || us == 0, "time in stalls without a stall: {stalls:?}");
        }
        Ok(stalls)
    }

    pub(super) fn all(&self) -> u64 {
        self.rto + self.zero_window + self.other
    }

    fn all_us(&self) -> u64 {
        self.rto_us + self.zero_window_us + self.other_us
    }
}

pub(super) fn link() -> Result<Link> {
    Link::builder().delay(Duration::from_millis(20)).build()
}

pub(super) fn near(what: &str, is_us: u64, should_us: u64, slack_us: u64) -> Result<()> {
    ensure!(is_us.abs_diff(should_us) <= slack_us, "{what} is {is_us} µs, the link saw {should_us} µs");
    Ok(())
}

/// The pauses that must be stalls.
pub(super) fn long_pauses(seen: &Seen, sender: Direction) -> Vec<Pause> {
    let mut pauses = seen.ledger.pauses(0, sender);
    pauses.retain(|pause| pause.us() > THRESHOLD_US + SLACK_US);
    pauses
}

/// As many stalls as pauses above the threshold, where those near it may be or not; the sum of the times, too.
pub(super) fn agrees(stalls: &Stalls, pauses: &[Pause]) -> Result<()> {
    let over = |threshold_us: u64| pauses.iter().map(Pause::us).filter(move |us| *us > threshold_us);
    let (certain, possible) = (over(THRESHOLD_US + SLACK_US), over(THRESHOLD_US - SLACK_US));
    let (fewest, most) = (certain.clone().count() as u64, possible.clone().count() as u64);
    ensure!(
        (fewest..=most).contains(&stalls.all()),
        "{stalls:?}, but the link saw {fewest} to {most} stalls: {pauses:?}"
    );
    let (least, greatest) = (certain.sum::<u64>(), possible.sum::<u64>() + most * SLACK_US);
    ensure!(
        (least.saturating_sub(fewest * SLACK_US)..=greatest).contains(&stalls.all_us()),
        "{stalls:?}, but the link saw stalls of {least} to {greatest} µs"
    );
    Ok(())
}

/// The same where scheduling adds to every time, as in a machine that is emulated: no fewer stalls than were made on purpose, no
/// more than pauses, and no time that the link did not see.
pub(super) fn made(stalls: &Stalls, made: u64, pauses: &[Pause]) -> Result<()> {
    let possible = pauses.iter().map(Pause::us).filter(|us| *us > THRESHOLD_US - SLACK_US);
    let (most, greatest) = (possible.clone().count() as u64, possible.sum::<u64>());
    ensure!(
        (made..=most).contains(&stalls.all()),
        "{stalls:?}, but {made} were made and the link saw {most}: {pauses:?}"
    );
    ensure!(
        stalls.all_us() <= greatest + 500_000,
        "{stalls:?}, but the link saw no more than {greatest} µs: {pauses:?}"
    );
    Ok(())
}

/// Send so many bytes from the client over IPv6, while the server reads with `read` and `meanwhile` has its way with the link;
/// then close in order.
pub(super) fn upload(
    stage: &Stage,
    options: &Options,
    bytes: usize,
    read: impl FnOnce(&mut TcpStream) -> Result<()> + Send,
    meanwhile: impl FnOnce(&TcpStream) -> Result<()>,
) -> Result<TcpInfo> {
    let link = &stage.link;
    let listener = listen(&link.server, link.server_v6(PORT), options)?;
    let mut stream = connect(&link.client, listener.local_addr()?, &Options::default())??;
    let (mut accepted, _) = listener.accept()?;
    let mut writer = stream.try_clone()?;
    thread::scope(|scope| -> Result<()> {
        let reader = scope.spawn(move || -> Result<()> {
            read(&mut accepted)?;
            io::copy(&mut accepted, &mut io::sink())?;
            Ok(())
        });
        let writer = scope.spawn(move || -> Result<()> {
            send_all(&mut writer, bytes)?;
            Ok(writer.shutdown(Shutdown::Write)?)
        });
        let result = meanwhile(&stream);
        // Whatever came of it, let both come to an end.
        link.blackout(false);
        for thread in [reader, writer] {
            thread.join().map_err(|_| anyhow!("an end of the connection panicked"))??;
        }
        result
    })?;
    expect("bytes back", receive_all(&mut stream)?, 0)?;
    TcpInfo::of(&stream)
}

/// No reader's fault.
pub(super) fn reads_on(_: &mut TcpStream) -> Result<()> {
    Ok(())
}

/// Tells when so many data segments have been sent by the client.
pub(super) fn after_segments(link: &Link, count: u64) -> Arc<AtomicBool> {
    let flag = Arc::new(AtomicBool::new(false));
    let set = Arc::clone(&flag);
    link.rule(Rule::drop(
        Direction::ToServer,
        Pick::When(Box::new(move |seen| {
            if seen.nth_data >= count {
                set.store(true, Ordering::Relaxed);
            }
            false
        })),
    ));
    flag
}

/// An upload with as many blackouts; they begin in mid-transfer.
fn with_blackouts(probe: &Probe, count: u64) -> Result<(Seen, Stalls)> {
    let stage = Stage::new(link()?)?;
    let begins: Vec<_> = (1..=count).map(|nth| after_segments(&stage.link, 200 * nth)).collect();
    upload(&stage, &Options::default(), 3_000_000, reads_on, |_| {
        for begins in &begins {
            wait_until(LONG, "the transfer is on its way", || Ok(begins.load(Ordering::Relaxed)))?;
            stage.link.blackout(true);
            pause(ABSENCE);
            stage.link.blackout(false);
        }
        Ok(())
    })?;
    let seen = stage.judge(probe, 1)?;
    let receiver = Stalls::of(seen.only_line(Direction::ToClient)?)?;
    expect("the receiver's stalls", receiver, Stalls::NONE)?;
    let stalls = Stalls::of(seen.only_line(Direction::ToServer)?)?;
    Ok((seen, stalls))
}

/// The line is dead for 1.5 s in mid-transfer, once and twice: each is one stall, and its timeouts are its cause.
///
/// # Errors
/// When a count is wrong.
pub fn blackout_is_one_stall(probe: &Probe) -> Result<()> {
    for blackouts in [1, 2] {
        let (seen, stalls) = with_blackouts(probe, blackouts)?;
        made(&stalls, blackouts, &seen.ledger.pauses(0, Direction::ToServer))?;
        ensure!(stalls.rto >= blackouts, "{blackouts} blackouts, {stalls:?}");
        expect("stalls_zero_window", stalls.zero_window, 0)?;
        let timeouts = seen.only_line(Direction::ToServer)?.u64("rto_count")?;
        ensure!(timeouts >= stalls.rto, "{timeouts} timeouts, {stalls:?}");
    }
    Ok(())
}

/// The same, with its time: from the last acknowledgement before to the first one after.
///
/// # Errors
/// When a count or a time is wrong.
pub fn blackout_has_its_time(probe: &Probe) -> Result<()> {
    for blackouts in [1, 2] {
        let (seen, stalls) = with_blackouts(probe, blackouts)?;
        let pauses = long_pauses(&seen, Direction::ToServer);
        expect("pauses on the link", pauses.len() as u64, blackouts)?;
        expect("stalls_rto", stalls.rto, blackouts)?;
        expect("all stalls", stalls.all(), blackouts)?;
        let should = pauses.iter().map(Pause::us).sum();
        near("stall_rto_us", stalls.rto_us, should, blackouts * SLACK_US)?;
    }
    Ok(())
}

/// While the line is dead, the metric has the stall already, and its time grows; in the end it has what the record has.
///
/// # Errors
/// When it has not.
pub fn stall_under_way_is_visible(probe: &Probe) -> Result<()> {
    let stage = Stage::new(link()?)?;
    let begins = after_segments(&stage.link, 200);
    let counted = |cause| -> Result<(f64, f64)> {
        let scrape = probe.scrape()?;
        let labels = [("family", "ipv6"), ("role", "client"), ("cause", cause)];
        let sum = |name| scrape.sum(name, &labels);
        Ok((sum("flowprobe_tcp_stalls_total"), sum("flowprobe_tcp_stall_seconds_total")))
    };
    const CAUSES: [&str; 3] = ["rto", "zero_window", "other"];
    let before = CAUSES.map(counted);
    let before = before.into_iter().collect::<Result<Vec<_>>>()?;
    upload(&stage, &Options::default(), 3_000_000, reads_on, |stream| {
        wait_until(LONG, "the transfer is on its way", || Ok(begins.load(Ordering::Relaxed)))?;
        stage.link.blackout(true);
        wait_until(LONG, "a timeout", || Ok(TcpInfo::of(stream)?.retransmits >= 1))?;
        let mut seconds = before[0].1;
        for growth in ["the stall is counted", "its time has grown", "its time has grown again"] {
            let mut now = seconds;
            wait_until(LONG, growth, || {
                let stalls;
                (stalls, now) = counted("rto")?;
                Ok(now > seconds && stalls - before[0].0 == 1.0)
            })?;
            seconds = now;
        }
        Ok(())
    })?;
    let seen = stage.judge(probe, 1)?;
    let stalls = Stalls::of(seen.only_line(Direction::ToServer)?)?;
    made(&stalls, 1, &seen.ledger.pauses(0, Direction::ToServer))?;
    ensure!(stalls.rto >= 1, "{stalls:?}");
    let in_record = [
        (stalls.rto, stalls.rto_us),
        (stalls.zero_window, stalls.zero_window_us),
        (stalls.other, stalls.other_us),
    ];
    for ((cause, before), (count, us)) in CAUSES.into_iter().zip(before).zip(in_record) {
        let now = counted(cause)?;
        expect(&format!("flowprobe_tcp_stalls_total of {cause}"), now.0 - before.0, count as f64)?;
        let (is, should) = (now.1 - before.1, us as f64 / 1e6);
        ensure!(
            (is - should).abs() < 1e-4,
            "the metric has {is} s in stalls of {cause}, the record {should} s"
        );
    }
    Ok(())
}

/// The kernel gives up in the middle of a stall: it is counted once, up to the end.
///
/// # Errors
/// When it is not.
pub fn stall_that_ends_the_connection(probe: &Probe) -> Result<()> {
    let link = link()?;
    let server = Server::start(&link.server, link.server_v6(PORT), Behaviour::Sink, &Options::default())?;
    let mut stream = connect(&link.client, server.address, &Options::default())??;
    send_all(&mut stream, 251)?;
    drained(&stream, LONG)?;
    // A pause of the application is no stall.
    pause(Duration::from_millis(600));
    SockRef::from(&stream).set_tcp_user_timeout(Some(Duration::from_millis(900)))?;
    link.blackout(true);
    let begun_ns = monotonic_ns();
    stream.write_all(&[0; 251])?;
    wait_until(LONG, "the kernel gives up", || Ok(TcpInfo::of(&stream)?.state == CLOSE))?;
    let lasted_us = (monotonic_ns() - begun_ns) / 1000;
    drop(stream);
    let line = probe.ended_one(&link.client)?;
    expect("close_reason", line.text("close_reason")?, "timeout")?;
    let stalls = Stalls::of(&line)?;
    expect("stalls_rto", stalls.rto, 1)?;
    expect("all stalls", stalls.all(), 1)?;
    near("stall_rto_us", stalls.rto_us, lasted_us, SLACK_US)?;
    // The server's end hears nothing; its socket goes with the scenario.
    link.blackout(false);
    Ok(())
}

/// The application closes with data on its way, and the line is dead for a while: the kernel's stall, though nobody waits.
///
/// # Errors
/// When a count is wrong.
pub fn stall_after_close(probe: &Probe) -> Result<()> {
    let stage = Stage::new(link()?)?;
    let link = &stage.link;
    let server = Server::start(&link.server, link.server_v6(PORT), Behaviour::Sink, &Options::default())?;
    let mut stream = connect(&link.client, server.address, &Options::default())??;
    link.blackout(true);
    send_all(&mut stream, 10_000)?;
    drop(stream);
    pause(ABSENCE);
    link.blackout(false);
    server.served(1, LONG)?;
    let seen = stage.judge(probe, 1)?;
    let line = seen.only_line(Direction::ToServer)?;
    expect("close_reason", line.text("close_reason")?, "fin_local")?;
    let stalls = Stalls::of(line)?;
    made(&stalls, 1, &seen.ledger.pauses(0, Direction::ToServer))?;
    expect("stalls_rto", stalls.rto, stalls.all())
}
