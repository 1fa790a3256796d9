//! From samples to medians, ratios and means.

use crate::allocators::{Allocator, BASELINE, NULL_ARM, SUBJECT};
use crate::measure::{Failure, Sample};
use crate::stats::{geometric_mean, median, relative_spread};
use crate::suite::Benchmark;

/// All runs of one benchmark under one allocator.
#[derive(Debug, Default)]
pub(crate) struct Cell {
    pub(crate) samples: Vec<Sample>,
    /// The first failure; a cell that failed once has no figure.
    pub(crate) failure: Option<Failure>,
    /// Its output differs from the baseline's.
    pub(crate) wrong: bool,
}

impl Cell {
    /// Neither failed nor wrong.
    pub(crate) fn valid(&self) -> bool {
        self.failure.is_none() && !self.wrong && !self.samples.is_empty()
    }

    /// The median over the runs, unless one of them failed or was wrong.
    pub(crate) fn median(&self, quantity: Quantity) -> Option<f64> {
        if self.valid() { median(self.samples.iter().map(|s| quantity.of(s))) } else { None }
    }
}

/// How far the median CPU time of these runs can be trusted; `None` of no run.
pub(crate) fn cpu_spread(samples: &[Sample]) -> Option<f64> {
    let cpu: Vec<f64> = samples.iter().map(Sample::cpu_s).collect();
    relative_spread(&cpu)
}

/// What a table shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Quantity {
    Cpu,
    Wall,
    Rss,
    Faults,
}

impl Quantity {
    fn of(self, s: &Sample) -> f64 {
        match self {
            Quantity::Cpu => s.cpu_s(),
            Quantity::Wall => s.wall_s,
            Quantity::Rss => s.rss_kib as f64,
            Quantity::Faults => s.faults as f64,
        }
    }

    pub(crate) fn title(self) -> &'static str {
        match self {
            Quantity::Cpu => "CPU time (user + system), relative to glibc",
            Quantity::Wall => "Wall time, relative to glibc",
            Quantity::Rss => "Largest resident set, relative to glibc",
            Quantity::Faults => "Page faults, relative to glibc",
        }
    }

    pub(crate) fn absolute(self, value: f64) -> String {
        match self {
            Quantity::Cpu | Quantity::Wall => format!("{:.0} ms", value * 1e3),
            Quantity::Rss => format!("{:.1} MiB", value / 1024.0),
            Quantity::Faults => format!("{value:.0}"),
        }
    }
}

/// Which rows a mean is taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    All,
    Programs,
}

/// Every cell, addressed as `cells[benchmark][allocator]`.
#[derive(Debug)]
pub(crate) struct Results {
    pub(crate) benchmarks: Vec<Benchmark>,
    pub(crate) allocators: Vec<Allocator>,
    pub(crate) cells: Vec<Vec<Cell>>,
}

impl Results {
    /// Marks every cell whose output differs from the first sound one in its row, or within itself.
    pub(crate) fn compare_checksums(&mut self) {
        for row in &mut self.cells {
            let expected =
                row.iter().find(|c| c.failure.is_none()).and_then(|c| c.samples.first()).map(|s| s.checksum);
            for cell in row {
                cell.wrong = cell.samples.iter().any(|s| Some(s.checksum) != expected);
            }
        }
    }

    pub(crate) fn column(&self, name: &str) -> Option<usize> {
        self.allocators.iter().position(|a| a.name == name)
    }

    /// The allocator's median over the baseline's, for one benchmark.
    pub(crate) fn ratio(&self, quantity: Quantity, benchmark: usize, allocator: usize) -> Option<f64> {
        let base = self.cells[benchmark][self.column(BASELINE)?].median(quantity)?;
        let value = self.cells[benchmark][allocator].median(quantity)?;
        (base > 0.0 && value > 0.0).then(|| value / base)
    }

    /// The allocator's median over the best one's, for one benchmark.
    pub(crate) fn to_best(&self, quantity: Quantity, benchmark: usize, allocator: usize) -> Option<f64> {
        self.to_best_but(None, quantity, benchmark, allocator)
    }

    /// The same, to the best of all but `left_out`.
    fn to_best_but(
        &self,
        left_out: Option<usize>,
        quantity: Quantity,
        benchmark: usize,
        allocator: usize,
    ) -> Option<f64> {
        let row = &self.cells[benchmark];
        let best = (0..row.len())
            .filter(|&a| Some(a) != left_out && self.allocators[a].name != NULL_ARM)
            .filter_map(|a| row[a].median(quantity))
            .fold(f64::INFINITY, f64::min);
        let value = row[allocator].median(quantity)?;
        (best.is_finite() && best > 0.0 && value > 0.0).then(|| value / best)
    }

    /// Benchmarks of the group on which every allocator has a figure: means over different sets of rows are not
    /// comparable.
    fn common_rows(&self, group: Group) -> Vec<usize> {
        let counts = |b: &usize| group == Group::All || self.benchmarks[*b].is_program();
        (0..self.benchmarks.len()).filter(counts).filter(|&b| self.cells[b].iter().all(Cell::valid)).collect()
    }

    /// How many benchmarks the means leave out.
    pub(crate) fn left_out(&self) -> usize {
        self.benchmarks.len() - self.common_rows(Group::All).len()
    }

    /// Geometric mean of `ratio` over the benchmarks that every allocator completed.
    fn mean(&self, group: Group, ratio: impl Fn(usize) -> Option<f64>) -> Option<f64> {
        let ratios: Option<Vec<f64>> = self.common_rows(group).into_iter().map(ratio).collect();
        geometric_mean(ratios?)
    }

    /// The mean of the ratios to glibc.
    pub(crate) fn mean_ratio(&self, quantity: Quantity, group: Group, allocator: usize) -> Option<f64> {
        self.mean(group, |b| self.ratio(quantity, b, allocator))
    }

    /// The mean of the ratios to the best of each benchmark.
    pub(crate) fn mean_to_best(&self, quantity: Quantity, group: Group, allocator: usize) -> Option<f64> {
        self.mean(group, |b| self.to_best(quantity, b, allocator))
    }

    /// The same to the best of the other allocators: below 1 for one that is ahead of all of them.
    pub(crate) fn mean_to_best_other(
        &self,
        quantity: Quantity,
        group: Group,
        allocator: usize,
    ) -> Option<f64> {
        self.mean(group, |b| self.to_best_but(Some(allocator), quantity, b, allocator))
    }

    /// The limits a release must keep, and whether these results keep them: no benchmark above 1.5 times glibc's CPU
    /// time, and a geometric mean no worse than jemalloc's. `None` if the subject or a rival was not measured.
    pub(crate) fn gate(&self) -> Option<Result<String, String>> {
        const LIMIT: f64 = 1.5;
        if self.benchmarks.is_empty() {
            return None;
        }
        let (subject, rival) = (self.column(SUBJECT)?, self.column("jemalloc")?);
        let mut broken = Vec::new();
        let mut worst = (0.0, "");
        for (b, benchmark) in self.benchmarks.iter().enumerate() {
            match self.ratio(Quantity::Cpu, b, subject) {
                Some(ratio) if ratio > LIMIT => {
                    broken.push(format!("{} is {ratio:.2}× glibc", benchmark.name));
                }
                Some(ratio) if ratio > worst.0 => worst = (ratio, benchmark.name),
                Some(_) => {}
                None => broken.push(format!("{} has no figure", benchmark.name)),
            }
        }
        let ours = self.mean_ratio(Quantity::Cpu, Group::All, subject).unwrap_or(f64::INFINITY);
        let theirs = self.mean_ratio(Quantity::Cpu, Group::All, rival).unwrap_or(f64::INFINITY);
        if ours > theirs {
            broken.push(format!("the mean is {ours:.3}, jemalloc's {theirs:.3}"));
        }
        Some(if broken.is_empty() {
            Ok(format!("worst {:.2}× glibc ({}); mean {ours:.3}, jemalloc's {theirs:.3}", worst.0, worst.1))
        } else {
            Err(broken.join("; "))
        })
    }

    /// False if the subject failed or was wrong anywhere.
    pub(crate) fn subject_is_sound(&self) -> bool {
        self.column(SUBJECT).is_none_or(|a| self.cells.iter().all(|row| row[a].valid()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::ALL;

    fn sample(cpu: f64, checksum: u64) -> Sample {
        Sample {
            user_s: cpu,
            sys_s: 0.0,
            wall_s: cpu,
            rss_kib: 1000,
            faults: 10,
            checksum,
            metrics: Vec::new(),
        }
    }

    fn results(cpu: [[f64; 3]; 2]) -> Results {
        let allocators = ["glibc", "jemalloc", "terrace"].map(|name| Allocator {
            name: name.into(),
            preload: None,
            env: &[],
            version: String::new(),
        });
        let cells = cpu.map(|row| {
            row.map(|c| Cell { samples: vec![sample(c, 7)], ..Cell::default() }).into_iter().collect()
        });
        Results { benchmarks: ALL[..2].to_vec(), allocators: allocators.into(), cells: cells.into() }
    }

    #[test]
    fn one_that_is_ahead_of_the_others_is_below_one() {
        let results = results([[4.0, 2.0, 1.0], [4.0, 4.0, 2.0]]);
        let mean = |a| results.mean_to_best_other(Quantity::Cpu, Group::All, a).unwrap();
        assert!((mean(2) - 0.5).abs() < 1e-9, "{}", mean(2));
        assert!((mean(1) - 2.0).abs() < 1e-9, "{}", mean(1));
        assert!((results.mean_to_best(Quantity::Cpu, Group::All, 2).unwrap() - 1.0).abs() < 1e-9);
    }

    #[test]
    fn the_gate_breaks_on_one_slow_benchmark_or_on_the_mean() {
        assert!(results([[1.0, 0.9, 0.8], [1.0, 0.9, 0.9]]).gate().unwrap().is_ok());
        let slow = results([[1.0, 0.9, 1.6], [1.0, 0.9, 0.1]]).gate().unwrap();
        assert!(slow.unwrap_err().contains("1.60× glibc"));
        let mean = results([[1.0, 0.5, 0.8], [1.0, 0.9, 0.9]]).gate().unwrap();
        assert!(mean.unwrap_err().contains("jemalloc"));
    }

    #[test]
    fn a_wrong_result_has_no_figure_and_leaves_the_mean() {
        let mut r = results([[1.0, 0.5, 0.8], [1.0, 0.9, 0.9]]);
        r.cells[0][2].samples[0].checksum = 8;
        r.compare_checksums();
        assert_eq!(r.ratio(Quantity::Cpu, 0, 2), None);
        assert!((r.mean_ratio(Quantity::Cpu, Group::All, 1).unwrap() - 0.9).abs() < 1e-12);
        assert!(r.remarks().contains("terrace gave a wrong result in pairs-small"));
        assert!(r.table(Quantity::Cpu).contains("WRONG"));
        assert!(r.gate().unwrap().is_err());
    }

    #[test]
    fn a_failure_is_reported_with_its_reason() {
        let mut r = results([[1.0, 0.5, 0.8], [1.0, 0.9, 0.9]]);
        r.cells[1][1].failure = Some(Failure::Exit(4, "not aligned".into()));
        r.compare_checksums();
        assert!(r.remarks().contains("jemalloc failed pairs-medium: exit status 4: not aligned"));
        assert!(r.table(Quantity::Cpu).contains("failed"));
    }

    #[test]
    fn losses_name_the_winner() {
        let r = results([[1.0, 0.5, 0.8], [1.0, 0.9, 0.9]]);
        assert!(r.remarks().contains("pairs-small 1.60× jemalloc (0.80× glibc)"), "{}", r.remarks());
    }
}
