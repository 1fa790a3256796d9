//! Threads that come and go, with what runs when they end.

mod support;

use support::{compile, preloaded, run};

#[test]
fn destructors_of_an_ending_thread_may_allocate_and_nothing_is_left() {
    let program = compile("c/thread_end.cpp", &[]);
    let result = run(&mut preloaded(program), 120).expect_success("c/thread_end.cpp");
    assert_eq!(result.stdout, "thread end: ok\n");
}

#[test]
fn many_threads_share_a_heap_without_tearing_it() {
    let program = compile("c/workload.c", &[]);
    let result = run(preloaded(program).args(["16", "20000"]), 240).expect_success("c/workload.c");
    assert_eq!((result.stdout.as_str(), result.stderr.as_str()), ("workload: ok\n", ""));
}
