//! The figures as tables: Markdown for people, CSV for programs.

use std::fmt::Write;

use crate::plan::{CONTENDERS, Contender, Plan, SUBJECT};
use crate::results::{Figures, Run, geometric_mean, median};

/// Everything that was run.
#[derive(Debug)]
pub struct Report<'a> {
    /// What was asked for.
    pub plan: &'a Plan,
    /// All runs, repetitions included.
    pub runs: Vec<Run>,
}

/// A workload under a contender.
#[derive(Clone, Copy, Debug)]
pub struct Cell {
    /// Share of what the oracle serves: in the middle of all runs, at least, at most.
    pub of_oracle: f64,
    /// See `of_oracle`.
    pub least: f64,
    /// See `of_oracle`.
    pub most: f64,
    /// The middle of the runs.
    pub figures: Figures,
}

/// Share of the oracle's that Terrace may stay behind the best contender.
const BEHIND: f64 = 0.05;

impl Report<'_> {
    fn figures(&self, contender: &str, ratio: u64, workload: &str) -> Vec<Figures> {
        let is = |r: &&Run| r.contender == contender && r.ratio == ratio && r.workload.name == workload;
        self.runs.iter().filter(is).map(Run::figures).collect()
    }

    /// What the oracle serves of `workload` at `ratio`, with the objects on pages as the contender had them that made the most possible.
    fn oracle(&self, ratio: u64, workload: &str) -> f64 {
        let of = |c: &Contender| median(&self.figures(c.name, ratio, workload)).oracle;
        self.plan.contenders.iter().map(of).fold(0.0, f64::max)
    }

    /// The middle of the runs of `workload` under `contender` at `ratio`.
    pub fn cell(&self, contender: &str, ratio: u64, workload: &str) -> Option<Cell> {
        let (figures, oracle) = (self.figures(contender, ratio, workload), self.oracle(ratio, workload));
        let of = |f: &Figures| if oracle > 0.0 { f.share / oracle } else { 0.0 };
        let least = figures.iter().map(of).fold(f64::INFINITY, f64::min);
        let most = figures.iter().map(of).fold(0.0, f64::max);
        let middle = median(&figures);
        (!figures.is_empty()).then(|| Cell { of_oracle: of(&middle), least, most, figures: middle })
    }

    fn of_oracle(&self, contender: &str, ratio: u64, workload: &str) -> Option<f64> {
        self.cell(contender, ratio, workload).map(|cell| cell.of_oracle)
    }

    fn mean(&self, contender: &str, ratio: u64) -> Option<f64> {
        let of: Option<Vec<f64>> =
            self.plan.workloads.iter().map(|w| self.of_oracle(contender, ratio, w.name)).collect();
        of.map(|of| geometric_mean(&of))
    }

    /// The whole report.
    pub fn markdown(&self) -> String {
        let mut text = String::from("# Tiering benchmark\n\n");
        let plan = self.plan;
        let _ = writeln!(
            text,
            "Emulated machine, {} CPU(s), two tiers of memory; {} s a phase, {} run(s) of each. `docs/bench-tier.md` says how to read this.\n",
            plan.cpus, plan.seconds, plan.runs
        );
        for contender in &plan.contenders {
            let _ = writeln!(text, "* **{}**: {}", contender.name, contender.what);
        }
        for &ratio in &plan.ratios {
            let _ = writeln!(text, "\n## DRAM a {ratio}th of the footprint (1:{ratio})\n");
            text += "Share of the accesses that DRAM serves in the steady state, in percent of what the oracle serves";
            text += " (in brackets: the oracle's, in percent of all accesses).\n\n";
            self.table(&mut text, ratio, true, |c| format!("{:.1}", 100.0 * c.of_oracle));
            self.verdict(&mut text, ratio);
            text += "\nSeconds until 90 % of the oracle's share are served, from the last shift on where there is one.\n\n";
            self.table(&mut text, ratio, false, |c| match c.figures.converged {
                s if s.is_finite() => format!("{s:.0}"),
                _ => "never".into(),
            });
            text += "\nShare of the first ten seconds, in percent of the steady state's.\n\n";
            self.table(&mut text, ratio, false, |c| {
                format!("{:.0}", 100.0 * c.figures.early / c.figures.share.max(1e-6))
            });
            text += "\nMB a second moved in the steady state, and ping-pong.\n\n";
            self.table(&mut text, ratio, false, |c| {
                format!("{:.2}, {:.0} %", c.figures.moved_mb_s, 100.0 * c.figures.ping_pong)
            });
            text += "\nMiB of the heap in DRAM, and MB moved in all.\n\n";
            self.table(&mut text, ratio, false, |c| {
                format!("{:.0}, {:.0}", c.figures.dram_mib, c.figures.moved_mb)
            });
            text += "\nEstimated time to that of all-DRAM (100 and 600 ns an access), and CPU of trackers and movers in percent of a core.\n\n";
            self.table(&mut text, ratio, false, |c| {
                format!("{:.2}, {:.1} %", c.figures.slowdown, 100.0 * c.figures.cpu)
            });
        }
        text
    }

    /// A line a workload, a column a contender; with the oracle's share and the means if they are asked for.
    fn table(&self, text: &mut String, ratio: u64, oracle: bool, show: impl Fn(&Cell) -> String) {
        let names: Vec<&str> = self.plan.contenders.iter().map(|c| c.name).collect();
        let _ = writeln!(text, "| workload | {} |", names.join(" | "));
        let _ = writeln!(text, "| --- |{}", " ---: |".repeat(names.len()));
        for workload in &self.plan.workloads {
            let name = match oracle {
                true => format!("{} ({:.0})", workload.name, 100.0 * self.oracle(ratio, workload.name)),
                false => workload.name.to_owned(),
            };
            let cell = |contender: &&str| self.cell(contender, ratio, workload.name);
            let cells: Vec<String> =
                names.iter().map(|c| cell(c).map_or("-".into(), |cell| show(&cell))).collect();
            let _ = writeln!(text, "| {name} | {} |", cells.join(" | "));
        }
        if oracle {
            let means: Vec<String> = names
                .iter()
                .map(|c| self.mean(c, ratio).map_or("-".into(), |m| format!("**{:.1}**", 100.0 * m)))
                .collect();
            let _ = writeln!(text, "| geometric mean | {} |", means.join(" | "));
        }
    }

    /// How Terrace does against each contender: ahead on how many workloads, and where it is far behind.
    fn verdict(&self, text: &mut String, ratio: u64) {
        let rivals: Vec<&Contender> = self.plan.contenders.iter().filter(|c| c.script != SUBJECT).collect();
        let all = self.plan.workloads.len();
        text.push('\n');
        for rival in &rivals {
            let ahead = self.plan.workloads.iter().filter(|w| {
                let (ours, theirs) =
                    (self.of_oracle(SUBJECT, ratio, w.name), self.of_oracle(rival.name, ratio, w.name));
                ours.zip(theirs).is_some_and(|(ours, theirs)| ours > theirs)
            });
            let _ = writeln!(text, "* ahead of {} on {} of {all} workloads", rival.name, ahead.count());
        }
        for workload in &self.plan.workloads {
            let best = rivals
                .iter()
                .filter_map(|r| Some((self.of_oracle(r.name, ratio, workload.name)?, r.name)))
                .max_by(|a, b| a.0.total_cmp(&b.0));
            let ours = self.of_oracle(SUBJECT, ratio, workload.name);
            if let (Some((theirs, name)), Some(ours)) = (best, ours)
                && ours < theirs * (1.0 - BEHIND)
            {
                let _ = writeln!(
                    text,
                    "* more than {:.0} % behind {name} on {}: {:.1} to {:.1}",
                    100.0 * BEHIND,
                    workload.name,
                    100.0 * ours,
                    100.0 * theirs
                );
            }
        }
    }

    /// One line a run.
    pub fn csv(&self) -> String {
        let mut text = String::from(
            "contender,ratio,workload,run,share,oracle,of_oracle,converged_s,early_share,moved_mb_s,ping_pong,moved_mb,kernel_moved_mb,dram_mib,\
             cpu_of_core,slowdown,maccesses_s\n",
        );
        for contender in CONTENDERS {
            for run in self.runs.iter().filter(|r| r.contender == contender.name).enumerate() {
                let (number, run) = run;
                let f = run.figures();
                let _ = writeln!(
                    text,
                    "{},{},{},{number},{:.4},{:.4},{:.4},{:.1},{:.4},{:.3},{:.4},{:.1},{:.1},{:.1},{:.4},{:.3},{:.2}",
                    run.contender,
                    run.ratio,
                    run.workload.name,
                    f.share,
                    f.oracle,
                    f.of_oracle(),
                    f.converged,
                    f.early,
                    f.moved_mb_s,
                    f.ping_pong,
                    f.moved_mb,
                    run.kernel_moved * terrace_demo::outside::PAGE as f64 / 1e6,
                    f.dram_mib,
                    f.cpu,
                    f.slowdown,
                    f.rate
                );
            }
        }
        text
    }
}
