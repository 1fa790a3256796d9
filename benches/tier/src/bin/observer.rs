//! `terrace-tier-observer`: runs workloads of the tiering benchmark under one contender and records their placement; in the virtual
//! machine, as root.
//!
//! Usage: `terrace-tier-observer CONTENDER SECONDS WORKLOAD:MIB:BUDGET_MIB:SHIFTS…`; the contender's environment is this program's.

use std::io;
use std::process::ExitCode;

use terrace_bench_tier::observe::{self, Load, Task};
use terrace_demo::record::Record;

fn main() -> ExitCode {
    let record = Record::new(Box::new(io::stdout()));
    match task(std::env::args().skip(1)).and_then(|task| observe::run(&task, &record)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("terrace-tier-observer: {e}");
            ExitCode::from(2)
        }
    }
}

fn task(mut words: impl Iterator<Item = String>) -> io::Result<Task> {
    let usage =
        || io::Error::other("usage: terrace-tier-observer CONTENDER SECONDS WORKLOAD:MIB:BUDGET_MIB:SHIFTS…");
    let contender = words.next().ok_or_else(usage)?;
    let seconds = words.next().and_then(|w| w.parse().ok()).ok_or_else(usage)?;
    let load = |word: String| {
        let parts: Vec<&str> = word.split(':').collect();
        let &[name, mib, budget, shifts] = parts.as_slice() else { return None };
        let number = |text: &str| text.parse().ok();
        Some(Load {
            name: name.to_owned(),
            mib: number(mib)?,
            budget_mib: number(budget)?,
            shifts: number(shifts)?,
        })
    };
    let workloads = words.map(load).collect::<Option<Vec<Load>>>().ok_or_else(usage)?;
    Ok(Task { contender, workloads, seconds })
}
