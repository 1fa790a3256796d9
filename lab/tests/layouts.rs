//! Every layout on every kernel: what a program sees is what the layout promises.

use lab::{Kernel, Layout, Vm};
use std::collections::HashMap;

const NUMACHECK: &str = include_str!("../guest/numacheck.c");

/// Who may open the DAX device, and its size; nothing where there is none.
const DAXCHECK: &str = "if [ -c /dev/dax0.0 ]; then
    stat -c 'daxmode %A' /dev/dax0.0; echo daxsize $(cat /sys/bus/dax/devices/dax0.0/size); fi";

/// What `numacheck` said, by key.
struct Facts(HashMap<String, String>, String);

impl Facts {
    fn get(&self, key: &str) -> &str {
        self.0.get(key).map_or("missing", String::as_str)
    }

    #[track_caller]
    fn expect(&self, key: &str, value: &str) {
        assert_eq!(self.get(key), value, "{key} in\n{}", self.1);
    }

    /// A node of about this size whose pages can be bound and moved to node 0 and back, contents intact.
    #[track_caller]
    fn expect_node(&self, node: u32, mib: u64) {
        let seen: u64 = self.get(&format!("mib{node}")).parse().unwrap_or(0);
        // The kernel keeps its own image and, below 4 GiB, 64 MiB of I/O buffers.
        let kept = if node == 0 { 160 } else { 32 };
        assert!(seen <= mib && seen >= mib - kept, "node {node} has {seen} MiB in\n{}", self.1);
        self.expect(&format!("pages{node}"), "64 64 64 64");
        self.expect(&format!("cpulist{node}"), if node == 0 { "0-1" } else { "" });
    }

    #[track_caller]
    fn expect_speed(&self, node: u32, latency_ns: &str, bandwidth_mb: &str) {
        self.expect(&format!("latency{node}"), latency_ns);
        self.expect(&format!("bandwidth{node}"), bandwidth_mb);
    }
}

/// Boots the layout on both kernels with an unprivileged program.
fn on_every_kernel(layout: Layout, check: impl Fn(Kernel, &Facts)) {
    for kernel in Kernel::ALL {
        let vm = Vm::layout(layout).kernel(kernel).dram_mib(512).device_mib(512).user("nobody");
        let outcome = vm
            .c_program("numacheck", NUMACHECK)
            .run(&format!("numacheck || exit 1; {DAXCHECK}"))
            .unwrap()
            .expect_success();
        let split = |line: &str| line.split_once(' ').map(|(key, value)| (key.to_owned(), value.to_owned()));
        let facts = Facts(outcome.stdout.lines().filter_map(split).collect(), outcome.stdout);
        facts.expect("uid", "65534");
        facts.expect("owner", "65534");
        facts.expect("cpus", "2");
        facts.expect_node(0, 512);
        check(kernel, &facts);
    }
}

#[test]
fn one_node_is_an_ordinary_machine() {
    on_every_kernel(Layout::OneNode, |_, facts| facts.expect("mib1", "missing"));
}

#[test]
fn dram_device_has_a_slow_node_without_cpus() {
    on_every_kernel(Layout::DramDevice, |_, facts| {
        facts.expect_node(1, 512);
        facts.expect_speed(0, "100", "204800");
        facts.expect_speed(1, "600", "24576");
        facts.expect("distance0", "10 40");
        facts.expect("mib2", "missing");
    });
}

#[test]
fn without_hmat_only_the_distance_tells_the_nodes_apart() {
    on_every_kernel(Layout::DramDeviceNoHmat, |_, facts| {
        facts.expect_node(1, 512);
        facts.expect("distance1", "40 10");
        facts.expect_speed(0, "none", "none");
        facts.expect_speed(1, "none", "none");
    });
}

#[test]
fn three_tiers_differ_in_speed() {
    on_every_kernel(Layout::ThreeTiers, |_, facts| {
        facts.expect_node(1, 512);
        facts.expect_node(2, 512);
        facts.expect_speed(0, "100", "204800");
        facts.expect_speed(1, "300", "65536");
        facts.expect_speed(2, "900", "24576");
        facts.expect("distance0", "10 20 40");
    });
}

#[test]
fn kmem_makes_a_node_of_device_memory() {
    on_every_kernel(Layout::DeviceViaKmem, |_, facts| {
        facts.expect_node(1, 512);
        facts.expect_speed(1, "600", "24576");
    });
}

#[test]
fn device_dax_is_a_file_to_map_and_no_node() {
    on_every_kernel(Layout::DeviceDax, |_, facts| {
        facts.expect("daxmode", "crw-rw-rw-");
        facts.expect("daxsize", &(512_u64 << 20).to_string());
        facts.expect("mib1", "missing");
    });
}
