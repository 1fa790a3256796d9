//! The access counter is exact: not nearly, to the last load and store.

use lab::{Accesses, Kernel, Layout, Mark, Vm};
use std::path::PathBuf;

const COUNTCHECK: &str = include_str!("../guest/countcheck.c");

/// As many updates of memory on each node: a load and a store each.
#[track_caller]
fn expect(mark: Option<&Mark>, updates: &[u64]) {
    let mark = mark.expect("the mark was passed");
    let nodes: Vec<Accesses> = updates.iter().map(|n| Accesses { reads: *n, writes: *n }).collect();
    assert_eq!(mark.nodes, nodes, "mark {}", mark.id);
    assert_eq!(mark.elsewhere, Accesses::default(), "mark {}", mark.id);
}

fn counts_are_exact(vm: Vm<'_>, nodes: usize) {
    let vm = vm.user("nobody").count_accesses(true).c_program("countcheck", COUNTCHECK);
    let outcome = vm.run(&format!("countcheck {nodes}")).unwrap().expect_success();
    let updates = |id: u32, per_node: [u64; 3]| expect(outcome.mark(id), &per_node[..nodes]);
    updates(10, [1_000_000, 0, 0]);
    updates(11, [0, 500_000, 0]);
    updates(12, [0, 0, if nodes > 2 { 250_000 } else { 0 }]);
    let mut threads = [0; 3];
    threads[0] += 250_000;
    threads[nodes - 1] += 250_000;
    updates(20, threads);
    updates(22, [10_000, 0, 0]);
    let moved = outcome.mark(21).expect("the mark after the move was passed");
    assert_eq!(moved.nodes[0], Accesses { reads: 0, writes: 1000 });
    assert_eq!(moved.nodes[1..].iter().map(|n| n.total()).sum::<u64>(), 0);
    let before = outcome.mark(1).expect("the first mark was passed");
    assert!(before.nodes.iter().all(|n| n.writes > 0), "every node's memory was filled: {before:?}");
    assert_eq!(outcome.counts.last().map(|mark| mark.id), Some(Mark::END));
}

#[test]
fn on_two_nodes() {
    counts_are_exact(Vm::layout(Layout::DramDevice).dram_mib(768).device_mib(512), 2);
}

#[test]
fn on_three_nodes_with_dram_on_both_sides_of_the_4_gib_hole() {
    let vm = Vm::layout(Layout::ThreeTiers).kernel(Kernel::V6_1).dram_mib(2560).device_mib(384);
    counts_are_exact(vm, 3);
}

#[test]
fn on_device_memory_that_became_a_node_after_boot() {
    counts_are_exact(Vm::layout(Layout::DeviceViaKmem).dram_mib(512).device_mib(256), 2);
}

#[test]
fn marks_of_a_rust_program() {
    // Cargo builds the package's examples with its tests, beside them.
    let test = std::env::current_exe().unwrap();
    let marked: PathBuf = test.ancestors().nth(2).unwrap().join("examples/marked");
    let vm = Vm::layout(Layout::OneNode).cpus(1).dram_mib(512).count_accesses(true).file(marked);
    let outcome = vm.run("./marked").unwrap().expect_success();
    let nodes = &outcome.mark(2).expect("the mark was passed").nodes;
    assert_eq!(*nodes, [Accesses { reads: 0, writes: 10_000 }]);
}
