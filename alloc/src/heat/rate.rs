//! The rate estimator: how often a page is used, learned from yes/no answers.
//!
//! Zone: control. Pure arithmetic; no allocation.
//!
//! A tracker can only say whether a page was touched at least once in a window of `dt` seconds. If touches come
//! as a Poisson process of rate λ, the answer is "yes" with probability `1 − exp(−λ·dt)`. What is known of a page is a
//! normal distribution of log₂ λ, its mean and its deviation; each answer is taken in by Bayes' rule, and the result made
//! normal again (assumed-density filtering, Maybeck 1982). So windows of any length mix, a window in which every page is
//! touched teaches nothing, and how far an estimate can be trusted is known.
//!
//! Before each answer the rate may have changed: always a little, and with probability [`CHANGE`] altogether. So an
//! answer that is all but impossible makes an estimate doubtful rather than wrong.
//!
//! A tracker that counts says more than yes or no: [`counts`].

mod counts;

use super::exp;
use once_cell::race::OnceBox;

/// One octave (a factor of two in rate) in code units.
pub const OCTAVE: i32 = 1024;
/// The code of 1 Hz. Codes reach from 2⁻²⁴ Hz to 2⁴⁰ Hz.
pub const ONE_HZ: i32 = 24 * OCTAVE;
/// Probability that a page's rate is drawn anew before an answer, from a deviation of [`ANY`] octaves.
const CHANGE: f64 = 0.01;
const ANY: f64 = 4.0;
/// Deviation, in octaves, that a rate drifts by before each answer.
const DRIFT: f64 = 0.08;
/// Units of [`Estimate::doubt`] in an octave.
pub const FINE: i32 = 32;
/// The doubt about a page whose program has changed its habits, in octaves.
const UNSETTLED: i32 = 3;
/// The doubt about what an earlier run of the program has taught, in octaves.
const RECALLED: i32 = 1;
/// The doubt about a page of which nothing is known but what its neighbours do, in octaves.
pub const IGNORANT: i32 = 3;
/// How unlike pages are that answer together, in octaves: a page of which only that is known stays the more in doubt the more of them were
/// touched and the others not; rather where a few were touched, as those may be the hottest of all, than where most were.
const UNLIKE: f32 = 8.0;
/// A probability of a touch that is as good as an answer of the page's own.
const TELLING: f32 = 0.8;

/// The part of a page's record that the estimator owns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Estimate {
    /// log₂ of the rate in Hz, as `ONE_HZ + OCTAVE · log₂ λ`; 0 = nothing known.
    pub rate: u16,
    /// Its standard deviation, in [`FINE`] units an octave.
    pub doubt: u8,
    /// Number of answers in the upper half, up to 15, and of shared ones that are as good; in the lower the last four of all, newest in bit 0 (1 =
    /// touched).
    trail: u8,
}

impl Estimate {
    /// What would be known after many answers of one kind; for tests and examples.
    #[cfg(test)]
    pub fn known(rate: u16, touched: bool) -> Estimate {
        Estimate { rate, doubt: (FINE / 2) as u8, trail: 0xf0 | if touched { 0xf } else { 0 } }
    }

    /// What an earlier run has taught: believed until answers contradict it, as if two had been had already.
    pub fn recalled(rate: u16) -> Estimate {
        Estimate { rate, doubt: (RECALLED * FINE) as u8, trail: 0x21 }
    }

    /// What others of its kind let expect of a page that is new: a guess, until answers come.
    pub fn expected(rate: u16) -> Estimate {
        Estimate { rate, doubt: (IGNORANT * FINE) as u8, trail: 0 }
    }

    /// Whether anything at all is known.
    pub fn is_blank(&self) -> bool {
        self.rate == 0
    }

    /// Whether it is no more than a guess: what neighbours or others of its kind are like.
    pub fn is_guess(&self) -> bool {
        self.seen() == 0
    }

    /// Answers since the habits of the program last changed, as far as the counter goes: 15.
    pub fn seen(&self) -> u8 {
        self.trail >> 4
    }

    /// Whether all of the last `n` answers, up to four, were that the page was touched.
    pub fn run_of_hits(&self, n: u8) -> bool {
        self.seen() >= n && self.trail.trailing_ones() >= u32::from(n)
    }

    /// Whether the page was touched in one of the last two windows.
    pub fn at_work(&self) -> bool {
        self.trail & 3 != 0
    }

    fn count(&mut self, touched: bool) {
        self.trail = (self.seen() + 1).min(15) << 4 | (self.trail << 1 | u8::from(touched)) & 0xf;
    }

    /// The standard deviation in code units.
    pub fn deviation(&self) -> i32 {
        i32::from(self.doubt) * (OCTAVE / FINE)
    }

    /// The habits of the program have changed: what was known is a guess.
    pub fn unsettle(&mut self) {
        self.doubt = self.doubt.max((UNSETTLED * FINE) as u8);
        self.trail &= 0xf;
    }

    /// The whole program has become slower by so many code units, a negative number.
    pub fn slow_down(&mut self, by: i32) {
        if !self.is_blank() {
            self.rate = (i32::from(self.rate) + by).clamp(1, 65535) as u16;
        }
    }
}

/// `rate` code of a frequency in Hz.
pub fn code_of_hz(hz: f64) -> u16 {
    (f64::from(ONE_HZ) + f64::from(OCTAVE) * exp::log2(hz.max(1e-7))).clamp(1.0, 65535.0) as u16
}

/// Frequency in Hz of a `rate` code.
pub fn hz_of_code(code: u16) -> f64 {
    exp::exp2(f64::from(i32::from(code) - ONE_HZ) / f64::from(OCTAVE))
}

// The tables are indexed by the deviation, in quarters of an octave from one to [`LEVELS`], and by x = log₂(λ·dt), from
// −[`SPAN`] to +[`SPAN`] octaves in eighths.
const PER_OCTAVE: i32 = 8;
const SPAN: i32 = 10;
const ENTRIES: usize = (2 * SPAN * PER_OCTAVE) as usize + 1;
const LEVELS: usize = 16;
const PER_LEVEL: i32 = FINE / 4;

/// What an answer does to an estimate: the shift of the mean in code units, and the new deviation.
#[derive(Clone, Copy, Default)]
struct Step {
    shift: i16,
    doubt: u8,
}

struct Tables {
    /// Probability of a touch.
    p: [[f32; ENTRIES]; LEVELS],
    hit: [[Step; ENTRIES]; LEVELS],
    miss: [[Step; ENTRIES]; LEVELS],
}

/// Largest distance from the mean, in octaves, that is taken into account.
const REACH: i32 = 12;

/// Racing first callers each work them out: a fork may take away a thread that others would wait for.
static TABLES: OnceBox<Tables> = OnceBox::new();

fn tables() -> &'static Tables {
    TABLES.get_or_init(work_out)
}

fn work_out() -> Box<Tables> {
    let mut t = Box::new(Tables {
        p: [[0.0; ENTRIES]; LEVELS],
        hit: [[Step::default(); ENTRIES]; LEVELS],
        miss: [[Step::default(); ENTRIES]; LEVELS],
    });
    // Probability of a miss at log₂(λ·dt) = y, for all y that a sum below can meet.
    let edge = (SPAN + REACH) * PER_OCTAVE;
    let silent: Vec<f64> =
        (-edge..=edge).map(|y| exp::exp(-exp::exp2(f64::from(y) / f64::from(PER_OCTAVE)))).collect();
    for level in 0..LEVELS {
        let prior = prior(level);
        for x in 0..ENTRIES {
            // Moments of the prior and of its part that misses; those of the part that hits are what is left.
            let (mut all, mut miss) = ([0.0; 3], [0.0; 3]);
            for (i, &weight) in prior.iter().enumerate() {
                let silent = weight * silent[x + i];
                for (k, power) in powers(i).into_iter().enumerate() {
                    all[k] += weight * power;
                    miss[k] += silent * power;
                }
            }
            let hit = [all[0] - miss[0], all[1] - miss[1], all[2] - miss[2]];
            t.p[level][x] = hit[0] as f32;
            t.hit[level][x] = step(hit);
            t.miss[level][x] = step(miss);
        }
    }
    t
}

/// How likely each distance from the mean is, from −[`REACH`] to +[`REACH`] octaves, for an estimate whose deviation has this level and which
/// may have been drawn anew.
fn prior(level: usize) -> Vec<f64> {
    let bell = |deviation: f64| -> Vec<f64> {
        let at = |i: usize| powers(i)[1] / deviation;
        let w: Vec<f64> =
            (0..=(2 * REACH * PER_OCTAVE) as usize).map(|i| exp::exp(-at(i) * at(i) / 2.0)).collect();
        let sum: f64 = w.iter().sum();
        w.into_iter().map(|w| w / sum).collect()
    };
    let own = bell((level + 1) as f64 / 4.0);
    own.iter().zip(bell(ANY)).map(|(own, any)| (1.0 - CHANGE) * own + CHANGE * any).collect()
}

/// Powers 0 to 2 of entry `i`'s distance from the mean in [`prior`], in octaves.
fn powers(i: usize) -> [f64; 3] {
    let u = f64::from(i as i32 - REACH * PER_OCTAVE) / f64::from(PER_OCTAVE);
    [1.0, u, u * u]
}

/// The step to a distribution of these moments, drift included.
fn step(moments: [f64; 3]) -> Step {
    if moments[0] < 1e-9 {
        return Step { shift: 0, doubt: (IGNORANT * FINE) as u8 };
    }
    let mean = moments[1] / moments[0];
    let variance = (moments[2] / moments[0] - mean * mean).max(0.0) + DRIFT * DRIFT;
    let doubt = exp::pow(variance.max(1e-6), 0.5) * f64::from(FINE);
    Step { shift: (mean * f64::from(OCTAVE)) as i16, doubt: doubt.clamp(1.0, 255.0) as u8 }
}

/// A deviation as [`Step`] gives it for a level: what the level rounded away of the estimate's own is put back.
fn put_back(doubt: i32, level: usize, e: &Estimate) -> i32 {
    let rounded = ((level + 1) as i32 * PER_LEVEL).max(1);
    doubt * i32::from(e.doubt).max(PER_LEVEL / 2) / rounded
}

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

    /// A window longer by so many code units, or, if they are negative, shorter.
    pub fn stretched(self, by: i32) -> Window {
        Window { log_dt: self.log_dt + by }
    }

    /// Code of the rate of one touch a window.
    pub fn unit_code(self) -> u16 {
        (ONE_HZ - self.log_dt).clamp(1, 65535) as u16
    }

    fn index(self, e: &Estimate) -> (usize, usize) {
        let x = i32::from(e.rate) - ONE_HZ + self.log_dt;
        let x = ((x / (OCTAVE / PER_OCTAVE)) + SPAN * PER_OCTAVE).clamp(0, ENTRIES as i32 - 1);
        let level = (i32::from(e.doubt) + PER_LEVEL / 2) / PER_LEVEL;
        ((level.clamp(1, LEVELS as i32) - 1) as usize, x as usize)
    }

    /// Probability that a page of which this is known is touched in the window.
    pub fn probability(self, e: &Estimate) -> f32 {
        let (level, x) = self.index(e);
        tables().p[level][x]
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
        if e.is_blank() {
            *e = Estimate::expected(self.unit_code());
        }
        let (level, x) = self.index(e);
        let step = if touched { tables().hit[level][x] } else { tables().miss[level][x] };
        e.rate = (i32::from(e.rate) + i32::from(step.shift)).clamp(1, 65535) as u16;
        e.doubt = put_back(i32::from(step.doubt), level, e).clamp(1, 255) as u8;
        e.count(touched);
    }

    /// The page was one of several that were asked together, and touched with probability `q` by what they did. Others may answer for it
    /// again and again: however often, what is known of a page by its neighbours alone stays as doubtful as it is that they are alike.
    pub fn shared(self, e: &mut Estimate, q: f32) {
        if e.is_blank() {
            *e = Estimate::expected(self.code_of_share(f64::from(q)));
            return;
        }
        let (level, x) = self.index(e);
        let (hit, miss) = (tables().hit[level][x], tables().miss[level][x]);
        let (up, down) = (f32::from(hit.shift), f32::from(miss.shift));
        let fine = f32::from((OCTAVE / FINE) as u16);
        let apart = (up - down) / fine;
        let square = |step: Step| f32::from(step.doubt) * f32::from(step.doubt);
        let variance = q * square(hit) + (1.0 - q) * square(miss) + q * (1.0 - q) * apart * apart;
        let least = UNLIKE * q.sqrt() * (1.0 - q) * FINE as f32;
        let doubt = put_back(variance.sqrt() as i32, level, e);
        e.rate = (i32::from(e.rate) + (q * up + (1.0 - q) * down) as i32).clamp(1, 65535) as u16;
        e.doubt = doubt.max(i32::from(e.doubt).min(least as i32)).clamp(1, 255) as u8;
        if q >= TELLING {
            e.count(true);
        } else if q < 0.5 {
            e.trail = e.trail & 0xf0 | e.trail << 1 & 0xf;
        }
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
    fn estimates_are_within_half_an_octave_of_the_true_rate() {
        for (i, hz) in [5.0, 10.0, 20.0, 40.0].into_iter().enumerate() {
            let (mut sum, mut squares, mut doubt) = (0.0, 0.0, 0.0);
            for seed in 1..=40u64 {
                let mut e = Estimate::default();
                settle(hz, 0.05, 60, seed * 77 + i as u64, &mut e);
                let off = (hz_of_code(e.rate) / hz).log2();
                (sum, squares) = (sum + off, squares + off * off);
                doubt += f64::from(e.deviation()) / f64::from(OCTAVE);
            }
            let (bias, spread, doubt) = (sum / 40.0, (squares / 40.0).sqrt(), doubt / 40.0);
            assert!(bias.abs() < 0.5, "bias {bias} octaves at {hz} Hz");
            assert!((0.5..2.0).contains(&(spread / doubt)), "{spread} off, {doubt} claimed, at {hz} Hz");
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
        assert!((sum / 40.0).abs() < 0.5, "bias {} octaves", sum / 40.0);
    }

    #[test]
    fn a_window_in_which_everything_is_touched_teaches_nothing() {
        let mut e = Estimate::default();
        settle(2.0, 0.5, 40, 3, &mut e);
        let (before, long) = (e, Window::new(60_000_000_000));
        for _ in 0..20 {
            long.hit(&mut e);
        }
        assert!(i32::from(e.rate).abs_diff(i32::from(before.rate)) < OCTAVE as u32 / 4);
    }

    #[test]
    fn a_cold_page_that_turns_hot_is_believed_after_five_hits() {
        let w = Window::new(100_000_000);
        let mut e = Estimate::default();
        for _ in 0..30 {
            w.miss(&mut e);
        }
        assert!(e.rate < w.unit_code() - 2 * OCTAVE as u16);
        for _ in 0..5 {
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
        let e = Estimate { rate: w.code_of_share(0.3), doubt: FINE as u8 / 4, trail: 0 };
        assert!((w.probability(&e) - 0.3).abs() < 0.05);
    }

    #[test]
    fn a_page_known_by_its_neighbours_alone_stays_in_doubt_however_often_they_answer() {
        let w = Window::new(100_000_000);
        let after = |q: f32| {
            let mut e = Estimate::default();
            (0..100).for_each(|_| w.shared(&mut e, q));
            e
        };
        let (one, half, all) = (after(1.0 / 16.0), after(0.5), after(15.0 / 16.0));
        assert!(one.deviation() > 3 * OCTAVE / 2 && half.deviation() > 2 * OCTAVE, "{one:?} {half:?}");
        assert!(i32::from(all.rate) - all.deviation() > i32::from(w.unit_code()), "{all:?}");
        assert!(all.seen() >= 2 && one.seen() == 0, "what neighbours do proves no page hot unless most are");
        for (e, q) in [(one, 1.0 / 16.0), (half, 0.5)] {
            assert!((w.probability(&Estimate { doubt: 8, ..e }) - q).abs() < 0.1, "{e:?} for {q}");
        }
    }

    #[test]
    fn a_certain_shared_answer_is_as_good_as_an_answer() {
        let w = Window::new(100_000_000);
        for (q, touched) in [(0.0, false), (1.0, true)] {
            let mut own = Estimate { rate: w.unit_code(), doubt: 2 * FINE as u8, trail: 0 };
            let mut shared = own;
            w.answer(&mut own, touched);
            w.shared(&mut shared, q);
            assert_eq!(own.rate, shared.rate);
            assert!(own.doubt.abs_diff(shared.doubt) <= 1, "{own:?} {shared:?}");
        }
    }

    #[test]
    fn what_was_known_is_a_guess_after_a_change_of_habits() {
        let w = Window::new(100_000_000);
        let mut e = Estimate::default();
        (0..30).for_each(|_| w.hit(&mut e));
        e.unsettle();
        assert_eq!((e.seen(), e.deviation()), (0, UNSETTLED * OCTAVE));
        (0..2).for_each(|_| w.miss(&mut e));
        assert!(e.rate < w.unit_code());
    }
}
