//! The two fragmentation studies (`workloads/fragmentation.c`): what is resident against what is alive, at the end of a long
//! simulation and after nine tenths were freed. They are about memory, not time, and are quiet for ten seconds each, so
//! all allocators run side by side.

use crate::allocators::Allocator;
use crate::inputs::Inputs;
use crate::measure::{self, Failure, Sample};
use crate::stats::median;
use std::fmt::Write;
use std::time::Duration;

/// Name, for `--only`, and what it frees.
pub(crate) const STUDIES: &[(&str, &str)] = &[
    ("fragmentation", "all that came after the first tenth, which stays"),
    ("fragmentation-scattered", "at random, so that nearly every page keeps something"),
];

/// Ten seconds of quiet and a few of work, many times over on a busy machine.
const LIMIT: Duration = Duration::from_secs(180);

/// Every run of one study.
#[derive(Debug)]
pub(crate) struct Study {
    pub(crate) name: &'static str,
    frees: &'static str,
    /// One list of samples an allocator.
    runs: Vec<Result<Vec<Sample>, Failure>>,
}

/// Runs the study `repetitions` times under all allocators at once.
pub(crate) fn run(
    (name, frees): (&'static str, &'static str),
    inputs: &Inputs,
    allocators: &[Allocator],
    percent: u32,
    repetitions: usize,
) -> Result<Study, String> {
    eprintln!("{name}: {repetitions} run(s) of all allocators side by side, 10 s of quiet each");
    let what = inputs.workload(name, Some(percent));
    let mut runs: Vec<Result<Vec<Sample>, Failure>> = allocators.iter().map(|_| Ok(Vec::new())).collect();
    for _ in 0..repetitions {
        let samples: Vec<Result<Sample, Failure>> = std::thread::scope(|scope| {
            let start = |allocator: &Allocator| {
                let scratch = inputs.scratch.join(format!("{name}-{}", allocator.name));
                let (what, allocator) = (&what, allocator.clone());
                scope.spawn(move || {
                    std::fs::create_dir_all(&scratch).map_err(Failure::NotStarted)?;
                    measure::run(what, &allocator, &scratch, LIMIT)
                })
            };
            let threads: Vec<_> = allocators.iter().map(start).collect();
            threads
                .into_iter()
                .map(|t| t.join().unwrap_or_else(|_| Err(Failure::NotPrepared("the runner panicked".into()))))
                .collect()
        });
        for (run, sample) in runs.iter_mut().zip(samples) {
            match (run.as_mut(), sample) {
                (Ok(list), Ok(sample)) => list.push(sample),
                (Ok(_), Err(failure)) => *run = Err(failure),
                (Err(_), _) => {}
            }
        }
    }
    let mut study = Study { name, frees, runs };
    study.compare_checksums();
    Ok(study)
}

impl Study {
    /// A run that read back something else than the others did has no figures.
    fn compare_checksums(&mut self) {
        let expected = self.runs.iter().flatten().flatten().map(|s| s.checksum).next();
        for run in &mut self.runs {
            if run.as_ref().is_ok_and(|list| list.iter().any(|s| Some(s.checksum) != expected)) {
                *run = Err(Failure::WrongResult);
            }
        }
    }

    /// The sound runs of every allocator.
    pub(crate) fn samples(&self) -> impl Iterator<Item = &[Sample]> {
        self.runs.iter().map(|run| run.as_deref().unwrap_or_default())
    }

    /// False if the allocator in this column failed.
    pub(crate) fn is_sound(&self, column: usize) -> bool {
        self.runs[column].is_ok()
    }

    /// The study's own table.
    pub(crate) fn table(&self, allocators: &[Allocator]) -> String {
        let mut out = format!(
            "### Resident set against live bytes: {}\n\nThen freed: {}. *Floor*: the pages that hold a live block, which no \
             resident set of blocks that stay where they are can be below.\n\n\
             | allocator | live | resident | to live | floor to live | left live | left resident: at once, to live | \
             10 s later, to live | to floor | below 1.1× live after |\n|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n",
            self.name, self.frees
        );
        for (run, allocator) in self.runs.iter().zip(allocators) {
            let line = match run {
                Ok(samples) => figures(samples).unwrap_or_else(|| "no figures | | | | | | | |".to_owned()),
                Err(failure) => format!("{failure} | | | | | | | |"),
            };
            let _ = writeln!(out, "| {} | {line} |", allocator.name);
        }
        out
    }
}

fn figures(samples: &[Sample]) -> Option<String> {
    let value = |name: &str| {
        let values: Option<Vec<f64>> = samples.iter().map(|s| s.metric(name)).collect();
        median(values?)
    };
    let (live, left) = (value("live_kib")?, value("left_live_kib")?);
    let (resident, later) = (value("resident_kib")?, value("left_resident_kib")?);
    let reached = value("reached_ms")?;
    let reached = if reached > 0.0 { format!("{:.1} s", reached / 1e3) } else { "never".to_owned() };
    Some(format!(
        "{:.1} MiB | {:.1} MiB | {:.2} | {:.2} | {:.1} MiB | {:.2} | {:.2} | {:.2} | {reached}",
        live / 1024.0,
        resident / 1024.0,
        resident / live,
        value("floor_kib")? / live,
        left / 1024.0,
        value("left_at_once_kib")? / left,
        later / left,
        later / value("left_floor_kib")?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(figures: &[(&str, f64)], checksum: u64) -> Sample {
        let metrics = figures.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
        Sample { user_s: 1.0, sys_s: 0.0, wall_s: 1.0, rss_kib: 1, faults: 1, checksum, metrics }
    }

    const FIGURES: &[(&str, f64)] = &[
        ("live_kib", 1024.0),
        ("resident_kib", 1280.0),
        ("floor_kib", 1100.0),
        ("left_live_kib", 100.0),
        ("left_at_once_kib", 800.0),
        ("left_floor_kib", 100.0),
        ("left_resident_kib", 150.0),
        ("reached_ms", 0.0),
    ];

    #[test]
    fn ratios_are_to_live_bytes_and_what_differs_has_none() {
        let runs = vec![Ok(vec![sample(FIGURES, 7)]), Ok(vec![sample(FIGURES, 8)])];
        let mut study = Study { name: "fragmentation", frees: "all", runs };
        study.compare_checksums();
        assert!(study.is_sound(0) && !study.is_sound(1));
        let table = study.table(&[crate::allocators::baseline("one"), crate::allocators::baseline("two")]);
        assert!(
            table
                .contains("| one | 1.0 MiB | 1.2 MiB | 1.25 | 1.07 | 0.1 MiB | 8.00 | 1.50 | 1.50 | never |"),
            "{table}"
        );
        assert!(table.contains("| two | a wrong result"), "{table}");
    }
}
