//! Faults on demand: calls into the system that fail, for tests (feature `invariants`).
//!
//! Zone: cold. Each function that asks the system for something it may refuse first asks [`due`] and names the [`Call`]. Process-wide,
//! like the memory that would be short.

use super::{Call, Errno};
use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// How many kinds of calls there are.
pub const CALLS: usize = Call::KeyValue as usize + 1;

/// For [`arm`]: every kind.
pub const ALL: u32 = (1 << CALLS) - 1;

static ONE_IN: AtomicU64 = AtomicU64::new(0);
static KINDS: AtomicU32 = AtomicU32::new(0);
static STATE: AtomicU64 = AtomicU64::new(1);
static INJECTED: [AtomicUsize; CALLS] = [const { AtomicUsize::new(0) }; CALLS];
static NODES: AtomicU32 = AtomicU32::new(0);

impl Call {
    /// The bit of this kind in the mask for [`arm`].
    #[must_use]
    pub const fn bit(self) -> u32 {
        1 << self as u8
    }

    /// What the system says when it refuses; `other` chooses where there are two usual answers.
    fn refusal(self, other: bool) -> i32 {
        match (self, other) {
            (
                Call::Map
                | Call::Place
                | Call::Unmap
                | Call::Protect
                | Call::Discard
                | Call::Remap
                | Call::KeyValue,
                _,
            ) => libc::ENOMEM,
            (Call::HugePages, _) => libc::EINVAL,
            (Call::Bind | Call::MovePages, false) => libc::ENOMEM,
            (Call::Bind | Call::MovePages | Call::Userfault, _) => libc::EPERM,
            (Call::Policy, _) => libc::ENOSYS,
            (Call::Wait, _) => libc::EINTR,
            (Call::Open, false) => libc::EMFILE,
            (Call::Open, true) => libc::ENOENT,
            (Call::Thread | Call::Key, _) => libc::EAGAIN,
        }
    }
}

/// From now on about one call in `one_in` of the `kinds` (bits of [`Call::bit`]) fails, in an order that `seed` decides; 0 = none.
pub fn arm(seed: u64, one_in: u64, kinds: u32) {
    STATE.store(seed | 1, Ordering::Relaxed);
    KINDS.store(kinds, Ordering::Relaxed);
    ONE_IN.store(one_in, Ordering::Relaxed);
}

/// How many calls of each kind, by its number, have failed so far because of [`arm`].
#[must_use]
pub fn injected() -> [usize; CALLS] {
    core::array::from_fn(|kind| INJECTED[kind].load(Ordering::Relaxed))
}

/// Has this process believe that it may allocate on nodes 0 to `count` - 1 as well, whatever the machine has. Before its first allocation.
pub fn pretend_nodes(count: u32) {
    NODES.store(count, Ordering::Relaxed);
}

/// The count given to [`pretend_nodes`].
pub(super) fn pretended_nodes() -> u32 {
    NODES.load(Ordering::Relaxed)
}

/// Whether the call that asks is to fail.
pub(super) fn due(call: Call) -> Result<(), Errno> {
    let one_in = ONE_IN.load(Ordering::Relaxed);
    if one_in == 0 || KINDS.load(Ordering::Relaxed) & call.bit() == 0 {
        return Ok(());
    }
    // A multiplicative generator; its high bits are the random ones. Racing threads may draw the same number.
    let state = STATE.load(Ordering::Relaxed).wrapping_mul(0x2545_f491_4f6c_dd1d).wrapping_add(0x9e37_79b9);
    STATE.store(state, Ordering::Relaxed);
    if !(state >> 33).is_multiple_of(one_in) {
        return Ok(());
    }
    INJECTED[call as usize].fetch_add(1, Ordering::Relaxed);
    Err(Errno(call.refusal(state >> 32 & 1 == 1)))
}
