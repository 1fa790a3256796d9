//! Returning idle memory: empty slabs to extents, empty extents to arenas, idle pages to the system, also those inside slabs. Zone: cold.

use super::{Bins, Heap, abandon, thread};
use crate::arena;
use crate::class::CLASSES;
use crate::config;
use crate::meta;
use crate::slab::{Slab, empty_slab};
use crate::sys::futex;
use core::ptr;
use core::sync::atomic::Ordering;

/// Heaps are not searched for idle memory more often, whatever the purge period; what is given back goes at once if that is 0.
const LEAST_MS: u64 = 100;
/// Nor before so many times as long has passed as the last search took: it takes at most 2 % of a thread's time, however large the heap.
const REST: u64 = 50;

/// Which of the slabs without a live block.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Idle {
    /// Those that nothing is allocated from.
    Listed,
    /// Also those that bins allocate from, unless that was for more than a few small blocks since the last purge: a program that comes back to a
    /// size is to find its memory. Given to another size, it would be sought elsewhere (a seventh more at the peak, measured in python).
    Unused,
    /// Also those.
    All,
}

/// Destroys slabs of `heap` without a live block. Under its lock; more than the listed ones only for the owner thread, or for a heap without one.
pub(super) fn release_idle(heap: &Heap, which: Idle) {
    heap.drain_remote();
    for bins in heap.all_bins() {
        for class in 0..CLASSES {
            let mut kept = ptr::null();
            if which != Idle::Listed {
                let slab = bins.current(class);
                bins.set_current(class, empty_slab());
                if !ptr::eq(slab, empty_slab()) {
                    // SAFETY: a current slab is alive.
                    let this = unsafe { &*slab };
                    bins.push_partial(this);
                    if which == Idle::Unused && this.was_in_use() {
                        kept = slab;
                    }
                }
            }
            bins.for_each_partial(class, |slab| {
                slab.collect();
                if slab.is_idle() && !ptr::eq(slab, kept) {
                    bins.unlist(slab);
                    let (base, slices) = (slab.base(), slab.slices as usize);
                    // SAFETY: idle under the heap's lock, in no bin, and just taken off its list.
                    unsafe { Slab::destroy((&raw const *slab).cast_mut()) };
                    bins.give_slices(base, slices);
                }
            });
        }
    }
}

/// Destroys every slab of a heap without an owner that has no live block, and gives back every extent that is empty then. Under its lock.
pub(super) fn release_empty(heap: &Heap) {
    release_idle(heap, Idle::All);
    heap.all_bins().for_each(Bins::give_last_extent);
    heap.swept.set(true);
}

/// Returns the pages of free blocks in slabs that have live ones, too. Under the heap's lock, by its owner or for a heap without one.
fn purge_slabs(heap: &Heap, short: bool) {
    let purge = |slab: &Slab| {
        slab.purge_pages(short);
        slab.begin_low();
    };
    heap.all_bins().for_each(|bins| (0..CLASSES).for_each(|class| bins.for_each_partial(class, purge)));
}

/// Once per purge period: empty slabs go, and slices and blocks that stayed free for a period lose their pages. Under the heap's lock, by its
/// owner, who does the same for heaps and arenas that have none.
pub(super) fn purge(heap: &Heap) {
    let now = futex::now_ms();
    let short = arena::pressure::tight();
    heap.give_gathered();
    release_idle(heap, if short { Idle::All } else { Idle::Unused });
    purge_slabs(heap, short);
    heap.all_bins().for_each(|bins| bins.purge_slices(false));
    abandon::try_each_abandoned(|heap| {
        if is_due(heap, now) {
            release_empty(heap);
            purge_slabs(heap, short);
            heap.all_bins().for_each(|bins| bins.purge_slices(false));
        }
    });
    arena::purge_old();
    heap.purge_took_ms.set(futex::now_ms().saturating_sub(now));
}

/// Whether a period has passed since it last was, by `now` in ms; that starts the next. By the heap's owner or, if it has none, under its lock.
pub(super) fn is_due(heap: &Heap, now: u64) -> bool {
    let period =
        u64::from(config::get().purge_ms).max(LEAST_MS).max(heap.purge_took_ms.get().saturating_mul(REST));
    let due = now.wrapping_sub(heap.last_purge_ms.get()) >= period;
    if due {
        heap.last_purge_ms.set(now);
    }
    due
}

/// Returns all idle memory to the system now: of this thread's heap, of abandoned heaps, of the arenas, and metadata; whether any went.
///
/// Thread-safe. Other threads' heaps are left alone: only their owners may touch the slabs they allocate from.
pub(crate) fn trim() -> bool {
    let before = arena::live_extent_bytes();
    if let Some(heap) = thread::attached() {
        // SAFETY: a thread's heap is never freed, and this is its thread.
        let heap = unsafe { &*heap };
        heap.give_gathered();
        let _guard = heap.lock.lock();
        heap.empty_quarantine();
        release_idle(heap, Idle::All);
        purge_slabs(heap, true);
        heap.all_bins().for_each(|bins| bins.purge_slices(true));
    }
    abandon::for_each_locked(|heap| {
        if !heap.live.load(Ordering::Relaxed) {
            heap.empty_quarantine();
            release_idle(heap, Idle::All);
            purge_slabs(heap, true);
            heap.all_bins().for_each(|bins| bins.purge_slices(true));
        }
    });
    let purged = arena::purge_all() + meta::purge(true);
    purged > 0 || arena::live_extent_bytes() < before
}
