//! What the observers recorded, and the figures made of it.

use terrace_demo::json::{self, Value};
use terrace_demo::outside::PAGE;

use crate::plan::Workload;

/// Declared latencies of the machine's tiers, in ns an access, and what a move is taken to cost, in ns: the copy at 24 GB/s and 2 µs for
/// the system call's share and the flushed translations.
const DRAM_NS: f64 = 100.0;
const DEVICE_NS: f64 = 600.0;
const MOVE_NS: f64 = 2000.0 + PAGE as f64 / 24.0;

/// What a shift is over at: this share of the oracle's.
const CONVERGED: f64 = 0.9;

/// Seconds of a run that count as its beginning.
const EARLY: f64 = 10.0;

/// One look at a workload's placement.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Look {
    /// Seconds since the workload began.
    pub seconds: f64,
    /// Its phase.
    pub phase: u64,
    /// As in [`crate::heap::Window`].
    pub share: f64,
    /// The best share of the window.
    pub oracle: f64,
    /// The best share of the phase so far.
    pub phase_oracle: f64,
    /// Pages in DRAM.
    pub dram: f64,
    /// Pages moved, both ways.
    pub moved: f64,
    /// Of these, moved back.
    pub returned: f64,
    /// Accesses a second.
    pub rate: f64,
    /// CPU time of threads other than the workload's, in ms so far.
    pub others_ms: f64,
}

/// One run of a workload under a contender.
#[derive(Clone, Debug)]
pub struct Run {
    /// Name of the contender.
    pub contender: String,
    /// Footprint to DRAM.
    pub ratio: u64,
    /// The workload.
    pub workload: Workload,
    /// All looks, in order.
    pub looks: Vec<Look>,
    /// CPU time of the kernel's threads that move pages, in ms, and pages that the kernel says it moved.
    pub kernel_ms: f64,
    /// See `kernel_ms`.
    pub kernel_moved: f64,
}

/// What a run comes to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Figures {
    /// Share of accesses served by DRAM in the last third of the last phase, and the best possible.
    pub share: f64,
    /// See `share`.
    pub oracle: f64,
    /// Seconds from the last phase's beginning until 90 % of its oracle's share were served, and at the next look still; infinite if never.
    pub converged: f64,
    /// Share in the first [`EARLY`] seconds of the first phase.
    pub early: f64,
    /// MB/s moved in the steady state, and the share of it that went back where it had come from.
    pub moved_mb_s: f64,
    /// See `moved_mb_s`.
    pub ping_pong: f64,
    /// MB moved in the whole run.
    pub moved_mb: f64,
    /// MiB of the heap in DRAM in the steady state.
    pub dram_mib: f64,
    /// CPU time of trackers and movers, of one core.
    pub cpu: f64,
    /// Estimated time to the same accesses all in DRAM, by the declared latencies.
    pub slowdown: f64,
    /// Million accesses a second in the steady state.
    pub rate: f64,
}

impl Figures {
    /// Share of what the oracle serves.
    pub fn of_oracle(&self) -> f64 {
        if self.oracle > 0.0 { self.share / self.oracle } else { 0.0 }
    }
}

/// The runs that a record tells of.
///
/// # Errors
/// A workload that is missing or did not end well: its name.
pub fn runs(record: &str, contender: &str, ratio: u64, workloads: &[Workload]) -> Result<Vec<Run>, String> {
    let lines: Vec<Value> = record.lines().filter_map(json::parse).collect();
    let of = |workload: &Workload, kind: &str| {
        let is = |l: &&Value| l.text("k") == kind && l.text("workload") == workload.name;
        lines.iter().filter(is).collect::<Vec<_>>()
    };
    let run = |workload: &Workload| {
        let looks: Vec<Look> = of(workload, "look").into_iter().map(look).collect();
        let end = of(workload, "end");
        let good = end.first().is_some_and(|l| l.get("good") == Some(&Value::Bool(true)));
        if looks.len() < 3 || !good {
            return Err(format!("{contender} at 1:{ratio}: {} did not end well", workload.name));
        }
        let kernel = of(workload, "kernel");
        let number = |name: &str| kernel.first().map_or(0.0, |l| l.number(name));
        Ok(Run {
            contender: contender.to_owned(),
            ratio,
            workload: *workload,
            looks,
            kernel_ms: number("cpu_ms"),
            kernel_moved: number("migrated"),
        })
    };
    workloads.iter().map(run).collect()
}

fn look(line: &Value) -> Look {
    Look {
        seconds: line.number("seconds"),
        phase: line.number("phase") as u64,
        share: line.number("share"),
        oracle: line.number("oracle"),
        phase_oracle: line.number("phase_oracle"),
        dram: line.number("dram"),
        moved: line.number("up") + line.number("down"),
        returned: line.number("returned"),
        rate: line.number("rate"),
        others_ms: line.number("others_ms"),
    }
}

impl Run {
    /// The looks of the last phase.
    fn last_phase(&self) -> &[Look] {
        let last = self.looks.last().map_or(0, |l| l.phase);
        let first = self.looks.iter().position(|l| l.phase == last).unwrap_or(0);
        &self.looks[first..]
    }

    /// The best share at look `l` of the last phase: of its window, where the distribution changes all the time.
    pub fn oracle_at(&self, l: &Look) -> f64 {
        if self.workload.moving {
            return l.oracle;
        }
        let of_phase = self.looks.iter().rfind(|other| other.phase == l.phase);
        of_phase.map_or(0.0, |last| last.phase_oracle)
    }

    /// What the run comes to.
    pub fn figures(&self) -> Figures {
        let looks = self.last_phase();
        let (begin, end) = (self.looks.iter().rfind(|l| l.phase != looks[0].phase), looks[looks.len() - 1]);
        let begin = begin.map_or(0.0, |l| l.seconds);
        let from = end.seconds - (end.seconds - begin) / 3.0;
        let steady: Vec<&Look> = looks.iter().filter(|l| l.seconds >= from).collect();
        let mean =
            |value: &dyn Fn(&Look) -> f64| steady.iter().map(|l| value(l)).sum::<f64>() / steady.len() as f64;
        let sum = |looks: &[&Look], value: fn(&Look) -> f64| looks.iter().map(|l| value(l)).sum::<f64>();
        let mb = |pages: f64| pages * PAGE as f64 / 1e6;
        let (moved, returned) = (sum(&steady, |l| l.moved), sum(&steady, |l| l.returned));
        let before = looks.iter().rfind(|l| l.seconds < from).map_or(begin, |l| l.seconds);
        let seconds = (end.seconds - before).max(1.0);
        let is_converged = |l: &Look| l.share >= CONVERGED * self.oracle_at(l);
        let converged = looks.windows(2).find(|pair| pair.iter().all(is_converged));
        let (share, rate) = (mean(&|l| l.share), mean(&|l| l.rate));
        let early: Vec<&Look> = self.looks.iter().filter(|l| l.seconds <= EARLY).collect();
        let an_access = share * DRAM_NS + (1.0 - share) * DEVICE_NS;
        // Accesses of the emulated machine are slower than a real one's: moves weigh less there than they should, for all alike.
        let moves = moved / seconds * MOVE_NS / rate.max(1.0);
        Figures {
            share,
            oracle: mean(&|l| self.oracle_at(l)),
            converged: converged.map_or(f64::INFINITY, |pair| pair[0].seconds - begin),
            early: sum(&early, |l| l.share) / early.len().max(1) as f64,
            moved_mb_s: mb(moved) / seconds,
            ping_pong: if moved > 0.0 { returned / moved } else { 0.0 },
            moved_mb: mb(self.looks.iter().map(|l| l.moved).sum()),
            dram_mib: mean(&|l| l.dram) * PAGE as f64 / f64::from(1 << 20),
            cpu: (end.others_ms + self.kernel_ms) / 1000.0 / end.seconds,
            slowdown: (an_access + moves) / DRAM_NS,
            rate: rate / 1e6,
        }
    }
}

/// The middle of several runs' figures, one by one.
pub fn median(figures: &[Figures]) -> Figures {
    let of = |value: fn(&Figures) -> f64| {
        let mut values: Vec<f64> = figures.iter().map(value).collect();
        values.sort_by(f64::total_cmp);
        let n = values.len();
        if n == 0 { 0.0 } else { (values[(n - 1) / 2] + values[n / 2]) / 2.0 }
    };
    Figures {
        share: of(|f| f.share),
        oracle: of(|f| f.oracle),
        converged: of(|f| f.converged),
        early: of(|f| f.early),
        moved_mb_s: of(|f| f.moved_mb_s),
        ping_pong: of(|f| f.ping_pong),
        moved_mb: of(|f| f.moved_mb),
        dram_mib: of(|f| f.dram_mib),
        cpu: of(|f| f.cpu),
        slowdown: of(|f| f.slowdown),
        rate: of(|f| f.rate),
    }
}

/// Geometric mean; 0 of nothing.
pub fn geometric_mean(values: &[f64]) -> f64 {
    if values.is_empty() {
        return 0.0;
    }
    (values.iter().map(|v| v.max(1e-6).ln()).sum::<f64>() / values.len() as f64).exp()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::WORKLOADS;

    fn workload(name: &str) -> Workload {
        *WORKLOADS.iter().find(|w| w.name == name).unwrap()
    }

    fn record(name: &str) -> String {
        let look = |seconds: f64, phase: u64, share: f64, up: u64| {
            format!(
                "{{\"k\":\"look\",\"t\":1,\"workload\":\"{name}\",\"seconds\":{seconds},\"phase\":{phase},\"rate\":1000000,\
                 \"others_ms\":{},\"share\":{share},\"oracle\":0.9,\"phase_oracle\":0.8,\"dram\":256,\"device\":256,\"up\":{up},\
                 \"down\":0,\"returned\":0}}\n",
                seconds * 10.0
            )
        };
        let mut text = String::from("hog: not a line of the record\n");
        for i in 1..=6 {
            text += &look(f64::from(i) * 2.0, 0, 0.5, 0);
        }
        for (i, share) in [0.1, 0.5, 0.73, 0.74, 0.76, 0.76].into_iter().enumerate() {
            text += &look(12.0 + (i + 1) as f64 * 2.0, 1, share, 100);
        }
        text + &format!(
            "{{\"k\":\"end\",\"t\":1,\"workload\":\"{name}\",\"right\":5,\"wrong\":0,\"good\":true}}\n"
        )
    }

    #[test]
    fn figures_are_of_the_last_third_of_the_last_phase() {
        let runs = runs(&record("gups"), "numab", 8, &[workload("gups")]).unwrap();
        let figures = runs[0].figures();
        assert!((figures.share - 0.7533333).abs() < 1e-6, "{figures:?}");
        assert!((figures.oracle - 0.8).abs() < 1e-9);
        assert_eq!(figures.dram_mib, 1.0);
        assert!((figures.of_oracle() - 0.9416666).abs() < 1e-6);
        assert_eq!(figures.early, 0.5);
        // 0.73 is above 90 % of 0.8, and so is what follows.
        assert_eq!(figures.converged, 6.0);
        assert!((figures.cpu - 0.01).abs() < 1e-9);
        assert!((figures.moved_mb - 600.0 * 4096.0 / 1e6).abs() < 1e-9);
        assert!((figures.moved_mb_s - 300.0 * 4096.0 / 1e6 / 6.0).abs() < 1e-9, "{figures:?}");
    }

    #[test]
    fn a_moving_workload_is_judged_window_by_window() {
        let runs = runs(&record("scan"), "numab", 8, &[workload("scan")]).unwrap();
        assert!((runs[0].figures().oracle - 0.9).abs() < 1e-9);
    }

    #[test]
    fn a_workload_that_is_missing_or_wrong_is_an_error() {
        assert!(runs(&record("gups"), "numab", 8, &[workload("kv")]).is_err());
        let wrong = record("gups").replace("\"good\":true", "\"good\":false");
        assert!(runs(&wrong, "numab", 8, &[workload("gups")]).is_err());
    }

    #[test]
    fn the_middle_of_runs_and_the_mean_of_workloads() {
        let of = |share: f64| Figures { share, converged: f64::INFINITY, ..Figures::default() };
        assert_eq!(median(&[of(0.1), of(0.9), of(0.4)]).share, 0.4);
        assert_eq!(median(&[of(0.1), of(0.3)]).converged, f64::INFINITY);
        assert!((geometric_mean(&[0.5, 0.125]) - 0.25).abs() < 1e-12);
    }
}
