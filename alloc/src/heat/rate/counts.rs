//! Counts as answers: a tracker that samples accesses knows how many it saw, of few.
//!
//! Zone: control. Pure arithmetic; allocates its table once. Of accesses at rate λ, each sampled with probability f, the samples in a time
//! t are a Poisson count of mean m = λ·f·t, so a [`Window`] of the *effective* length f·t says what a count means: none is a miss in it; n
//! of them have the likelihood mⁿ·e⁻ᵐ, which is more than a hit. Counts of more than [`MOST`] are taken in as if the window had been
//! several of equal length, each with its part of them: that has the same likelihood.

use super::{
    ENTRIES, Estimate, LEVELS, OCTAVE, PER_OCTAVE, REACH, SPAN, Step, Window, powers, prior, put_back, step,
};
use crate::heat::exp;
use once_cell::race::OnceBox;

/// Largest count that has a table.
const MOST: u32 = 4;
/// No more parts of a window are taken in: what is left would tell no more than what they do, as estimates are believed to drift.
const PARTS: u32 = 16;
/// If a sample is less likely than this, its absence is no news.
const NO_NEWS: f32 = 0.005;

type Table = [[Step; ENTRIES]; LEVELS];

/// What 1 to [`MOST`] samples do. Racing first callers each work it out: a fork may take away a thread that others would wait for.
static TABLES: OnceBox<Vec<Table>> = OnceBox::new();

fn tables() -> &'static [Table] {
    TABLES.get_or_init(|| Box::new((1..=MOST).map(work_out).collect()))
}

fn work_out(n: u32) -> Table {
    // Likelihood at log₂ m = y, for all y that a sum below can meet.
    let edge = (SPAN + REACH) * PER_OCTAVE;
    let likelihood = |y: i32| {
        let y = f64::from(y) / f64::from(PER_OCTAVE);
        exp::exp2(y * f64::from(n)) * exp::exp(-exp::exp2(y))
    };
    let likelihood: Vec<f64> = (-edge..=edge).map(likelihood).collect();
    let mut table = [[Step::default(); ENTRIES]; LEVELS];
    for (level, steps) in table.iter_mut().enumerate() {
        let prior = prior(level);
        for (x, to) in steps.iter_mut().enumerate() {
            let mut moments = [0.0; 3];
            for (i, weight) in prior.iter().enumerate() {
                for (moment, power) in moments.iter_mut().zip(powers(i)) {
                    *moment += weight * likelihood[x + i] * power;
                }
            }
            *to = step(moments);
        }
    }
    table
}

impl Window {
    /// `n` accesses to the page were sampled; the window's length is that of the time times the share that is sampled.
    pub fn counted(self, e: &mut Estimate, n: u32) {
        if n == 0 {
            return self.none_counted(e);
        }
        let parts = n.div_ceil(MOST);
        let part = self.stretched(-octaves(parts));
        if e.is_blank() {
            *e = Estimate::expected(self.stretched(-octaves(n)).unit_code());
        }
        for i in 0..parts.min(PARTS) {
            let share = |i: u32| u64::from(n) * u64::from(i) / u64::from(parts);
            part.take_in(e, (share(i + 1) - share(i)) as usize);
        }
        e.count(true);
    }

    fn none_counted(self, e: &mut Estimate) {
        if e.is_blank() || self.probability(e) >= NO_NEWS {
            self.miss(e);
        }
    }

    /// One to [`MOST`] samples.
    fn take_in(self, e: &mut Estimate, n: usize) {
        let (level, x) = self.index(e);
        let step = tables()[n - 1][level][x];
        e.rate = (i32::from(e.rate) + i32::from(step.shift)).clamp(1, 65535) as u16;
        e.doubt = put_back(i32::from(step.doubt), level, e).clamp(1, 255) as u8;
    }
}

/// log₂ in code units.
fn octaves(n: u32) -> i32 {
    (exp::log2(f64::from(n)) * f64::from(OCTAVE)) as i32
}

#[cfg(test)]
mod tests {
    use super::super::{code_of_hz, hz_of_code};
    use super::*;

    /// xorshift64*: tests need repeatable randomness, not good randomness.
    fn uniform(state: &mut u64) -> f64 {
        *state ^= *state >> 12;
        *state ^= *state << 25;
        *state ^= *state >> 27;
        (state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A Poisson count of this mean.
    fn poisson(mean: f64, state: &mut u64) -> u32 {
        let (mut n, mut left) = (0, mean);
        loop {
            left += uniform(state).max(1e-12).ln();
            if left < 0.0 {
                return n;
            }
            n += 1;
        }
    }

    /// Bias, spread and claimed deviation in octaves after `intervals` of mean count `mean`, for many pages of rate `hz`.
    fn errors(hz: f64, mean: f64, intervals: u32) -> (f64, f64, f64) {
        let window = Window::new((mean / hz * 1e9) as u64);
        let (mut sum, mut squares, mut doubt) = (0.0, 0.0, 0.0);
        for seed in 1..=200u64 {
            let (mut e, mut s) = (Estimate::default(), seed * 7919);
            assert!((0..20).all(|_| uniform(&mut s) < 1.0));
            for _ in 0..intervals {
                window.counted(&mut e, poisson(mean, &mut s));
            }
            let off = (hz_of_code(e.rate) / hz).log2();
            (sum, squares) = (sum + off, squares + off * off);
            doubt += f64::from(e.deviation()) / f64::from(OCTAVE);
        }
        (sum / 200.0, (squares / 200.0).sqrt(), doubt / 200.0)
    }

    #[test]
    fn estimates_from_counts_are_within_half_an_octave_of_the_true_rate() {
        for (hz, mean) in [(1000.0, 0.3), (2.0, 0.5), (5.0, 1.0), (40.0, 3.0), (1e5, 12.0), (7.0, 200.0)] {
            let (bias, spread, doubt) = errors(hz, mean, 60);
            println!("{mean}: {bias:.2} off, by {spread:.2}, {doubt:.2} claimed");
            assert!(bias.abs() < 0.5, "bias {bias} octaves at a mean count of {mean}");
            assert!((0.3..2.5).contains(&(spread / doubt)), "{spread} off, {doubt} claimed, at {mean}");
        }
        // The mean of a logarithm known by a sample or so lies below that of what it is the logarithm of.
        let (bias, spread, doubt) = errors(2.0, 0.1, 60);
        println!("0.1: {bias:.2} off, by {spread:.2}, {doubt:.2} claimed");
        assert!((-1.0..0.5).contains(&bias) && spread < 2.0, "{bias} {spread}");
    }

    #[test]
    fn one_large_count_tells_the_rate_at_once() {
        for n in [5, 16, 60, 1000] {
            let mut e = Estimate::default();
            Window::new(1_000_000_000).counted(&mut e, n);
            let off = i32::from(e.rate).abs_diff(i32::from(code_of_hz(f64::from(n))));
            assert!(off < OCTAVE as u32 / 3, "{n}: {e:?}");
            assert!(e.deviation() < 3 * OCTAVE / 4 && e.seen() == 1);
        }
    }

    #[test]
    fn more_samples_never_mean_less() {
        let w = Window::new(1_000_000_000);
        for from in [code_of_hz(0.1), code_of_hz(1.0), code_of_hz(30.0)] {
            let after = |n: u32| {
                let mut e = Estimate { rate: from, doubt: 48, trail: 0x20 };
                w.counted(&mut e, n);
                i32::from(e.rate)
            };
            let rates: Vec<i32> = (0..40).map(after).collect();
            assert!(rates.windows(2).all(|r| r[1] > r[0] - OCTAVE / 16), "{rates:?}");
            assert!(rates[0] < i32::from(from) && rates[39] > rates[4] && rates[4] > rates[0]);
        }
    }

    #[test]
    fn one_sample_says_what_a_hit_says_but_that_it_was_one() {
        let hit_and_count = |m: f64| {
            let (hz, w) = (code_of_hz(1.0), Window::new((m * 1e9) as u64));
            let (mut hit, mut counted) = (Estimate { rate: hz, doubt: 24, trail: 0x20 }, Estimate::default());
            counted.clone_from(&hit);
            w.hit(&mut hit);
            w.counted(&mut counted, 1);
            (i32::from(hit.rate), i32::from(counted.rate), i32::from(hz))
        };
        // Where a second touch is out of the question they are nearly the same; where many are to be expected, one is few.
        let (hit, counted, before) = hit_and_count(0.01);
        assert!(before < counted && counted <= hit && hit - counted < OCTAVE / 2, "{before} {counted} {hit}");
        let (hit, counted, before) = hit_and_count(8.0);
        assert!(counted < before - OCTAVE / 2 && hit >= before, "{before} {counted} {hit}");
    }

    #[test]
    fn silence_where_no_sample_was_to_be_expected_changes_nothing() {
        let w = Window::new(1_000_000);
        let before = Estimate { rate: code_of_hz(1.0), doubt: 24, trail: 0x50 };
        let mut e = before;
        (0..100).for_each(|_| w.counted(&mut e, 0));
        assert_eq!(e, before);
        let mut hot = Estimate { rate: code_of_hz(2000.0), ..before };
        (0..3).for_each(|_| w.counted(&mut hot, 0));
        assert!(i32::from(hot.rate) < i32::from(code_of_hz(2000.0)) - OCTAVE / 2, "{hot:?}");
    }

    #[test]
    fn a_page_that_falls_silent_or_wakes_up_is_believed_soon() {
        let w = Window::new(1_000_000_000);
        let mut e = Estimate::default();
        (0..20).for_each(|_| w.counted(&mut e, 3));
        (0..3).for_each(|_| w.counted(&mut e, 0));
        assert!(e.rate < code_of_hz(0.7), "{e:?}");
        (0..2).for_each(|_| w.counted(&mut e, 3));
        assert!(e.rate > code_of_hz(1.2), "{e:?}");
    }

    #[test]
    fn a_table_that_knows_nothing_is_not_believed() {
        assert_eq!(step([0.0; 3]).shift, 0);
        assert!(tables().iter().flatten().flatten().all(|s| i32::from(s.doubt) <= 255 && s.doubt > 0));
    }
}
