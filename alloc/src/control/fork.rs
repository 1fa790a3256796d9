//! The control thread and fork(2).
//!
//! Zone: control, and the fork handlers in the thread that forks. A child gets the memory of its parent as it is, but one thread: what
//! another thread was changing stays half changed for good. The C library puts its heap and its streams in order, and we put ours. It does
//! not put the loader in order: a child forked while another thread was in dlopen(3) finds objects that are listed but not relocated, and
//! dies at its own next dlopen ("Inconsistency detected by ld.so") or by calling into one of them. The program may have no thread but the
//! control thread, so this is for us to prevent:
//!
//! * Whatever the control thread does to such state it does [`undisturbed`]: a fork waits for it, at most [`PATIENCE_MS`]. That is once in
//!   the life of a process, about 10 to 50 ms.
//! * A forked child loads nothing: it uses the table of tiers its parent has worked out, or reads sysfs.
//!
//! Invariant: `HELD` says whether the fork under way has `DISTURBANCE`; `FORK` is held from `before` to `in_parent` or `in_child`, so there
//! is one.

use crate::sync::Lock;
use std::sync::atomic::{AtomicBool, Ordering};

static FORK: Lock<()> = Lock::new(());
static DISTURBANCE: Lock<()> = Lock::new(());
static HELD: AtomicBool = AtomicBool::new(false);
static FORKED: AtomicBool = AtomicBool::new(false);

/// A constructor that forks has the loader's lock, which the control thread may be waiting for. Then, and only then, waiting would be for
/// ever; and going on harms nobody, because the control thread has not begun.
const PATIENCE_MS: u64 = 2000;

/// Runs `f`, of the control thread, while nobody forks.
pub(super) fn undisturbed<R>(f: impl FnOnce() -> R) -> R {
    let _guard = DISTURBANCE.lock();
    f()
}

/// Whether this process is a forked child, of whatever generation.
pub(super) fn is_child() -> bool {
    FORKED.load(Ordering::Relaxed)
}

/// Before a fork, and before any lock of the heap: the control thread may allocate while it is undisturbed.
pub(crate) fn before() {
    FORK.acquire();
    HELD.store(DISTURBANCE.acquire_within(PATIENCE_MS), Ordering::Relaxed);
}

/// After it, in the parent.
///
/// # Safety
/// * This thread called [`before`].
pub(crate) unsafe fn in_parent() {
    // SAFETY: FORK is held since `before`, and DISTURBANCE if HELD, which is this fork's, says so.
    unsafe {
        if HELD.load(Ordering::Relaxed) {
            DISTURBANCE.release();
        }
        FORK.release();
    }
}

/// After it, in the child.
///
/// # Safety
/// * This is the only thread of the process.
pub(crate) unsafe fn in_child() {
    // SAFETY: no other thread exists.
    unsafe {
        DISTURBANCE.reset();
        FORK.reset();
    }
    FORKED.store(true, Ordering::Relaxed);
    super::in_child_after_fork();
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;
    use std::time::Duration;

    #[test]
    fn a_fork_waits_for_what_must_not_be_disturbed_and_holds_it_off() {
        let step = AtomicU32::new(0);
        std::thread::scope(|s| {
            s.spawn(|| {
                undisturbed(|| {
                    step.store(1, Ordering::Release);
                    std::thread::sleep(Duration::from_millis(50));
                    step.store(2, Ordering::Release);
                });
            });
            while step.load(Ordering::Acquire) == 0 {
                std::thread::yield_now();
            }
            before();
            assert_eq!(step.load(Ordering::Acquire), 2);
            s.spawn(|| undisturbed(|| step.store(3, Ordering::Release)));
            std::thread::sleep(Duration::from_millis(20));
            assert_eq!(step.load(Ordering::Acquire), 2);
            // SAFETY: `before` was called above, in this thread.
            unsafe { in_parent() };
        });
        assert_eq!(step.load(Ordering::Acquire), 3);
    }
}
