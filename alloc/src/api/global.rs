//! Terrace as the allocator of a Rust program: [`Terrace`], and [`TierAlloc`] for one [`Hint`].
//!
//! Zone: fast. Thread-safe; fork-safe through the library's fork handlers. Memory from any handle may be freed through any other, or
//! by C's `free` where the library is the process's malloc.
//!
//! In such a program the control thread's own data comes here, too. It must not lie in the heap it describes: it would be tracked, look
//! hot because it is scanned, and move. So on that thread, which has no heap, memory is metadata, under a seal by which every `free`
//! knows it.

use super::hint::Hint;
use super::raw;
use crate::arena::Pool;
use crate::heap;
use crate::meta;
use core::alloc::{GlobalAlloc, Layout};
use core::ptr;

/// Terrace as the allocator of a Rust program.
///
/// ```
/// use terrace::Terrace;
///
/// #[global_allocator]
/// static GLOBAL: Terrace = Terrace;
///
/// let squares: Vec<u64> = (0..1000).map(|n| n * n).collect();
/// assert_eq!(squares[31], 961);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Terrace;

/// An allocator bound to a [`Hint`]: a [`GlobalAlloc`], and with the feature `allocator-api2` an `Allocator` for that crate's
/// collections (and hashbrown's and bumpalo's).
///
/// ```
/// use core::alloc::{GlobalAlloc, Layout};
/// use terrace::{Hint, TierAlloc};
///
/// let cold = TierAlloc::new(Hint::COLD);
/// let layout = Layout::from_size_align(4096, 16).unwrap();
/// // SAFETY: the layout is not empty, and the block is freed with the same one.
/// unsafe {
///     let block = cold.alloc(layout);
///     assert!(!block.is_null());
///     cold.dealloc(block, layout);
/// }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TierAlloc {
    hint: Hint,
}

impl TierAlloc {
    /// An allocator for `hint`.
    #[must_use]
    pub const fn new(hint: Hint) -> TierAlloc {
        TierAlloc { hint }
    }

    /// Its hint.
    #[must_use]
    pub const fn hint(self) -> Hint {
        self.hint
    }
}

impl Terrace {
    /// An allocator for `hint`.
    #[must_use]
    pub const fn tier(hint: Hint) -> TierAlloc {
        TierAlloc::new(hint)
    }
}

// SAFETY: blocks are disjoint, at least as large and as aligned as asked for, and live until freed; nothing unwinds.
unsafe impl GlobalAlloc for Terrace {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.align() <= 16
            && let Some(block) = raw::malloc_fast(layout.size())
        {
            return block.as_ptr();
        }
        allocate(Pool::Default, layout, false)
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: GlobalAlloc's contract: a live block of ours with this layout.
        unsafe { raw::free_aligned_sized(block, layout.align(), layout.size()) };
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        allocate(Pool::Default, layout, true)
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if layout.align() <= 16 && !heap::on_own_thread() {
            // SAFETY: GlobalAlloc's contract: a live block of ours, and a size that is not 0.
            return unsafe { raw::realloc(block, size) };
        }
        // SAFETY: passed on from the caller.
        unsafe { move_block(self, block, layout, size) }
    }
}

// SAFETY: as for `Terrace`.
unsafe impl GlobalAlloc for TierAlloc {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        allocate(self.hint.pool(), layout, false)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: GlobalAlloc's contract: a live block of ours with this layout.
        unsafe { raw::free_aligned_sized(block, layout.align(), layout.size()) };
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        allocate(self.hint.pool(), layout, true)
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if layout.align() <= 16 && !heap::on_own_thread() {
            // SAFETY: GlobalAlloc's contract: a live block of ours, and a size that is not 0.
            return unsafe { raw::realloc_in(self.hint.pool(), block, size) };
        }
        // SAFETY: passed on from the caller.
        unsafe { move_block(self, block, layout, size) }
    }
}

/// Reallocation where the alignment exceeds what `realloc` keeps, or the thread is our own.
///
/// # Safety
/// * As for [`GlobalAlloc::realloc`].
unsafe fn move_block(to: &impl GlobalAlloc, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
    let Ok(wanted) = Layout::from_size_align(size, layout.align()) else { return ptr::null_mut() };
    // SAFETY: the layouts are not empty; both blocks are live and distinct while the bytes are copied.
    unsafe {
        let fresh = to.alloc(wanted);
        if !fresh.is_null() {
            ptr::copy_nonoverlapping(block, fresh, layout.size().min(size));
            to.dealloc(block, layout);
        }
        fresh
    }
}

fn allocate(pool: Pool, layout: Layout, zero: bool) -> *mut u8 {
    if heap::on_own_thread() {
        return meta::take_own(layout, zero);
    }
    if pool == Pool::Default && layout.align() <= 16 {
        return if zero { raw::calloc(1, layout.size()) } else { raw::malloc(layout.size()) };
    }
    raw::malloc_in(pool, layout.size(), layout.align(), zero)
}

#[cfg(feature = "allocator-api2")]
mod allocator {
    use super::{TierAlloc, raw};
    use allocator_api2::alloc::{AllocError, Allocator};
    use core::alloc::Layout;
    use core::ptr::NonNull;

    // SAFETY: blocks stay valid until freed, whatever copy of the handle they came from; handles have no state.
    unsafe impl Allocator for TierAlloc {
        fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
            // An empty layout gets a block, too: any block may be deallocated.
            let block = raw::malloc_in(self.hint.pool(), layout.size(), layout.align(), false);
            NonNull::new(block)
                .map(|block| NonNull::slice_from_raw_parts(block, layout.size()))
                .ok_or(AllocError)
        }

        unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
            // SAFETY: Allocator's contract: a live block of ours with this layout.
            unsafe { raw::free_aligned_sized(block.as_ptr(), layout.align(), layout.size()) };
        }
    }
}
