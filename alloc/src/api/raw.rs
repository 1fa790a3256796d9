//! The allocator as plain functions, for the C ABI and for Rust's allocator traits.
//!
//! Zone: fast. Nothing here sets `errno`; a null result means there is no memory (ENOMEM). Every function may be called by any thread at
//! any time, also before constructors and after a thread's destructors, but like malloc(3) not from a signal handler.
//! Blocks are aligned to 16 bytes at least.

use crate::arena::{self, Pool, SLICE_BYTES};
use crate::class::{self, FINE_MAX, MAX_SMALL, class_of};
use crate::heap::{self, slot_heap};
use crate::pagemap;
use crate::slab::LARGE;
use core::ptr::{self, NonNull};

pub use crate::heap::heap_stats;

/// Up to so many bytes [`malloc_fast`] may serve, and [`malloc_more`] wants to know for whom.
pub const FAST_MAX: usize = FINE_MAX;

/// The fast path of [`malloc`] for up to [`FAST_MAX`] bytes alone: `None` says nothing but that it takes the slow one. For callers that
/// must do more when memory is out, and then want to *jump* to where they do it: with no call left here there is no frame to set up.
#[inline(always)]
#[must_use]
pub fn malloc_fast(size: usize) -> Option<NonNull<u8>> {
    let place = class::fine_place_of(size)?;
    // SAFETY: the slot holds a heap or a sentinel, both of which live for ever; a bin holds a live slab or the empty one.
    unsafe { (*(*slot_heap()).default.in_use(place)).pop() }
}

/// The slow path of [`malloc`] for up to [`FAST_MAX`] bytes, where [`malloc_fast`] had none, for `site`: the return address of the
/// allocation function that was called, or another number that tells who asks, or 0. Where the heap does not fit in DRAM, such blocks
/// of different sites lie on different pages ([`arena::sites`]).
#[inline]
#[must_use]
pub fn malloc_more(size: usize, site: usize) -> *mut u8 {
    debug_assert!(size <= FAST_MAX);
    heap::allocate_slow(Pool::Default, class_of(size), size, 16, site)
}

/// Allocates `size` bytes (malloc(3)); size 0 gets a block of its own. Null = no memory.
#[inline(always)]
#[must_use]
pub fn malloc(size: usize) -> *mut u8 {
    if size > MAX_SMALL {
        return heap::allocate_large(Pool::Default, size, 1, false);
    }
    let place = class::place_of(size);
    // SAFETY: the slot holds a heap or a sentinel, both of which live for ever; a bin holds a live slab or the empty one.
    match unsafe { (*(*slot_heap()).default.in_use(place)).pop() } {
        Some(block) => block.as_ptr(),
        None => heap::allocate_slow(Pool::Default, class_of(size), size, 16, 0),
    }
}

/// Allocates `count * size` zeroed bytes (calloc(3)). Null = no memory, or the product overflows.
#[inline]
#[must_use]
pub fn calloc(count: usize, size: usize) -> *mut u8 {
    let Some(bytes) = count.checked_mul(size) else { return ptr::null_mut() };
    if bytes > MAX_SMALL {
        return heap::allocate_large(Pool::Default, bytes, 1, true);
    }
    let block = malloc(bytes);
    if !block.is_null() {
        // SAFETY: the block has at least `bytes` bytes and is ours alone.
        unsafe { block.write_bytes(0, bytes) };
    }
    block
}

/// Frees a block (free(3)); null is ignored.
///
/// What is not a live block of this heap ends the process with one line, or, if it is libc's, is passed on to libc.
///
/// # Safety
/// * `block` is null or a live block from any function of this module, and is not used again.
#[inline(always)]
pub unsafe fn free(block: *mut u8) {
    let addr = block.addr();
    if let Some(off) = pagemap::offset(addr) {
        let slab = pagemap::slab_at(off);
        // SAFETY: the page map holds null or headers that stay readable.
        if let Some(slab) = unsafe { slab.as_ref() }
            && ptr::eq(slab.owner.load(core::sync::atomic::Ordering::Relaxed), slot_heap())
            && slab.push_local(addr).is_ok()
        {
            return;
        }
    }
    // Faults, too: the slow path finds them again, and says what they are.
    // SAFETY: passed on from the caller.
    unsafe { heap::free_slow(block) };
}

/// Frees a block of a known size (C23 `free_sized`).
///
/// # Safety
/// * As for [`free`]; `size` is the size it was allocated with.
#[inline(always)]
pub unsafe fn free_sized(block: *mut u8, size: usize) {
    let _ = size;
    // SAFETY: passed on from the caller.
    unsafe { free(block) };
}

/// Frees a block of a known size and alignment (C23 `free_aligned_sized`).
///
/// # Safety
/// * As for [`free`]; `align` and `size` are what it was allocated with.
#[inline(always)]
pub unsafe fn free_aligned_sized(block: *mut u8, align: usize, size: usize) {
    let _ = (align, size);
    // SAFETY: passed on from the caller.
    unsafe { free(block) };
}

/// Allocates `size` bytes at a multiple of `align`, a power of two. Null = no memory.
#[inline]
#[must_use]
pub fn memalign(align: usize, size: usize) -> *mut u8 {
    let bytes = size.max(align);
    if bytes <= MAX_SMALL && align <= SLICE_BYTES {
        // SAFETY: the slot holds a heap or a sentinel, both of which live for ever; a bin holds a live slab or the empty one.
        let slab = unsafe { &*(*slot_heap()).default.in_use(class::place_of(bytes)) };
        if class::aligns(slab.block_bytes as usize, align)
            && let Some(block) = slab.pop()
        {
            return block.as_ptr();
        }
    }
    malloc_in(Pool::Default, size, align, false)
}

/// Allocates `size` bytes at a multiple of `align`, a power of two, in `pool`. Null = no memory, or a strict pool has no room.
#[must_use]
pub fn malloc_in(pool: Pool, size: usize, align: usize, zero: bool) -> *mut u8 {
    debug_assert!(align.is_power_of_two());
    let Some(class) = class::aligned_class(size, align) else {
        return heap::allocate_large(pool, size, align, zero);
    };
    let block = heap::allocate_small_in(pool, class, size, align);
    if zero && !block.is_null() {
        // SAFETY: the block has at least `size` bytes and is ours alone.
        unsafe { block.write_bytes(0, size) };
    }
    block
}

/// Resizes a block (realloc(3)); its pool stays. Null `block` allocates; size 0 frees and returns null. Null otherwise = no memory, and
/// the block is as it was.
///
/// # Safety
/// * `block` is null or a live block; if the result is not null, only that is used from then on.
#[must_use]
pub unsafe fn realloc(block: *mut u8, size: usize) -> *mut u8 {
    if block.is_null() {
        return malloc(size);
    }
    let pool = pool_of(block).unwrap_or(Pool::Default);
    // SAFETY: passed on from the caller.
    unsafe { realloc_in(pool, block, size) }
}

/// Resizes a block and, if it has to move, moves it to `pool`.
///
/// # Safety
/// * As for [`realloc`].
#[must_use]
pub unsafe fn realloc_in(pool: Pool, block: *mut u8, size: usize) -> *mut u8 {
    if block.is_null() {
        return malloc_in(pool, size, 16, false);
    }
    if size == 0 {
        // SAFETY: passed on from the caller.
        unsafe { free(block) };
        return ptr::null_mut();
    }
    // SAFETY: the block is live.
    let usable = unsafe { usable_size(block) };
    // SAFETY: the block is live, and the caller has it resized.
    if unsafe { heap::hardened::resize(block, size) } {
        return block;
    }
    let large = is_large(block);
    if large && size > MAX_SMALL && pool_of(block) == Some(pool) {
        // SAFETY: the block is a live large span.
        return unsafe { heap::resize_large(block.addr(), size) }.unwrap_or(ptr::null_mut());
    }
    // In place while the block is neither too small nor more than twice too big.
    if !large && size <= usable && size >= usable / 2 && pagemap::offset(block.addr()).is_some() {
        return block;
    }
    let fresh = if pool == Pool::Default { malloc(size) } else { malloc_in(pool, size, 16, false) };
    if !fresh.is_null() {
        // SAFETY: both blocks are live, distinct, and at least that long; the old one is not used again.
        unsafe {
            ptr::copy_nonoverlapping(block, fresh, usable.min(size));
            free(block);
        }
    } else if size <= usable {
        // No memory for a smaller block: the larger one serves.
        return block;
    }
    fresh
}

/// Bytes the application may use of a block (malloc_usable_size(3)); 0 for null. Ends the process if `block` is nobody's.
///
/// # Safety
/// * `block` is null or a live block.
#[inline]
#[must_use]
pub unsafe fn usable_size(block: *mut u8) -> usize {
    let addr = block.addr();
    if let Some(off) = pagemap::offset(addr) {
        let slab = pagemap::slab_at(off);
        // SAFETY: the page map holds null or headers that stay readable.
        if let Some(slab) = unsafe { slab.as_ref() }
            && !slab.is_hardened()
            && slab.index_of(addr).is_ok()
        {
            return slab.block_bytes as usize;
        }
    }
    // SAFETY: passed on from the caller.
    unsafe { usable_size_slow(block) }
}

/// [`usable_size`] of null, of large spans, in hardened mode, and of what is not ours.
#[cold]
#[inline(never)]
unsafe fn usable_size_slow(block: *mut u8) -> usize {
    if block.is_null() {
        return 0;
    }
    if let Some(off) = pagemap::offset(block.addr()) {
        let slab = pagemap::slab_at(off);
        if ptr::eq(slab, &raw const LARGE) {
            return heap::large_usable(block.addr());
        }
        // SAFETY: the page map holds null or headers that stay readable.
        if let Some(slab) = unsafe { slab.as_ref() } {
            return match slab.usable(block.addr()) {
                Ok(bytes) => bytes,
                Err(fault) => heap::report_use(block.addr(), fault),
            };
        }
    }
    // SAFETY: not in an arena, or not in use; the latter ends there.
    unsafe { heap::foreign::usable_size(block) }
}

fn is_large(block: *mut u8) -> bool {
    pagemap::offset(block.addr()).is_some_and(|off| ptr::eq(pagemap::slab_at(off), &raw const LARGE))
}

/// Whether `addr` is in memory of this heap that is in use.
#[must_use]
pub fn owns(addr: *const u8) -> bool {
    pool_of(addr).is_some()
}

/// Whether `addr` is among the addresses that arenas lie in.
pub(super) fn in_window(addr: *const u8) -> bool {
    pagemap::offset(addr.addr()).is_some()
}

/// The pool that memory at `addr` (anywhere in a block) belongs to.
#[must_use]
pub fn pool_of(addr: *const u8) -> Option<Pool> {
    if pagemap::offset(addr.addr()).is_none() {
        return heap::hardened::guard::owns(addr.addr()).then_some(Pool::Default);
    }
    arena::extent_view(((addr.addr() - pagemap::window_base()) / arena::EXTENT_BYTES) as u32)
        .map(|view| view.pool)
}

/// Returns idle memory to the system (malloc_trim(3)); whether any went.
pub fn trim() -> bool {
    heap::trim()
}
