//! What the tables of ratios do not show about threads: how local work scales from one to two, and what a thread that
//! allocates once costs and leaves behind.

use crate::report::{Cell, Quantity, Results};
use crate::stats::median;
use std::fmt::Write;

/// `local-1`, `local-2` and `local-apart` at the same percentage are the same work for each thread.
fn row<'a>(results: &'a Results, name: &str) -> Option<&'a [Cell]> {
    let index = results.benchmarks.iter().position(|b| b.name == name)?;
    Some(&results.cells[index])
}

fn metric(cell: &Cell, name: &str) -> Option<f64> {
    let values: Option<Vec<f64>> = cell.samples.iter().map(|s| s.metric(name)).collect();
    median(values?).filter(|_| cell.valid())
}

/// Both tables; those whose benchmarks were not run are left out.
pub(crate) fn tables(results: &Results) -> String {
    let mut out = String::new();
    let cell =
        |value: Option<f64>, digits: usize| value.map_or("failed".to_owned(), |v| format!("{v:.digits$}"));
    if let (Some(one), Some(two)) = (row(results, "local-1"), row(results, "local-2")) {
        out.push_str(
            "### Two threads to one, each with blocks of its own\n\nTwice the work on two threads. Speed-up by wall time, 2 at best, \
             and only on an idle machine; CPU time by that of twice one thread, 1 at best. *Apart*: the same in two processes, which \
             share nothing, so that what they fall short of is the machine's.\n\n\
             | allocator | speed-up | CPU time | apart: speed-up | CPU time | threads to apart, CPU time |\n\
             |---|---:|---:|---:|---:|---:|\n",
        );
        let apart = row(results, "local-apart");
        for (index, allocator) in results.allocators.iter().enumerate() {
            let of = |row: &[Cell], quantity| row[index].median(quantity);
            let ratio =
                |both: Option<&[Cell]>, quantity| Some(2.0 * of(one, quantity)? / of(both?, quantity)?);
            let cpu = |both| ratio(both, Quantity::Cpu).map(|r| 1.0 / r);
            let beside = |value| if apart.is_some() { cell(value, 2) } else { "–".to_owned() };
            let to_apart = cpu(Some(two)).zip(cpu(apart)).map(|(threads, apart)| threads / apart);
            let _ = writeln!(
                out,
                "| {} | {} | {} | {} | {} | {} |",
                allocator.name,
                cell(ratio(Some(two), Quantity::Wall), 2),
                cell(cpu(Some(two)), 2),
                beside(ratio(apart, Quantity::Wall)),
                beside(cpu(apart)),
                beside(to_apart)
            );
        }
        out.push('\n');
    }
    if let Some(cells) = row(results, "thread-once") {
        out.push_str(
            "### A thread that allocates once and exits\n\nThe bare thread's own cost included. Growth is from the first hundredth of the \
             threads to the last.\n\n\
             | allocator | threads | CPU time each | resident set grew by | mappings grew by |\n|---|---:|---:|---:|---:|\n",
        );
        for (run, allocator) in cells.iter().zip(&results.allocators) {
            let threads = metric(run, "threads");
            let each = threads.and_then(|n| Some(run.median(Quantity::Cpu)? / n * 1e6));
            let _ = writeln!(
                out,
                "| {} | {} | {} µs | {} KiB | {} |",
                allocator.name,
                cell(threads, 0),
                cell(each, 1),
                cell(metric(run, "resident_growth_kib"), 0),
                cell(metric(run, "mapping_growth"), 0)
            );
        }
        out.push('\n');
    }
    out
}
