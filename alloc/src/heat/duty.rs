//! How much processor time a tracker may take.
//!
//! Zone: control. All follows from one number, the share of a core that a tracker may take over time. A bucket of
//! processor time fills at that share and holds [`SAVINGS`] seconds of it. A program of steady habits is watched at two
//! thirds of the share, at all of it while pages seem to be misplaced; when its habits have just changed, the tracker takes [`PEAK`] times the share as long as there is
//! credit, and [`OWING`] times as long as the closer look lasts, but never more than [`MOST`]. A change of habits fills
//! the bucket, but not more often than every [`REFILL`]: with the default share of 3 %, a program that never settles costs
//! a fifth of a core at worst.

/// Share of a core when nothing changes, as a part of the whole share.
const IDLE: f64 = 2.0 / 3.0;
/// How many times its share a tracker takes while there is reason to hurry but no credit.
const OWING: f64 = 10.0 / 3.0;
/// How many times its share it takes while there is credit and reason to hurry.
const PEAK: f64 = 40.0 / 3.0;
/// Never more than this share of a core.
const MOST: f64 = 0.5;
/// Most credit that can be saved up, in ns of real time.
const SAVINGS: f64 = 400e9;
/// Shortest time between two refills, in ns.
const REFILL: u64 = 60_000_000_000;

/// How much reason there is to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Haste {
    /// Nothing changes.
    Rest,
    /// Pages seem to be on the wrong side: the whole share is used.
    Keen,
    /// Habits have changed.
    Hurry,
}

/// The bucket.
pub struct Duty {
    share: f64,
    credit: f64,
    filled: u64,
    refilled: u64,
}

impl Duty {
    /// A full bucket, for a tracker that may take this share of a core over time.
    pub fn new(now: u64, share: f64) -> Duty {
        Duty { share, credit: SAVINGS * share, filled: now, refilled: now }
    }

    /// Charges `cost` ns that ended at `now`; answers how long to pause before the next step of the same kind.
    pub fn charge(&mut self, now: u64, cost: u64, haste: Haste) -> u64 {
        let elapsed = now.saturating_sub(self.filled) as f64;
        // What is done without credit is not charged later: a look that is due is finished, slowly.
        let saved = (self.credit + elapsed * self.share).min(SAVINGS * self.share);
        self.credit = (saved - cost as f64).max(0.0);
        self.filled = now;
        let times = match (haste, self.credit > 0.0) {
            (Haste::Hurry, true) => PEAK,
            (Haste::Hurry, false) => OWING,
            (Haste::Keen, _) => 1.0,
            (Haste::Rest, _) => IDLE,
        };
        pause_at((self.share * times).min(MOST), cost)
    }

    /// What it may spend in `ns` of real time while pages seem to be misplaced.
    pub fn budget(&self, ns: u64) -> u64 {
        (ns as f64 * self.share) as u64
    }

    /// How long to pause after a step of this cost when nothing changes.
    pub fn rest(&self, cost: u64) -> u64 {
        pause_at(self.share * IDLE, cost)
    }

    /// How long to pause after a step of this cost while pages seem to be misplaced.
    pub fn keen(&self, cost: u64) -> u64 {
        pause_at(self.share, cost)
    }

    /// Fills the bucket, if that was not done lately.
    pub fn refill(&mut self, now: u64) {
        if now.saturating_sub(self.refilled) >= REFILL {
            (self.credit, self.refilled) = (SAVINGS * self.share, now);
        }
    }
}

/// How long to pause after a step of this cost so that it takes this share of a core, ns.
fn pause_at(share: f64, cost: u64) -> u64 {
    (cost as f64 * (1.0 / share - 1.0)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARE: f64 = 0.03;

    fn run(mut now: u64, duty: &mut Duty, cost: u64, until: u64, haste: Haste) -> u64 {
        let mut spent = 0;
        while now < until {
            now += cost;
            spent += cost;
            now += duty.charge(now, cost, haste);
        }
        spent
    }

    #[test]
    fn a_hurry_without_end_takes_a_tenth() {
        let hour = 3_600_000_000_000;
        let spent = run(0, &mut Duty::new(0, SHARE), 30_000_000, hour, Haste::Hurry);
        assert!((spent as f64) < hour as f64 * SHARE * OWING + SAVINGS * SHARE + 1e9);
    }

    #[test]
    fn a_rested_tracker_may_hurry_for_a_while() {
        let spent = run(0, &mut Duty::new(0, SHARE), 30_000_000, 8_000_000_000, Haste::Hurry);
        assert!(spent as f64 / 8e9 > 0.3, "{spent}");
    }

    #[test]
    fn a_change_of_habits_fills_the_bucket_but_not_twice_in_a_minute() {
        let mut duty = Duty::new(0, SHARE);
        let peak = |duty: &mut Duty, now| duty.charge(now, 1_000_000, Haste::Hurry) < 2_000_000;
        duty.charge(1, 20_000_000_000, Haste::Hurry);
        duty.refill(REFILL / 2);
        assert!(!peak(&mut duty, 2));
        duty.refill(REFILL);
        assert!(peak(&mut duty, REFILL));
    }

    #[test]
    fn at_rest_it_takes_a_fiftieth() {
        let spent = run(0, &mut Duty::new(0, SHARE), 5_000_000, 100_000_000_000, Haste::Rest);
        assert!(spent as f64 / 100e9 <= 0.0202);
    }

    #[test]
    fn however_large_its_share_half_a_core_is_the_most() {
        let spent = run(0, &mut Duty::new(0, 0.5), 30_000_000, 100_000_000_000, Haste::Hurry);
        assert!((0.45..0.51).contains(&(spent as f64 / 100e9)), "{spent}");
    }
}
