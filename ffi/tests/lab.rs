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

/// Where the heap does not fit in DRAM, hot and cold objects that different places in the program allocate can be told apart by page.
#[test]
fn blocks_of_different_sites_lie_on_different_pages() {
    let program = compile("c/sites.c", &["-O2", "-lstdc++"]);
    for how in ["malloc", "new"] {
        let vm = machine(Layout::DramDevice, Kernel::V6_12, &[&program]);
        let command = format!(
            "TERRACE_START=1M TERRACE_DRAM=16M TERRACE_TICK_MS=20 LD_PRELOAD=/terrace/libterrace.so ./sites {how}"
        );
        let shown = vm.run(&command).unwrap().expect_success().stdout;
        let numbers: Vec<u32> =
            shown.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse().ok()).collect();
        let &[pure, mixed] = numbers.as_slice() else { panic!("{shown}") };
        assert!(pure > 10_000 && mixed < pure / 20, "{how}: {shown}");
    }
}

/// The numbers that `mover_errors` printed after these words.
fn counts<const N: usize>(shown: &str, words: [&str; N]) -> [u64; N] {
    let mut all = shown.split_whitespace();
    words.map(|word| {
        let found = all.find(|w| *w == word).and_then(|_| all.next());
        found.and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("{word}: {shown}"))
    })
}

/// Pages that the kernel will not move, each for a reason of its own; what is in them stays, and all else goes on moving.
#[test]
fn pages_that_cannot_be_moved_are_counted_and_keep_their_contents() {
    let program = compile("c/mover_errors.c", &[]);
    let vm = machine(Layout::DramDevice, Kernel::V6_12, &[&program]).device_mib(256);
    let vm = vm.timeout(Duration::from_secs(600));
    let command =
        "export TERRACE_START=1M TERRACE_DRAM=32M TERRACE_TICK_MS=50 LD_PRELOAD=/terrace/libterrace.so
        for how in pinned shared full; do ./mover_errors $how 12 || exit 1; done";
    let shown = vm.run(command).unwrap().expect_success().stdout;
    let runs: Vec<&str> = shown.split_inclusive("mover errors: ok\n").collect();
    let [pinned, shared, full] = runs[..] else { panic!("{shown}") };
    let [demoted, busy, again] = counts(pinned, ["demoted", "EBUSY", "EAGAIN"]);
    assert!(demoted > 1000 && busy + again > 0, "{shown}");
    assert!(counts(shared, ["EACCES"]) > [0], "{shown}");
    // The mover does not ask for what is not there (ENOMEM is for the tests with a played kernel): it makes room for the rival.
    assert!(counts(full, ["evicted"]) > [0], "{shown}");
}

/// The kernel brings back what is used, and Terrace makes room for it. Where the kernel does not, Terrace does both, and says so.
#[test]
fn in_assist_the_kernel_promotes_and_terrace_demotes() {
    let program = compile("c/mover_errors.c", &[]);
    let vm = Vm::layout(Layout::DramDevice).terrace_from(library().parent().expect("a directory"));
    let vm = vm.timeout(Duration::from_secs(600)).alone();
    let command = "export TERRACE_START=1M TERRACE_DRAM=32M TERRACE_TICK_MS=50 TERRACE_MODE=assist
        try() { LD_PRELOAD=/terrace/libterrace.so /lab/guest as 65534 65534 ./mover_errors quiet $1 2>&1 || exit 1; }
        try 4
        echo 2 > /proc/sys/kernel/numa_balancing
        # The kernel looks at a page only so often: on a busy computer it takes more than one run.
        for n in 1 2 3 4 5; do
            try 24
            set -- $(grep pgpromote_success /proc/vmstat)
            [ $2 -gt 1000 ] && break
        done
        echo $*
        echo 1 > /proc/sys/kernel/numa_balancing";
    let shown = vm.file(program).run(command).unwrap().expect_success().stdout;
    let runs: Vec<&str> = shown.split_inclusive("mover errors: ok\n").collect();
    let [auto, assist @ .., kernel] = &runs[..] else { panic!("{shown}") };
    println!("{shown}");
    assert!(auto.contains("TERRACE_MODE=assist: the kernel promotes nothing"), "{shown}");
    assert!(!assist.is_empty(), "{shown}");
    for assist in assist {
        let [promoted, demoted] = counts(assist, ["promoted", "demoted"]);
        assert!(!assist.contains("TERRACE_MODE") && promoted == 0 && demoted > 1000, "{shown}");
    }
    assert!(counts(kernel, ["pgpromote_success"]) > [1000], "{shown}");
}

/// The device's memory is taken away while pages are on it, and a while later is there again.
#[test]
fn a_node_that_is_taken_offline_takes_no_data_along() {
    let program = compile("c/mover_errors.c", &[]);
    let vm = Vm::layout(Layout::DeviceViaKmem).terrace_from(library().parent().expect("a directory"));
    let command = "export TERRACE_START=1M TERRACE_DRAM=32M TERRACE_TICK_MS=50
        LD_PRELOAD=/terrace/libterrace.so /lab/guest as 65534 65534 ./mover_errors quiet 24 & pid=$!
        sleep 8
        blocks=$(ls -d /sys/devices/system/node/node1/memory[0-9]*)
        for block in $blocks $blocks $blocks; do
            [ $(cat $block/state) = offline ] || { echo offline > $block/state; } 2>/dev/null
        done
        gone=$(cat /sys/devices/system/node/node1/memory[0-9]*/state | grep -c offline)
        echo blocks offline $gone of $(echo $blocks | wc -w); sleep 6
        for block in $blocks; do { echo online_movable > $block/state; } 2>/dev/null; done
        echo again $(cat /sys/devices/system/node/node1/memory[0-9]*/state | grep -c online)
        wait $pid || exit 1";
    let shown = vm.file(program).run(command).unwrap().expect_success().stdout;
    let [gone, all, again, demoted] = counts(&shown, ["offline", "of", "again", "demoted"]);
    // The kernel may keep a block that holds something of its own.
    assert!(gone * 2 > all && again == all && demoted > 1000, "{shown}");
    assert!(shown.ends_with("mover errors: ok\n"), "{shown}");
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

/// Instructions of the application's thread for its operations on the heap, as `steps.c` counts them: in the round in the middle.
/// Whether a slow call falls in a round, and reads the clock there, is chance.
fn steps(shown: &str) -> f64 {
    let counts = shown.lines().filter_map(|line| line.strip_prefix("steps: ")?.parse().ok());
    let mut counts: Vec<f64> = counts.collect();
    counts.sort_by(f64::total_cmp);
    assert!(counts.len() >= 5, "counts are missing in\n{shown}");
    counts[counts.len() / 2]
}

/// What tiering costs a thread that has nothing to be moved: no more than one instruction in a hundred; nor does the
/// mode, on a machine without a device node.
#[test]
fn a_thread_pays_nothing_for_tiering_that_has_nothing_to_do() {
    const OPERATIONS: f64 = 100.0;
    let program = compile("c/steps.c", &["-O2"]);
    let count = |layout, settings: &str| {
        // No purge, whose work goes by the clock, which runs on between two steps.
        let command = format!(
            "TERRACE_PURGE_MS=3600000 TERRACE_START=1M LD_PRELOAD=/terrace/libterrace.so {settings} {OPERATIONS} 7"
        );
        // One processor: each step is a switch between two processes, which two processors would have to wake each other for.
        let vm = machine(layout, Kernel::V6_12, &[&program]).cpus(1);
        let shown = vm.run(&command).unwrap().expect_success().stdout;
        println!("{settings}: {}", shown.trim().replace('\n', ", "));
        steps(&shown)
    };
    let alone = count(Layout::OneNode, "TERRACE_MODE=isolate ./steps 1");
    let no_device = count(Layout::OneNode, "TERRACE_MODE=auto ./steps 1");
    let tiered = count(Layout::DramDevice, "TERRACE_MODE=auto ./steps 2");
    println!(
        "instructions an operation: {} alone, {} in auto mode, {} beside a tracker",
        alone / OPERATIONS,
        no_device / OPERATIONS,
        tiered / OPERATIONS
    );
    assert!((no_device / alone - 1.0).abs() < 0.01, "{alone} and {no_device} instructions");
    assert!(tiered / alone < 1.01, "{alone} and {tiered} instructions");
}
