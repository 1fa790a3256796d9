//! What a model needs beside the ordinary functions (feature `model`): see [`crate::model`].

use crate::{arena, heap, meta};
use core::ptr;

/// Ends the present thread of a model: its heap is abandoned, as when a thread of the system ends.
pub fn end_thread() {
    heap::model::end_thread();
}

/// The address of the present thread's heap; 0 if it has none.
#[must_use]
pub fn own_heap() -> usize {
    heap::model::own_heap()
}

/// Whether a block that was handed out once is live now. A snapshot; no other thread may be inside the allocator.
#[must_use]
pub fn is_live(block: *mut u8) -> bool {
    heap::model::is_live(block.addr())
}

/// Forks: takes every lock as before fork(2), lets `vanish` end all other threads where they are, and puts the heap in order as in the child.
pub fn fork(vanish: impl FnOnce()) {
    heap::lock_for_fork();
    arena::lock_for_fork();
    meta::lock_for_fork();
    vanish();
    // SAFETY: the other threads have vanished: none of them will run again.
    unsafe {
        meta::reset_after_fork();
        arena::reset_after_fork();
        heap::reset_after_fork(heap::attached().unwrap_or(ptr::null_mut()));
    }
}

/// Checks that the heap is whole and empty. When all threads have ended.
pub fn check_empty() {
    heap::trim();
    heap::model::give_last_extents();
    crate::check_invariants(true);
    let left = heap::heap_stats();
    assert_eq!((left.live_blocks, left.extent_bytes), (0, 0), "blocks and bytes left at the end");
    heap::model::check_empty();
}

/// Makes the heap as it was before its first use, whatever state a model has left it in. The first call makes arenas of `arena` bytes.
///
/// # Safety
/// * No thread uses the heap, or anything that was allocated, any more.
pub unsafe fn start_over(arena: usize) {
    arena::shrink_arenas(arena);
    // SAFETY: passed on from the caller.
    unsafe {
        meta::reset_after_fork();
        arena::reset_after_fork();
        heap::reset_after_fork(ptr::null_mut());
        heap::model::forget_all();
        arena::model::free_all();
    }
    arena::purge_all();
}
