//! The bounds hold and the sums stay exact whatever comes.

use proptest::prelude::*;

use super::*;

/// A number; those of one parity share a remainder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Number {
    Key(u32),
    Rest(u32),
    Past(u32),
}

impl Key for Number {
    fn remainder(&self, left: bool) -> Self {
        match *self {
            Self::Key(n) if left => Self::Past(n % 2),
            Self::Key(n) => Self::Rest(n % 2),
            rest => rest,
        }
    }

    fn elder(&self) -> Self {
        Self::Rest(0)
    }
}

/// What grew, and what is so now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count(u64, i64);

impl Sum for Count {
    fn merge(&mut self, other: Self) {
        self.0 += other.0;
        self.1 += other.1;
    }

    fn has_present(&self) -> bool {
        self.1 != 0
    }

    fn take_present(&mut self, from: &mut Self) {
        self.1 += std::mem::take(&mut from.1);
    }
}

impl Bounded<Number, Count> {
    fn settle_at(&mut self, now: Duration) {
        self.seen = self.seen.max(now);
        self.settle();
    }
}

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn bounded(max: usize) -> Bounded<Number, Count> {
    Bounded::new(Bounds { max, idle: secs(900), idle_shows: 3, min_clients: 1 })
}

fn total(bounded: &Bounded<Number, Count>) -> u64 {
    bounded.held().chain(bounded.remainders()).map(|(_, count)| count.0).sum()
}

fn held(bounded: &Bounded<Number, Count>, number: u32) -> Option<u64> {
    bounded.held().find(|(key, _)| **key == Number::Key(number)).map(|(_, count)| count.0)
}

fn add(bounded: &mut Bounded<Number, Count>, number: u32, weight: u64, now: u64) {
    bounded
        .sum(&Number::Key(number), &Addition { weight, client: None, is_doubtful: false, now: secs(now) })
        .0 += weight;
}

#[test]
fn a_million_keys_take_the_room_of_a_thousand() {
    let mut sums = bounded(1_000);
    for number in 0..1_000_000 {
        add(&mut sums, number, 1, u64::from(number / 1_000));
        if number % 60_000 == 0 {
            sums.shown();
            sums.settle_at(secs(u64::from(number / 1_000)));
        }
    }
    assert_eq!(total(&sums), 1_000_000);
    assert!(sums.held().count() <= 1_000);
    assert!(sums.remainders().count() <= 4);
    assert!(sums.waiting.len() <= 1_000);
    assert!(sums.overflow() > 900_000);
}

#[test]
fn a_heavy_latecomer_gets_a_place_and_starts_from_nothing() {
    let mut sums = bounded(100);
    (0..100).for_each(|number| add(&mut sums, number, 10, 0));
    add(&mut sums, 5_000, 1_000, 1);
    assert_eq!(held(&sums, 5_000), None);
    sums.settle_at(secs(60));
    assert_eq!(held(&sums, 5_000), Some(0));
    add(&mut sums, 5_000, 7, 61);
    assert_eq!(held(&sums, 5_000), Some(7));
    assert_eq!((sums.left(), sums.held().count(), total(&sums)), (1, 100, 2_007));
    let rest: Vec<_> = sums.remainders().collect();
    assert!(rest.contains(&(&Number::Rest(0), &Count(1_000, 0))), "{rest:?}");
    assert!(rest.iter().any(|(key, count)| matches!(key, Number::Past(_)) && count.0 == 10), "{rest:?}");
}

#[test]
fn equals_do_not_take_turns() {
    let mut sums = bounded(100);
    for minute in 0..50 {
        (0..200).for_each(|number| add(&mut sums, number, 10, minute * 60));
        sums.settle_at(secs(minute * 60));
    }
    assert_eq!(sums.left(), 0);
    assert!((0..100).all(|number| held(&sums, number) == Some(500)));
}

#[test]
fn few_places_change_hands_at_once() {
    let mut sums = bounded(100);
    (0..100).for_each(|number| add(&mut sums, number, 1, 0));
    (100..200).for_each(|number| add(&mut sums, number, 1_000, 1));
    sums.settle_at(secs(60));
    assert_eq!(sums.left(), 5);
}

#[test]
fn a_place_is_given_up_after_the_time_and_the_shows() {
    let mut sums = bounded(10);
    add(&mut sums, 1, 5, 0);
    add(&mut sums, 2, 5, 0);
    sums.settle_at(secs(10_000));
    assert_eq!(held(&sums, 1), Some(5), "never shown");
    (0..3).for_each(|_| sums.shown());
    add(&mut sums, 2, 1, 10_000);
    sums.settle_at(secs(10_001));
    assert_eq!((held(&sums, 1), held(&sums, 2)), (None, Some(6)));
    (0..9).for_each(|_| sums.shown());
    sums.settle_at(secs(10_899));
    assert_eq!(held(&sums, 2), Some(6), "not long enough");
    sums.settle_at(secs(10_900));
    assert_eq!((sums.held().count(), total(&sums), sums.overflow()), (0, 11, 0));
}

#[test]
fn narrower_bounds_take_the_lightest_places() {
    let mut sums = bounded(100);
    (0..100).for_each(|number| add(&mut sums, number, u64::from(number) + 1, 0));
    sums.set_bounds(Bounds { max: 10, idle: secs(60), idle_shows: 1, min_clients: 1 });
    assert!((90..100).all(|number| held(&sums, number) == Some(u64::from(number) + 1)));
    assert_eq!((sums.held().count(), total(&sums)), (10, 5_050));
}

#[test]
fn where_more_clients_are_wanted_each_key_shows_anew_that_it_has_them() {
    let bounds = |min_clients| Bounds { max: 10, idle: secs(60), idle_shows: 1, min_clients };
    let mut sums = bounded(10);
    (0..5).for_each(|number| add(&mut sums, number, 7, 0));
    sums.set_bounds(bounds(2));
    assert_eq!((sums.held().count(), total(&sums)), (0, 35));
    for client in [1, 2] {
        sums.sum(
            &Number::Key(3),
            &Addition { weight: 1, client: Some(client), is_doubtful: false, now: secs(1) },
        )
        .0 += 1;
    }
    assert!(held(&sums, 3).is_some(), "it has two");
    sums.set_bounds(bounds(1));
    assert_eq!((sums.held().count(), total(&sums)), (1, 37), "fewer are wanted: what has a place keeps it");
}

proptest! {
    #[test]
    fn nothing_is_lost_and_nothing_is_counted_twice(
        steps in proptest::collection::vec((0u8..20, 0u32..60, 0u64..100), 0..600), max in 0usize..20
    ) {
        let mut sums = bounded(max);
        let mut truth = 0;
        let mut now = 0;
        for (step, number, weight) in steps {
            match step {
                0 => sums.shown(),
                1 => {
                    now += weight * 20;
                    sums.settle_at(secs(now));
                }
                2 => sums.set_bounds(Bounds { max: number as usize % 20, idle: secs(900), idle_shows: 3, min_clients: 1 }),
                _ => {
                    add(&mut sums, number, weight, now);
                    truth += weight;
                }
            }
            prop_assert_eq!(total(&sums), truth);
            prop_assert!(sums.held().count() <= sums.bounds.max);
            prop_assert!(sums.remainders().count() <= 4);
        }
    }
}
