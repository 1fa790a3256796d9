//! Checks of everything the arenas keep, for stress tests (feature `invariants`). Zone: cold, under the arena lock.

use super::extent::{self, EXTENT_BYTES, EXTENT_SHIFT, Kind, SLICES};
use super::reserve::{self, Arena};
use super::runs::{DIRTY_NEW, DIRTY_OLD, FREE, STATE, is_set};
use super::view;
use crate::pagemap::{self, SLICE_BYTES};
use crate::slab::LARGE;
use crate::sys::mm;
use core::ptr;
use core::sync::atomic::Ordering;

/// Bytes between two words that are read to see whether memory counted as zero is.
const PROBE: usize = 512;

/// Panics if bitmaps, records, counters and page map disagree. `still`: no other thread is inside the allocator, so that what changes
/// outside the arena lock is checked, too: spans, live slices, entries of large spans, and that clean free extents read as zero.
pub(crate) fn check(still: bool) {
    let _state = STATE.lock();
    let mut handed_out = 0;
    for arena in reserve::arenas() {
        handed_out += check_arena(arena, still);
    }
    assert_eq!(
        handed_out << EXTENT_SHIFT,
        view::live_extent_bytes(),
        "extents handed out, counted and by their records"
    );
}

/// Checks one arena; the number of its extents that are handed out.
fn check_arena(arena: &Arena, still: bool) -> usize {
    let first = extent::index_of(arena.base.load(Ordering::Relaxed));
    let used = arena.used_extents();
    // SAFETY: the lock is held, and nobody else has a reference to a bitmap.
    let [free, new, old] = [FREE, DIRTY_NEW, DIRTY_OLD].map(|which| unsafe { &*arena.bitmap(which) });
    let (mut handed_out, mut body_left) = (0, 0);
    for i in 0..arena.extents() {
        let (record, is_free) = (extent::at(first + i), is_set(free, i));
        let dirty = is_set(new, i) || is_set(old, i);
        assert!(i < used || !is_free && !dirty, "extent {i} of {used} was never used, but has bits");
        assert!(is_free || !dirty, "extent {i} is handed out, but counts as free with contents");
        let kind = record.kind();
        assert_eq!(is_free || i >= used, kind == Kind::Free, "extent {i}: record and bitmap");
        handed_out += usize::from(kind != Kind::Free);
        if still {
            body_left = check_record(first + i, body_left);
            if is_free && !dirty {
                check_zero(extent::base_of(first + i));
            }
        }
    }
    assert_eq!(body_left, 0, "the last span ends with its arena");
    handed_out
}

/// Checks extent `index`, of which `body_left` says how many more the span before it has; the same for the next.
fn check_record(index: usize, body_left: usize) -> usize {
    let record = extent::at(index);
    let entry = |slice: usize| {
        pagemap::slab_at(extent::base_of(index) + slice * SLICE_BYTES - pagemap::window_base())
    };
    let large = |slice: usize| ptr::eq(entry(slice), &raw const LARGE);
    let kind = record.kind();
    assert!(body_left == 0 || kind == Kind::LargeBody, "extent {index} is {kind:?} inside a span");
    if kind == Kind::Slabs {
        assert!(!record.owner.load(Ordering::Relaxed).is_null(), "extent {index} has no owner");
        assert!((0..SLICES).all(|slice| !large(slice)), "extent {index} has slabs and a large span");
        return 0;
    }
    let entries = (0..SLICES).filter(|&slice| !entry(slice).is_null()).count();
    if kind != Kind::LargeHead {
        assert_eq!(entries, 0, "extent {index} is {kind:?}, but the page map has entries for it");
        assert!(kind != Kind::Free || record.live() == 0, "extent {index} is free and has live slices");
        return body_left.saturating_sub(1);
    }
    assert!(large(0) && entries == 1, "extent {index}: a span's entry is that of its first slice");
    let (span, bytes) = (record.span.load(Ordering::Relaxed) as usize, record.bytes.load(Ordering::Relaxed));
    assert!(bytes > 0 && bytes <= span * EXTENT_BYTES, "extent {index}: {bytes} bytes in {span} extents");
    let live: usize = (0..span).map(|i| extent::at(index + i).live().count_ones() as usize).sum();
    assert_eq!(live, bytes.div_ceil(SLICE_BYTES), "extent {index}: live slices of {bytes} bytes");
    span - 1
}

/// Reads what is in memory of a free extent; what is not reads as zero.
fn check_zero(base: usize) {
    let mut pages = [0; EXTENT_BYTES / 4096];
    let pages = &mut pages[..EXTENT_BYTES / mm::page_bytes()];
    assert!(mm::residency(base, pages), "extent at {base:#x} is free and not mapped");
    for (i, _) in pages.iter().enumerate().filter(|(_, page)| **page & 1 == 1) {
        let page = base + i * mm::page_bytes();
        for addr in (page..page + mm::page_bytes()).step_by(PROBE) {
            // SAFETY: the page is mapped and readable, and the arena lock keeps its extent free.
            let word = unsafe { ptr::with_exposed_provenance::<u64>(addr).read_volatile() };
            assert_eq!(word, 0, "{addr:#x} is free and counts as zero");
        }
    }
}
