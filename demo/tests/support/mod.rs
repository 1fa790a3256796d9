//! What the tests in the lab share: the shipped library, and C programs that are built as a user would build them.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use lab::{Layout, Vm};

/// The root of the workspace.
fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate is in the workspace")
}

/// The directory with `libterrace.so` and `terrace` as they ship, brought up to date first.
pub(crate) fn shipped() -> &'static Path {
    static SHIPPED: OnceLock<PathBuf> = OnceLock::new();
    SHIPPED.get_or_init(|| {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("cargo's target directory");
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--release", "--quiet", "--target-dir"]).arg(target).current_dir(workspace());
        assert!(cargo.status().expect("cargo runs").success(), "libterrace.so does not build");
        target.join("release")
    })
}

/// A Rust program of this crate as a user would build it: with optimisation, and Terrace in it likewise. (The tests' own profile makes the
/// tracker too slow where it is part of the program, and load ten times less dense: a hot page is then touched every five seconds.)
pub(crate) fn optimised(program: &str) -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("cargo's target directory");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--profile", "tools", "--quiet", "-p", "terrace-demo", "--bin", program]);
    cargo.arg("--target-dir").arg(target).current_dir(workspace());
    assert!(cargo.status().expect("cargo runs").success(), "{program} does not build");
    target.join("tools").join(program)
}

/// What the tracker may take of a core in the lab, where its system calls cost some ten times what they do on hardware, in percent.
const TRACKER_CPU: &str = "10";

/// A machine with `dram` and `device` MiB, its user nobody, and Terrace as it ships. Goals that depend on speed are the loose ones unless
/// `TERRACE_TEST_GOALS=full` asks for those that are claimed.
pub(crate) fn machine<'a>(dram: u64, device: u64) -> Vm<'a> {
    let goals = std::env::var("TERRACE_TEST_GOALS").unwrap_or_else(|_| "loose".into());
    let vm = Vm::layout(Layout::DramDevice).dram_mib(dram).device_mib(device).user("nobody").alone();
    vm.env("TERRACE_TEST_GOALS", &goals).env("TERRACE_TRACKER_CPU", TRACKER_CPU).terrace_from(shipped())
}

/// Builds `demo/workloads/NAME.c` with every warning an error, dynamically linked; `arguments` go to the compiler.
pub(crate) fn workload(name: &str, arguments: &[&str]) -> PathBuf {
    // Tests run at the same time, and a program that runs cannot be written: each call has a directory of its own.
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    let call = format!("{}-{}", std::process::id(), CALLS.fetch_add(1, Ordering::Relaxed));
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(call);
    std::fs::create_dir_all(&directory).expect("a directory of our own");
    let program = directory.join(name);
    let mut cc = Command::new("cc");
    cc.args(["-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-O2"]);
    for include in ["include", "lab/guest"] {
        cc.arg("-I").arg(workspace().join(include));
    }
    cc.arg("-o").arg(&program).arg(workspace().join(format!("demo/workloads/{name}.c"))).args(arguments);
    let output = cc.output().expect("cc is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    program
}

/// The number after `word` in the first line that begins with it.
#[track_caller]
pub(crate) fn number(shown: &str, word: &str) -> u64 {
    let line =
        shown.lines().find_map(|l| l.strip_prefix(word)).unwrap_or_else(|| panic!("no {word} in\n{shown}"));
    let digits: String = line.trim().chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or_else(|_| panic!("no number after {word} in\n{shown}"))
}
