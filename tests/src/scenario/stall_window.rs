//! Stalls of a closed window, and a window that is not the cause.

use std::io::Read as _;
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Result, anyhow, ensure};

use super::situation::{Seen, Stage};
use super::stall::{
    ABSENCE, SLACK_US, Stalls, THRESHOLD_US, after_segments, agrees, link, long_pauses, made, near, reads_on,
    upload,
};
use super::{LONG, Probe, expect};
use crate::kit::{pause, wait_until};
use crate::link::{Direction, Pause};
use crate::traffic::Options;

/// A receiver whose window holds about a dozen segments.
fn small() -> Options {
    Options { receive_buffer: Some(16_384), ..Options::default() }
}

/// A receiver with a small buffer reads nothing for 1.5 s: one stall, because of its window, without a timeout.
fn absent_reader(probe: &Probe) -> Result<(Seen, Stalls)> {
    let stage = Stage::new(link()?)?;
    let read = |stream: &mut TcpStream| -> Result<()> {
        stream.read_exact(&mut vec![0; 50_000])?;
        pause(ABSENCE);
        Ok(())
    };
    upload(&stage, &small(), 200_000, read, |_| Ok(()))?;
    let seen = stage.judge(probe, 1)?;
    let line = seen.only_line(Direction::ToServer)?;
    let stalls = Stalls::of(line)?;
    Ok((seen, stalls))
}

/// A closed window is one stall of its own cause.
///
/// # Errors
/// When a count is wrong.
pub fn closed_window_is_one_stall(probe: &Probe) -> Result<()> {
    let (seen, stalls) = absent_reader(probe)?;
    made(&stalls, 1, &seen.ledger.pauses(0, Direction::ToServer))?;
    ensure!(stalls.zero_window >= 1, "{stalls:?}");
    expect("stalls_rto", stalls.rto, 0)
}

/// The same, with its time: within a tenth of the time for which the link saw the window closed.
///
/// # Errors
/// When a count or a time is wrong.
pub fn closed_window_has_its_time(probe: &Probe) -> Result<()> {
    let (seen, stalls) = absent_reader(probe)?;
    let pauses = long_pauses(&seen, Direction::ToServer);
    let [pause] = pauses.as_slice() else {
        return Err(anyhow!("the link saw other pauses than one: {pauses:?}"));
    };
    let closed_us = pause.closed_ns / 1000;
    ensure!(closed_us >= 1_000_000, "the window was closed for {closed_us} µs only");
    expect("retrans_segs", seen.only_line(Direction::ToServer)?.u64("retrans_segs")?, 0)?;
    expect("stalls_zero_window", stalls.zero_window, 1)?;
    expect("all stalls", stalls.all(), 1)?;
    near("stall_zero_window_us", stalls.zero_window_us, closed_us, closed_us / 10)
}

/// The line is dead while a reader is absent, so that probes of the closed window and its opening are lost: still one stall, of
/// the window.
///
/// # Errors
/// When a count is wrong.
pub fn blackout_in_a_closed_window(probe: &Probe) -> Result<()> {
    let stage = Stage::new(link()?)?;
    let read = |stream: &mut TcpStream| -> Result<()> {
        stream.read_exact(&mut vec![0; 50_000])?;
        pause(ABSENCE);
        Ok(())
    };
    upload(&stage, &small(), 200_000, read, |_| {
        wait_until(LONG, "the window is closed", || {
            Ok(stage.link.ledger().entries.iter().any(|entry| {
                entry.direction == Direction::ToClient
                    && entry.window == 0
                    && entry.left_ns.is_some()
                    && entry.flow.is_some()
            }))
        })?;
        pause(Duration::from_millis(300));
        stage.link.blackout(true);
        pause(ABSENCE);
        Ok(())
    })?;
    let seen = stage.judge(probe, 1)?;
    let stalls = Stalls::of(seen.only_line(Direction::ToServer)?)?;
    let pauses = long_pauses(&seen, Direction::ToServer);
    ensure!(!pauses.is_empty(), "the link saw no pause");
    expect("stalls_zero_window", stalls.zero_window, pauses.len() as u64)?;
    expect("all stalls", stalls.all(), stalls.zero_window)?;
    let longest = pauses.iter().map(Pause::us).sum::<u64>();
    near("stall_zero_window_us", stalls.zero_window_us, longest, longest / 10)
}

/// A small window limits the sender all the time, and the line is dead for a while: one stall, of the timeouts, and its time not
/// counted as the window's too.
///
/// # Errors
/// When a count or a time is wrong.
pub fn blackout_beside_a_small_window(probe: &Probe) -> Result<()> {
    let stage = Stage::new(link()?)?;
    let begins = after_segments(&stage.link, 50);
    upload(&stage, &small(), 200_000, reads_on, |_| {
        wait_until(LONG, "the transfer is on its way", || {
            Ok(begins.load(std::sync::atomic::Ordering::Relaxed))
        })?;
        stage.link.blackout(true);
        pause(ABSENCE);
        Ok(())
    })?;
    let seen = stage.judge(probe, 1)?;
    let line = seen.only_line(Direction::ToServer)?;
    let limited = line.u64("rwnd_limited_us")?;
    ensure!(limited > THRESHOLD_US, "the window limited the sender for {limited} µs only");
    let stalls = Stalls::of(line)?;
    let pauses = long_pauses(&seen, Direction::ToServer);
    expect("pauses on the link", pauses.len(), 1)?;
    agrees(&stalls, &pauses)?;
    expect("stalls_rto", stalls.rto, 1)?;
    expect("all stalls", stalls.all(), 1)?;
    near("stall_rto_us", stalls.rto_us, pauses[0].us(), SLACK_US)
}
