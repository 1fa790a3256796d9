//! Measures allocators as users meet them: preloaded into whole programs.
//!
//! `cargo run -p terrace-benches -- --quick` compiles the workloads, runs every benchmark under every allocator found, in
//! turn and several times over (A B C D, B C D A, …), and prints tables of medians relative to glibc, with what failed
//! and where Terrace loses. `docs/benchmarks.md` explains how to read them.

mod allocators;
mod charts;
mod collections;
mod csv;
mod fragmentation;
mod inputs;
mod instructions;
mod machine;
mod measure;
mod options;
mod programs;
mod redis;
mod report;
mod stats;
mod suite;
mod tables;
mod texts;
mod threads;

use measure::Failure;
use options::Options;
use report::{Cell, Quantity, Results, cpu_spread};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// No run may take longer; the slowest known (glibc's worst, in full mode) takes a few seconds.
const LIMIT: Duration = Duration::from_secs(60);

/// A row is noisy above this: half the distance between the quartiles of the CPU times, relative to the median, the mean over all
/// allocators.
const NOISE: f64 = 0.03;

/// For so long a noisy row is repeated, after as many runs as every row has.
const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    // The runner as a workload of its own: see `collections`.
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, flag, percent] = arguments.as_slice()
        && flag == "--collections"
        && let Ok(percent) = percent.parse()
    {
        println!("rust-collections {:016x}", collections::run(percent));
        return ExitCode::SUCCESS;
    }
    let options = match Options::parse(arguments.into_iter().skip(1)) {
        Ok(options) => options,
        Err(message) => {
            eprintln!("{message}");
            return ExitCode::from(2);
        }
    };
    match measure_all(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(message) => {
            eprintln!("terrace-benches: {message}");
            ExitCode::from(2)
        }
    }
}

/// Runs what was asked for; false if our own allocator failed, was wrong, or (with `--gate`) too slow.
fn measure_all(options: &Options) -> Result<bool, String> {
    let (benchmarks, studies) = suite::select(&options.only)?;
    if options.list {
        benchmarks.iter().for_each(|b| println!("{:24} {}", b.name, b.about));
        studies
            .iter()
            .for_each(|(name, frees)| println!("{name:24} resident set against live bytes; frees {frees}"));
        return Ok(true);
    }
    let target = target_dir()?;
    let (allocators, absent) = options.choose(allocators::discover(&target))?;
    let inputs = inputs::Inputs::prepare(&target.join("terrace-benches"))?;
    for allocator in &allocators {
        inputs.prove_preload(allocator)?;
    }

    let facts = machine::facts();
    let mut text = heading(options, &facts, &allocators, &absent);
    let begin = Instant::now();
    let mut results = run_interleaved(options, &inputs, benchmarks, allocators)?;
    results.compare_checksums();
    let _ = writeln!(
        text,
        "{}, medians, in {:.0} s.\n",
        options.said_repetitions(),
        begin.elapsed().as_secs_f64()
    );
    if !results.benchmarks.is_empty() {
        for quantity in [Quantity::Cpu, Quantity::Rss, Quantity::Wall, Quantity::Faults] {
            let _ = writeln!(text, "{}", results.table(quantity));
        }
        text.push_str(&threads::tables(&results));
    }
    let mut sound = true;
    let mut studied = Vec::new();
    for study in studies {
        let repetitions = if options.quick { 1 } else { 3 };
        let study = fragmentation::run(study, &inputs, &results.allocators, 100, repetitions)?;
        sound &= results.column(allocators::SUBJECT).is_none_or(|column| study.is_sound(column));
        let _ = writeln!(text, "{}", study.table(&results.allocators));
        studied.push(study);
    }
    if options.instructions {
        let _ = writeln!(text, "{}", instructions::tables(&inputs, &results.allocators)?);
    }
    let _ = writeln!(text, "### Failures and losses\n\n{}", results.remarks());
    let gate = results.gate();
    let verdict = match &gate {
        Some(Ok(said)) => format!("kept: {said}."),
        Some(Err(said)) => format!("BROKEN: {said}."),
        None => "not judged: terrace or jemalloc was not measured.".to_owned(),
    };
    let _ = writeln!(text, "Limits (1.5× glibc on every benchmark, jemalloc's mean): {verdict}");
    println!("{text}");
    save(options, &target, &text, &csv::text(&results, &studied, &facts), &results)?;
    let slow = options.gate && !matches!(gate, Some(Ok(_)));
    Ok(!slow && sound && results.subject_is_sound())
}

/// Whether the CPU times of a row differ so much from run to run that their medians say little.
fn is_noisy(row: &[Cell]) -> bool {
    let spreads: Vec<f64> = row.iter().filter_map(|cell| cpu_spread(&cell.samples)).collect();
    spreads.iter().sum::<f64>() > NOISE * spreads.len() as f64
}

/// Every benchmark under every allocator, noisy rows more often. The order is rotated by one from one repetition to the next, so
/// that neither drift nor a neighbour's effect on caches favours one of them.
fn run_interleaved(
    options: &Options,
    inputs: &inputs::Inputs,
    benchmarks: Vec<suite::Benchmark>,
    allocators: Vec<allocators::Allocator>,
) -> Result<Results, String> {
    let mut cells = Vec::new();
    for benchmark in &benchmarks {
        let percent = options.percent(benchmark);
        eprint!("{:18}", benchmark.name);
        let mut row: Vec<Cell> = allocators.iter().map(|_| Cell::default()).collect();
        let what = match inputs.invocation(benchmark, percent) {
            Ok(what) => what,
            Err(reason) => {
                eprintln!("  not prepared: {reason}");
                row.iter_mut().for_each(|cell| cell.failure = Some(Failure::NotPrepared(reason.clone())));
                cells.push(row);
                continue;
            }
        };
        let mut enough = Instant::now();
        for repetition in 0..options.most_repetitions() {
            if repetition == options.repetitions() {
                enough = Instant::now();
            }
            if repetition >= options.repetitions() && (enough.elapsed() >= PATIENCE || !is_noisy(&row)) {
                break;
            }
            for turn in 0..allocators.len() {
                let a = (turn + repetition) % allocators.len();
                if row[a].failure.is_some() {
                    continue;
                }
                match measure::run(&what, &allocators[a], &inputs.scratch, LIMIT) {
                    Ok(sample) => row[a].samples.push(sample),
                    Err(failure) => row[a].failure = Some(failure),
                }
            }
        }
        for (cell, allocator) in row.iter().zip(&allocators) {
            match cell.median(Quantity::Cpu) {
                Some(cpu) => eprint!("  {} {cpu:.3}", allocator.name),
                None => eprint!("  {} failed", allocator.name),
            }
        }
        eprintln!();
        cells.push(row);
    }
    Ok(Results { benchmarks, allocators, cells })
}

fn heading(
    options: &Options,
    facts: &[(&str, String)],
    allocators: &[allocators::Allocator],
    absent: &[String],
) -> String {
    let mut out = String::from("## Allocator benchmarks\n\n");
    for (label, value) in facts {
        let _ = writeln!(out, "* {label}: {value}");
    }
    let _ = writeln!(out, "* mode: {}", if options.quick { "quick" } else { "full" });
    for a in allocators {
        let path = a.preload.as_ref().map_or("no preload".to_owned(), |p| p.display().to_string());
        let _ = writeln!(out, "* {}: {} ({path})", a.name, a.version);
    }
    for reason in absent {
        eprintln!("not measured: {reason}");
        let _ = writeln!(out, "* not measured: {reason}");
    }
    out.push('\n');
    out
}

/// The directory that holds this program's profile directory: `target/debug/terrace-benches` → `target`.
fn target_dir() -> Result<PathBuf, String> {
    let program = std::env::current_exe().map_err(|e| format!("where am I? {e}"))?;
    program
        .parent()
        .and_then(Path::parent)
        .map(Path::to_owned)
        .ok_or("not run from a target directory".to_owned())
}

fn save(options: &Options, target: &Path, text: &str, csv: &str, results: &Results) -> Result<(), String> {
    let dir = options.out.clone().unwrap_or_else(|| target.join("bench"));
    let write = |name: &str, content: &str| {
        let file = dir.join(name);
        std::fs::write(&file, content).map_err(|e| format!("{}: {e}", file.display()))
    };
    std::fs::create_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    write("bench.md", text)?;
    write("bench.csv", csv)?;
    charts::write(results, &dir)?;
    eprintln!("written to {}", dir.display());
    Ok(())
}
