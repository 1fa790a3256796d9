//! The closing table.
//!
//! Zone: control (a program of its own).

use super::run::Run;

/// Every check in a line: the mark, what, the figure, all figures.
pub fn table(run: &Run) -> String {
    let name = run.checks.iter().map(|c| c.name.chars().count()).max().unwrap_or(0);
    let figure = run.checks.iter().map(|c| c.figure.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for check in &run.checks {
        let mark = if check.good { "✔" } else { "✘" };
        text += &format!("  {mark} {:name$}  {:>figure$}  {}\n", check.name, check.figure, check.text);
    }
    text += match (run.good, run.is_good()) {
        (None, _) => "\nThe run did not come to its end.\n",
        (_, true) => "\nEvery check is good.\n",
        (_, false) => "\nNot every check is good.\n",
    };
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::Check;

    #[test]
    fn columns_are_aligned() {
        let mut run = Run { good: Some(true), ..Run::default() };
        run.checks.push(Check::new("short", true, "a".into()).figure("1"));
        run.checks.push(Check::new("much longer", true, "b".into()).figure("1,000"));
        assert_eq!(
            table(&run),
            "  ✔ short            1  a\n  ✔ much longer  1,000  b\n\nEvery check is good.\n"
        );
        run.good = None;
        assert!(table(&run).ends_with("did not come to its end.\n"));
    }
}
