//! The command on real kernels with several memory nodes.

use std::path::{Path, PathBuf};
use std::process::Command;

use lab::{Kernel, Layout, Vm};
use serde_json::{Value, json};

/// `terrace topology` in the lab, as text and as JSON.
fn topology(layout: Layout, kernel: Kernel) -> (String, Value) {
    let built = Path::new(env!("CARGO_BIN_EXE_terrace")).parent().unwrap();
    let command = "/terrace/terrace topology && /terrace/terrace topology --json > /out/topology.json";
    let outcome = Vm::layout(layout).kernel(kernel).user("nobody").terrace_from(built).run(command).unwrap();
    let outcome = outcome.expect_success();
    let json = serde_json::from_str(&outcome.file("topology.json").unwrap()).unwrap();
    (outcome.stdout, json)
}

/// Nodes and latency of every tier.
fn tiers(json: &Value) -> Vec<(Value, Value)> {
    let tiers = json["tiers"].as_array().unwrap();
    tiers.iter().map(|tier| (tier["nodes"].clone(), tier["latency_ns"]["value"].clone())).collect()
}

#[test]
fn three_tiers_have_the_latencies_of_the_firmware() {
    let (text, json) = topology(Layout::ThreeTiers, Kernel::V6_12);
    let expect = [(json!([0]), json!(100)), (json!([1]), json!(300)), (json!([2]), json!(900))];
    assert_eq!(tiers(&json), expect, "{text}");
    assert_eq!(json["contradictions"], json!([]), "{text}");
    assert!(json["tiers"][0]["latency_ns"]["source"].as_str().unwrap().starts_with("HMAT access"), "{text}");
    let tiers: Vec<_> =
        json["nodes"].as_array().unwrap().iter().map(|n| n["kernel_tier"].as_u64().unwrap()).collect();
    assert!(tiers[0] < tiers[1] && tiers[1] < tiers[2], "{tiers:?}");
}

#[test]
fn a_kernel_that_puts_both_nodes_in_one_tier_is_contradicted() {
    let (text, json) = topology(Layout::DramDevice, Kernel::V6_1);
    assert_eq!(tiers(&json), [(json!([0]), json!(100)), (json!([1]), json!(600))], "{text}");
    assert!(
        text.contains("* nodes 0 and 1: HMAT says 100 ns and 600 ns, the kernel has them in one memory tier"),
        "{text}"
    );
}

#[test]
fn without_hmat_the_latencies_are_unknown() {
    let (text, json) = topology(Layout::DramDeviceNoHmat, Kernel::V6_12);
    assert_eq!(tiers(&json), [(json!([0]), Value::Null), (json!([1]), Value::Null)], "{text}");
    assert_eq!(json["tiers"][1]["kind"], "device", "{text}");
    assert!(text.contains("* The firmware gives no latency for some tier"), "{text}");
}

/// An ordinary program under a DRAM budget of a third of its data, watched from outside while it runs.
#[test]
fn a_program_over_its_budget_shows_its_moves_and_keeps_its_data() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let plain = Path::new(env!("CARGO_TARGET_TMPDIR")).join("plain");
    let mut cc = Command::new("cc");
    cc.args(["-O2", "-o"]).arg(&plain).arg(here.join("../examples/c/plain.c"));
    assert!(cc.status().expect("cc is installed").success());
    let expect = Command::new(&plain).args(["192", "12"]).output().unwrap();
    let library = shipped();
    let command = "export TERRACE_LIB=/terrace/libterrace.so
        ./terrace run --dram 64M -- ./plain 192 12 > /out/plain & pid=$!
        for i in $(seq 600); do ./terrace stat $pid --json > /out/stat.json 2> /out/why && break; sleep 0.1; done
        while ./terrace stat $pid --json > /tmp/stat 2> /tmp/why; do mv /tmp/stat /out/stat.json; sleep 0.5; done
        wait $pid; echo status $?; cat /out/why /tmp/why; ls /dev/shm";
    let vm = Vm::layout(Layout::DramDevice).user("nobody").terrace_from(library).file(plain);
    let outcome = vm.file(env!("CARGO_BIN_EXE_terrace")).run(command).unwrap().expect_success();
    let shown = &outcome.stdout;
    assert!(shown.contains("status 0\n") && !shown.contains(".stats"), "{shown}");
    assert_eq!(outcome.file("plain").unwrap().as_bytes(), expect.stdout);
    let last: Value = serde_json::from_str(&outcome.file("stat.json").unwrap()).unwrap();
    assert_eq!((&last["mode"], &last["name"]), (&json!("auto"), &json!("plain")), "{last}");
    assert_eq!(last["tiers"][0]["budget_bytes"], 64 << 20, "{last}");
    assert!(last["moves"]["demoted"].as_u64().unwrap() > 1000, "{last}");
    assert!(last["tiers"][1]["bytes"].as_u64().unwrap() > 64 << 20, "{last}");
}

/// A program whose hot and cold blocks come from two places, run twice with one profile: the second run begins much as the first ended, and the
/// profile names the two places.
#[test]
fn a_profile_names_the_sites_and_the_second_run_begins_with_it() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("two_sites");
    let mut cc = Command::new("cc");
    cc.args(["-O2", "-g", "-Wall", "-Wextra", "-Werror", "-o"])
        .arg(&program)
        .arg(here.join("tests/c/two_sites.c"));
    assert!(cc.status().expect("cc is installed").success());
    let command = "export TERRACE_LIB=/terrace/libterrace.so TERRACE_START=1M TERRACE_TRACKER_CPU=10
        run() { ./terrace run -v --dram 24M --profile /tmp/profile -- ./two_sites $*; }
        run 25 90 120 || exit 1
        ./terrace report /tmp/profile > /out/heat || exit 1
        ./terrace report --sites --json /tmp/profile > /out/sites.json || exit 1
        ./terrace report --sites /tmp/profile
        run 3 || exit 1
        TERRACE_PROFILE=/etc/passwd ./terrace run --dram 24M -- ./two_sites 1 2>&1 | grep profile
        stat -c %a /tmp/profile; ls /tmp/profile*";
    let vm = Vm::layout(Layout::DramDevice).user("nobody").terrace_from(shipped()).file(program).alone();
    let outcome = vm.file(env!("CARGO_BIN_EXE_terrace")).run(command).unwrap().expect_success();
    let shown = &outcome.stdout;
    let figures = shown.lines().filter_map(|line| line.strip_prefix("early ")?.split_once(" end "));
    let figures: Vec<[u32; 2]> = figures.map(|(a, b)| [a, b].map(|n| n.parse().unwrap())).collect();
    let &[[unknown, learnt], [recalled, _], ..] = figures.as_slice() else { panic!("{shown}") };
    // Within seconds, unless the computer is busy with something else: then each interrupt between the machine's processors takes milliseconds.
    // What was allocated before the control thread told sites apart has hot and cold on the same pages: how much that is depends on its first tick.
    assert!(learnt >= 50, "{learnt} % of hot pages in DRAM\n{shown}");
    // So it does in the second run: 97 % in most, 80 % in some.
    assert!(
        recalled * 3 >= learnt * 2,
        "{recalled} % of hot pages in DRAM as the second run begins\n{shown}"
    );
    assert!(recalled > unknown, "{recalled} % with the profile, {unknown} % without\n{shown}");
    assert!(shown.contains("profile /etc/passwd: line 1 is not one of a profile"), "{shown}");
    assert!(shown.ends_with("600\n/tmp/profile\n"), "mode, and nothing left beside it: {shown}");
    assert!(outcome.file("heat").unwrap().contains("accesses a page and second"));
    let report: Value = serde_json::from_str(&outcome.file("sites.json").unwrap()).unwrap();
    let site = |function: &str| {
        let is = |s: &&Value| s["function"] == function && s["block_bytes"] == 240;
        report["sites"].as_array().unwrap().iter().find(is).unwrap_or_else(|| panic!("{function}: {report}"))
    };
    let (hot, cold) = (site("hot_block"), site("cold_block"));
    assert!(hot["line"].as_str().unwrap().contains("two_sites.c:"), "{hot}");
    let heat = |site: &Value| site["accesses_a_page_and_second"].as_f64().unwrap();
    assert!(heat(hot) > 10.0 * heat(cold), "{hot} {cold}");
}

/// The directory of `libterrace.so` as it ships, brought up to date first.
fn shipped() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--release", "--quiet", "--package", "terrace-ffi", "--target-dir"]).arg(target);
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    assert!(cargo.current_dir(workspace).status().unwrap().success(), "libterrace.so does not build");
    target.join("release")
}
