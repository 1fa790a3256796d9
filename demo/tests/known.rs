//! Programs whose accesses are known exactly, in the lab, as an ordinary user: what DRAM serves, against the best that
//! its budget could, and against what the emulator counted.

mod support;

use lab::{Mark, Outcome};
use std::time::Duration;
use support::{machine, optimised, workload};
use terrace_demo::json::{self, Value};

const JUDGE: &str = env!("CARGO_BIN_EXE_terrace-demo-judge");
const LIMIT: Duration = Duration::from_secs(1500);

/// MiB of objects and of DRAM: three to one.
const MIB: u32 = 96;
const DRAM: u32 = 32;

/// Whether this run is to show what is claimed, rather than what any machine has time for.
fn full() -> bool {
    std::env::var("TERRACE_TEST_GOALS").is_ok_and(|goals| goals == "full")
}

/// Seconds that a distribution gets to converge: as many as are claimed to suffice, or as many as a test run has to spare.
fn patience() -> u32 {
    if full() { 180 } else { 60 }
}

/// The distributions, one after the other.
fn distributions() -> &'static [&'static str] {
    if full() { &["zipf", "hot", "hot"] } else { &["zipf", "hot"] }
}

/// The judge's records.
fn records(outcome: &Outcome) -> Vec<Value> {
    outcome.stdout.lines().filter_map(json::parse).collect()
}

/// Accesses in a counted window.
const WINDOW: u64 = 2_000_000;

/// What the judge computed from placement must be what the emulator counted between the marks. `each` = loads and stores that the
/// program makes in the heap for an access of its own, on average.
fn compare_with_counts(outcome: &Outcome, windows: usize, each: f64) {
    let counted: Vec<&Mark> = outcome.counts.iter().filter(|m| m.id == 2).collect();
    let records = records(outcome);
    let judged: Vec<&Value> = records.iter().filter(|r| r.text("k") == "window").collect();
    assert_eq!((counted.len(), judged.len()), (windows, windows), "{}", outcome.stdout);
    for (counted, judged) in counted.iter().zip(judged) {
        // The program's accesses and nothing else: Terrace keeps what it knows about the heap out of the heap. But an increment that
        // meets a write-protected page begins again, and its load is counted twice: as often as the tracker protects pages.
        let total: u64 = counted.nodes.iter().map(|n| n.total()).sum();
        let off = total as f64 / (WINDOW as f64 * each) - 1.0;
        let (counted, share, drift) =
            (counted.share(0), judged.number("share"), judged.number("drift").abs());
        let name = judged.text("distribution");
        println!("{name}: placement {share:.4}, counted {counted:.4}; accesses {:+.2} %", off * 100.0);
        assert!((-0.005..0.015).contains(&off), "{total} accesses counted, {:+.2} %", off * 100.0);
        // Pages may move within the window: half of the drift. The draw is random: three points.
        assert!((counted - share).abs() <= drift / 2.0 + 0.03, "counted {counted}, from placement {share}");
    }
}

#[test]
fn a_c_program_finds_what_it_uses_in_dram() {
    let outcome = machine(1024, 512)
        .file(JUDGE)
        .file(workload("known", &["-lm"]))
        .count_accesses(true)
        .timeout(LIMIT)
        .run(&format!(
            "./terrace-demo-judge --terrace /terrace/terrace --window {WINDOW} --limit {} --dram-mib {DRAM} \
             --distributions {} -- ./known {MIB} /tmp/map",
            patience(),
            distributions().join(",")
        ))
        .unwrap()
        .expect_success();
    println!("{}", outcome.stdout);
    // A quarter of the accesses are increments, a load and a store.
    compare_with_counts(&outcome, distributions().len(), 1.25);
}

#[test]
fn a_rust_program_finds_what_it_uses_in_dram() {
    let outcome = machine(1024, 512)
        .file(JUDGE)
        .file(optimised("terrace-demo-known"))
        .count_accesses(true)
        .timeout(LIMIT)
        .run(&format!(
            "./terrace-demo-judge --window {WINDOW} --limit {} --dram-mib {DRAM} --distributions {} \
             -- ./terrace-demo-known {MIB} /tmp/map",
            patience(),
            distributions().join(",")
        ))
        .unwrap()
        .expect_success();
    println!("{}", outcome.stdout);
    // Half of them.
    compare_with_counts(&outcome, distributions().len(), 1.5);
}

#[test]
fn a_python_dictionary_keeps_its_hot_part_in_dram() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/workloads/dict.py");
    let outcome = machine(1024, 512)
        .file(JUDGE)
        .file(script)
        .program("python3")
        .env("PYTHONMALLOC", "malloc")
        .timeout(LIMIT)
        .run(&format!(
            "./terrace-demo-judge --terrace /terrace/terrace --limit {} --dram-mib 64 --distributions hot,hot \
             -- python3 ./dict.py 192 /tmp/map",
            patience()
        ))
        .unwrap()
        .expect_success();
    println!("{}", outcome.stdout);
}
