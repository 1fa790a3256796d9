//! The modes and hints when memory runs out, on a machine with a device node.

mod support;

use support::{machine, number, shipped, workload};

/// The last "held M dram D device V" of `fill.c`: MiB, pages, pages.
fn last_held(shown: &str) -> (u64, u64, u64) {
    let line =
        shown.lines().rfind(|l| l.starts_with("held ")).unwrap_or_else(|| panic!("nothing held in\n{shown}"));
    let numbers: Vec<u64> = line.split(' ').filter_map(|w| w.parse().ok()).collect();
    (numbers[0], numbers[1], numbers[2])
}

#[test]
fn isolate_leaves_the_device_alone_even_when_dram_is_exhausted() {
    let outcome = machine(512, 512)
        .file(workload("fill", &[]))
        .run("/terrace/terrace run --mode isolate -- ./fill 4096 0")
        .unwrap();
    let (held, dram, device) = last_held(&outcome.stdout);
    // The kernel ends a process that is bound to a node with no memory left, or malloc says so before.
    assert!(
        outcome.status == 137 || outcome.stdout.contains("failed 1"),
        "{}\n{}",
        outcome.status,
        outcome.stdout
    );
    assert_eq!(device, 0, "{}", outcome.stdout);
    assert!(held >= 200 && dram * 4 >= held * 1000, "DRAM was not exhausted: {held} MiB\n{}", outcome.stdout);
}

#[test]
fn spill_fails_no_allocation_while_the_device_has_room() {
    let outcome = machine(512, 512)
        .file(workload("fill", &[]))
        .run("/terrace/terrace run --mode spill -- ./fill 4096 120")
        .unwrap()
        .expect_success();
    let (held, dram, device) = last_held(&outcome.stdout);
    assert_eq!(
        (number(&outcome.stdout, "failed "), number(&outcome.stdout, "wrong ")),
        (0, 0),
        "{}",
        outcome.stdout
    );
    // Far more than DRAM alone has, and all of it is somewhere.
    assert!(held > 600 && device * 4 > 300 * 1024, "{}", outcome.stdout);
    assert!((dram + device) * 4 >= held * 1000, "{}", outcome.stdout);
}

#[test]
fn spill_keeps_to_its_dram_budget() {
    let outcome = machine(512, 512)
        .file(workload("fill", &[]))
        .run("/terrace/terrace run --mode spill --dram 128M -- ./fill 400 0")
        .unwrap()
        .expect_success();
    let (held, dram, device) = last_held(&outcome.stdout);
    assert_eq!(
        (number(&outcome.stdout, "failed "), number(&outcome.stdout, "wrong ")),
        (0, 0),
        "{}",
        outcome.stdout
    );
    assert!(held >= 400 && device > 0, "{}", outcome.stdout);
    let share = dram * 4096 * 100 / (128 << 20);
    println!("{share} % of the DRAM budget used");
    assert!((85..=105).contains(&share), "{dram} pages of DRAM\n{}", outcome.stdout);
}

#[test]
fn a_strict_device_hint_fails_cleanly_when_the_device_is_full() {
    let directory = shipped().display().to_string();
    let outcome = machine(512, 256)
        .file(workload("strict", &[&format!("-L{directory}"), "-lterrace"]))
        .env("LD_LIBRARY_PATH", "/terrace")
        .run("./strict 512")
        .unwrap()
        .expect_success();
    let shown = &outcome.stdout;
    let granted = number(shown, "granted ");
    assert!((100..256).contains(&granted), "{shown}");
    assert_eq!(number(shown, "refused "), 12, "ENOMEM\n{shown}");
    let line =
        shown.lines().find_map(|l| l.strip_prefix("on the device ")).unwrap_or_else(|| panic!("{shown}"));
    let (there, pages) = line.split_once(" of ").unwrap_or_else(|| panic!("{shown}"));
    assert!(there == pages && there != "0", "{shown}");
    assert!(shown.contains("plain ok\n") && shown.contains("again granted\n"), "{shown}");
}
