//! How much processor time a tracker may take.
//!
//! Zone: control. A bucket of processor time fills at [`SUSTAINED`] of one core and holds at most [`BURST`]. A program of
//! steady habits is watched at [`IDLE`] of a core; when its habits have just changed, the tracker takes [`PEAK`] of a
//! core as long as there is credit, and [`OWING`] of one as long as the closer look lasts. A change of habits fills the
//! bucket, but not more often than every [`REFILL`]: a program that never settles costs a fifth of a core at worst.

/// Share of a core that is saved up.
pub const SUSTAINED: f64 = 0.03;
/// Share of a core while there is reason to hurry but no credit.
pub const OWING: f64 = 0.1;
/// Share of a core while there is credit and reason to hurry.
pub const PEAK: f64 = 0.4;
/// Share of a core when nothing changes.
pub const IDLE: f64 = 0.02;
/// Most credit that can be saved up, in ns of processor time.
pub const BURST: f64 = 12e9;

/// Shortest time between two refills, in ns.
pub const REFILL: u64 = 60_000_000_000;

/// The bucket.
pub struct Duty {
    credit: f64,
    filled: u64,
    refilled: u64,
}

impl Duty {
    /// A full bucket.
    pub fn new(now: u64) -> Duty {
        Duty { credit: BURST, filled: now, refilled: now }
    }

    /// Charges `cost` ns that ended at `now`; answers how long to pause before the next step of the same kind.
    pub fn charge(&mut self, now: u64, cost: u64, hurry: bool) -> u64 {
        let elapsed = now.saturating_sub(self.filled) as f64;
        // What is done without credit is not charged later: a look that is due is finished, slowly.
        self.credit = ((self.credit + elapsed * SUSTAINED).min(BURST) - cost as f64).max(0.0);
        self.filled = now;
        let share = match (hurry, self.credit > 0.0) {
            (true, true) => PEAK,
            (true, false) => OWING,
            (false, _) => IDLE,
        };
        (cost as f64 * (1.0 / share - 1.0)) as u64
    }

    /// Fills the bucket, if that was not done lately.
    pub fn refill(&mut self, now: u64) {
        if now.saturating_sub(self.refilled) >= REFILL {
            (self.credit, self.refilled) = (BURST, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(mut now: u64, duty: &mut Duty, cost: u64, until: u64, hurry: bool) -> u64 {
        let mut spent = 0;
        while now < until {
            now += cost;
            spent += cost;
            now += duty.charge(now, cost, hurry);
        }
        spent
    }

    #[test]
    fn a_hurry_without_end_takes_a_tenth() {
        let hour = 3_600_000_000_000;
        let spent = run(0, &mut Duty::new(0), 30_000_000, hour, true);
        assert!((spent as f64) < hour as f64 * OWING + BURST + 1e9);
    }

    #[test]
    fn a_rested_tracker_may_hurry_for_a_while() {
        let spent = run(0, &mut Duty::new(0), 30_000_000, 8_000_000_000, true);
        assert!(spent as f64 / 8e9 > 0.2, "{spent}");
    }

    #[test]
    fn a_change_of_habits_fills_the_bucket_but_not_twice_in_a_minute() {
        let mut duty = Duty::new(0);
        let peak = |duty: &mut Duty, now| duty.charge(now, 1_000_000, true) < 2_000_000;
        duty.charge(1, 20_000_000_000, true);
        duty.refill(REFILL / 2);
        assert!(!peak(&mut duty, REFILL / 2));
        duty.refill(REFILL);
        assert!(peak(&mut duty, REFILL));
    }

    #[test]
    fn at_rest_it_takes_a_fiftieth() {
        let spent = run(0, &mut Duty::new(0), 5_000_000, 100_000_000_000, false);
        assert!(spent as f64 / 100e9 <= 0.0202);
    }
}
