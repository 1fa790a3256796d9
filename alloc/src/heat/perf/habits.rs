//! Whether the program's habits have changed.
//!
//! Zone: control. Two things are known of an interval as a whole: how many samples fell on the heap, and what share of them on pages that
//! were believed to be hot before. A program that merely runs slower, or waits, has fewer samples, spread as ever; one that has changed has
//! as many elsewhere. The share tells, since no pace changes it.

/// Fewer samples than this in an interval tell nothing.
const ENOUGH: u32 = 100;
/// The share has fallen if it is below this part of the usual, and by more than so many standard deviations.
const FALLEN: f64 = 0.6;
const DEVIATIONS: f64 = 4.0;
/// No change is found within this time of the last one, in ns: what is known is too new to be contradicted.
const GRACE: u64 = 10_000_000_000;
/// A pace that differs by less is the usual one: rates stay tied to the clock.
const USUAL: f64 = 0.6;
/// At less than this part of its pace the program hardly ran.
const ASLEEP: f64 = 1.0 / 64.0;

/// What is usual.
#[derive(Default)]
pub(super) struct Habits {
    /// The share of samples on hot pages; once known.
    share: Option<f64>,
    /// Accesses a second; once known.
    rate: Option<f64>,
    /// When the last change was found.
    changed: Option<u64>,
}

impl Habits {
    /// Judges an interval that ended at `now`: of `all` samples `hot` fell on pages believed to be hot.
    pub(super) fn have_changed(&mut self, hot: u32, all: u32, now: u64) -> bool {
        if all < ENOUGH {
            return false;
        }
        let share = f64::from(hot) / f64::from(all);
        let usual = self.share.unwrap_or(share);
        let deviation = (usual * (1.0 - usual) / f64::from(all)).sqrt();
        let graced = self.changed.is_some_and(|at| now < at + GRACE);
        if !graced && share < FALLEN * usual && share < usual - DEVIATIONS * deviation {
            (self.share, self.rate, self.changed) = (None, None, Some(now));
            return true;
        }
        self.share = Some(usual + (share - usual) / 4.0);
        false
    }

    /// The pace of an interval in which `hz` accesses a second were made, as a part of the usual pace, up to 1; 0 = the program hardly ran.
    /// A pace that stays for some intervals becomes the usual one.
    pub(super) fn pace(&mut self, hz: f64) -> f64 {
        let usual = self.rate.unwrap_or(hz);
        self.rate = Some(if hz > usual { hz.midpoint(usual) } else { usual + (hz - usual) / 8.0 });
        match if usual > 0.0 { hz / usual } else { 1.0 } {
            pace if pace >= USUAL => 1.0,
            pace if pace >= ASLEEP => pace,
            _ => 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    #[test]
    fn hot_pages_that_fall_silent_together_are_a_change_and_noise_is_none() {
        let mut habits = Habits::default();
        for s in 0..50 {
            let hot = [780, 820, 800, 640, 900][s as usize % 5];
            assert!(!habits.have_changed(hot, 1000, s * S));
        }
        assert!(!habits.have_changed(3, 20, 50 * S), "too few to tell");
        assert!(habits.have_changed(200, 1000, 51 * S));
        assert!(!habits.have_changed(150, 1000, 52 * S), "that is what is usual now");
    }

    #[test]
    fn a_share_that_was_small_by_chance_is_no_change() {
        let mut habits = Habits::default();
        assert!((0..20).all(|s| !habits.have_changed(16, 120, s * S)));
        assert!(
            !habits.have_changed(8, 120, 30 * S),
            "8 of 120 where 16 are usual is less than four deviations off"
        );
        assert!(habits.have_changed(160, 4000, 31 * S), "the same share of many more is not");
    }

    #[test]
    fn after_a_change_there_is_a_time_of_grace() {
        let mut habits = Habits::default();
        let mut feed = |s: u64, hot| habits.have_changed(hot, 1000, s * S);
        assert!(!feed(0, 900) && feed(1, 100) && !feed(2, 800) && !feed(3, 100), "within the grace");
        (4..12).for_each(|s| assert!(!feed(s, 800)));
        assert!(feed(12, 100));
    }

    #[test]
    fn a_program_that_slows_down_is_known_by_its_pace_and_it_gets_used_to_it() {
        let mut habits = Habits::default();
        (0..9).for_each(|_| assert_eq!(habits.pace(1000.0), 1.0));
        assert_eq!(habits.pace(5.0), 0.0, "asleep");
        let slow = habits.pace(250.0);
        assert!((0.2..0.4).contains(&slow), "{slow}");
        let paces: Vec<f64> = (0..20).map(|_| habits.pace(250.0)).collect();
        assert!(paces[19] == 1.0 && paces.windows(2).all(|p| p[1] >= p[0]), "{paces:?}");
        assert_eq!(habits.pace(4000.0), 1.0, "faster is no matter");
    }
}
