//! The examples, built and run on this machine. What they do with several tiers is for the lab's tests.

mod support;

use std::fs;
use std::process::{Command, Stdio};

use support::{compile, compile_with_terrace, err, is_heap, library, out};

/// Whether this machine has a node with memory and no CPU: then the hints do not fall back.
fn has_device_node() -> bool {
    let list =
        |name: &str| fs::read_to_string(format!("/sys/devices/system/node/{name}")).unwrap_or_default();
    list("has_memory") != list("has_cpu")
}

#[test]
fn a_plain_program_does_the_same_on_terrace() {
    let plain = compile("plain", &[]);
    let without = Command::new(&plain).args(["48", "4"]).output().unwrap();
    let with = Command::new(&plain).args(["48", "4"]).env("LD_PRELOAD", library()).output().unwrap();
    assert!(without.status.success() && with.status.success(), "{}{}", err(&without), err(&with));
    assert!(out(&without).contains("rounds 4 checksum "), "{}", out(&without));
    assert_eq!((out(&with), err(&with)), (out(&without), String::new()));
}

#[test]
fn the_heap_of_a_preloaded_program_is_terraces() {
    let plain = compile("plain", &[]);
    let mut child = Command::new(plain)
        .args(["64", "8"])
        .env("LD_PRELOAD", library())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut seen = false;
    while child.try_wait().unwrap().is_none() {
        let maps = fs::read_to_string(format!("/proc/{}/maps", child.id())).unwrap_or_default();
        let starts = maps.lines().filter_map(|line| u64::from_str_radix(line.split('-').next()?, 16).ok());
        seen |= starts.into_iter().any(is_heap);
    }
    assert!(child.wait().unwrap().success());
    assert!(seen, "nothing was ever mapped where Terrace keeps its heap");
}

#[test]
fn the_plain_program_refuses_nonsense() {
    let plain = compile("plain", &[]);
    for arguments in [&["x"][..], &["0"], &["1", "-1"], &["99999999"]] {
        let output = Command::new(&plain).args(arguments).output().unwrap();
        assert_eq!((output.status.code(), err(&output).as_str()), (Some(2), "usage: plain [MIB [ROUNDS]]\n"));
    }
}

#[test]
fn the_cache_keeps_every_value_and_says_what_a_strict_hint_got() {
    let output = Command::new(env!("CARGO_BIN_EXE_tiered_cache")).args(["2000", "8000"]).output().unwrap();
    let shown = out(&output);
    assert!(output.status.success(), "{shown}{}", err(&output));
    assert!(shown.ends_with("damaged 0\n"), "{shown}");
    let strict = if has_device_node() { "granted" } else { "refused, so parked values stay in DRAM" };
    assert!(shown.contains(&format!("strict device allocation: {strict}")), "{shown}");
    let hits = shown.lines().find(|line| line.starts_with("entries 2000 lookups 8000 recent ")).unwrap();
    let parked: u64 = hits.rsplit(' ').next().unwrap().parse().unwrap();
    assert!(parked > 100, "the lookups never left the recent values: {hits}");
    assert!(shown.contains("parked values on node "), "{shown}");
}

#[test]
fn hints_fall_back_and_only_strict_ones_fail() {
    let output = Command::new(compile_with_terrace("hints", library())).output().unwrap();
    let shown = out(&output);
    assert!(output.status.success(), "{shown}{}", err(&output));
    assert!(shown.starts_with("terrace ") && shown.ends_with("every byte as it was\n"), "{shown}");
    let strict = if has_device_node() { "granted" } else { "refused, Cannot allocate memory" };
    assert!(shown.contains(&format!("strict device allocation: {strict}\n")), "{shown}");
    if !has_device_node() {
        assert!(shown.contains("device buffer: 0 of 512 pages on a device\n"), "{shown}");
        assert!(!shown.contains("tier 1"), "{shown}");
    }
}
