//! Counting: what the heaps hold, by walking them. Zone: cold; takes every heap's lock in turn.

use super::{Heap, abandon, hardened, thread};
use crate::arena::{self, Kind, SLICE_BYTES, SLICES, extent};
use crate::meta;
use crate::pagemap;
use crate::slab::{LARGE, Slab};
use core::ptr;
use core::sync::atomic::Ordering;

/// What the heap holds. A snapshot: each thread heap at its own instant.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct HeapStats {
    /// Bytes of live blocks, as their size classes or pages count.
    pub live_bytes: usize,
    /// Live blocks.
    pub live_blocks: usize,
    /// Bytes of slabs that hold or can hold small blocks.
    pub slab_bytes: usize,
    /// Bytes of large spans.
    pub large_bytes: usize,
    /// Live large spans.
    pub large_blocks: usize,
    /// Bytes of reserved address space.
    pub reserved_bytes: usize,
    /// Bytes of extents handed out.
    pub extent_bytes: usize,
    /// Bytes mapped for metadata.
    pub metadata_bytes: usize,
    /// Thread heaps, with and without a thread.
    pub heaps: usize,
    /// Thread heaps with a thread.
    pub threads: usize,
    /// Arenas.
    pub arenas: usize,
}

/// Counts. Thread-safe and fork-safe; takes time in proportion to the heap.
#[must_use]
pub fn heap_stats() -> HeapStats {
    if let Some(heap) = thread::attached() {
        // SAFETY: a thread's heap is never freed, and this is its thread.
        unsafe { &*heap }.give_gathered();
    }
    let mut stats = HeapStats {
        reserved_bytes: arena::reserved_bytes(),
        extent_bytes: arena::live_extent_bytes(),
        metadata_bytes: meta::mapped_bytes(),
        arenas: arena::arena_count(),
        ..HeapStats::default()
    };
    abandon::for_each_locked(|heap| {
        stats.heaps += 1;
        stats.threads += usize::from(heap.live.load(Ordering::Relaxed));
    });
    arena::for_each_extent(&mut |view| {
        let record = extent::at(view.index as usize);
        let owner: *const Heap = record.owner.load(Ordering::Acquire).cast();
        // SAFETY: heaps are never freed.
        if let Some(heap) = unsafe { owner.as_ref() }
            && record.kind() == Kind::Slabs
        {
            // An extent changes hands only under its owner's lock: look again once that is held.
            let _guard = heap.lock.lock();
            if record.kind() == Kind::Slabs && ptr::eq(record.owner.load(Ordering::Acquire).cast(), heap) {
                for_each_slab(view.base, record.live(), |slab| count(slab, &mut stats));
            }
        }
    });
    arena::for_each_extent(&mut |view| {
        let record = extent::at(view.index as usize);
        if record.kind() == Kind::LargeHead {
            let bytes = record.bytes.load(Ordering::Relaxed);
            stats.large_blocks += 1;
            stats.large_bytes += bytes;
            stats.live_blocks += 1;
            stats.live_bytes += bytes;
        }
    });
    let (blocks, bytes) = hardened::guard::live();
    stats.live_blocks += blocks;
    stats.live_bytes += bytes;
    stats
}

fn count(slab: &Slab, stats: &mut HeapStats) {
    let blocks = slab.live_blocks() as usize;
    stats.slab_bytes += slab.slices as usize * SLICE_BYTES;
    stats.live_blocks += blocks;
    stats.live_bytes += blocks * slab.block_bytes as usize;
}

/// Calls `f` for each slab that begins in the extent of slabs at `base`, whose slices `live` are in use. Under the lock of the heap that owns it.
pub(super) fn for_each_slab(base: usize, live: u32, mut f: impl FnMut(&Slab)) {
    for slice in (0..SLICES).filter(|slice| live >> slice & 1 == 1) {
        let addr = base + slice * SLICE_BYTES;
        let slab = pagemap::slab_at(addr - pagemap::window_base());
        if slab.is_null() || ptr::eq(slab, &raw const LARGE) {
            continue;
        }
        // SAFETY: the owning heap's lock is held, so the slab cannot be destroyed.
        let slab = unsafe { &*slab };
        if slab.base() == addr {
            f(slab);
        }
    }
}

/// The size class of the blocks in the slice that holds `addr`, an address in the window; `None` if there are none. A hint: the slice may
/// change hands at any time.
pub(crate) fn class_at(addr: usize) -> Option<usize> {
    let slab = pagemap::slab_at(pagemap::offset(addr)?);
    if slab.is_null() || ptr::eq(slab, &raw const LARGE) {
        return None;
    }
    // SAFETY: the page map holds null or headers that stay readable. Another thread may be writing this one anew: a byte is read whole,
    // and the caller takes what it is for a hint.
    Some(usize::from(unsafe { ptr::read_volatile(&raw const (*slab).class) }))
}
