//! The report's tables in Markdown, and the list of failures and losses: the part that must not be left out.

use crate::allocators::{BASELINE, SUBJECT};
use crate::report::{Group, Quantity, Results};
use std::fmt::Write;

impl Results {
    /// One Markdown table: a row a benchmark, a column an allocator, the best of each row in bold.
    pub(crate) fn table(&self, quantity: Quantity) -> String {
        let mut out = format!("### {}\n\n| benchmark | {BASELINE} |", quantity.title());
        let base = self.column(BASELINE);
        let others: Vec<usize> = (0..self.allocators.len()).filter(|&a| Some(a) != base).collect();
        for &a in &others {
            let _ = write!(out, " {} |", self.allocators[a].name);
        }
        let _ = writeln!(out, "\n|---|---:|{}", "---:|".repeat(others.len()));
        for (b, benchmark) in self.benchmarks.iter().enumerate() {
            let absolute = base.and_then(|a| self.cells[b][a].median(quantity));
            let best = |a: usize| self.to_best(quantity, b, a).is_some_and(|r| (r - 1.0).abs() < 1e-12);
            let bold = |a: usize, text: String| if best(a) { format!("**{text}**") } else { text };
            let text = absolute.map_or_else(|| "failed".to_owned(), |v| quantity.absolute(v));
            let _ = write!(out, "| {} | {} |", benchmark.name, base.map_or(text.clone(), |a| bold(a, text)));
            for &a in &others {
                let text = match self.ratio(quantity, b, a) {
                    Some(ratio) => bold(a, format!("{ratio:.2}")),
                    None if self.cells[b][a].wrong => "WRONG".to_owned(),
                    None => "failed".to_owned(),
                };
                let _ = write!(out, " {text} |");
            }
            out.push('\n');
        }
        let mean = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |v| format!("{v:.3}"));
        let order: Vec<usize> = base.into_iter().chain(others).collect();
        for (group, what) in [(Group::All, ""), (Group::Programs, " (programs alone)")] {
            let line = |out: &mut String, label: &str, of: &dyn Fn(usize) -> Option<f64>| {
                let cells: Vec<String> = order.iter().map(|&a| mean(of(a))).collect();
                let _ = writeln!(out, "| *geometric mean, {label}{what}* | {} |", cells.join(" | "));
            };
            line(&mut out, "to glibc", &|a| self.mean_ratio(quantity, group, a));
            line(&mut out, "to the best of each", &|a| self.mean_to_best(quantity, group, a));
            line(&mut out, "to the best of the others", &|a| self.mean_to_best_other(quantity, group, a));
        }
        out
    }

    /// Failures, wrong results, and the subject's losses: the part that must not be left out.
    pub(crate) fn remarks(&self) -> String {
        let mut out = String::new();
        for (b, row) in self.cells.iter().enumerate() {
            for (a, cell) in row.iter().enumerate() {
                let (benchmark, allocator) = (self.benchmarks[b].name, &self.allocators[a].name);
                if let Some(failure) = &cell.failure {
                    let _ = writeln!(out, "* {allocator} failed {benchmark}: {failure}");
                } else if cell.wrong {
                    let _ = writeln!(out, "* {allocator} gave a wrong result in {benchmark}");
                }
            }
        }
        let left_out = self.left_out();
        if left_out > 0 {
            let _ = writeln!(
                out,
                "* the means leave out {left_out} benchmark(s) that not every allocator completed"
            );
        }
        if let Some(subject) = self.column(SUBJECT) {
            self.losses(subject, &mut out);
        }
        out
    }

    fn losses(&self, subject: usize, out: &mut String) {
        for quantity in [Quantity::Cpu, Quantity::Rss] {
            let label = if quantity == Quantity::Cpu { "CPU time" } else { "memory" };
            let mut lost: Vec<(f64, String)> = Vec::new();
            for (b, benchmark) in self.benchmarks.iter().enumerate() {
                let Some(to_best) = self.to_best(quantity, b, subject).filter(|r| *r > 1.1) else { continue };
                let winner = (0..self.allocators.len())
                    .find(|&a| self.to_best(quantity, b, a).is_some_and(|r| (r - 1.0).abs() < 1e-12))
                    .map_or("?", |a| &self.allocators[a].name);
                let to_glibc = self.ratio(quantity, b, subject).unwrap_or(f64::NAN);
                let text = format!("{} {to_best:.2}× {winner} ({to_glibc:.2}× glibc)", benchmark.name);
                lost.push((to_best, text));
            }
            lost.sort_by(|a, b| b.0.total_cmp(&a.0));
            let list: Vec<String> = lost.into_iter().map(|(_, text)| text).collect();
            let list = if list.is_empty() { "nowhere".to_owned() } else { list.join("; ") };
            let _ = writeln!(
                out,
                "* {SUBJECT} loses in {label} by more than a tenth to the best of each: {list}"
            );
        }
    }
}
