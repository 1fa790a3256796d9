//! Progress while a run goes on: a few lines that are redrawn on a terminal, a line now and then elsewhere.
//!
//! Zone: control (a program of its own).

use std::io::{self, IsTerminal, Write};

use super::run::Run;
use crate::checks::{mib, thousands};

/// Characters in a bar.
const BAR: usize = 50;

/// Seconds between lines where lines cannot be redrawn.
const QUIET: f64 = 10.0;

/// What is on the screen.
pub struct Live {
    redraw: bool,
    /// Lines on the terminal that the next update replaces.
    drawn: usize,
    /// Number of phases and checks told, and the time of the last line.
    told: (usize, usize, f64),
}

impl Live {
    /// Progress on standard output.
    pub fn new() -> Live {
        Live { redraw: io::stdout().is_terminal(), drawn: 0, told: (0, 0, 0.0) }
    }

    /// Shows what has changed.
    pub fn update(&mut self, run: &Run) {
        let mut text = String::new();
        if self.drawn > 0 {
            // Up to where the last update began, and clear from there.
            text = format!("\x1b[{}A\x1b[J", self.drawn);
            self.drawn = 0;
        }
        for phase in &run.phases[self.told.0..] {
            text += &format!("{:6.0} s  {}: {}\n", phase.begin, phase.name, phase.text);
        }
        for check in &run.checks[self.told.1..] {
            text +=
                &format!("          {} {}: {}\n", if check.good { "✔" } else { "✘" }, check.name, check.text);
        }
        self.told = (run.phases.len(), run.checks.len(), self.told.2);
        if self.redraw && run.good.is_none() {
            let status = status(run);
            self.drawn = status.lines().count();
            text += &status;
        } else if run.points.last().is_some_and(|p| p.sample.seconds >= self.told.2 + QUIET) {
            self.told.2 = run.end();
            text += &line(run);
        }
        let mut out = io::stdout().lock();
        // A reader that went away does not stop the run.
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}

impl Default for Live {
    fn default() -> Live {
        Live::new()
    }
}

/// The state of a run as a block of lines.
fn status(run: &Run) -> String {
    let Some(point) = run.points.last() else { return String::new() };
    let sample = &point.sample;
    let (dram, device) = (mib(sample.outside.dram), mib(sample.outside.device));
    let (budget, total) = (mib(run.budget).max(1.0), (dram + device).max(mib(run.data)));
    let mut text = format!("\n{:6.0} s\n", sample.seconds);
    text += &format!("  DRAM    {} {dram:6.1} MiB of {budget:.1}\n", bar(dram / total, budget / total));
    text += &format!("  device  {} {device:6.1} MiB\n", bar(device / total, 2.0));
    let hot = sample.hot_share();
    let figure = hot.map_or("     –".to_owned(), |h| format!("{:5.0} %", h * 100.0));
    text += &format!("  hot set {} {figure} in DRAM\n", bar(hot.unwrap_or(0.0), 0.8));
    if let Some(inside) = run.inside() {
        text += &format!(
            "  pages   {} moved: ↑ {} promoted  ↓ {} demoted  ⇑ {} evicted\n",
            thousands(inside.moved()),
            thousands(inside.promoted),
            thousands(inside.demoted),
            thousands(inside.evicted)
        );
    }
    text
}

/// The state of a run in one line.
fn line(run: &Run) -> String {
    let Some(point) = run.points.last() else { return String::new() };
    let sample = &point.sample;
    let hot = sample.hot_share().map_or("–".to_owned(), |h| format!("{:.0} %", h * 100.0));
    format!(
        "{:6.0} s  DRAM {:.1} MiB (budget {:.1}), device {:.1} MiB, hot set in DRAM {hot}, {} pages moved\n",
        sample.seconds,
        mib(sample.outside.dram),
        mib(run.budget),
        mib(sample.outside.device),
        thousands(run.inside().map_or(0, |i| i.moved()))
    )
}

/// A bar filled to `share`, with a mark at `mark` (none beyond 1).
fn bar(share: f64, mark: f64) -> String {
    let cell = |at: f64| (at * BAR as f64).round() as usize;
    let one = |i: usize| match () {
        () if mark <= 1.0 && i + 1 == cell(mark) => '┃',
        () if i < cell(share) => '█',
        () => '░',
    };
    (0..BAR).map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_fill_from_the_left_and_show_the_mark() {
        let full = bar(1.0, 2.0);
        assert_eq!(full.chars().filter(|c| *c == '█').count(), BAR);
        let half = bar(0.5, 0.8);
        assert_eq!(half.chars().filter(|c| *c == '█').count(), BAR / 2);
        assert_eq!(half.chars().position(|c| c == '┃'), Some(BAR * 8 / 10 - 1));
        assert!(!bar(0.0, 2.0).contains(['█', '┃']));
    }

    #[test]
    fn a_run_without_samples_has_no_status() {
        assert_eq!(status(&Run::default()), "");
        assert_eq!(line(&Run::default()), "");
    }
}
