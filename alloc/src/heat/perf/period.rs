//! The sampling period: so long that the program is interrupted no more often than it should be.
//!
//! Zone: control. An interrupt costs the program some 1 to 3 µs. What counts are all records, also those of accesses that are no matter of
//! the heap, and those that found no room.

use super::kernel::Limits;

/// The period is judged once in this time, in ns, or as soon as twice the samples that it should bring have come.
const JUDGED: u64 = 1_000_000_000;
/// It stays while the samples are between these shares of what they should be.
const FITTING: std::ops::RangeInclusive<f64> = 0.5..=1.5;
/// A program that hardly uses memory for a while does so again: no shorter than half of what it was, in one step.
const STEP: f64 = 2.0;
/// Fewer samples than this in [`JUDGED`]: the program sleeps.
const ASLEEP: u64 = 10;
/// When the kernel has throttled the event.
const THROTTLED: u64 = 4;
const LONGEST: u64 = 1 << 30;

/// The period, and what came by it so far.
pub(super) struct Period {
    limits: Limits,
    now: u64,
    taken: u64,
    since: u64,
    throttled: bool,
}

impl Period {
    /// The first period, from `now` on.
    pub(super) fn new(limits: Limits, now: u64) -> Period {
        Period { limits, now: limits.first, taken: 0, since: now, throttled: false }
    }

    /// The period: one in so many events is sampled.
    pub(super) fn get(&self) -> u64 {
        self.now
    }

    /// So many records came.
    pub(super) fn note(&mut self, records: u64) {
        self.taken += records;
    }

    /// The kernel has stopped sampling for a moment.
    pub(super) fn note_throttled(&mut self) {
        self.throttled = true;
    }

    /// Begins to count anew.
    pub(super) fn restart(&mut self, now: u64) {
        (self.taken, self.since, self.throttled) = (0, now, false);
    }

    /// Judges the period, `most` being the records that should come in a second; whether it has changed.
    pub(super) fn adapt(&mut self, now: u64, most: f64) -> bool {
        let elapsed = now.saturating_sub(self.since);
        let burst = self.taken as f64 > 2.0 * most * JUDGED as f64 / 1e9;
        if elapsed == 0 || (elapsed < JUDGED && !burst && !self.throttled) {
            return false;
        }
        let ratio = self.taken as f64 / (elapsed as f64 / 1e9) / most;
        let wanted = match () {
            () if self.throttled => self.now as f64 * ratio.max(THROTTLED as f64),
            () if FITTING.contains(&ratio) || self.taken < ASLEEP => self.now as f64,
            () => self.now as f64 * ratio.max(1.0 / STEP),
        };
        self.restart(now);
        let before = self.now;
        self.now = self.round(wanted);
        // The least period and rounding leave it as it was.
        before != self.now
    }

    fn round(&self, wanted: f64) -> u64 {
        let wanted = (wanted as u64).clamp(self.limits.least, LONGEST);
        match self.limits.multiple {
            // Odd: not in step with loops of the program.
            0 | 1 => wanted | 1,
            multiple => wanted.next_multiple_of(multiple),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    fn period(multiple: u64) -> Period {
        Period::new(Limits { threads: 4, first: 20_000, least: 1000, multiple, mappings: 1 }, 0)
    }

    /// The records of the last of `seconds` in which `hz` events happen.
    fn run(period: &mut Period, from: u64, seconds: u64, hz: u64, most: f64) -> u64 {
        let mut last = 0;
        for s in from..from + seconds {
            last = hz / period.get();
            period.note(last);
            period.adapt((s + 1) * S, most);
        }
        last
    }

    #[test]
    fn as_many_samples_come_as_should_however_much_the_program_does() {
        for hz in [2_000_000, 30_000_000, 3_000_000_000] {
            let last = run(&mut period(1), 0, 12, hz, 1000.0);
            assert!((450..=1600).contains(&last), "{last} at {hz}");
        }
        assert_eq!(run(&mut period(1), 0, 12, 5000, 1000.0), 0, "a program that sleeps: nothing changes");
    }

    #[test]
    fn a_burst_is_answered_before_the_second_is_over() {
        let mut p = period(1);
        p.note(9000);
        assert!(p.adapt(S / 10, 1000.0));
        assert!(p.get() > 20_000 * 50, "{}", p.get());
        p.note(100);
        assert!(!p.adapt(S / 10 + 1, 1000.0), "too soon to judge");
    }

    #[test]
    fn throttling_lengthens_it_at_once() {
        let mut p = period(1);
        p.note(3);
        p.note_throttled();
        assert!(p.adapt(S / 10, 1000.0) && p.get() >= 80_000);
        p.note(1000);
        assert!(!p.adapt(S + S / 10, 1000.0), "once");
    }

    #[test]
    fn it_has_a_least_and_is_odd_or_a_multiple() {
        let mut p = period(1);
        run(&mut p, 0, 20, 300_000, 1000.0);
        assert_eq!(p.get(), 1001);
        let mut p = period(16);
        run(&mut p, 0, 7, 99_000_000, 1000.0);
        assert!(p.get().is_multiple_of(16) && p.get() > 20_000);
        let mut p = period(1);
        (1..100).for_each(|s| {
            p.note(u64::MAX / 200);
            p.adapt(s * S, 1.0);
        });
        assert!(p.get() <= LONGEST + 1);
    }
}
