//! The rate estimator: how often a page is used, learned from yes/no answers.
//!
//! Zone: control. Pure arithmetic; no allocation.
//!
//! A tracker can only say whether a page was touched at least once in a window of `dt` seconds. If touches come
//! as a Poisson process of rate λ, the answer is "yes" with probability `1 − exp(−λ·dt)`. Each page keeps an
//! estimate of log₂ λ and moves it along the gradient of the likelihood of each answer, so that windows of
//! different lengths can be mixed freely. The step shrinks as answers agree and grows again when a run of answers
//! contradicts the estimate: three hits on a page held to be cold, two misses on one held to be hot.
//!
//! A hit lifts an estimate to no less than [`AGILITY`] octaves below `1/dt`, a miss lowers it to no more than that far
//! above: what contradicts an answer so strongly is out of date. A hit never lowers an estimate: in a long window
//! every page is touched, and that says nothing against those known to be hot.

use super::exp;
use once_cell::sync::Lazy;

/// One octave (a factor of two in rate) in code units.
pub const OCTAVE: i32 = 1024;
/// The code of 1 Hz. Codes reach from 2⁻²⁴ Hz to 2⁴⁰ Hz.
pub const ONE_HZ: i32 = 24 * OCTAVE;
/// How far an answer lets the estimate lie on the other side of one touch a window.
const AGILITY: i32 = 7 * OCTAVE / 2;
/// A page that is touched in window after window may be used any number of times in each, and a few pages usually get
/// most of the use: from the third hit in a row on its estimate rises by this much more, up to so far above `1/dt`.
/// That overrates pages near `1/dt`; underrating the few that are used a thousand times as much costs far more.
const RUN: i32 = OCTAVE / 2;
const RUN_TOP: i32 = 5 * OCTAVE;
/// Largest confidence; at this the step is [`STEP`]'s last entry.
pub const CONFIDENT: u8 = 15;

/// The part of a page's record that the estimator owns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Estimate {
    /// log₂ of the rate in Hz, as `ONE_HZ + OCTAVE · log₂ λ`.
    pub rate: u16,
    /// Number of answers that agreed with the estimate, up to [`CONFIDENT`]; 0 = never observed.
    pub conf: u8,
    /// The last eight answers, newest in bit 0 (1 = touched).
    pub hist: u8,
}

/// `rate` code of a frequency in Hz.
pub fn code_of_hz(hz: f64) -> u16 {
    (f64::from(ONE_HZ) + f64::from(OCTAVE) * exp::log2(hz.max(1e-7))).clamp(1.0, 65535.0) as u16
}

/// Frequency in Hz of a `rate` code.
pub fn hz_of_code(code: u16) -> f64 {
    exp::exp2(f64::from(i32::from(code) - ONE_HZ) / f64::from(OCTAVE))
}

// The tables are indexed by x = log₂(λ·dt), from −8 to +8 octaves in sixteenths.
const PER_OCTAVE: i32 = 16;
const SPAN: i32 = 8;
const ENTRIES: usize = (2 * SPAN * PER_OCTAVE) as usize + 1;
/// A single answer moves the estimate by at most this many natural log units before the step factor.
const CLAMP: f64 = 2.0;

struct Tables {
    /// Probability of a touch.
    p: [f32; ENTRIES],
    /// Gradient of the log-likelihood in code units: of a hit (positive) and of a miss (negative).
    hit: [i32; ENTRIES],
    miss: [i32; ENTRIES],
}

static TABLES: Lazy<Tables> = Lazy::new(|| {
    let mut t = Tables { p: [0.0; ENTRIES], hit: [0; ENTRIES], miss: [0; ENTRIES] };
    let to_code = f64::from(OCTAVE) / std::f64::consts::LN_2;
    for i in 0..ENTRIES {
        let m = exp::exp2(i as f64 / f64::from(PER_OCTAVE) - f64::from(SPAN)); // λ·dt
        t.p[i] = (1.0 - exp::exp(-m)) as f32;
        let hit = if m < 1e-3 { 1.0 } else { m * exp::exp(-m) / (1.0 - exp::exp(-m)) };
        t.hit[i] = (hit.min(CLAMP) * to_code) as i32;
        t.miss[i] = -(m.min(CLAMP) * to_code) as i32;
    }
    t
});

/// Step factor in 1/256 by confidence: 0.9 for the first answer, 0.12 once settled.
const STEP: [i32; CONFIDENT as usize + 1] =
    [230, 160, 115, 90, 75, 64, 56, 50, 46, 42, 39, 36, 34, 32, 31, 30];

/// One observation window: what "touched" and "not touched" mean depends on its length.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// log₂ of the length in seconds, in code units.
    log_dt: i32,
}

impl Window {
    /// A window of `ns` nanoseconds.
    pub fn new(ns: u64) -> Window {
        Window { log_dt: (f64::from(OCTAVE) * exp::log2(ns.max(1000) as f64 / 1e9)) as i32 }
    }

    /// Code of the rate of one touch a window.
    pub fn unit_code(self) -> u16 {
        (ONE_HZ - self.log_dt).clamp(1, 65535) as u16
    }

    fn index(self, rate: u16) -> usize {
        let x = i32::from(rate) - ONE_HZ + self.log_dt;
        ((x / (OCTAVE / PER_OCTAVE)) + SPAN * PER_OCTAVE).clamp(0, ENTRIES as i32 - 1) as usize
    }

    /// Probability that a page of this rate is touched in the window.
    pub fn probability(self, rate: u16) -> f32 {
        TABLES.p[self.index(rate)]
    }

    /// The rate code that explains a group of which the fraction `share` was touched.
    pub fn code_of_share(self, share: f64) -> u16 {
        let m = -exp::ln(1.0 - share.clamp(0.02, 0.98));
        (f64::from(ONE_HZ - self.log_dt) + f64::from(OCTAVE) * exp::log2(m)).clamp(1.0, 65535.0) as u16
    }

    /// The page was touched.
    pub fn hit(self, e: &mut Estimate) {
        self.answer(e, true);
    }

    /// The page was not touched.
    pub fn miss(self, e: &mut Estimate) {
        self.answer(e, false);
    }

    fn answer(self, e: &mut Estimate, touched: bool) {
        let unit = ONE_HZ - self.log_dt;
        if e.conf == 0 && e.rate == 0 {
            e.rate = unit.clamp(1, 65535) as u16;
        }
        e.hist = e.hist << 1 | u8::from(touched);
        let rate = i32::from(e.rate);
        let mut rate = if touched { rate.max(unit - AGILITY) } else { rate.min(unit + AGILITY) };
        let i = self.index(rate.clamp(1, 65535) as u16);
        let gradient = if touched { TABLES.hit[i] } else { TABLES.miss[i] };
        rate += gradient * STEP[usize::from(e.conf.min(CONFIDENT))] / 256;
        if e.conf < CONFIDENT {
            e.conf += 1;
        }
        if touched && e.hist & 7 == 7 && rate < unit + RUN_TOP {
            rate += RUN;
        }
        if e.conf > 3 {
            if touched && e.hist & 7 == 7 && rate < unit - OCTAVE / 2 {
                rate = unit + OCTAVE;
                e.conf = 2;
            } else if !touched && e.hist & 3 == 0 && rate > unit + OCTAVE {
                rate = unit - OCTAVE;
                e.conf = 2;
            }
        }
        e.rate = rate.clamp(1, 65535) as u16;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// xorshift64*: tests need repeatable randomness, not good randomness.
    fn uniform(state: &mut u64) -> f64 {
        *state ^= *state >> 12;
        *state ^= *state << 25;
        *state ^= *state >> 27;
        (state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) as f64 / (1u64 << 53) as f64
    }

    fn settle(hz: f64, dt: f64, answers: u32, seed: u64, e: &mut Estimate) {
        let (mut s, w) = (seed, Window::new((dt * 1e9) as u64));
        for _ in 0..answers {
            if uniform(&mut s) < 1.0 - (-hz * dt).exp() {
                w.hit(e);
            } else {
                w.miss(e);
            }
        }
    }

    #[test]
    fn codes_and_frequencies_are_inverse() {
        for hz in [0.001, 1.0, 17.0, 12_345.0] {
            let back = hz_of_code(code_of_hz(hz));
            assert!((back / hz - 1.0).abs() < 0.001, "{hz} -> {back}");
        }
        assert_eq!(i32::from(code_of_hz(1.0)), ONE_HZ);
    }

    #[test]
    fn estimates_are_in_the_order_of_the_true_rates_and_within_three_octaves_of_them() {
        let mut last = -10.0;
        for (i, hz) in [5.0, 10.0, 20.0, 40.0].into_iter().enumerate() {
            let mut sum = 0.0;
            for seed in 1..=40u64 {
                let mut e = Estimate::default();
                settle(hz, 0.05, 60, seed * 77 + i as u64, &mut e);
                sum += (hz_of_code(e.rate) / hz).log2();
            }
            let bias = sum / 40.0;
            assert!(bias.abs() < 3.0, "bias {bias} octaves at {hz} Hz");
            assert!(hz.log2() + bias > last + 0.5, "no better than half the rate at {hz} Hz");
            last = hz.log2() + bias;
        }
    }

    #[test]
    fn windows_of_different_length_can_be_mixed() {
        let mut sum = 0.0;
        for seed in 1..=40u64 {
            let mut e = Estimate::default();
            for round in 0..30 {
                settle(20.0, if round % 2 == 0 { 0.03 } else { 0.12 }, 1, seed * 1000 + round, &mut e);
            }
            sum += (hz_of_code(e.rate) / 20.0).log2();
        }
        assert!((sum / 40.0).abs() < 2.0, "bias {} octaves", sum / 40.0);
    }

    #[test]
    fn a_cold_page_that_turns_hot_is_believed_after_three_hits() {
        let w = Window::new(100_000_000);
        let mut e = Estimate::default();
        for _ in 0..30 {
            w.miss(&mut e);
        }
        assert!(e.rate < w.unit_code() - 2 * OCTAVE as u16);
        for _ in 0..3 {
            w.hit(&mut e);
        }
        assert!(e.rate > w.unit_code());
    }

    #[test]
    fn a_hot_page_that_falls_silent_is_believed_after_three_misses() {
        let w = Window::new(100_000_000);
        let mut e = Estimate::default();
        for _ in 0..30 {
            w.hit(&mut e);
        }
        assert!(e.rate > w.unit_code() + OCTAVE as u16);
        for _ in 0..3 {
            w.miss(&mut e);
        }
        assert!(e.rate < w.unit_code());
    }

    #[test]
    fn a_hit_never_lowers_an_estimate_and_a_miss_never_raises_it() {
        let (short, long) = (Window::new(1_000_000), Window::new(2_000_000_000));
        let mut e = Estimate::default();
        for _ in 0..30 {
            short.hit(&mut e);
        }
        let hot = e.rate;
        for _ in 0..30 {
            long.hit(&mut e);
            assert!(e.rate >= hot);
        }
        let mut e = Estimate::default();
        for _ in 0..30 {
            long.miss(&mut e);
        }
        let cold = e.rate;
        for _ in 0..30 {
            short.miss(&mut e);
            assert!(e.rate <= cold);
        }
    }

    #[test]
    fn a_share_of_touched_pages_names_the_rate_that_explains_it() {
        let w = Window::new(50_000_000);
        let code = w.code_of_share(0.3);
        assert!((w.probability(code) - 0.3).abs() < 0.03);
    }
}
