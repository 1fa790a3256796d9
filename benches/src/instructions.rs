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
    let mut rows: Vec<Vec<Option<f64>>> = Vec::new();
    for (name, percent) in COUNTED {
        eprintln!("callgrind: {name}");
        let benchmark =
            ALL.iter().find(|b| b.name == *name).ok_or_else(|| format!("no {name} in the suite"))?;
        let what = inputs.invocation(benchmark, *percent)?;
        let counts: Vec<Option<f64>> = allocators
            .iter()
            .map(|a| count(&what, a).inspect_err(|e| eprintln!("{name}, {}: {e}", a.name)).ok())
            .collect();
        let cells = counts.iter().zip(allocators).map(|(count, a)| match (count, counts[0]) {
            (Some(n), _) if a.name == BASELINE => format!("{:.1} M", n / 1e6),
            (Some(n), Some(base)) => format!("{:.2}", n / base),
            _ => "failed".to_owned(),
        });
        let _ = writeln!(out, "| {name} | {} |", cells.collect::<Vec<_>>().join(" | "));
        rows.push(counts);
    }
    let means =
        means_to_best(&rows).into_iter().map(|mean| mean.map_or("–".to_owned(), |m| format!("{m:.3}")));
    let means = means.collect::<Vec<_>>().join(" | ");
    let _ = writeln!(out, "| *geometric mean, to the best of each* | {means} |");
    Ok(out)
}

/// A mean a column. A column without a single figure (callgrind cannot run the allocator) has none and does not keep the
/// others from theirs, which are over the rows that all of them have.
fn means_to_best(rows: &[Vec<Option<f64>>]) -> Vec<Option<f64>> {
    let columns = rows.first().map_or(0, Vec::len);
    let counted: Vec<bool> = (0..columns).map(|c| rows.iter().any(|row| row[c].is_some())).collect();
    let common: Vec<&Vec<Option<f64>>> = rows
        .iter()
        .filter(|row| row.iter().zip(&counted).all(|(cell, counted)| cell.is_some() || !counted))
        .collect();
    let best = |row: &[Option<f64>]| row.iter().flatten().copied().fold(f64::INFINITY, f64::min);
    let mean = |c: usize| geometric_mean(common.iter().filter_map(|row| Some(row[c]? / best(row))));
    (0..columns).map(|c| if counted[c] { mean(c) } else { None }).collect()
}

fn count(what: &Invocation, allocator: &Allocator) -> Result<f64, String> {
    let environment = measure::command(what, allocator).map_err(|e| e.to_string())?;
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(&what.program).args(&what.args);
    valgrind.env_clear().envs(environment.get_envs().filter_map(|(key, value)| Some((key, value?))));
    let output = valgrind.output().map_err(|e| format!("valgrind: {e} (Debian package: valgrind)"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        // Lines between `==` are callgrind's own.
        let last = said.lines().rfind(|line| !line.starts_with("==") && !line.is_empty()).unwrap_or_default();
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
    fn who_cannot_be_counted_at_all_spoils_no_mean() {
        let rows =
            [vec![Some(2.0), Some(1.0), None], vec![Some(8.0), Some(1.0), None], vec![None, Some(1.0), None]];
        let means = super::means_to_best(&rows);
        assert!((means[0].unwrap() - 4.0).abs() < 1e-12);
        assert_eq!((means[1], means[2]), (Some(1.0), None));
    }

    #[test]
    fn what_is_counted_is_in_the_suite() {
        for (name, _) in super::COUNTED {
            assert!(super::ALL.iter().any(|b| b.name == *name), "{name}");
        }
    }
}
