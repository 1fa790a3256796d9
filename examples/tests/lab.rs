//! The examples on machines with a device node.

mod support;

use lab::{Kernel, Layout, Outcome, Vm};
use support::{compile_with_terrace, library};

fn tiered_cache(layout: Layout, kernel: Kernel) -> Outcome {
    let program = env!("CARGO_BIN_EXE_tiered_cache");
    let vm = Vm::layout(layout).kernel(kernel).user("nobody").file(program);
    vm.run("./tiered_cache 3000 3000").unwrap().expect_success()
}

#[test]
fn parked_values_are_on_the_device_from_their_first_touch() {
    for kernel in Kernel::ALL {
        let shown = tiered_cache(Layout::DramDevice, kernel).stdout;
        assert!(shown.contains("strict device allocation: granted\n"), "{shown}");
        // 3000 values, of which a quarter is recent; not one of the others is anywhere but on node 1.
        assert!(shown.contains("parked values on node 1: 2250\n"), "{shown}");
        assert!(!shown.contains("parked values on node 0"), "{shown}");
        assert!(shown.contains("damaged 0\n"), "{shown}");
    }
}

#[test]
fn without_a_device_node_parked_values_stay_in_dram() {
    let shown = tiered_cache(Layout::OneNode, Kernel::V6_12).stdout;
    assert!(shown.contains("strict device allocation: refused"), "{shown}");
    assert!(shown.contains("parked values on node 0: 2250\n") && shown.contains("damaged 0\n"), "{shown}");
}

/// `hints.c` where there is a device node: a strict hint is granted, and every page is where it was sent.
#[test]
fn hints_decide_where_pages_are() {
    let library = library();
    let program = compile_with_terrace("hints", library);
    let vm =
        Vm::layout(Layout::DramDevice).user("nobody").terrace_from(library.parent().unwrap()).file(program);
    let shown = vm.run("LD_LIBRARY_PATH=/terrace ./hints").unwrap().expect_success().stdout;
    for line in [
        "tier 0: dram, ",
        "tier 1: device, ",
        "hot index: 0 of 256 pages on a device\n",
        "device buffer: 512 of 512 pages on a device\n",
        "strict device allocation: granted\n",
        "archive, sent to the device: 1024 of 1024 pages on a device\n",
        "archive, taken back: 0 of 1024 pages on a device\n",
        "every byte as it was\n",
    ] {
        assert!(shown.contains(line), "{line} is missing in\n{shown}");
    }
}
