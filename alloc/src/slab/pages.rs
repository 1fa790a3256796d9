//! Pages inside slabs that nothing uses any more: those that only free blocks touch. Zone: cold, under the owning heap's lock.
//!
//! A slab with one live block of many would otherwise keep all its pages. Only slabs of large blocks are looked at, and only while
//! nothing is allocated from them: a slab is on its bin's partial list then, and blocks can only become free.

use super::Slab;
use crate::arena::extent;
use crate::sys::mm;
use core::sync::atomic::Ordering;

/// Smallest blocks that are worth it: four to a page. All blocks of such a slab are in one word of bits.
const LEAST: u32 = 1024;

/// Where memory is not short, runs of fewer bytes are left: splitting huge pages for them would cost more than it gives.
const WORTH: usize = 16 << 10;

impl Slab {
    /// Returns pages to the system of blocks that were free at the last call, too, and that nothing was allocated from since. With
    /// `short` of memory, of all that are free now.
    ///
    /// By the owner or for a heap without one; not for a slab that its bin allocates from.
    pub(crate) fn purge_pages(&self, short: bool) {
        if self.block_bytes < LEAST || self.words != 1 {
            return;
        }
        let free = self.local(0).load(Ordering::Relaxed);
        let idle = if short { free } else { free & self.idle.replace(free) };
        let mut rest = idle;
        while rest != 0 {
            let first = rest.trailing_zeros();
            let count = (rest >> first).trailing_ones();
            let run = (u64::MAX >> (64 - count)) << first;
            rest &= !run;
            if run & !self.purged.get() != 0 && self.discard_blocks(first as usize, count as usize, short) {
                self.purged.set(self.purged.get() | run);
            }
        }
    }

    /// Blocks are going to be allocated from the slab: what is known of its pages holds no longer.
    pub(crate) fn forget_purged(&self) {
        self.idle.set(0);
        self.purged.set(0);
    }

    /// Discards the whole pages in a run of free blocks; whether it need not be tried again.
    fn discard_blocks(&self, first: usize, count: usize, short: bool) -> bool {
        let (page, bytes) = (mm::page_bytes(), self.block_bytes as usize);
        let from = (self.start + first * bytes).next_multiple_of(page);
        let to = (self.start + (first + count) * bytes) & !(page - 1);
        if to <= from {
            return true;
        }
        if !short && to - from < WORTH {
            return false;
        }
        // SAFETY: the pages are touched by free blocks only, and these stay free while the heap's lock is held and nothing is allocated
        // from the slab. Failure leaves old pages, which is only memory.
        let done = unsafe { mm::discard(from, to - from) }.is_ok();
        if done {
            extent::at(extent::index_of(self.start)).note_emptied();
        }
        done
    }
}
