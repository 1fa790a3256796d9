//! The command line.

use crate::allocators::{self, Allocator, BASELINE};
use crate::suite::Benchmark;
use std::path::PathBuf;

const USAGE: &str = "usage: terrace-benches [options]
  --quick               less work and 3 runs of each, a few minutes (otherwise 5 runs, about twenty minutes)
  --only NAME[,NAME]    these benchmarks only
  --allocators A[,B]    these columns only (glibc is always measured)
  --library NAME=PATH   measure another preload library too, or another build of one that was found
  --null                glibc twice: the second column shows how much is noise
  --instructions        count instructions of the single-threaded benchmarks too (needs valgrind)
  --runs N              runs of each (unless --quick, for a minute up to 5N of a benchmark whose times differ much)
  --gate                exit status 1 if a limit is broken
  --out DIR             where bench.md, bench.csv and the charts go (default: target/bench)
  --list                print the benchmarks and stop";

/// What was asked for.
#[derive(Debug, Default)]
pub(crate) struct Options {
    pub(crate) quick: bool,
    pub(crate) only: Vec<String>,
    pub(crate) instructions: bool,
    pub(crate) gate: bool,
    pub(crate) list: bool,
    pub(crate) out: Option<PathBuf>,
    columns: Vec<String>,
    libraries: Vec<Allocator>,
    null: bool,
    runs: Option<usize>,
}

impl Options {
    /// Parses the arguments after the program's name; the error is what to print.
    pub(crate) fn parse(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
        let mut options = Options::default();
        while let Some(flag) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{flag} wants a value\n{USAGE}"));
            match flag.as_str() {
                "--quick" => options.quick = true,
                "--null" => options.null = true,
                "--instructions" => options.instructions = true,
                "--gate" => options.gate = true,
                "--list" => options.list = true,
                "--only" => options.only.extend(value()?.split(',').map(str::to_owned)),
                "--allocators" => options.columns.extend(value()?.split(',').map(str::to_owned)),
                "--library" => options.libraries.push(allocators::from_argument(&value()?)?),
                "--out" => options.out = Some(value()?.into()),
                "--runs" => match value()?.parse() {
                    Ok(n) if n > 0 => options.runs = Some(n),
                    _ => return Err(format!("--runs wants a number above 0\n{USAGE}")),
                },
                _ => return Err(format!("{flag}: not an option\n{USAGE}")),
            }
        }
        Ok(options)
    }

    /// How often each pair of benchmark and allocator is run at least.
    pub(crate) fn repetitions(&self) -> usize {
        self.runs.unwrap_or(if self.quick { 3 } else { 5 })
    }

    /// How often it is run at most, all allocators alike, while the times of that benchmark differ much from run to run.
    pub(crate) fn most_repetitions(&self) -> usize {
        if self.quick { self.repetitions() } else { 5 * self.repetitions() }
    }

    /// Both in words.
    pub(crate) fn said_repetitions(&self) -> String {
        let (least, most) = (self.repetitions(), self.most_repetitions());
        if least == most {
            format!("{least} runs of each in turn")
        } else {
            format!(
                "{least} runs of each in turn, for a minute up to {most} of a benchmark whose CPU times differ much"
            )
        }
    }

    /// The benchmark's scale in this mode.
    pub(crate) fn percent(&self, benchmark: &Benchmark) -> u32 {
        if self.quick { benchmark.quick } else { benchmark.full }
    }

    /// The columns to measure out of those found, and what to say about the others.
    pub(crate) fn choose(
        &self,
        (mut found, mut absent): (Vec<Allocator>, Vec<String>),
    ) -> Result<(Vec<Allocator>, Vec<String>), String> {
        for library in &self.libraries {
            found.retain(|a| a.name != library.name);
            absent.retain(|reason| !reason.starts_with(&format!("{}:", library.name)));
            found.push(library.clone());
        }
        if !self.columns.is_empty() {
            for wanted in &self.columns {
                if !found.iter().any(|a| a.name == *wanted) {
                    return Err(format!("no allocator is called {wanted:?} here: {}", absent.join("; ")));
                }
            }
            found.retain(|a| a.name == BASELINE || self.columns.contains(&a.name));
            absent.clear();
        }
        if self.null {
            found.insert(1, allocators::baseline(allocators::NULL_ARM));
        }
        Ok((found, absent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, String> {
        Options::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn bad_arguments_are_refused_with_the_usage() {
        for line in ["--nope", "--only", "--runs 0", "--runs many", "--library nopath"] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn noisy_benchmarks_run_more_often_but_not_in_the_quick_mode() {
        let runs = |line: &str| parse(line).map(|o| (o.repetitions(), o.most_repetitions()));
        assert_eq!(runs("--runs 3").unwrap(), (3, 15));
        assert_eq!(runs("--quick").unwrap(), (3, 3));
    }

    #[test]
    fn columns_keep_the_baseline_and_refuse_the_unknown() {
        let found =
            || (vec![allocators::baseline("glibc"), allocators::baseline("other")], vec!["x: no".to_owned()]);
        let names =
            |o: &Options| o.choose(found()).map(|(a, _)| a.into_iter().map(|a| a.name).collect::<Vec<_>>());
        assert_eq!(names(&parse("--null").unwrap()).unwrap(), ["glibc", "glibc again", "other"]);
        assert_eq!(names(&parse("--allocators glibc").unwrap()).unwrap(), ["glibc"]);
        assert!(names(&parse("--allocators x").unwrap()).is_err());
    }
}
