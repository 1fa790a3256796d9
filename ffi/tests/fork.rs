//! fork(2) in programs with threads: children inherit a heap that works.

mod support;

use support::{compile, preloaded, run};

/// Forks in the storm: 1,500, or what `TERRACE_TEST_FORKS` says (10,000 is the figure to publish).
fn forks() -> u64 {
    match std::env::var("TERRACE_TEST_FORKS") {
        Ok(text) => text.parse().expect("TERRACE_TEST_FORKS is a number"),
        Err(_) => 1500,
    }
}

#[test]
fn children_of_busy_threads_have_a_working_heap() {
    let program = compile("c/fork_storm.c", &[]);
    let forks = forks();
    // A hang is what this test is for: the limit is far above what a fork and an exec take.
    let result =
        run(preloaded(program).arg(forks.to_string()), 60 + forks / 20).expect_success("c/fork_storm.c");
    assert_eq!(result.stdout, format!("fork storm: {forks} children\n"));
    println!("{forks} forks in {:.1} s", result.elapsed.as_secs_f64());
}

#[test]
fn fork_handlers_of_others_may_allocate() {
    let library = compile("c/early_handlers.c", &["-shared", "-fPIC"]);
    let path = library.display().to_string();
    let program = compile("c/fork_handlers.c", &[&path]);
    let result = run(&mut preloaded(program), 120).expect_success("c/fork_handlers.c");
    assert_eq!(result.stdout, "fork handlers: ok\n");
}

#[test]
fn vfork_and_posix_spawn_leave_the_heap_alone() {
    let program = compile("c/spawn.c", &[]);
    let result = run(&mut preloaded(program), 60).expect_success("c/spawn.c");
    assert_eq!(result.stdout, "spawn: ok\n");
}
