//! Whether pages do what was foretold of them: those of one extent, and those of the whole heap.
//!
//! Zone: control. What happens to a page is a surprise of −log₂ p bits if its estimate gave it the probability p. How many bits that is to be for many
//! pages, and how far off by chance, follows from their estimates; what it usually is, as a multiple of that, is learnt, as estimates are noisy.
//! It tells by all pages, also those of which nothing is unlikely: the hot ones of a program whose rates fall off slowly.
//!
//! Only extents count that were known before. That the heap has changed must show in two rounds at least: a moment's stall is no change.

use crate::heat::exp;
use crate::heat::pace::Pace;

/// Steps in which a probability is told apart.
const STEPS: usize = 512;
/// An extent does not do what was foretold beyond so many times the usual, and so many deviations.
const ODD: f64 = 1.25;
const ODD_DEVIATIONS: f64 = 3.0;
/// Nor does the heap beyond so many times the usual, added up over rounds, by so many deviations.
const SLACK: f64 = 1.2;
const ENOUGH: f64 = 12.0;
/// The most that one round counts, and one at an unusual pace.
const MOST: f64 = 7.0;
const MOST_UNSURE: f64 = 2.0;
/// No change is found within this time of the last one, in ns: what is known is too new to be contradicted.
const GRACE: u64 = 10_000_000_000;
/// How fast the usual is learnt, and between what bounds it is taken to be.
const LEARNING: f64 = 0.05;
const USUAL: std::ops::RangeInclusive<f64> = 0.6..=2.0;

/// Bits of surprise.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bits {
    /// What they were, and what they were to be.
    pub(super) found: f64,
    pub(super) expected: f64,
    /// The square of how far off they may be by chance.
    pub(super) variance: f64,
}

impl Bits {
    /// Adds those of another.
    pub(super) fn add(&mut self, other: &Bits) {
        self.found += other.found;
        self.expected += other.expected;
        self.variance += other.variance;
    }

    /// By how many deviations they are more than `times` the expected.
    fn beyond(&self, times: f64) -> f64 {
        (self.found - times * self.expected) / self.variance.sqrt().max(1.0)
    }
}

/// The bits of a probability, worked out once.
pub(super) struct Table(Vec<f32>);

impl Default for Table {
    fn default() -> Self {
        let of = |step: usize| -exp::log2((step as f64 + 0.5) / STEPS as f64) as f32;
        Table((0..STEPS).map(of).collect())
    }
}

impl Table {
    /// The bits of a page that was used, or not, when it was to be with probability `p`.
    pub(super) fn bits(&self, p: f32, used: bool) -> Bits {
        let of = |p: f32| f64::from(self.0[((p * STEPS as f32) as usize).min(STEPS - 1)]);
        let (hit, miss, p) = (of(p), of(1.0 - p), f64::from(p));
        Bits {
            found: if used { hit } else { miss },
            expected: p * hit + (1.0 - p) * miss,
            variance: p * (1.0 - p) * (hit - miss) * (hit - miss),
        }
    }
}

/// What is usual, and what has added up.
pub(super) struct Surprise {
    usual: f64,
    /// Of this round.
    round: Bits,
    /// Deviations beyond the usual.
    excess: f64,
    /// When the last change was found.
    changed: Option<u64>,
}

impl Default for Surprise {
    fn default() -> Self {
        Surprise { usual: 1.0, round: Bits::default(), excess: 0.0, changed: None }
    }
}

impl Surprise {
    /// Whether an extent does not do what was foretold.
    pub(super) fn is_odd(&self, bits: &Bits) -> bool {
        bits.beyond(ODD * self.usual) > ODD_DEVIATIONS
    }

    /// Takes in an extent that was known.
    pub(super) fn note(&mut self, bits: &Bits) {
        self.round.add(bits);
    }

    /// Judges the round that ended at `now`: whether the program has changed.
    pub(super) fn has_changed(&mut self, pace: Pace, now: u64) -> bool {
        let round = std::mem::take(&mut self.round);
        if round.expected < 1.0 {
            return false;
        }
        let most = if pace == Pace::Usual { MOST } else { MOST_UNSURE };
        self.excess = (self.excess + round.beyond(SLACK * self.usual).min(most)).max(0.0);
        let ratio = (round.found / round.expected).clamp(*USUAL.start(), *USUAL.end());
        self.usual += LEARNING * (ratio - self.usual);
        let changed = self.excess > ENOUGH && self.changed.is_none_or(|at| now > at + GRACE);
        if changed {
            (self.excess, self.changed) = (0.0, Some(now));
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    fn extent(found: f64) -> Bits {
        Bits { found, expected: 200.0, variance: 400.0 }
    }

    #[test]
    fn what_is_likely_is_no_surprise_and_what_is_not_is_one() {
        let table = Table::default();
        let (hit, miss) = (table.bits(0.03, true), table.bits(0.03, false));
        assert!((4.5..5.5).contains(&hit.found) && miss.found < 0.1);
        assert!((0.15..0.25).contains(&hit.expected) && hit.expected == miss.expected);
        assert!(table.bits(0.0, true).found < 11.0 && table.bits(1.0, false).found < 11.0, "no certainty");
        let surprise = Surprise::default();
        assert!(!surprise.is_odd(&extent(260.0)) && surprise.is_odd(&extent(320.0)));
    }

    #[test]
    fn what_adds_up_over_rounds_is_a_change_and_the_usual_is_none() {
        let mut surprise = Surprise::default();
        let mut round = |found: f64, pace, at: u64| {
            surprise.note(&extent(found));
            surprise.has_changed(pace, at * S)
        };
        assert!((0..200).all(|at| !round([180.0, 200.0, 250.0][at as usize % 3], Pace::Usual, at)));
        assert!(!round(1000.0, Pace::Usual, 200), "once may be a stall");
        assert!((201..220).all(|at| !round(190.0, Pace::Usual, at)), "and is forgotten");
        let changes: Vec<u64> = (220..229).filter(|&at| round(320.0, Pace::Usual, at)).collect();
        assert!(changes.len() == 1 && changes[0] < 225, "{changes:?}: and not again so soon");
    }

    #[test]
    fn rounds_at_another_pace_count_less() {
        let mut surprise = Surprise::default();
        let changes = (0..6).filter(|&at| {
            surprise.note(&extent(900.0));
            surprise.has_changed(Pace::Slow(-1300), at * S)
        });
        assert_eq!(changes.count(), 0);
    }
}
