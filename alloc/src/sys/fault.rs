//! Faults on demand: memory system calls that fail, for tests (feature `invariants`).
//!
//! Zone: cold. Each function of [`mm`](super::mm) that asks the kernel for something it may refuse first asks [`due`]. Process-wide,
//! like the memory that would be short.

use super::Errno;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

static ONE_IN: AtomicU64 = AtomicU64::new(0);
static STATE: AtomicU64 = AtomicU64::new(1);
static INJECTED: AtomicUsize = AtomicUsize::new(0);

/// From now on about one call in `one_in` fails with `ENOMEM`, in an order that `seed` decides; 0 = none.
pub fn arm(seed: u64, one_in: u64) {
    STATE.store(seed | 1, Ordering::Relaxed);
    ONE_IN.store(one_in, Ordering::Relaxed);
}

/// How many calls have failed so far because of [`arm`].
#[must_use]
pub fn injected() -> usize {
    INJECTED.load(Ordering::Relaxed)
}

/// Whether the call that asks is to fail.
pub(super) fn due() -> Result<(), Errno> {
    let one_in = ONE_IN.load(Ordering::Relaxed);
    if one_in == 0 {
        return Ok(());
    }
    // A multiplicative generator; its high bits are the random ones. Racing threads may draw the same number.
    let state = STATE.load(Ordering::Relaxed).wrapping_mul(0x2545_f491_4f6c_dd1d).wrapping_add(0x9e37_79b9);
    STATE.store(state, Ordering::Relaxed);
    if !(state >> 33).is_multiple_of(one_in) {
        return Ok(());
    }
    INJECTED.fetch_add(1, Ordering::Relaxed);
    Err(Errno(libc::ENOMEM))
}
