//! Fork: every lock is taken before and freed after, so that the child finds every heap at rest.
//!
//! Zone: cold. Handlers run in the thread that forks (pthread_atfork(3)). Registered from a constructor, before the application's own, so
//! `prepare` runs after theirs and `parent` and `child` before. In the child the heaps of the threads that are gone are
//! abandoned, and adopted by the next threads.

use crate::{arena, control, heap, meta};
use core::ptr;

/// Takes every lock of the heap, in the documented order.
pub(super) extern "C" fn prepare() {
    control::fork::before();
    heap::lock_for_fork();
    arena::lock_for_fork();
    meta::lock_for_fork();
}

/// Releases them in the parent.
pub(super) extern "C" fn parent() {
    // SAFETY: `prepare` ran in this thread just before fork.
    unsafe {
        meta::unlock_after_fork();
        arena::unlock_after_fork();
        heap::unlock_after_fork();
        control::fork::in_parent();
    }
}

/// Makes them free in the child.
pub(super) extern "C" fn child() {
    // SAFETY: the child of a fork has one thread, this one.
    unsafe {
        meta::reset_after_fork();
        arena::reset_after_fork();
        heap::reset_after_fork(heap::attached().unwrap_or(ptr::null_mut()));
        control::fork::in_child();
    }
}
