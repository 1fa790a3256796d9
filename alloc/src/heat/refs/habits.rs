//! Whether pages still do what they used to do.
//!
//! Zone: control. Signs are slices, and extents that are one mapping, of which other numbers of pages are touched than was foretold, and
//! single pages that contradict what is known of them, in excess of the usual (estimates are noisy), added up over rounds. That takes some
//! knowledge of the pages; [`super::wholes`] compares extents with their own past, and does not.

use super::answer::{Forecast, Tally, pace_of};
use crate::heat::pace::Pace;

/// So many contradictions in excess of the usual are a change of habits.
const ENOUGH: f64 = 80.0;
/// How many times the usual number of contradictions is still no excess. Small rounds at rest and large ones in a hurry are
/// measured alike.
const USUALLY: f64 = 1.7;
/// The usual number of contradictions, as a multiple of what the estimates themselves foretell, is taken to be no less than this.
const LEAST: f64 = 0.6;
/// The most that one round counts, and one at an unusual pace: a moment's stall of the program is no change.
const MOST: f64 = ENOUGH * 0.6;
const MOST_UNSURE: f64 = ENOUGH * 0.2;
/// What is left of an excess after a round.
const FADING: f64 = 0.97;
/// So many times further from what was foretold than usual, mappings have changed; and so many pages off by chance make a judgement.
const DIFFERENT: f32 = 1.4;
const FORETOLD: f32 = 100.0;
/// Where a few are far off: so many make a judgement, one counts as so many deviations off at most, and its variance is no less than this.
const FEWEST: f32 = 100.0;
const FAR: f32 = 6.0;
const LEAST_VARIANCE: f32 = 0.5;
/// Their mean square is out of the ordinary when it is so many deviations, and by this part, larger than usual.
const CERTAIN: f32 = 5.0;
const CALM: f32 = 0.25;
/// The square of a normal distribution's mean distance from its middle, of its variance: 2/π.
const MEAN_SQUARE: f32 = core::f32::consts::FRAC_2_PI;
/// No change is found within this time of the last one, in ns: what is known is too new to be contradicted.
pub(super) const GRACE: u64 = 10_000_000_000;

/// What is usual, and what has added up.
pub(super) struct Habits {
    /// How many times more pages than expected contradict their estimate when nothing changes.
    usual: f64,
    /// Contradictions beyond that.
    excess: f64,
    /// Of slices, and of extents that are one mapping.
    slices: Departures,
    few: Departures,
    wholes: Departures,
    /// When the last change was found.
    changed: u64,
}

impl Habits {
    /// Those of a program nobody knows yet.
    pub(super) fn new() -> Habits {
        Habits {
            usual: 2.0,
            excess: 0.0,
            slices: Departures::default(),
            few: Departures::default(),
            wholes: Departures::default(),
            changed: 0,
        }
    }

    /// Judges a round that ended at `now`: whether habits have changed. `much` of the heap fits in DRAM: then many pages are touched by chance in
    /// the usual window, and a hot set that has moved shows in a few slices only. (Where little fits, these are no sign: of a hot set that
    /// drifts a few are always far off, and to learn everything anew each time loses what is known.)
    pub(super) fn have_changed(&mut self, tally: &Tally, pace: Pace, now: u64, much: bool) -> bool {
        let (seen, expected) = (f64::from(tally.contradictions), tally.expected);
        let most = if pace == Pace::Usual { MOST } else { MOST_UNSURE };
        let beyond = (seen - USUALLY * self.usual * expected).min(most);
        self.excess = (self.excess * FADING + beyond).max(0.0);
        if expected > 2.0 {
            self.usual += 0.02 * ((seen / expected).clamp(LEAST, 2.0 * self.usual) - self.usual);
        }
        if !much {
            self.few = Departures::default();
        }
        let slices = pace == Pace::Usual
            && (self.slices.are_unusual(tally.slices.iter())
                | (much && self.few.are_unusual_few(tally.slices.iter())));
        let wholes =
            pace == Pace::Usual && self.wholes.are_unusual(tally.wholes.iter().map(|(_, whole)| whole));
        let changed = now > self.changed + GRACE && (self.excess > ENOUGH || slices || wholes);
        if changed {
            self.restart(now);
        }
        changed
    }

    /// Whether the last round was out of the ordinary: the next one is to tell, and soon.
    pub(super) fn are_in_doubt(&self) -> bool {
        self.slices.once || self.few.once || self.wholes.once
    }

    /// What there is to know has to be learnt anew.
    pub(super) fn restart(&mut self, now: u64) {
        (self.excess, self.changed) = (0.0, now);
    }
}

/// How far mappings of one kind are from what was foretold of each.
#[derive(Default)]
struct Departures {
    /// How far they are when nothing changes, as a multiple of what chance does; once known.
    usual: Option<f32>,
    /// Whether they were further off than that when last looked at: once may be a moment's stall.
    once: bool,
}

impl Departures {
    /// Takes in those of a round; whether they were further off than usual for the second time running.
    fn are_unusual<'a>(&mut self, all: impl Iterator<Item = &'a Forecast> + Clone) -> bool {
        let pace = pace_of(all.clone());
        let off: f32 = all.clone().map(|f| f.off(pace)).sum();
        let expected: f32 = all.map(|f| (pace * f.variance * MEAN_SQUARE).sqrt()).sum();
        expected >= FORETOLD && self.is_unusual(off / expected, DIFFERENT)
    }

    /// As [`Departures::are_unusual`], but where a few are far off and the others not at all.
    fn are_unusual_few<'a>(&mut self, all: impl Iterator<Item = &'a Forecast> + Clone) -> bool {
        let pace = pace_of(all.clone());
        let (mut count, mut sum) = (0.0, 0.0);
        for f in all {
            let off = f.off(pace) / (pace * f.variance + LEAST_VARIANCE).sqrt();
            (count, sum) = (count + 1.0, sum + (off * off).min(FAR * FAR));
        }
        let chance = CERTAIN * (2.0 / f32::max(count, 1.0)).sqrt();
        count >= FEWEST && self.is_unusual(sum / count, 1.0 + chance.max(CALM))
    }

    /// Takes in how far they are in a round, as a multiple of what chance does; `bar` times the usual is unusual.
    fn is_unusual(&mut self, ratio: f32, bar: f32) -> bool {
        let usual = self.usual.unwrap_or(ratio);
        let before = std::mem::replace(&mut self.once, ratio > bar * usual);
        // What differs once is not made usual before it is known whether it does so again.
        if !self.once || before {
            self.usual = Some(usual + (ratio - usual) / 8.0);
        }
        self.once && before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    fn round(contradictions: u32) -> Tally {
        Tally { contradictions, expected: 15.0, ..Tally::default() }
    }

    #[test]
    fn contradictions_that_add_up_are_a_change_and_usual_ones_are_none() {
        let mut habits = Habits::new();
        assert!((0..50).all(|i| !habits.have_changed(&round(30), Pace::Usual, i * S, false)));
        let changes =
            (50..56).filter(|&i| habits.have_changed(&round(90), Pace::Usual, i * S, false)).count();
        assert_eq!(changes, 1, "and not again so soon");
    }

    #[test]
    fn slices_that_are_off_by_more_than_usual_are_a_change_and_a_faster_program_is_none() {
        // Every second slice has half of its pages touched, and the others one; by `pace`, and exchanged.
        let slices = |pace: f32, exchanged: usize| -> Tally {
            let forecast = |i: usize| {
                let (mean, found) = ([8.0, 1.0][i % 2], [8.0, 1.0][(i + exchanged) % 2]);
                let chance = [-1.0, 0.0, 1.0][i % 3] * f32::from(u8::from(found > 1.0));
                Forecast { found: pace * found + chance, pages: 16.0, mean, variance: mean * 0.5 }
            };
            Tally { slices: (0..300).map(forecast).collect(), ..Tally::default() }
        };
        let mut habits = Habits::new();
        assert!((20..40).all(|i| !habits.have_changed(&slices(1.0, 0), Pace::Usual, i * S, false)));
        assert!((40..45).all(|i| !habits.have_changed(&slices(1.5, 0), Pace::Usual, i * S, false)));
        assert!(!habits.have_changed(&slices(1.0, 1), Pace::Usual, 50 * S, false), "once may be chance");
        assert!(habits.have_changed(&slices(1.0, 1), Pace::Usual, 51 * S, false));
    }

    #[test]
    fn a_few_slices_that_are_far_off_are_a_change_where_much_fits() {
        // Seven of each slice's pages are touched, give or take two; of every fortieth, all or none since `moved`.
        let slices = |moved: bool| -> Tally {
            let forecast = |i: usize| {
                let found = if moved && i.is_multiple_of(40) { 16.0 } else { 7.0 + [-2.0, 0.0, 2.0][i % 3] };
                Forecast { found, pages: 16.0, mean: 7.0, variance: 3.9 }
            };
            Tally { slices: (0..800).map(forecast).collect(), ..Tally::default() }
        };
        for much in [true, false] {
            let mut habits = Habits::new();
            assert!((20..40).all(|i| !habits.have_changed(&slices(false), Pace::Usual, i * S, much)));
            assert!(!habits.have_changed(&slices(true), Pace::Usual, 50 * S, much), "once may be chance");
            assert_eq!(habits.have_changed(&slices(true), Pace::Usual, 51 * S, much), much);
        }
    }

    #[test]
    fn one_round_in_which_the_program_stalled_is_no_change() {
        let mut habits = Habits::new();
        for i in 0..200 {
            let (tally, pace) =
                if i % 10 == 9 { (round(500), Pace::Slow(-1300)) } else { (round(5), Pace::Usual) };
            assert!(!habits.have_changed(&tally, pace, i * S, false));
        }
        assert!((200..202).any(|i| habits.have_changed(&round(500), Pace::Usual, i * S, false)));
    }
}
