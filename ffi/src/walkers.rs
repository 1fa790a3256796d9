//! Doors for the fuzzer (feature `invariants`, which no library that ships has): the walkers, and calls that fail on demand.
//!
//! Zone: cold.

use core::ffi::c_int;
use terrace_core::sys::{Call, fault};
use terrace_core::{check_invariants, raw};

/// What the fuzzer has fail. Not what leaves something behind for good: a thread whose end is not noticed, a range that stays mapped.
const REFUSED: u32 = fault::ALL & !(Call::KeyValue.bit() | Call::Key.bit() | Call::Unmap.bit());

/// 0 if everything the heap keeps agrees with everything else; otherwise 1, with what does not on standard error. `still`: no other
/// thread is inside the allocator.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn terrace_test_check(still: c_int) -> c_int {
    std::panic::catch_unwind(|| check_invariants(still != 0)).is_err().into()
}

/// Has about one call into the system in `one_in` fail from now on; 0 = none.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn terrace_test_faults(seed: u64, one_in: u64) {
    fault::arm(seed, one_in, REFUSED);
}

/// How many calls have failed on demand.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn terrace_test_injected() -> usize {
    fault::injected().iter().sum()
}

/// Live blocks.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn terrace_test_live_blocks() -> usize {
    raw::heap_stats().live_blocks
}

/// Has the library believe in memory nodes 0 to `count` - 1. Before the first allocation.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn terrace_test_nodes(count: u32) {
    fault::pretend_nodes(count);
}
