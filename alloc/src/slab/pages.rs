//! Pages inside slabs that nothing uses any more: those that only free blocks touch. Zone: cold, under the owning heap's lock.
//!
//! A slab with one live block of many would otherwise keep all its pages. Slabs are looked at only while nothing is allocated from
//! them: a slab is on its bin's partial list then, and blocks can only become free.

use super::Slab;
use crate::arena::{SLICE_BYTES, extent};
use crate::sys::mm;
use core::sync::atomic::Ordering;

impl Slab {
    /// Returns pages to the system of blocks that were free at the last call, too, and that nothing was allocated from since. With
    /// `short` of memory, of all that are free now.
    ///
    /// By the owner or for a heap without one; not for a slab that its bin allocates from.
    pub(crate) fn purge_pages(&self, short: bool) {
        let by_page = self.words != 1;
        let free = if by_page { self.free_pages() } else { self.local(0).load(Ordering::Relaxed) };
        let idle = if short { free } else { free & self.idle.replace(free) };
        let mut rest = idle;
        while rest != 0 {
            let first = rest.trailing_zeros();
            let count = (rest >> first).trailing_ones();
            let run = (u64::MAX >> (64 - count)) << first;
            rest &= !run;
            if run & !self.purged.get() == 0 {
                continue;
            }
            let (unit, from) = if by_page {
                (mm::page_bytes(), self.base())
            } else {
                (self.block_bytes as usize, self.start)
            };
            let at = from + first as usize * unit;
            if self.discard_pages(at, at + count as usize * unit) {
                self.purged.set(self.purged.get() | run);
            }
        }
    }

    /// The pages of a slab of one slice that no live block touches, a bit each.
    fn free_pages(&self) -> u64 {
        debug_assert_eq!(self.slices, 1);
        let (page, bytes) = (mm::page_bytes(), self.block_bytes as usize);
        let last = usize::from(self.blocks) - 1;
        (0..SLICE_BYTES / page)
            .filter(|i| {
                let from = self.base() + i * page;
                let first = from.saturating_sub(self.start) / bytes;
                let end = ((from + page - 1).saturating_sub(self.start) / bytes).min(last);
                (first / 64..=end / 64).all(|word| {
                    let lowest = if word == first / 64 { first % 64 } else { 0 };
                    let highest = if word == end / 64 { end % 64 } else { 63 };
                    let mask = u64::MAX << lowest & u64::MAX >> (63 - highest);
                    self.local(word).load(Ordering::Relaxed) & mask == mask
                })
            })
            .fold(0, |pages, i| pages | 1 << i)
    }

    /// Blocks are going to be allocated from the slab: what is known of its pages holds no longer.
    pub(crate) fn forget_purged(&self) {
        self.idle.set(0);
        self.purged.set(0);
    }

    /// Discards the whole pages from `from` to `to`, where only free blocks are; whether it need not be tried again.
    fn discard_pages(&self, from: usize, to: usize) -> bool {
        let page = mm::page_bytes();
        let (from, to) = (from.next_multiple_of(page), to & !(page - 1));
        if to <= from {
            return true;
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
