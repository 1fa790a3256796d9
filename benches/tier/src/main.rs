//! `terrace-bench-tier`: the tiering benchmark (see the crate's documentation and `docs/bench-tier.md`).

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use terrace_bench_tier::charts;
use terrace_bench_tier::machine::Kit;
use terrace_bench_tier::plan::{CONTENDERS, Contender, Plan, USAGE, WORKLOADS, Workload};
use terrace_bench_tier::report::Report;
use terrace_bench_tier::results::{self, Run};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.iter().any(|w| w == "--help") {
        print!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    if words.iter().any(|w| w == "--list") {
        WORKLOADS.iter().for_each(|w| println!("workload {}", w.name));
        CONTENDERS.iter().for_each(|c| println!("contender {}: {}", c.name, c.what));
        return ExitCode::SUCCESS;
    }
    match Plan::parse(&words).map_err(|e| (2, e)).and_then(|plan| run(&plan).map_err(|e| (1, e))) {
        Ok(()) => ExitCode::SUCCESS,
        Err((status, e)) => {
            eprintln!("terrace-bench-tier: {e}");
            ExitCode::from(status)
        }
    }
}

/// One machine to run.
struct Job<'a> {
    contender: &'a Contender,
    ratio: u64,
    number: u32,
}

fn run(plan: &Plan) -> Result<(), String> {
    let kit = Kit::new(&plan.out.join("build"))?;
    let footprints: Vec<(Workload, f64)> = plan
        .workloads
        .iter()
        .map(|w| Ok((*w, kit.footprint_mib(w.name, plan.mib)?)))
        .collect::<Result<_, String>>()?;
    for (workload, footprint) in &footprints {
        eprintln!("{}: {footprint:.0} MiB", workload.name);
    }
    // Contenders take turns, so that a slow hour of this computer does not fall on one of them.
    let mut jobs = Vec::new();
    for number in 0..plan.runs {
        for &ratio in &plan.ratios {
            jobs.extend(plan.contenders.iter().map(|contender| Job { contender, ratio, number }));
        }
    }
    let (next, runs, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..plan.jobs {
            scope.spawn(|| {
                while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    eprintln!("{} at 1:{}, run {}", job.contender.name, job.ratio, job.number + 1);
                    match one(plan, &kit, job, &footprints) {
                        Ok(done) => runs.lock().expect("no thread panics").extend(done),
                        Err(e) => {
                            eprintln!("{e}");
                            failures.lock().expect("no thread panics").push(e);
                        }
                    }
                }
            });
        }
    });
    let report = Report { plan, runs: runs.into_inner().expect("no thread panics") };
    let write = |name: &str, text: String| {
        let path = plan.out.join(name);
        fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))
    };
    let markdown = report.markdown();
    print!("{markdown}");
    write("report.md", markdown)?;
    write("runs.csv", report.csv())?;
    charts::write(&report, &plan.out)?;
    let failures = failures.into_inner().expect("no thread panics");
    if failures.is_empty() {
        Ok(())
    } else {
        Err(format!("{} of {} machines failed", failures.len(), jobs.len()))
    }
}

fn one(plan: &Plan, kit: &Kit, job: &Job<'_>, footprints: &[(Workload, f64)]) -> Result<Vec<Run>, String> {
    let record = kit.run(plan, job.contender, job.ratio, footprints)?;
    keep(&plan.out, &format!("{}-{}-{}.jsonl", job.contender.name, job.ratio, job.number), &record)?;
    results::runs(&record, job.contender.name, job.ratio, &plan.workloads)
}

fn keep(directory: &Path, name: &str, text: &str) -> Result<(), String> {
    let path = directory.join(name);
    fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))
}
