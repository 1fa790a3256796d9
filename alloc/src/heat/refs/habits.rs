//! Whether the program still does what it used to do.
//!
//! Zone: control. Two signs, each measured against what is usual for it, because estimates are noisy: pages that answered
//! one by one and contradict what is known of them, in excess of the usual, added up over rounds; and extents of which, as a
//! whole, much more or less was touched than predicted, in two rounds one after the other.

use super::answer::Tally;

/// So many contradictions in excess of the usual are a change of habits.
const ENOUGH: f64 = 80.0;
/// How many times the usual number of contradictions is still no excess. Small rounds at rest and large ones in a hurry are
/// measured alike.
const USUALLY: f64 = 1.7;
/// A distance from the prediction, in standard deviations squared, that is never usual.
const FAR: f64 = 4.0;
/// No change is found within this time of the last one, in ns: what is known is too new to be contradicted.
const GRACE: u64 = 10_000_000_000;

/// What a round says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing new.
    Same,
    /// Look again soon.
    Suspect,
    /// The program has changed.
    Changed,
}

/// What is usual, and what has added up.
pub(super) struct Habits {
    /// How many times more pages than expected contradict their estimate when nothing changes.
    usual: f64,
    /// How far extents are from what is predicted when nothing changes.
    usual_distance: f64,
    /// Contradictions beyond that.
    excess: f64,
    /// The last round was far from what was predicted.
    far: bool,
    /// When the last change was found.
    changed: u64,
}

impl Habits {
    /// Those of a program nobody knows yet.
    pub(super) fn new() -> Habits {
        Habits { usual: 2.0, usual_distance: 4.0, excess: 0.0, far: false, changed: 0 }
    }

    /// Judges a round that ended at `now`.
    pub(super) fn judge(&mut self, tally: &Tally, now: u64) -> Verdict {
        let (seen, expected) = (f64::from(tally.contradictions), tally.expected);
        self.excess = (self.excess + seen - USUALLY * self.usual * expected).clamp(0.0, 2.0 * ENOUGH);
        if expected > 2.0 {
            self.usual += 0.02 * ((seen / expected).min(2.0 * self.usual) - self.usual);
        }
        let distance = tally.distance();
        let far = distance > FAR && distance > 4.0 * self.usual_distance;
        self.usual_distance += 0.05 * (distance.min(9.0 * FAR) - self.usual_distance);
        let again = std::mem::replace(&mut self.far, far) && far;
        if now <= self.changed + GRACE {
            Verdict::Same
        } else if again || self.excess > ENOUGH {
            self.restart(now);
            Verdict::Changed
        } else if far {
            Verdict::Suspect
        } else {
            Verdict::Same
        }
    }

    /// What there is to know has to be learnt anew.
    pub(super) fn restart(&mut self, now: u64) {
        (self.excess, self.far, self.changed) = (0.0, false, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    fn round(contradictions: u32, distance: f64) -> Tally {
        Tally { contradictions, expected: 15.0, compared: 1, squares: distance, ..Tally::default() }
    }

    fn settled() -> Habits {
        let mut habits = Habits::new();
        for i in 0..50 {
            assert_eq!(habits.judge(&round(30, 2.0), i * S), Verdict::Same);
        }
        habits
    }

    #[test]
    fn contradictions_that_add_up_are_a_change() {
        let mut habits = settled();
        let verdicts: Vec<_> = (50..54).map(|i| habits.judge(&round(80, 2.0), i * S)).collect();
        assert_eq!(verdicts.iter().filter(|v| **v == Verdict::Changed).count(), 1, "{verdicts:?}");
    }

    #[test]
    fn one_odd_round_is_a_reason_to_look_again_and_two_are_a_change() {
        let mut habits = settled();
        assert_eq!(habits.judge(&round(30, 30.0), 60 * S), Verdict::Suspect);
        assert_eq!(habits.judge(&round(30, 2.0), 61 * S), Verdict::Same);
        assert_eq!(habits.judge(&round(30, 30.0), 62 * S), Verdict::Suspect);
        assert_eq!(habits.judge(&round(30, 30.0), 63 * S), Verdict::Changed);
        assert_eq!(habits.judge(&round(30, 30.0), 64 * S), Verdict::Same, "too soon");
    }
}
