//! What must be true of a run, decided from its samples alone.
//!
//! Zone: control (a program of its own).

use crate::goals::goals;
use crate::json::Line;
use crate::outside::Bytes;
use crate::sampler::Sample;
use crate::traffic::Verdict;

/// DRAM may pass its budget, and the two views may differ, by this share of the budget.
pub const TOLERANCE: f64 = 0.05;

/// Page moves that a run must survive.
pub const MOVES: u64 = 100_000;

/// One thing that must be true.
#[derive(Clone, Debug)]
pub struct Check {
    /// What must be true, in a few words.
    pub name: String,
    /// Whether it is.
    pub good: bool,
    /// The one figure that says most, or "".
    pub figure: String,
    /// All figures.
    pub text: String,
}

impl Check {
    /// A check with its outcome.
    pub fn new(name: &str, good: bool, text: String) -> Check {
        Check { name: name.to_owned(), good, figure: String::new(), text }
    }

    /// The same check with a figure.
    #[must_use]
    pub fn figure(self, figure: impl Into<String>) -> Check {
        Check { figure: figure.into(), ..self }
    }

    /// Adds this check to a line of the record.
    pub fn write(&self, line: Line) -> Line {
        line.text("name", &self.name)
            .flag("good", self.good)
            .text("figure", &self.figure)
            .text("text", &self.text)
    }
}

/// DRAM bytes, as the kernel counts them, in every sample of phase `first` and later.
pub fn budget_is_kept(samples: &[Sample], first: usize, budget: u64) -> Check {
    let after = samples.iter().filter(|s| s.phase >= first);
    let worst = after.max_by_key(|s| s.outside.dram);
    let peak = worst.map_or(0, |s| s.outside.dram);
    let excess = peak as f64 / budget as f64 - 1.0;
    let allowed = budget + (budget as f64 * TOLERANCE) as u64;
    let text = match worst {
        None => "no sample after the load".to_owned(),
        Some(s) => format!(
            "most DRAM {:.1} MiB of {:.1} MiB ({:+.1} %), at {:.0} s",
            mib(peak),
            mib(budget),
            excess * 100.0,
            s.seconds
        ),
    };
    Check::new("DRAM against its budget (5 % allowed)", worst.is_some() && peak <= allowed, text)
        .figure(format!("{:+.1} %", excess * 100.0))
}

/// Pages moved, all kinds, by Terrace's own count.
pub fn enough_moves(samples: &[Sample]) -> Check {
    let name = "pages moved (100,000 wanted)";
    let Some(last) = samples.iter().rev().find_map(|s| s.inside.as_ref()) else {
        return Check::new(name, false, "Terrace never said".into());
    };
    let text = format!(
        "{} promoted, {} demoted, {} evicted; {} attempts failed",
        thousands(last.promoted),
        thousands(last.demoted),
        thousands(last.evicted),
        thousands(last.failed)
    );
    Check::new(name, last.moved() >= MOVES, text).figure(thousands(last.moved()))
}

/// The hot set that phase `phase` brought, from its start at `begin` seconds.
pub fn hot_set_arrives(samples: &[Sample], phase: usize, name: &str, begin: f64) -> Check {
    let of_phase = samples.iter().filter(|s| s.phase == phase);
    let arrived = of_phase.clone().find(|s| s.hot_share().is_some_and(|h| h >= goals().hot_share));
    let last = of_phase.filter_map(Sample::hot_share).next_back().unwrap_or(0.0);
    let what = format!("{name}: {:.0} % of hot pages in DRAM", goals().hot_share * 100.0);
    match arrived {
        None => Check::new(&what, false, format!("never; {:.0} % at the end", last * 100.0)),
        Some(s) => {
            let took = s.seconds - begin;
            let text = format!("after {took:.0} s (60 allowed); {:.0} % at the end", last * 100.0);
            Check::new(&what, took <= goals().hot_seconds && last >= goals().hot_share, text)
                .figure(format!("{took:.0} s"))
        }
    }
}

/// How far the inside view is from the outside view at sample `at`, in bytes of DRAM or device, whichever is
/// more. The views are taken at slightly different times, and the inside one is as old as the last tick; so what
/// counts is the distance from what the outside view showed in this sample, the ones beside it and between them. `None` when
/// there is no inside view.
pub fn deviation(samples: &[Sample], at: usize) -> Option<u64> {
    let inside = samples[at].inside.as_ref()?;
    let beside = &samples[at.saturating_sub(1)..(at + 2).min(samples.len())];
    let off = |inside: u64, outside: fn(&Bytes) -> u64| {
        let between = beside.iter().skip(1).filter_map(|s| s.before.as_ref());
        let seen: Vec<u64> = beside.iter().map(|s| &s.outside).chain(between).map(outside).collect();
        let low = seen.iter().copied().min().unwrap_or(0);
        let high = seen.iter().copied().max().unwrap_or(0);
        low.saturating_sub(inside).max(inside.saturating_sub(high))
    };
    Some(off(inside.dram, |b| b.dram).max(off(inside.device, |b| b.device)))
}

/// The two views, in every sample of phase `first` and later.
pub fn views_agree(samples: &[Sample], first: usize, budget: u64) -> Check {
    let after = (0..samples.len()).filter(|i| samples[*i].phase >= first);
    let name = "inside against outside view (5 % allowed)";
    let mut worst = None;
    for i in after {
        let Some(bytes) = deviation(samples, i) else {
            let text = format!("no inside view at {:.0} s", samples[i].seconds);
            return Check::new(name, false, text);
        };
        worst = worst.max(Some((bytes, i)));
    }
    let share = worst.map_or(0.0, |w| w.0 as f64 / budget as f64);
    let text = match worst {
        None => "no sample after the load".to_owned(),
        Some((bytes, i)) => {
            let at = samples[i].seconds;
            format!("most {:.1} MiB ({:.1} % of the budget), at {at:.0} s", mib(bytes), share * 100.0)
        }
    };
    Check::new(name, worst.is_some() && share <= TOLERANCE, text).figure(format!("{:.1} %", share * 100.0))
}

/// A read-back of everything.
pub fn reads_back(name: &str, keys: usize, verdict: &Verdict) -> Check {
    let text = format!(
        "{} equal by checksum, {} rightly gone; {} wrong, {} missing, {} stale",
        thousands(verdict.equal),
        thousands(verdict.asked - verdict.equal - verdict.wrong - verdict.missing - verdict.stale),
        verdict.wrong,
        verdict.missing,
        verdict.stale
    );
    Check::new(name, verdict.is_good() && verdict.asked == keys as u64, text).figure(thousands(verdict.equal))
}

/// Bytes as MiB.
pub fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// `1234567` as `1,234,567`.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inside::Inside;

    fn sample(seconds: f64, phase: usize, inside: u64, outside: u64, hot: u64) -> Sample {
        Sample {
            seconds,
            phase,
            inside: Some(Inside {
                dram: inside,
                promoted: 60_000,
                demoted: 39_000,
                evicted: 1_000,
                ..Inside::default()
            }),
            outside: Bytes { dram: outside, device: 0 },
            before: None,
            hot: (100, hot),
        }
    }

    #[test]
    fn the_load_may_pass_the_budget_and_nothing_after_it() {
        let mut samples = vec![sample(1.0, 0, 0, 200, 0), sample(2.0, 1, 0, 105, 0)];
        assert!(budget_is_kept(&samples, 1, 100).good);
        samples.push(sample(3.0, 2, 0, 106, 0));
        assert!(!budget_is_kept(&samples, 1, 100).good);
        assert!(!budget_is_kept(&[], 1, 100).good);
    }

    #[test]
    fn moves_of_all_kinds_count() {
        assert!(enough_moves(&[sample(1.0, 0, 0, 0, 0)]).good);
        assert!(!enough_moves(&[]).good);
    }

    #[test]
    fn the_hot_set_must_arrive_in_time_and_stay() {
        let arrives = |at: f64, end: u64| {
            let samples = [
                sample(10.0, 1, 0, 0, 99),
                sample(11.0, 2, 0, 0, 10),
                sample(at, 2, 0, 0, 80),
                sample(80.0, 2, 0, 0, end),
            ];
            hot_set_arrives(&samples, 2, "shift", 10.0).good
        };
        assert!(arrives(70.0, 95));
        assert!(!arrives(70.1, 95));
        assert!(!arrives(30.0, 79));
        assert!(!hot_set_arrives(&[], 2, "shift", 10.0).good);
    }

    #[test]
    fn views_may_differ_in_time_but_not_in_value() {
        // The inside view lags one sample behind: no deviation.
        let mut samples =
            vec![sample(1.0, 1, 50, 50, 0), sample(2.0, 1, 50, 90, 0), sample(3.0, 1, 90, 90, 0)];
        assert!(views_agree(&samples, 1, 100).good);
        samples.push(sample(4.0, 1, 80, 90, 0));
        assert_eq!(deviation(&samples, 3), Some(10));
        assert!(!views_agree(&samples, 1, 100).good);
        assert!(!views_agree(&samples, 2, 100).good);
        // Between two samples DRAM was what the inside view still says.
        samples[3].before = Some(Bytes { dram: 81, device: 0 });
        assert_eq!(deviation(&samples, 3), Some(1));
        assert!(views_agree(&samples, 1, 100).good);
        samples.truncate(3);
        samples[1].inside = None;
        assert!(!views_agree(&samples, 1, 100).good);
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(thousands(0), "0");
        assert_eq!(thousands(999), "999");
        assert_eq!(thousands(1_234_567), "1,234,567");
    }

    #[test]
    fn one_wrong_answer_or_an_unasked_key_fails_the_read_back() {
        let good = Verdict { asked: 10, equal: 7, ..Verdict::default() };
        assert!(reads_back("all", 10, &good).good);
        assert!(!reads_back("all", 11, &good).good);
        assert!(!reads_back("all", 10, &Verdict { wrong: 1, ..good }).good);
    }
}
