//! The benchmarks: their names, what each measures, and how much work each does.
//!
//! Three kinds. *Workloads* are functions of one small C and C++ program (`workloads/`), one pattern each; one more, in Rust,
//! is this program itself. *Programs* are real ones from the distribution, given inputs that `programs` writes. *Studies*
//! (`fragmentation`) are about memory alone and have tables of their own. Scale is in percent of a workload's nominal size
//! and is the same for every allocator, so that checksums can be compared.

use crate::fragmentation::STUDIES;

/// One row of the report.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Benchmark {
    /// As given to `--only`, and as the row is called.
    pub(crate) name: &'static str,
    /// One line for `--list` and the report's legend.
    pub(crate) about: &'static str,
    pub(crate) kind: Kind,
    /// Percent of nominal work in `--quick` mode and otherwise, chosen so that the fastest allocator needs about 0.05 s
    /// to 0.3 s a run in quick mode: long against the 1 ms of starting a process, short against patience.
    pub(crate) quick: u32,
    pub(crate) full: u32,
}

impl Benchmark {
    /// A real program rather than a pattern.
    pub(crate) fn is_program(&self) -> bool {
        !matches!(self.kind, Kind::Workload | Kind::Collections)
    }
}

/// Where the work is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Workload,
    Collections,
    Sqlite,
    Python,
    Perl,
    Node,
    Redis,
    Git,
    Rustfmt,
    Solver,
    Compiler,
}

const fn workload(name: &'static str, about: &'static str, quick: u32, full: u32) -> Benchmark {
    Benchmark { name, about, kind: Kind::Workload, quick, full }
}

const fn program(name: &'static str, about: &'static str, kind: Kind, quick: u32, full: u32) -> Benchmark {
    Benchmark { name, about, kind, quick, full }
}

/// Every benchmark, in the order of the report.
pub(crate) const ALL: &[Benchmark] = &[
    workload("pairs-small", "malloc then free, 16 B to 1 KiB, a run of each size", 15, 100),
    workload("pairs-medium", "malloc then free, 2 KiB to 256 KiB", 15, 100),
    workload("batch-lifo", "1,024 or 4,096 blocks of 16 B to 4 KiB live at once, freed last first", 15, 100),
    workload("batch-fifo", "the same, freed first first", 15, 100),
    workload("batch-random", "the same, freed in random order", 15, 100),
    workload("mixed-sizes", "log-normal sizes; one block in ten joins a long-lived set of 20,000", 20, 100),
    workload("burst", "400,000 small blocks built up, freed in random order, again", 20, 100),
    workload("producer-consumer", "one thread allocates, another frees", 25, 100),
    workload("producers-consumer", "four threads allocate, a fifth frees", 25, 100),
    workload("producer-consumers", "one thread allocates, four others free", 25, 100),
    workload("asymmetric", "a pipeline of three threads, each with traffic of its own kind", 15, 80),
    workload("larson", "threads replace random blocks, die, and hand their set to a new thread", 30, 150),
    workload("shared-slots", "threads exchange blocks of up to 271 B through one array", 25, 100),
    workload("thread-churn", "short threads: 200 blocks each, a tenth left to the creator", 20, 80),
    workload("thread-once", "threads that are created, allocate once and exit: 100,000 at 100 %", 5, 100),
    workload("local-1", "blocks of up to 516 B replaced at random, one thread", 25, 100),
    workload("local-2", "the same by each of two threads, twice the work in all", 25, 100),
    workload("local-apart", "the same by each of two processes, which share nothing", 25, 100),
    workload("oversubscribed-8", "eight threads, one operation in 16 hands a block on", 20, 100),
    workload("oversubscribed-32", "32 threads, the same work in all", 20, 100),
    workload("realloc-vectors", "64 vectors growing by half to about 16 KiB, side by side", 50, 150),
    workload("realloc-huge", "one buffer growing by a tenth from 64 KiB to 64 MiB, touched", 10, 50),
    workload("large-touched", "64 KiB to 64 MiB allocated, touched, freed; a few kept", 15, 80),
    workload("calloc-large", "calloc of 4 KiB to 16 MiB, a sixteenth of the pages written", 35, 150),
    workload("aligned", "aligned_alloc and posix_memalign, alignments of 32 B to 64 KiB", 30, 150),
    workload("stl", "C++ maps, strings, vectors and lists filled and thinned out", 50, 150),
    workload("stl-threads", "the same in two threads at once", 50, 150),
    workload("sized-deletes", "C++ sized deletes of batches of mixed sizes", 40, 150),
    Benchmark {
        name: "rust-collections",
        about: "Rust maps, trees, strings and queues, by this program itself",
        kind: Kind::Collections,
        quick: 60,
        full: 300,
    },
    workload("start-up", "/bin/true started again and again with the preload", 25, 200),
    program("sqlite", "sqlite3, an in-memory database: inserts, indexes, text, joins", Kind::Sqlite, 60, 300),
    program("python", "python3 without its own arenas: dictionaries, strings, JSON", Kind::Python, 40, 160),
    program("perl", "perl: hashes, arrays, string splitting and joining", Kind::Perl, 10, 100),
    program("node", "node: JSON, buffers, compression", Kind::Node, 40, 200),
    program(
        "redis",
        "redis-server under redis-benchmark and a script; the server alone",
        Kind::Redis,
        10,
        100,
    ),
    program("git", "git packing the history of a repository anew", Kind::Git, 60, 300),
    program(
        "rustfmt",
        "rustfmt on a long Rust file: the compiler's parser and a printer",
        Kind::Rustfmt,
        100,
        500,
    ),
    program("z3", "z3, an SMT solver: pigeons, a factorisation, arrays", Kind::Solver, 10, 100),
    program("compiler", "cc1plus -O1 on a preprocessed C++ translation unit", Kind::Compiler, 10, 100),
];

/// Name of a fragmentation study and what it frees.
type Study = (&'static str, &'static str);

/// The benchmarks and fragmentation studies that `only` names, or all of them. An unknown name is an error that lists the
/// known ones.
pub(crate) fn select(only: &[String]) -> Result<(Vec<Benchmark>, Vec<Study>), String> {
    if only.is_empty() {
        return Ok((ALL.to_vec(), STUDIES.to_vec()));
    }
    let (mut benchmarks, mut studies) = (Vec::new(), Vec::new());
    for name in only {
        let benchmark = ALL.iter().find(|b| b.name == name);
        let study = STUDIES.iter().find(|(study, _)| study == name);
        if benchmark.is_none() && study.is_none() {
            let known = ALL.iter().map(|b| b.name).chain(STUDIES.iter().map(|(name, _)| *name));
            let known = known.collect::<Vec<_>>().join(", ");
            return Err(format!("no benchmark is called {name:?}; there are: {known}"));
        }
        benchmarks.extend(benchmark);
        studies.extend(study);
    }
    Ok((benchmarks, studies))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_unknown_ones_refused() {
        for (i, b) in ALL.iter().enumerate() {
            assert!(ALL[..i].iter().all(|other| other.name != b.name), "{} twice", b.name);
            assert!(b.quick > 0 && b.full >= b.quick, "{}", b.name);
        }
        assert_eq!(select(&["stl".into()]).unwrap().0[0].name, "stl");
        assert!(select(&["no-such".into()]).unwrap_err().contains("pairs-small"));
    }
}
