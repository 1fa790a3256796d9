//! What a run of the benchmark consists of, and the command line that chooses it.

use std::path::PathBuf;

/// One of those who place memory.
#[derive(Clone, Copy, Debug)]
pub struct Contender {
    /// What it is called in tables.
    pub name: &'static str,
    /// Its script in `contenders/`, without the end.
    pub script: &'static str,
    /// Variables for the script.
    pub environment: &'static [(&'static str, &'static str)],
    /// A line on what it is.
    pub what: &'static str,
}

/// Terrace as it is by default, the one that others are compared with.
pub const SUBJECT: &str = "terrace";

const fn contender(name: &'static str, what: &'static str) -> Contender {
    Contender { name, script: name, environment: &[], what }
}

/// All contenders. Two need no run: all-DRAM serves everything from DRAM, all-device nothing.
pub const CONTENDERS: &[Contender] = &[
    contender("first-touch", "the kernel's default: DRAM until it is full, then the device"),
    contender("interleave", "MPOL_WEIGHTED_INTERLEAVE, weights as the tiers' sizes"),
    contender("numab", "kernel.numa_balancing=2 and demotion (root)"),
    contender("damon", "DAMON's migrate_hot and migrate_cold schemes (root)"),
    contender("memtier", "memkind's libmemtier, static ratio"),
    contender(SUBJECT, "Terrace in its default mode, auto"),
    Contender {
        name: "terrace-again",
        script: SUBJECT,
        environment: &[("TERRACE_BENCH_REHEARSE", "1")],
        what: "Terrace in the second of two runs, which begins with the profile of the first",
    },
    Contender {
        name: "terrace-spill",
        script: SUBJECT,
        environment: &[("TERRACE_MODE", "spill")],
        what: "Terrace in spill mode: the device holds what DRAM cannot, nothing moves by heat",
    },
    Contender {
        name: "terrace-assist",
        script: SUBJECT,
        environment: &[("TERRACE_MODE", "assist"), ("TERRACE_WATERMARKS", "80,70")],
        what: "Terrace in assist mode: it demotes from 80 % of its DRAM on, the kernel promotes (kernel.numa_balancing=2)",
    },
];

/// A workload of `workloads/tier`.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    /// Its name.
    pub name: &'static str,
    /// Whether its distribution changes all the time, so that the oracle must be asked anew in each window.
    pub moving: bool,
    /// How many times it changes at once, when asked to.
    pub shifts: u64,
}

const fn stationary(name: &'static str) -> Workload {
    Workload { name, moving: false, shifts: 0 }
}

const fn moving(name: &'static str) -> Workload {
    Workload { name, moving: true, shifts: 0 }
}

const fn shifting(name: &'static str) -> Workload {
    Workload { name, moving: false, shifts: 1 }
}

/// All workloads.
pub const WORKLOADS: &[Workload] = &[
    stationary("uniform"),
    stationary("zipf-0.8"),
    stationary("zipf-0.99"),
    stationary("zipf-1.2"),
    stationary("zipf-scattered"),
    shifting("hot-shift"),
    moving("hot-drift"),
    moving("scan"),
    shifting("gups"),
    stationary("kv"),
    stationary("btree"),
    moving("bfs"),
    moving("pagerank"),
    stationary("xsbench"),
    moving("window"),
    stationary("interleaved"),
    moving("generation"),
];

/// The workloads of a quick run.
const QUICK: &[&str] =
    &["zipf-0.99", "zipf-scattered", "hot-shift", "kv", "pagerank", "interleaved", "generation"];

/// What to run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Who.
    pub contenders: Vec<Contender>,
    /// What.
    pub workloads: Vec<Workload>,
    /// Footprint to DRAM, each.
    pub ratios: Vec<u64>,
    /// MiB of heap that a workload is asked to make.
    pub mib: u64,
    /// Seconds a phase.
    pub seconds: u64,
    /// Runs of each.
    pub runs: u32,
    /// CPUs of a machine.
    pub cpus: u32,
    /// Machines at a time.
    pub jobs: usize,
    /// Where tables, charts and records go.
    pub out: PathBuf,
}

/// The command line.
pub const USAGE: &str = "\
usage: terrace-bench-tier [OPTION]...
Runs workloads with known accesses under Terrace and its rivals on a virtual machine with two tiers of memory.
  --quick              ratio 1:8, the workloads that tell most, 40 s a phase
  --only W,...         only these workloads
  --contenders C,...   only these contenders
  --ratios N,...       DRAM is a Nth of the footprint (default 2,8,16)
  --mib N              heap of a workload, in MiB (default 256)
  --seconds N          a phase of a workload, in seconds (default 60)
  --runs N             runs of each (default 3; 1 with --quick)
  --cpus N             CPUs of a machine (default 2)
  --jobs N             machines at a time (default 1)
  --out DIR            where to leave tables, charts and records (default target/bench-tier)
  --list               names of workloads and contenders
";

impl Plan {
    /// The plan that the words of a command line ask for.
    ///
    /// # Errors
    /// A word that is not known, in one line.
    pub fn parse(words: &[String]) -> Result<Plan, String> {
        let quick = words.iter().any(|w| w == "--quick");
        let is_quick = |w: &&Workload| !quick || QUICK.contains(&w.name);
        let mut plan = Plan {
            contenders: CONTENDERS.to_vec(),
            workloads: WORKLOADS.iter().filter(is_quick).copied().collect(),
            ratios: if quick { vec![8] } else { vec![2, 8, 16] },
            mib: 256,
            seconds: if quick { 40 } else { 60 },
            runs: if quick { 1 } else { 3 },
            cpus: 2,
            jobs: 1,
            out: PathBuf::from("target/bench-tier"),
        };
        let mut words = words.iter().filter(|w| *w != "--quick");
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or(format!("{word} wants a value"));
            match word.as_str() {
                "--only" => plan.workloads = choose(WORKLOADS, |w| w.name, value()?)?,
                "--contenders" => plan.contenders = choose(CONTENDERS, |c| c.name, value()?)?,
                "--ratios" => {
                    plan.ratios = value()?.split(',').map(|n| number(n, 1..=64)).collect::<Result<_, _>>()?;
                }
                "--mib" => plan.mib = number(value()?, 32..=1024)?,
                "--seconds" => plan.seconds = number(value()?, 10..=3600)?,
                "--runs" => plan.runs = number(value()?, 1..=99)? as u32,
                "--cpus" => plan.cpus = number(value()?, 1..=16)? as u32,
                "--jobs" => plan.jobs = number(value()?, 1..=16)? as usize,
                "--out" => plan.out = value()?.into(),
                _ => return Err(format!("unknown option {word}")),
            }
        }
        Ok(plan)
    }
}

fn number(text: &str, range: std::ops::RangeInclusive<u64>) -> Result<u64, String> {
    let number = text.parse().ok().filter(|n| range.contains(n));
    number.ok_or(format!("{text:?} is no number from {} to {}", range.start(), range.end()))
}

fn choose<T: Copy>(all: &[T], name: fn(&T) -> &'static str, list: &str) -> Result<Vec<T>, String> {
    let find = |wanted: &str| all.iter().find(|t| name(t) == wanted).copied();
    list.split(',').map(|wanted| find(wanted).ok_or(format!("unknown name {wanted:?} (--list)"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Plan, String> {
        let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        Plan::parse(&words)
    }

    #[test]
    fn names_are_looked_up_and_numbers_bounded() {
        let plan =
            parse("--quick --only kv,btree --contenders numab,terrace --ratios 4 --seconds 20").unwrap();
        let names: Vec<_> = plan.workloads.iter().map(|w| w.name).collect();
        assert_eq!((names, plan.ratios, plan.seconds, plan.runs), (vec!["kv", "btree"], vec![4], 20, 1));
        assert_eq!(plan.contenders.len(), 2);
        for wrong in ["--only nothing", "--ratios 0", "--seconds 1", "--seconds", "--speed 3"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_quick_run_is_part_of_the_whole() {
        assert_eq!(parse("--quick").unwrap().workloads.len(), QUICK.len());
        assert_eq!(parse("").unwrap().workloads.len(), WORKLOADS.len());
    }
}
