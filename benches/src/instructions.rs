//! Instructions, counted by callgrind: figures that repeat to the instruction on any machine, where times do not.

use crate::allocators::{Allocator, BASELINE, NULL_ARM};
use crate::inputs::Inputs;
use crate::measure::{self, Invocation};
use crate::stats::geometric_mean;
use crate::suite::ALL;
use std::fmt::Write;
use std::process::Command;

/// Pairs in 1 % of the `pairs-small` workload, and turns in 1 % of `empty-loop` (workloads/pairs.c).
const PAIRS_PER_PERCENT: f64 = 70.0 * 7.0 * 1000.0;
const TURNS_PER_PERCENT: f64 = 1000.0;

/// The workloads of one thread, and how much of each is counted: callgrind is fifty times slower than the machine.
const COUNTED: &[(&str, u32)] = &[
    ("pairs-small", 1),
    ("pairs-medium", 2),
    ("batch-lifo", 1),
    ("batch-fifo", 1),
    ("batch-random", 1),
    ("mixed-sizes", 2),
    ("burst", 10),
    ("local-1", 1),
    ("realloc-vectors", 2),
    ("realloc-huge", 4),
    ("large-touched", 3),
    ("calloc-large", 5),
    ("aligned", 3),
    ("stl", 3),
    ("sized-deletes", 4),
    ("rust-collections", 4),
];

/// Two Markdown tables: instructions per pair under every allocator, and those of every workload of one thread.
pub(crate) fn tables(inputs: &Inputs, allocators: &[Allocator]) -> Result<String, String> {
    // The same instructions twice over show nothing.
    let allocators: Vec<&Allocator> = allocators.iter().filter(|a| a.name != NULL_ARM).collect();
    let mut out = String::from(
        "### Instructions per malloc and free (callgrind)\n\npairs-small, 16 B to 1 KiB; start-up and the loop around the pair \
         subtracted.\n\n| allocator | instructions |\n|---|---:|\n",
    );
    for allocator in &allocators {
        eprintln!("callgrind: a pair, {}", allocator.name);
        match pair(inputs, allocator) {
            Ok(instructions) => drop(writeln!(out, "| {} | {instructions:.1} |", allocator.name)),
            Err(reason) => drop(writeln!(out, "| {} | failed: {reason} |", allocator.name)),
        }
    }
    out.push_str(&whole(inputs, &allocators)?);
    Ok(out)
}

fn pair(inputs: &Inputs, allocator: &Allocator) -> Result<f64, String> {
    let count = |name: &str, percent: u32| count(&inputs.workload(name, Some(percent)), allocator);
    // Two sizes of run: their difference holds no start-up.
    let per_pair = (count("pairs-small", 2)? - count("pairs-small", 1)?) / PAIRS_PER_PERCENT;
    let per_turn = (count("empty-loop", 200)? - count("empty-loop", 100)?) / (100.0 * TURNS_PER_PERCENT);
    Ok(per_pair - per_turn)
}

fn whole(inputs: &Inputs, allocators: &[&Allocator]) -> Result<String, String> {
    let names: Vec<&str> = allocators.iter().map(|a| a.name.as_str()).collect();
    let mut out = format!(
        "\n### Instructions of whole runs (callgrind), relative to {BASELINE}\n\nOne thread; the program's own instructions and its \
         start-up included.\n\n| benchmark | {} |\n|---|{}\n",
        names.join(" | "),
        "---:|".repeat(names.len())
    );
    let mut to_best: Vec<Vec<f64>> = vec![Vec::new(); allocators.len()];
    for (name, percent) in COUNTED {
        eprintln!("callgrind: {name}");
        let benchmark =
            ALL.iter().find(|b| b.name == *name).ok_or_else(|| format!("no {name} in the suite"))?;
        let what = inputs.invocation(benchmark, *percent)?;
        let counts: Vec<Option<f64>> = allocators
            .iter()
            .map(|a| count(&what, a).inspect_err(|e| eprintln!("{name}, {}: {e}", a.name)).ok())
            .collect();
        let best = counts.iter().flatten().copied().fold(f64::INFINITY, f64::min);
        let cells = counts.iter().zip(allocators).map(|(count, a)| match (count, counts[0]) {
            (Some(n), _) if a.name == BASELINE => format!("{:.1} M", n / 1e6),
            (Some(n), Some(base)) => format!("{:.2}", n / base),
            _ => "failed".to_owned(),
        });
        let _ = writeln!(out, "| {name} | {} |", cells.collect::<Vec<_>>().join(" | "));
        if counts.iter().all(Option::is_some) {
            to_best.iter_mut().zip(&counts).for_each(|(list, n)| list.extend(n.map(|n| n / best)));
        }
    }
    let means =
        to_best.into_iter().map(|list| geometric_mean(list).map_or("–".to_owned(), |m| format!("{m:.3}")));
    let _ = writeln!(
        out,
        "| *geometric mean, to the best of each* | {} |",
        means.collect::<Vec<_>>().join(" | ")
    );
    Ok(out)
}

fn count(what: &Invocation, allocator: &Allocator) -> Result<f64, String> {
    let environment = measure::command(what, allocator).map_err(|e| e.to_string())?;
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(&what.program).args(&what.args);
    valgrind.env_clear().envs(environment.get_envs().filter_map(|(key, value)| Some((key, value?))));
    let output = valgrind.output().map_err(|e| format!("valgrind: {e} (Debian package: valgrind)"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        let last = said.lines().last().unwrap_or_default();
        return Err(format!("{} under callgrind: {last}", output.status));
    }
    said.lines()
        .find_map(|line| line.split_once("Collected :"))
        .and_then(|(_, n)| n.trim().parse().ok())
        .ok_or_else(|| format!("callgrind printed no count:\n{said}"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_is_counted_is_in_the_suite() {
        for (name, _) in super::COUNTED {
            assert!(super::ALL.iter().any(|b| b.name == *name), "{name}");
        }
    }
}
