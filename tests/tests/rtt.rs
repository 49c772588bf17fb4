//! Are round trips right, one sample each, and null without one?

use std::time::Duration;

use anyhow::{Result, ensure};
use tests::kit::take_turn;
use tests::link::Link;
use tests::scenario::{Configured, Probe, hold, rtt};
use tests::traffic::{Behaviour, Options, Server, connect, echo};

#[test]
fn one_millisecond() -> Result<()> {
    hold(|probe| rtt::known_path(probe, Duration::from_millis(1), 200))
}

#[test]
fn ten_milliseconds() -> Result<()> {
    hold(|probe| rtt::known_path(probe, Duration::from_millis(10), 50))
}

#[test]
fn a_hundred_milliseconds() -> Result<()> {
    hold(|probe| rtt::known_path(probe, Duration::from_millis(100), 20))
}

#[test]
fn three_hundred_milliseconds() -> Result<()> {
    hold(|probe| rtt::known_path(probe, Duration::from_millis(300), 10))
}

#[test]
fn a_path_that_gets_longer_shows_both_round_trips() -> Result<()> {
    hold(rtt::path_change_shows_both)
}

#[test]
fn there_are_as_many_samples_as_round_trips() -> Result<()> {
    hold(rtt::samples_are_the_round_trips)
}

#[test]
fn data_that_drains_after_close_is_measured() -> Result<()> {
    hold(rtt::draining_data_is_measured)
}

#[test]
fn a_repeated_synack_leaves_no_round_trip() -> Result<()> {
    hold(rtt::no_sample_is_null)
}

#[test]
fn syncookies_leave_no_round_trip() -> Result<()> {
    hold(rtt::no_sample_is_null_with_syncookies)
}

#[test]
fn samples_keep_the_distance_that_is_asked_for() -> Result<()> {
    const ROUNDS: usize = 60;
    const INTERVAL_US: u64 = 100_000;
    let _turn = take_turn()?;
    let probe = Probe::on(Configured::new("rtt_interval = '100ms'")?.daemon()?)?;
    let link = Link::builder().delay(Duration::from_millis(10)).build()?;
    let server = Server::start(&link.server, link.server_v4(8080), Behaviour::Echo, &Options::default())?;
    let mut stream = connect(&link.client, server.address, &Options::default())??;
    echo(&mut stream, ROUNDS, 100)?;
    drop(stream);
    let mut taken = 0;
    for end in [&link.client, &link.server] {
        let line = probe.ended_one(end)?;
        let samples = line.u64("rtt_samples")?;
        let most = line.u64("duration_us")? / INTERVAL_US + 1;
        ensure!((2..=most).contains(&samples), "{samples} samples, where {most} keep the distance");
        taken += samples;
    }
    let left_out = probe.scrape()?.sum("flowprobe_rtt_samples_left_out_total", &[]);
    // The last round trips of either side may end in one acknowledgement.
    let least = (2 * ROUNDS as u64).saturating_sub(taken + 4);
    ensure!(least > 0, "{taken} samples of {ROUNDS} rounds: this machine is too slow to tell");
    ensure!(
        left_out >= least as f64,
        "{left_out} left out and {taken} taken of {ROUNDS} round trips each way"
    );
    probe.stop()
}
