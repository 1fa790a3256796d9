//! Checks of everything the heaps keep, for stress tests (feature `invariants`).
//!
//! Zone: cold; takes the registry's lock and each heap's in turn. Owners go on allocating and freeing on their fast paths meanwhile, which
//! changes bits and cursors and nothing else.

use super::{Bins, Heap, abandon};
use crate::arena::{self, Kind, SLICE_BYTES, SLICES, extent};
use crate::class::{CLASSES, class_bytes, slab_slices};
use crate::pagemap;
use crate::slab::{Slab, empty_slab};
use core::ptr;
use core::sync::atomic::Ordering;

/// Panics if anything in the heaps or arenas contradicts anything else. `still`: no other thread is inside the allocator.
///
/// Thread-safe; takes time in proportion to the heap.
pub fn check_invariants(still: bool) {
    abandon::for_each_locked(|heap| {
        heap.check_remote();
        heap.check_quarantine();
        heap.all_bins().for_each(|bins| check_bins(heap, bins));
    });
    arena::check(still);
}

impl Heap {
    /// The stack of remote frees: slabs of this heap, each once, each announced. Others may push meanwhile.
    fn check_remote(&self) {
        let mut steps = 0;
        self.remote.for_each(|slab| {
            assert!(ptr::eq(slab.heap(), self), "a slab on another heap's stack");
            assert!(slab.is_announced(), "a slab on the stack that nobody announced");
            steps += 1;
            assert!(steps < 1 << 24, "the stack of remote frees has a loop");
        });
    }
}

fn check_bins(heap: &Heap, bins: &Bins) {
    // Where each slab is: allocated from, listed, or full. What the lists hold must be what the extents hold.
    let (mut current, mut listed) = (0, 0);
    for class in 0..CLASSES {
        let slab = bins.current(class);
        if !ptr::eq(slab, empty_slab()) {
            // SAFETY: a current slab is alive.
            let slab = unsafe { &*slab };
            check_slab(heap, bins, slab);
            assert!(
                slab.class as usize == class && !slab.listed.get() && !slab.is_full(),
                "current slab of class {class}"
            );
            current += 1;
        }
        let mut prev: *mut Slab = ptr::null_mut();
        bins.for_each_partial(class, |slab| {
            check_slab(heap, bins, slab);
            assert!(
                slab.class as usize == class && slab.listed.get() && !slab.is_full(),
                "listed slab of class {class}"
            );
            assert!(ptr::eq(slab.prev.get(), prev), "links of the list of class {class}");
            prev = (&raw const *slab).cast_mut();
            listed += 1;
        });
    }
    let (mut extents, mut open, mut slabs, mut full) = (0, 0, 0, 0);
    arena::for_each_extent(&mut |view| {
        let record = extent::at(view.index as usize);
        // An extent of this heap stays so while its lock is held; others come and go.
        if record.kind() != Kind::Slabs
            || !ptr::eq(record.owner.load(Ordering::Acquire).cast(), heap)
            || record.pool() != bins.pool.get()
        {
            return;
        }
        extents += 1;
        open += u32::from(record.live() != u32::MAX);
        for slice in 0..SLICES {
            let addr = view.base + slice * SLICE_BYTES;
            let slab = pagemap::slab_at(addr - pagemap::window_base());
            assert_eq!(
                !slab.is_null(),
                record.live() >> slice & 1 == 1,
                "slice {slice} of {:#x}: live and page map",
                view.base
            );
            // SAFETY: the heap's lock is held, so its slabs stay.
            if let Some(slab) = unsafe { slab.as_ref() } {
                assert!(
                    addr.wrapping_sub(slab.base()) < slab.slices as usize * SLICE_BYTES,
                    "entry of {addr:#x}"
                );
                if slab.base() == addr {
                    check_slab(heap, bins, slab);
                    slabs += 1;
                    full += u32::from(slab.is_full());
                    assert!(!slab.is_full() || !slab.listed.get(), "a full slab is on no list");
                }
            }
        }
    });
    assert_eq!(extents, bins.extents.get(), "extents by owner and by count");
    assert_eq!(slabs, current + listed + full, "{current} current, {listed} listed and {full} full slabs");
    assert_eq!(open, check_open(heap, bins), "extents with free slices, and those listed as such");
}

/// Checks the list of extents with free slices; how many are on it.
fn check_open(heap: &Heap, bins: &Bins) -> u32 {
    let (mut count, mut prev, mut next) = (0, 0, bins.open.get());
    while let Some(index) = (next as usize).checked_sub(1) {
        let record = extent::at(index);
        assert!(record.kind() == Kind::Slabs && ptr::eq(record.owner.load(Ordering::Acquire).cast(), heap));
        assert!(record.live() != u32::MAX, "an extent without a free slice is listed");
        assert_eq!(record.prev.load(Ordering::Relaxed), prev, "links of the list of extents");
        let dirty = record.dirty_new.load(Ordering::Relaxed) | record.dirty_old.load(Ordering::Relaxed);
        assert_eq!(dirty & record.live(), 0, "live slices are not to be discarded");
        count += 1;
        assert!(count <= bins.extents.get(), "the list of extents has a loop");
        (prev, next) = (next, record.next.load(Ordering::Relaxed));
    }
    count
}

fn check_slab(heap: &Heap, bins: &Bins, slab: &Slab) {
    let class = slab.class as usize;
    assert!(ptr::eq(slab.heap(), heap) && slab.pool == bins.pool.get(), "a slab of another heap or pool");
    assert!(
        slab.block_bytes as usize == class_bytes(class) && slab.slices as usize == slab_slices(class),
        "the geometry of class {class}"
    );
    for slice in 0..slab.slices as usize {
        let entry = pagemap::slab_at(slab.base() + slice * SLICE_BYTES - pagemap::window_base());
        assert!(ptr::eq(entry, slab), "page map entry {slice} of a slab");
    }
    slab.check_bits();
}
