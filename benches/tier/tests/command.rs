//! The benchmark as a user runs it, as little of it as tells that all of its parts work together.

use std::path::Path;
use std::process::Command;

fn bench(arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_terrace-bench-tier")).args(arguments).output().unwrap();
    let text = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    (output.status.code(), text.join(""))
}

/// The cells of a line of CSV.
fn cells(line: &str) -> Vec<&str> {
    line.split(',').collect()
}

#[test]
fn a_small_run_has_a_report_with_every_contender() {
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench-tier");
    let only = ["--only", "gups", "--contenders", "first-touch,numab,terrace", "--ratios", "4"];
    let size = ["--mib", "48", "--seconds", "10", "--runs", "1", "--out", out.to_str().unwrap()];
    let (status, shown) = bench(&[&only[..], &size].concat());
    assert_eq!(status, Some(0), "{shown}");
    let csv = std::fs::read_to_string(out.join("runs.csv")).unwrap();
    let (head, runs) = csv.split_once('\n').unwrap();
    let column = |name: &str| cells(head).iter().position(|cell| *cell == name).unwrap();
    let runs: Vec<Vec<&str>> = runs.lines().map(cells).collect();
    let names: Vec<&str> = runs.iter().map(|run| run[0]).collect();
    assert_eq!(names, ["first-touch", "numab", "terrace"]);
    for run in &runs {
        let number = |name: &str| run[column(name)].parse::<f64>().unwrap();
        // A hot tenth gets nine tenths of the accesses, and a quarter of the heap may be in DRAM.
        assert!((0.85..1.0).contains(&number("oracle")), "{run:?}");
        // Who exchanges its pages just then has DRAM to spare for a while, and a slow host makes that while a long one.
        let least = if run[0] == "terrace" { 4.0 } else { 8.0 };
        assert!((least..13.0).contains(&number("dram_mib")), "{run:?}");
    }
    assert_eq!(runs[0][column("moved_mb")], "0.0", "what nobody moves stays");
    for name in ["report.md", "bars-4.svg", "time-4.svg", "terrace-4-0.jsonl"] {
        assert!(std::fs::metadata(out.join(name)).unwrap().len() > 500, "{name}");
    }
}

#[test]
fn what_is_not_known_is_refused_in_one_line() {
    for wrong in [&["--only", "nothing"][..], &["--ratios", "0"], &["--speed"]] {
        let (status, shown) = bench(wrong);
        assert_eq!((status, shown.lines().count()), (Some(2), 1), "{wrong:?}: {shown}");
    }
}
