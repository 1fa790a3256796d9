//! The library on machines with device memory: the C API, forks and refusals while memory is on two tiers.

mod support;

use lab::{Kernel, Layout, Vm};
use std::time::Duration;
use support::{compile, library, workspace};

/// A machine with `files`, and the library as it ships in /terrace; an ordinary user's.
fn machine(layout: Layout, kernel: Kernel, files: &[&std::path::Path]) -> Vm<'static> {
    let vm = Vm::layout(layout).kernel(kernel).user("nobody");
    let vm = vm.terrace_from(library().parent().expect("the library lies in a directory"));
    files.iter().fold(vm, |vm, file| vm.file(file))
}

#[test]
fn the_c_api_places_and_moves_memory() {
    let include = format!("-I{}", workspace().join("include").display());
    let program = compile("c/api.c", &[&include, &library().display().to_string()]);
    for kernel in Kernel::ALL {
        let vm = machine(Layout::DramDevice, kernel, &[&program]);
        let shown = vm.run("LD_LIBRARY_PATH=/terrace ./api").unwrap().expect_success().stdout;
        assert!(shown.contains("api: a device\n") && shown.contains("api: ok\n"), "{kernel:?}: {shown}");
    }
}

#[test]
fn children_have_a_working_heap_while_the_control_thread_runs() {
    let program = compile("c/fork_storm.c", &[]);
    let vm = machine(Layout::DramDevice, Kernel::V6_12, &[&program]);
    let command = "TERRACE_START=1M TERRACE_DRAM=4M TERRACE_TICK_MS=20 LD_PRELOAD=/terrace/libterrace.so ./fork_storm 100";
    let shown = vm.run(command).unwrap().expect_success().stdout;
    assert!(shown.contains("fork storm: 100 children\n"), "{shown}");
}

/// Children that start a control thread of their own, born while the parent's is starting and while it moves pages. What the child's
/// threads need and a fork may leave half done: the loader, the tables and queues of every library, the statistics page.
#[test]
fn children_start_control_threads_of_their_own() {
    let (program, library) =
        (compile("c/fork_control.c", &[]), compile("c/deepbind_library.c", &["-shared", "-fPIC"]));
    let vm =
        machine(Layout::DramDevice, Kernel::V6_12, &[&program, &library]).timeout(Duration::from_secs(600));
    let command =
        "export TERRACE_START=1M TERRACE_DRAM=32M TERRACE_TICK_MS=100 LD_PRELOAD=/terrace/libterrace.so
        for run in 1 2 3 4 5 6 7 8; do ./fork_control ./deepbind_library 0 || exit 1; done
        ./fork_control ./deepbind_library 30";
    let shown = vm.run(command).unwrap().expect_success().stdout;
    assert!(shown.contains("fork control: 30 children ticked\n"), "{shown}");
}

/// A sandbox on a machine with a device: no policy can be set and no page moved, and the program is none the wiser.
#[test]
fn a_sandbox_that_refuses_to_move_pages_is_enough() {
    let (sandbox, workload) = (compile("c/sandbox.c", &[]), compile("c/workload.c", &[]));
    let vm = machine(Layout::DramDevice, Kernel::V6_12, &[&sandbox, &workload]);
    let command = "export TERRACE_START=1M TERRACE_DRAM=4M TERRACE_TICK_MS=20
        for refused in move_pages mbind,move_pages mbind,move_pages,get_mempolicy,userfaultfd; do
            LD_PRELOAD=/terrace/libterrace.so ./sandbox $refused ./workload 2 3000 || exit 1
        done";
    let shown = vm.run(command).unwrap().expect_success().stdout;
    assert_eq!(shown.matches("workload: ok\n").count(), 3, "{shown}");
}
