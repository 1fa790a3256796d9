//! Terrace as the allocator of a Rust program: [`Terrace`], and [`TierAlloc`] for one [`Hint`].
//!
//! Zone: fast. Thread-safe; fork-safe through the library's fork handlers. Memory from any handle may be freed through any other, or
//! by C's `free` where the library is the process's malloc.
//!
//! In such a program the control thread's own data comes here, too. It must not lie in the heap it describes: it would be tracked, look
//! hot because it is scanned, and move. So on that thread, which has no heap, memory is metadata, and as C's `free` is none of these
//! handles, a block outside the window can only be that. No code of the program runs there.

use super::hint::Hint;
use super::raw;
use crate::arena::Pool;
use crate::heap;
use crate::meta::MetaAlloc;
use crate::pagemap;
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
        if layout.align() <= 16 {
            let block = raw::malloc_fast(layout.size());
            if !block.is_null() {
                return block;
            }
        }
        allocate(Pool::Default, layout, false)
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: passed on from the caller.
        unsafe { deallocate(block, layout) };
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        allocate(Pool::Default, layout, true)
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: passed on from the caller.
        unsafe { TierAlloc::new(Hint::DEFAULT).realloc(block, layout, size) }
    }
}

// SAFETY: as for `Terrace`.
unsafe impl GlobalAlloc for TierAlloc {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        allocate(self.hint.pool(), layout, false)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: passed on from the caller.
        unsafe { deallocate(block, layout) };
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        allocate(self.hint.pool(), layout, true)
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if layout.align() <= 16 && !is_metadata(block) && !heap::on_own_thread() {
            // SAFETY: GlobalAlloc's contract: a live block of ours, and a size that is not 0.
            return unsafe { raw::realloc_in(self.hint.pool(), block, size) };
        }
        let Ok(wanted) = Layout::from_size_align(size, layout.align()) else { return ptr::null_mut() };
        // SAFETY: the layouts are not empty; both blocks are live and distinct while the bytes are copied.
        unsafe {
            let fresh = self.alloc(wanted);
            if !fresh.is_null() {
                ptr::copy_nonoverlapping(block, fresh, layout.size().min(size));
                deallocate(block, layout);
            }
            fresh
        }
    }
}

fn allocate(pool: Pool, layout: Layout, zero: bool) -> *mut u8 {
    if heap::on_own_thread() {
        return allocate_metadata(layout, zero);
    }
    if pool == Pool::Default && layout.align() <= 16 {
        return if zero { raw::calloc(1, layout.size()) } else { raw::malloc(layout.size()) };
    }
    raw::malloc_in(pool, layout.size(), layout.align(), zero)
}

/// Frees a block of [`allocate`], of any pool.
///
/// # Safety
/// * As for [`GlobalAlloc::dealloc`].
#[inline]
unsafe fn deallocate(block: *mut u8, layout: Layout) {
    if is_metadata(block) {
        // SAFETY: passed on from the caller.
        return unsafe { deallocate_metadata(block, layout) };
    }
    // SAFETY: GlobalAlloc's contract: a live block of ours with this layout.
    unsafe { raw::free_aligned_sized(block, layout.align(), layout.size()) };
}

/// Whether a block of ours is the control thread's.
#[inline]
fn is_metadata(block: *mut u8) -> bool {
    pagemap::offset(block.addr()).is_none()
}

#[cold]
fn allocate_metadata(layout: Layout, zero: bool) -> *mut u8 {
    // SAFETY: GlobalAlloc's contract: the layout is not empty.
    unsafe { if zero { MetaAlloc.alloc_zeroed(layout) } else { MetaAlloc.alloc(layout) } }
}

/// # Safety
/// * The block came from [`allocate_metadata`] with the same layout, and is not used again.
#[cold]
unsafe fn deallocate_metadata(block: *mut u8, layout: Layout) {
    // SAFETY: passed on from the caller.
    unsafe { MetaAlloc.dealloc(block, layout) };
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
