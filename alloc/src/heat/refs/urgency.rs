//! How urgent closer looks are, and for how long.
//!
//! Zone: control. Two numbers say it: how many mappings are still to be read in a hurry, which a change refills and rounds use up, and the *gain*, the
//! share of accesses that may be on the wrong side. A gain that grows much by itself is a change, too.

use super::habits::GRACE;
use super::zoom::ROUNDS;

/// Gains above which it is worth the whole share of a core to know, and more than that.
const KEENLY: f32 = 0.01;
const HURRIEDLY: f32 = 0.03;
/// How many mappings of less than an extent are to be read in a hurry, for each page there is.
const LOOKS: u64 = 4;
/// Rounds in a hurry, for each of those: there is an end where nothing can be looked at more closely, too, and in a heap of which
/// little is seen in a round.
const ROUNDS_EACH: u64 = 64;
/// So many rounds after a change are early ones.
const EARLY: u8 = 8;

/// How urgent it is.
pub(super) struct Urgency {
    /// Mappings still to be read in a hurry: after the start, and when the heap or the program's habits change.
    eager: u64,
    /// When the last such change was noticed; what was seen before is out of date.
    since: u64,
    /// Pages in memory at most, and when last the whole heap was to be looked at.
    present: u64,
    looked_at: u64,
    gain: f32,
    /// What the gain was when last there was little.
    calm: f32,
    /// Rounds since the last change, and whether that was one of the program's habits.
    rounds: u8,
    changed: bool,
}

impl Urgency {
    /// Before anything was seen.
    pub(super) fn new() -> Urgency {
        Urgency {
            eager: 0,
            since: 1,
            present: 0,
            looked_at: 0,
            gain: 1.0,
            calm: 1.0,
            rounds: 0,
            changed: false,
        }
    }

    /// Whether closer looks are to be had in a hurry: little is known yet, and much to be gained.
    pub(super) fn is_eager(&self) -> bool {
        self.eager > 0 && (self.gain > HURRIEDLY || self.rounds < 2 * ROUNDS)
    }

    /// Whether there is enough to be gained for the whole share of a core.
    pub(super) fn is_worth_it(&self) -> bool {
        self.gain > KEENLY
    }

    /// Whether the last change was a few rounds ago.
    pub(super) fn is_early(&self) -> bool {
        self.rounds < EARLY
    }

    /// Whether the program has changed lately, so that what is known of its pages is out of date.
    pub(super) fn is_anew(&self) -> bool {
        self.changed && self.is_eager() && self.is_early()
    }

    /// When the last change was noticed.
    pub(super) fn since(&self) -> u64 {
        self.since
    }

    /// Takes in the gain.
    pub(super) fn set_gain(&mut self, gain: f32) {
        self.gain = gain;
    }

    /// A round has read so many mappings of less than an extent.
    pub(super) fn spend(&mut self, looks: u64) {
        self.eager = self.eager.saturating_sub(looks.max(self.present / ROUNDS_EACH));
    }

    /// Takes in the pages that are in memory; whether they have become many more than were to be looked at.
    pub(super) fn has_grown(&mut self, present: u64) -> bool {
        self.present = self.present.max(present);
        self.present > self.looked_at * 5 / 4
    }

    /// All pages are to be looked at.
    pub(super) fn look_at_all(&mut self, now: u64) {
        self.looked_at = self.present;
        self.eager = self.present * LOOKS;
        self.since = now;
    }

    /// These pages have changed. If so many that the program has, `anew` is now: what has changed inside other extents does not show in
    /// them as wholes, so each gets one visit.
    pub(super) fn look_at(&mut self, changed: u64, anew: Option<u64>) {
        self.eager += changed * LOOKS;
        if let Some(now) = anew {
            self.eager += self.present.saturating_sub(changed) * u64::from(ROUNDS);
            self.since = now;
        }
        self.eager = self.eager.min(self.present * LOOKS);
    }

    /// Whether what was known has become doubtful in many places: the program has changed, in ways that show nowhere else.
    pub(super) fn has_grown_uncertain(&mut self, now: u64) -> bool {
        if self.is_eager() {
            self.calm = self.gain;
            return false;
        }
        if self.gain < 2.0 * self.calm + HURRIEDLY || now < self.since + GRACE {
            self.calm += (self.gain - self.calm) * if self.gain < self.calm { 0.5 } else { 0.05 };
            return false;
        }
        self.calm = self.gain;
        self.look_at_all(now);
        true
    }

    /// A round is over, and showed that the program has changed, or that the heap has grown, or neither.
    pub(super) fn end_round(&mut self, changed: bool, grown: bool) {
        self.rounds = if changed || grown { 0 } else { self.rounds.saturating_add(1) };
        self.changed = (self.changed || changed) && !grown;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    #[test]
    fn a_hurry_ends_when_there_is_little_to_gain_or_when_it_has_had_its_looks() {
        let mut urgency = Urgency::new();
        assert!(urgency.has_grown(64_000));
        urgency.look_at_all(S);
        urgency.set_gain(0.5);
        let rounds = (0..1000).take_while(|_| {
            urgency.spend(0);
            urgency.end_round(false, false);
            urgency.is_eager()
        });
        assert_eq!(rounds.count() as u64 + 1, LOOKS * ROUNDS_EACH, "although nothing could be read");
        urgency.look_at_all(2 * S);
        urgency.set_gain(0.001);
        assert!(!urgency.is_eager() && !urgency.is_worth_it());
    }

    #[test]
    fn a_gain_that_doubles_by_itself_is_a_change_and_one_that_creeps_is_none() {
        let mut urgency = Urgency::new();
        let mut round = |gain: f32, at: u64| {
            urgency.end_round(false, false);
            urgency.set_gain(gain);
            urgency.has_grown_uncertain(at * S)
        };
        assert!((1..60).all(|at| !round(0.02, at)));
        assert!((60..200).all(|at| !round(0.02 + (at - 60) as f32 * 0.0005, at)), "it is followed slowly");
        assert!(round(0.3, 201), "all at once");
        assert!(!round(0.9, 202), "what follows is the same change");
    }
}
