//! What models do to the heap beside using it (feature `model`). Zone: cold; one model thread at a time, or none.

use super::abandon::{REGISTRY, SHARED_HEAP};
use super::remote_cache::RemoteCache;
use super::{Bins, Heap, abandon, thread};
use crate::class::CLASSES;
use crate::meta;
use crate::pagemap;
use crate::slab::{LARGE, empty_slab};
use core::ptr::{self, NonNull};
use core::sync::atomic::Ordering;

/// Ends the present thread, as the system's thread key does.
pub(crate) fn end_thread() {
    if let Some(heap) = thread::attached() {
        thread::end(heap);
    }
}

/// The present thread's heap as an address; 0 if it has none.
pub(crate) fn own_heap() -> usize {
    thread::attached().map_or(0, |heap| heap.addr())
}

/// Whether the block at `addr`, the start of one that was handed out once, is live by its bits. A large span is if it has its entry.
pub(crate) fn is_live(addr: usize) -> bool {
    let Some(off) = pagemap::offset(addr) else { return false };
    let slab = pagemap::slab_at(off);
    if ptr::eq(slab, &raw const LARGE) {
        return true;
    }
    // SAFETY: the page map holds null or headers that stay readable.
    unsafe { slab.as_ref() }.is_some_and(|slab| slab.has_live(addr))
}

/// Gives back what a heap without blocks keeps for the next thread. When all threads have ended.
pub(crate) fn give_last_extents() {
    abandon::for_each_locked(|heap| heap.all_bins().for_each(Bins::give_last_extent));
}

/// Panics unless all threads have ended and all heaps are empty.
pub(crate) fn check_empty() {
    abandon::for_each_locked(|heap| {
        let shared = ptr::eq(heap, SHARED_HEAP.load(Ordering::Relaxed));
        assert!(shared || !heap.live.load(Ordering::Relaxed), "a heap has a thread");
        assert!(heap.remote.is_empty(), "a heap has slabs with remote frees");
        assert!(heap.pushing.load(Ordering::Relaxed).is_null(), "a heap's thread is giving a block back");
        for bins in heap.all_bins() {
            assert_eq!((bins.extents.get(), bins.open.get()), (0, 0), "a heap has extents");
            let empty = |class: usize| {
                ptr::eq(bins.current(class), empty_slab()) && bins.partial[class].get().is_null()
            };
            assert!((0..CLASSES).all(empty), "a heap has slabs");
        }
    });
}

/// Forgets every heap, whatever it has.
///
/// # Safety
/// * No thread has a heap or a block.
pub(crate) unsafe fn forget_all() {
    let mut registry = REGISTRY.lock();
    let mut next = registry.all;
    // SAFETY: listed heaps are whole; nobody uses them any more, and each is given back once, with its bins.
    while let Some(heap) = unsafe { next.as_ref() } {
        let this = next;
        next = heap.next_heap.get();
        let give = |block: *mut u8, bytes| {
            if let Some(block) = NonNull::new(block) {
                // SAFETY: as above; it came from `take_zeroed` with this size.
                unsafe { meta::recycle(block, bytes, heap.stripe()) };
            }
        };
        for bins in &heap.pools {
            give(bins.load(Ordering::Relaxed).cast(), size_of::<Bins>());
        }
        give(heap.remote_cache.get().cast(), size_of::<RemoteCache>());
        give(this.cast(), size_of::<Heap>());
    }
    (registry.all, registry.made, registry.abandoned) = (ptr::null_mut(), 0, ptr::null_mut());
    SHARED_HEAP.store(ptr::null_mut(), Ordering::Relaxed);
}
