//! Every single run, for whoever doubts the medians.

use crate::fragmentation::Study;
use crate::measure::Sample;
use crate::report::{Results, cpu_spread};
use std::fmt::Write;

const COLUMNS: &str =
    "benchmark,allocator,run,cpu_s,user_s,sys_s,wall_s,max_rss_kib,page_faults,checksum,cpu_spread,metrics";

/// One line a run, with how far the cell's quartiles lie apart; before them, behind `#`, the facts of the machine and the
/// allocators' versions. `metrics` are what the program found out about itself, as `name=value` separated by blanks.
pub(crate) fn text(results: &Results, studies: &[Study], facts: &[(&str, String)]) -> String {
    let mut out = String::new();
    let versions = results.allocators.iter().map(|a| (a.name.as_str(), &a.version));
    for (label, value) in facts.iter().map(|(label, value)| (*label, value)).chain(versions) {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "# {label}: {value}");
    }
    let _ = writeln!(out, "{COLUMNS}");
    for (benchmark, row) in results.benchmarks.iter().zip(&results.cells) {
        for (allocator, cell) in results.allocators.iter().zip(row) {
            runs(&mut out, benchmark.name, &allocator.name, &cell.samples);
        }
    }
    for study in studies {
        for (allocator, samples) in results.allocators.iter().zip(study.samples()) {
            runs(&mut out, study.name, &allocator.name, samples);
        }
    }
    out
}

fn runs(out: &mut String, benchmark: &str, allocator: &str, samples: &[Sample]) {
    let spread = cpu_spread(samples).unwrap_or(0.0);
    for (run, s) in samples.iter().enumerate() {
        let metrics: Vec<String> = s.metrics.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let _ = writeln!(
            out,
            "{benchmark},{allocator},{run},{:.6},{:.6},{:.6},{:.6},{},{},{:016x},{spread:.4},{}",
            s.cpu_s(),
            s.user_s,
            s.sys_s,
            s.wall_s,
            s.rss_kib,
            s.faults,
            s.checksum,
            metrics.join(" ")
        );
    }
}
