//! Instructions per malloc and free, counted by callgrind: figures that repeat to the instruction on any machine, where
//! times do not. The loop around the pair is counted too and subtracted.

use crate::allocators::Allocator;
use crate::inputs::Inputs;
use crate::measure;
use crate::suite::ALL;
use std::fmt::Write;
use std::process::Command;

/// Pairs in 1 % of the `pairs-small` workload, and turns in 1 % of `empty-loop` (workloads/pairs.c).
const PAIRS_PER_PERCENT: f64 = 70.0 * 7.0 * 1000.0;
const TURNS_PER_PERCENT: f64 = 1000.0;

/// A Markdown table of instructions per pair under every allocator.
pub(crate) fn table(inputs: &Inputs, allocators: &[Allocator]) -> Result<String, String> {
    let mut out = String::from(
        "### Instructions per malloc and free (callgrind, pairs-small: 16 B to 1 KiB)\n\n| allocator | instructions |\n|---|---:|\n",
    );
    for allocator in allocators {
        eprintln!("callgrind: {}", allocator.name);
        // Two sizes of run: their difference holds no start-up.
        let per_pair = (count(inputs, allocator, "pairs-small", 2)?
            - count(inputs, allocator, "pairs-small", 1)?)
            / PAIRS_PER_PERCENT;
        let per_turn = (count(inputs, allocator, "empty-loop", 200)?
            - count(inputs, allocator, "empty-loop", 100)?)
            / (100.0 * TURNS_PER_PERCENT);
        let _ = writeln!(out, "| {} | {:.1} |", allocator.name, per_pair - per_turn);
    }
    Ok(out)
}

fn count(inputs: &Inputs, allocator: &Allocator, workload: &str, percent: u32) -> Result<f64, String> {
    let plain = ALL.iter().find(|b| b.name == "pairs-small").ok_or("no pairs-small in the suite")?;
    let mut what = inputs.invocation(plain, percent)?;
    what.args[0] = workload.to_owned();
    let environment = measure::command(&what, allocator).map_err(|e| e.to_string())?;
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(&what.program).args(&what.args);
    valgrind.env_clear().envs(environment.get_envs().filter_map(|(key, value)| Some((key, value?))));
    let output = valgrind.output().map_err(|e| format!("valgrind: {e} (Debian package: valgrind)"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("{} under callgrind: {}\n{said}", allocator.name, output.status));
    }
    said.lines()
        .find_map(|line| line.split_once("Collected :"))
        .and_then(|(_, n)| n.trim().parse().ok())
        .ok_or_else(|| format!("callgrind printed no count:\n{said}"))
}
