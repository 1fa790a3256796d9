//! Large spans: blocks over 256 KiB, whole extents of their own. Zone: cold.
//!
//! The first slice's page map entry is the sentinel [`LARGE`]; what is known of the span is in its first extent's record.
//! Usable bytes are whole pages; the rest of the last extent is address space only.

use super::hardened;
use crate::arena::{self, EXTENT_BYTES, Kind, Pool, SLICE_BYTES, extent};
use crate::pagemap;
use crate::slab::LARGE;
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sys::mm;
use crate::sys::proc::die;
use core::ptr;

/// The largest request: `PTRDIFF_MAX` less what rounding to extents may add.
const LARGE_MAX: usize = isize::MAX as usize - EXTENT_BYTES;
/// From here on moving the page tables is cheaper than copying the bytes.
const REMAP_MIN: usize = 1 << 20;
/// Up to here old contents are overwritten with zeros where zeros were asked for.
const WRITE_ZEROS_MAX: usize = 32 << 20;
/// Remapped spans are VMAs of their own; past this many, growth copies (the kernel allows 65,530 VMAs in all).
const REMAPPED_MAX: usize = 4096;

static REMAPPED: AtomicUsize = AtomicUsize::new(0);

/// Allocates a large span; null if there is no memory.
#[cold]
#[inline(never)]
pub(crate) fn allocate_large(pool: Pool, size: usize, align: usize, zero: bool) -> *mut u8 {
    if size > LARGE_MAX || align > LARGE_MAX || !super::boot::ready() {
        return ptr::null_mut();
    }
    let extents = size.max(1).div_ceil(EXTENT_BYTES);
    let align = (align / EXTENT_BYTES).max(1);
    let run = match arena::take(pool, Kind::LargeHead, extents, align) {
        Some(run) => run,
        // No memory: this thread's idle slabs may hold it, unless there never was as much.
        None if size <= arena::reserved_bytes() && super::trim() => {
            match arena::take(pool, Kind::LargeHead, extents, align) {
                Some(run) => run,
                None => return ptr::null_mut(),
            }
        }
        None => return ptr::null_mut(),
    };
    let addr = extent::base_of(run.index);
    let head = extent::at(run.index);
    head.span.store(extents as u32, Ordering::Relaxed);
    head.remapped.store(0, Ordering::Relaxed);
    set_usable(run.index, size);
    let block: *mut u8 = ptr::with_exposed_provenance_mut(addr);
    if zero && run.dirty > 0 {
        // SAFETY: the run is ours, writable, and at least `size` long.
        unsafe { clear(addr, size.min(run.dirty * EXTENT_BYTES)) };
    }
    pagemap::set(addr, 1, (&raw const LARGE).cast_mut());
    arena::call_growth_hook();
    block
}

/// Makes `bytes` bytes at `addr` zero: by writing, which costs a twentieth of the fault that a fresh page costs, or, where the
/// application will hardly use all of it, by giving the pages back.
///
/// # Safety
/// * `addr` starts a page, and the bytes are the caller's alone.
unsafe fn clear(addr: usize, bytes: usize) {
    if bytes > WRITE_ZEROS_MAX {
        // SAFETY: passed on from the caller; what else stands on the last page belongs to the same span.
        if unsafe { mm::discard(addr, bytes.next_multiple_of(mm::page_bytes())) }.is_ok() {
            return;
        }
    }
    // SAFETY: passed on from the caller.
    unsafe { ptr::with_exposed_provenance_mut::<u8>(addr).write_bytes(0, bytes) };
}

/// Records `size`, rounded up to pages, as usable, and publishes the slices that holds as live.
fn set_usable(index: usize, size: usize) {
    let head = extent::at(index);
    let usable = size.max(1).next_multiple_of(mm::page_bytes());
    head.bytes.store(usable, Ordering::Relaxed);
    for i in 0..head.span.load(Ordering::Relaxed) as usize {
        let here = usable.saturating_sub(i * EXTENT_BYTES).min(EXTENT_BYTES);
        let slices = here.div_ceil(SLICE_BYTES);
        extent::at(index + i).set_live(if slices == 32 { u32::MAX } else { (1 << slices) - 1 });
    }
}

/// The extent index of the large span that starts at `addr`; ends the process if none does.
fn head_of(addr: usize) -> usize {
    let index = extent::index_of(addr);
    if extent::base_of(index) != addr || extent::at(index).kind() != Kind::LargeHead {
        die(format_args!("free of {addr:#x}: not the start of a block"));
    }
    index
}

/// Usable bytes of the span at `addr`.
pub(crate) fn large_usable(addr: usize) -> usize {
    extent::at(head_of(addr)).bytes.load(Ordering::Relaxed)
}

/// Frees the span at `addr`.
///
/// # Safety
/// * Nothing uses the span any more.
pub(crate) unsafe fn free_large(addr: usize) {
    let index = head_of(addr);
    let head = extent::at(index);
    // Two threads freeing at once: one of them takes the span, the other finds no page map entry, here or on its way.
    if !pagemap::take_entry(addr, (&raw const LARGE).cast_mut()) {
        die(format_args!("double free of {addr:#x}"));
    }
    let extents = head.span.load(Ordering::Relaxed) as usize;
    // SAFETY: this thread took the entry, so the span is nobody else's.
    unsafe { hardened::scrub(addr, head.bytes.load(Ordering::Relaxed).min(extents * EXTENT_BYTES)) };
    if head.remapped.load(Ordering::Relaxed) != 0 {
        // SAFETY: the span is ours and unused.
        if !unsafe { arena::map_afresh(index, extents) } {
            // Its addresses are lost; its mapping, or what is left of it, stays counted.
            return extent::lose(index, extents);
        }
        head.remapped.store(0, Ordering::Relaxed);
        REMAPPED.fetch_sub(1, Ordering::Relaxed);
    }
    // SAFETY: as above.
    unsafe { arena::give(index, extents) };
}

/// Resizes the span at `addr` to `size` bytes (over 256 KiB), in place or elsewhere; `None` leaves it as it was.
///
/// # Safety
/// * The span is live; if its address changes, nothing uses the old one any more.
pub(crate) unsafe fn resize_large(addr: usize, size: usize) -> Option<*mut u8> {
    if size > LARGE_MAX {
        return None;
    }
    let index = head_of(addr);
    let head = extent::at(index);
    let (extents, usable) = (head.span.load(Ordering::Relaxed) as usize, head.bytes.load(Ordering::Relaxed));
    let want = size.div_ceil(EXTENT_BYTES);
    let mut span = extents;
    if want > extents {
        if !arena::grow_in_place(index, extents, want - extents) {
            // SAFETY: passed on from the caller.
            return unsafe { move_large(index, usable, size) };
        }
        span = want;
    } else if want < extents && head.remapped.load(Ordering::Relaxed) == 0 {
        span = want;
    }
    head.span.store(span as u32, Ordering::Relaxed);
    set_usable(index, size);
    if span < extents {
        let tail = addr + span * EXTENT_BYTES;
        // SAFETY: the tail is no longer the application's.
        unsafe { hardened::scrub(tail, (addr + usable).saturating_sub(tail)) };
        // SAFETY: the tail is no longer part of the span and, says the caller, no longer used.
        unsafe { arena::give(index + span, extents - span) };
    }
    let (kept, end) = (size.next_multiple_of(mm::page_bytes()), usable.min(span * EXTENT_BYTES));
    if kept < end {
        // SAFETY: the pages past the new size are no longer used. A failure keeps them, which is only memory.
        let _ = unsafe { mm::discard(addr + kept, end - kept) };
    }
    Some(ptr::with_exposed_provenance_mut(addr))
}

/// Moves the span to a larger run: its pages if it is big enough, else its bytes.
///
/// # Safety
/// * As for [`resize_large`].
unsafe fn move_large(index: usize, usable: usize, size: usize) -> Option<*mut u8> {
    let from = extent::base_of(index);
    let pool = Pool::from_number(extent::at(index).pool());
    let block = allocate_large(pool, size, 1, false);
    if block.is_null() {
        return None;
    }
    let mut moved = 0;
    if usable >= REMAP_MIN && REMAPPED.load(Ordering::Relaxed) < REMAPPED_MAX {
        // SAFETY: both are spans of ours, the new one unused and the longer.
        moved = unsafe { move_extents(index, extent::index_of(block.expose_provenance())) }?;
    }
    let done = (moved * EXTENT_BYTES).min(usable);
    // SAFETY: both spans are at least `usable` long and do not overlap.
    unsafe {
        let rest = ptr::with_exposed_provenance::<u8>(from + done);
        ptr::copy_nonoverlapping(rest, block.add(done), usable - done);
    }
    // SAFETY: the old span's contents are in the new one.
    unsafe { free_large(from) };
    Some(block)
}

/// Moves the pages of span `from` to the start of span `to`, as many extents as the kernel will, and returns how many. `None`: `from` is
/// as it was and `to` is gone.
///
/// One extent a call: a call that spans mappings (a span that grew in place, segments with policies of their own) fails after its target was
/// unmapped (EFAULT, before Linux 6.17) or may end half done (since). Extents move as whole page tables, and neighbours merge again.
///
/// # Safety
/// * Both are live large spans, `to` the longer, with nothing in it.
unsafe fn move_extents(from: usize, to: usize) -> Option<usize> {
    let head = extent::at(to);
    for i in 0..extent::at(from).span.load(Ordering::Relaxed) as usize {
        let (source, target) = (extent::base_of(from + i), extent::base_of(to + i));
        // SAFETY: both extents are ours, mapped, and nothing relies on the target's contents.
        if unsafe { mm::move_mapping(source, target, EXTENT_BYTES) }.is_ok() {
            if i == 0 {
                head.remapped.store(1, Ordering::Relaxed);
                REMAPPED.fetch_add(1, Ordering::Relaxed);
            }
            continue;
        }
        // SAFETY: as above.
        if unsafe { arena::map_afresh(to + i, 1) } {
            return Some(i);
        }
        // The target is a hole. Bring back what has moved: the old extents are still mapped, and empty.
        // SAFETY: `i` extents are mapped on both sides.
        unsafe {
            let (old, new) = (extent::base_of(from), extent::base_of(to));
            let new = ptr::with_exposed_provenance::<u8>(new);
            ptr::copy_nonoverlapping(new, ptr::with_exposed_provenance_mut(old), i * EXTENT_BYTES);
            abandon_at_hole(to, i);
        }
        return None;
    }
    Some(extent::at(from).span.load(Ordering::Relaxed) as usize)
}

/// Frees span `index`, but for its extent `hole`, which is not mapped and never used again.
///
/// # Safety
/// * Nothing uses the span.
#[cold]
unsafe fn abandon_at_hole(index: usize, hole: usize) {
    let extents = extent::at(index).span.load(Ordering::Relaxed) as usize;
    if hole == 0 {
        pagemap::take_entry(extent::base_of(index), (&raw const LARGE).cast_mut());
    }
    extent::lose(index + hole, 1);
    // SAFETY: the tail is part of the span and unused; what comes before the hole is a span of its own.
    unsafe {
        if hole + 1 < extents {
            arena::give(index + hole + 1, extents - hole - 1);
        }
        if hole > 0 {
            extent::at(index).span.store(hole as u32, Ordering::Relaxed);
            free_large(extent::base_of(index));
        }
    }
}
