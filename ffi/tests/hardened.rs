//! Correct programs in hardened mode, with many of their blocks guarded: nothing changes for them but the time they take.

mod support;

use std::process::Command;
use support::{Outcome, compile, library, limit_address_space, preload, preloaded, run, terrace_lines};

const HARDENED: [(&str, &str); 2] = [("TERRACE_HARDENED", "on"), ("TERRACE_GUARD_SAMPLE", "30")];

fn hardened(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = preloaded(program);
    command.envs(HARDENED);
    command
}

#[track_caller]
fn assert_unnoticed(result: Outcome) {
    let result = result.expect_success("c/workload.c");
    assert_eq!((result.stdout.as_str(), result.stderr.as_str()), ("workload: ok\n", ""));
}

#[test]
fn c_functions_keep_their_contracts() {
    let program = compile("c/abi.c", &[&library().display().to_string()]);
    let result = run(&mut hardened(program), 60).expect_success("c/abi.c");
    assert_eq!(result.stdout, "abi: ok\n");
    assert_eq!(terrace_lines(&result.stderr).len(), 1, "malloc_stats prints one line: {}", result.stderr);
}

#[test]
fn many_threads_share_a_heap_without_tearing_it() {
    let program = compile("c/workload.c", &[]);
    assert_unnoticed(run(hardened(program).args(["16", "5000"]), 240));
}

#[test]
fn children_of_busy_threads_have_a_working_heap() {
    let program = compile("c/fork_storm.c", &[]);
    let result = run(hardened(program).arg("300"), 120).expect_success("c/fork_storm.c");
    assert_eq!(result.stdout, "fork storm: 300 children\n");
}

#[test]
fn a_limited_address_space_is_enough() {
    let program = compile("c/workload.c", &[]);
    for mib in [200, 1000] {
        let mut command = hardened(&program);
        assert_unnoticed(run(limit_address_space(&mut command, mib << 20), 120));
    }
}

#[test]
fn running_out_of_memory_is_enomem_and_not_the_end() {
    let program = compile("c/exhaustion.c", &[]);
    let mut command = hardened(program);
    let result = run(limit_address_space(&mut command, 200 << 20), 120).expect_success("c/exhaustion.c");
    assert_eq!(result.stdout, "exhaustion: ok\n");
}

#[test]
fn a_sandbox_without_random_numbers_signals_and_discards_is_enough() {
    let sandbox = compile("c/sandbox.c", &[]);
    let workload = compile("c/workload.c", &[]);
    let mut command = Command::new(sandbox);
    preload(command.arg("getrandom,rt_sigaction,madvise,mremap").arg(workload)).envs(HARDENED);
    assert_unnoticed(run(&mut command, 120));
}

#[test]
fn guards_alone_change_nothing_either() {
    let program = compile("c/workload.c", &[]);
    assert_unnoticed(run(preloaded(program).args(["4", "5000"]).env("TERRACE_GUARD_SAMPLE", "2"), 120));
}
