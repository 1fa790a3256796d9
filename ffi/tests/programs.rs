//! Unmodified programs of the distribution, preloaded: each does real work, and what it prints or writes is compared with
//! the same run on glibc's malloc. A program that is missing is a failure (`ci/packages.txt` lists the packages).

#[path = "programs/servers.rs"]
mod servers;
mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::{Outcome, preload, run, scratch, terrace_lines, workspace};

/// Runs a command twice, on glibc's malloc and preloaded, each in an empty directory of its own; `work` describes it
/// given that directory. Checks that both succeed and print the same, and returns the two directories.
#[track_caller]
fn same(name: &str, limit_s: u64, work: impl Fn(&Path) -> Command) -> (PathBuf, PathBuf) {
    same_with(name, &[], limit_s, work)
}

/// As [`same`], the preloaded run with `settings` in its environment.
#[track_caller]
fn same_with(
    name: &str,
    settings: &[(&str, &str)],
    limit_s: u64,
    work: impl Fn(&Path) -> Command,
) -> (PathBuf, PathBuf) {
    let directories = (scratch(&format!("{name}-plain")), scratch(&format!("{name}-terrace")));
    let plain = run(work(&directories.0).current_dir(&directories.0), limit_s).expect_success(name);
    let mut command = work(&directories.1);
    command.envs(settings.iter().copied());
    let ours = run(preload(command.current_dir(&directories.1)), limit_s).expect_success(name);
    assert_quiet(&ours, name);
    assert!(!ours.stdout.is_empty(), "{name} prints what it computed");
    assert!(
        plain.stdout == ours.stdout,
        "{name}: output differs\n-- plain\n{}\n-- terrace\n{}",
        plain.stdout,
        ours.stdout
    );
    directories
}

/// Nothing about the library on standard error: neither the loader's nor its own.
#[track_caller]
fn assert_quiet(outcome: &Outcome, name: &str) {
    assert!(!outcome.stderr.contains("ld.so"), "{name}: the library was not preloaded: {}", outcome.stderr);
    assert_eq!(terrace_lines(&outcome.stderr), Vec::<&str>::new(), "{name}");
}

/// `program` with a script of ours, `ffi/tests/programs/FILE`.
fn script(program: &str, file: &str) -> Command {
    let mut command = Command::new(program);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs").join(file));
    command
}

fn shell(text: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-euc", text]);
    command
}

#[track_caller]
fn assert_same_files(pair: &(PathBuf, PathBuf), names: &[&str]) {
    for name in names {
        let read = |directory: &Path| {
            fs::read(directory.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
        };
        assert!(read(&pair.0) == read(&pair.1), "{name} differs from what the unpreloaded run made");
    }
}

#[test]
fn bash() {
    same("bash", 60, |_| script("bash", "shell.bash"));
}

#[test]
fn ls() {
    same("ls", 60, |_| {
        let mut command = Command::new("ls");
        command.args(["-lRU", "/usr/include", "/usr/lib/python3.11"]);
        command
    });
}

#[test]
fn git() {
    // The same history each time: dates and names are fixed, so commit ids must be equal.
    let pair = same("git", 120, |directory| {
        let mut command = script("bash", "repository.bash");
        command.arg(workspace().join("alloc")).env("HOME", directory);
        command
    });
    assert!(pair.1.join("clone.git").is_dir());
}

#[test]
fn perl() {
    same("perl", 60, |_| script("perl", "words.pl"));
}

/// Programs without a fault must not notice hardened mode, either.
const HARDENED: [(&str, &str); 2] = [("TERRACE_HARDENED", "on"), ("TERRACE_GUARD_SAMPLE", "20")];

#[test]
fn git_hardened() {
    same_with("git-hardened", &HARDENED, 120, |directory| {
        let mut command = script("bash", "repository.bash");
        command.arg(workspace().join("alloc")).env("HOME", directory);
        command
    });
}

#[test]
fn perl_hardened() {
    same_with("perl-hardened", &HARDENED, 60, |_| script("perl", "words.pl"));
}

#[test]
fn python_hardened() {
    // With its own allocator out of the way, every object is a block of ours.
    let settings = [HARDENED[0], HARDENED[1], ("PYTHONMALLOC", "malloc")];
    same_with("python-hardened", &settings, 120, |_| script("/usr/bin/python3", "objects.py"));
}

#[test]
fn node_hardened() {
    same_with("node-hardened", &HARDENED, 120, |_| script("node", "workers.js"));
}

#[test]
fn gpp_hardened() {
    let pair = same_with("compiler-hardened", &HARDENED, 240, |_| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs/document.cpp");
        let mut command = shell("g++ -O1 -std=c++17 -o document \"$1\" && ./document");
        command.arg("sh").arg(source);
        command
    });
    assert_same_files(&pair, &["document"]);
}

#[test]
fn python_s_own_tests() {
    // Some of them interrupt themselves: that is to work in a background job of a shell, too, where SIGINT is ignored.
    let mut command = Command::new("/usr/bin/env");
    command.args([
        "--default-signal=INT",
        "/usr/bin/python3",
        "-m",
        "test",
        "-j2",
        // What fails runs again, alone and with every test named: some of test_threading's go by the clock, and fail on a busy machine
        // now and then. A fault of ours would show again, and what it was is in the output.
        "-w",
        "test_list",
        "test_dict",
        "test_json",
        "test_threading",
        "test_subprocess",
    ]);
    let result = run(preload(command.current_dir(scratch("python"))), 240).expect_success("python3 -m test");
    assert!(result.stdout.contains("All 5 tests OK."), "{}", result.describe());
}

#[test]
fn python_agrees_with_itself() {
    same("python-script", 60, |_| script("/usr/bin/python3", "objects.py"));
}

#[test]
fn gcc_and_gpp_build_the_same_programs() {
    let pair = same("compilers", 240, |_| {
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs");
        let mut command = shell(
            "gcc -O2 -Wno-all -o image \"$1\"/image.c -lm\n\
             g++ -O1 -std=c++17 -o document \"$1\"/document.cpp\n\
             ./image && ./document",
        );
        command.arg("sh").arg(sources);
        command
    });
    assert_same_files(&pair, &["image", "document", "image.png"]);
}

#[test]
fn sqlite3() {
    same("sqlite3", 60, |_| {
        let sql = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs/tables.sql");
        let mut command = Command::new("sqlite3");
        command.arg("tables.db").arg(format!(".read {}", sql.display()));
        command
    });
}

#[test]
fn node() {
    same("node", 60, |_| script("node", "workers.js"));
}

#[test]
fn openssl() {
    same("openssl", 120, |_| script("sh", "keys.sh"));
}

#[test]
fn cargo_builds_a_crate_of_this_project() {
    let target = scratch("cargo-target");
    let mut command = Command::new(env!("CARGO"));
    command.args(["build", "--offline", "--package", "terrace", "--target-dir"]).arg(&target);
    // Not what the surrounding `cargo test` has set for its own children.
    command.current_dir(workspace()).env_remove("CARGO_TARGET_DIR").env_remove("RUSTFLAGS");
    let result = run(preload(&mut command), 240).expect_success("cargo build");
    assert_quiet(&result, "cargo");
    assert!(result.stderr.contains("Finished"), "{}", result.describe());
    assert!(target.join("debug/libterrace.rlib").is_file());
}
