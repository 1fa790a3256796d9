//! Pages inside slabs that nothing uses any more: those that only free blocks touch. Zone: cold, under the owning heap's lock.
//!
//! A slab with one live block of many would otherwise keep all its pages. Slabs are looked at only while nothing is allocated from
//! them: a slab is on its bin's partial list then, and blocks can only become free. Of one that is in use before and after, it is known
//! which words blocks were taken from ([`Slab::forget_cursor`]), so that a program that has fallen quiet but for a few blocks does not
//! keep the pages of slabs that those come from.

use super::Slab;
use crate::arena::{SLICE_BYTES, extent};
use crate::sys::mm;
use core::sync::atomic::Ordering;

/// Blocks of so many words, of a slab of one slice, are a few.
const FEW: u8 = 1;

impl Slab {
    /// Returns pages to the system of blocks that were free at the last call, too, and whose word was not allocated from since. With
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

    /// Blocks are going to be allocated anywhere in the slab: what is known of its pages holds no longer.
    pub(crate) fn forget_purged(&self) {
        self.idle.set(0);
        self.purged.set(0);
    }

    /// Blocks of the cursor's word are going to be allocated, where that may be another than before. By the owner, with or without its lock: the
    /// pages of words that nothing is allocated from meanwhile go even if the slab is in use all the time.
    #[inline]
    pub(crate) fn forget_cursor(&self) {
        // No more than tells, for whoever frees a block of it reads this line.
        if self.lately.get() <= FEW {
            self.lately.set(self.lately.get() + 1);
        }
        if self.idle.get() | self.purged.get() != 0 {
            self.forget_cursor_slow();
        }
    }

    #[cold]
    #[inline(never)]
    fn forget_cursor_slow(&self) {
        let known = if self.words == 1 { 0 } else { !self.pages_of_word(self.cursor_word.get() as usize) };
        self.idle.set(self.idle.get() & known);
        self.purged.set(self.purged.get() & known);
    }

    /// Whether more than a few small blocks have been allocated from it since this was last asked. As [`Slab::purge_pages`], for one its bin has
    /// allocated from.
    pub(crate) fn was_in_use(&self) -> bool {
        self.lately.replace(0) > if self.slices == 1 { FEW } else { 0 }
    }

    /// The pages that blocks of `word` touch, in a slab of one slice.
    fn pages_of_word(&self, word: usize) -> u64 {
        let (blocks, shift) = (self.blocks as usize, mm::page_bytes().trailing_zeros());
        // The last block ends with the slab.
        let offset = |block: usize| SLICE_BYTES - (blocks - block) * self.block_bytes as usize;
        let (first, end) = (offset(word * 64), offset(blocks.min(word * 64 + 64)));
        u64::MAX << (first >> shift) & u64::MAX >> (63 - ((end - 1) >> shift))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{pagemap, raw};
    use core::ptr;

    /// A slab of this thread's for blocks of `size` bytes that was filled and written to, and all of its blocks, by address.
    fn full_slab(size: usize) -> (&'static Slab, Vec<usize>) {
        let blocks: Vec<usize> =
            (0..3 * SLICE_BYTES / size).map(|_| raw::calloc(1, size).expose_provenance()).collect();
        let slab_of = |at: usize| pagemap::slab_at(pagemap::offset(at).unwrap());
        for slab in blocks.iter().map(|&at| slab_of(at)) {
            let (mut inside, outside): (Vec<usize>, Vec<usize>) =
                blocks.iter().partition(|&&at| ptr::eq(slab_of(at), slab));
            // SAFETY: the slab has live blocks, here and at the caller's.
            let slab = unsafe { &*slab };
            if inside.len() == usize::from(slab.blocks) {
                free(&outside);
                inside.sort_unstable();
                return (slab, inside);
            }
        }
        panic!("none of three slabs was filled");
    }

    fn free(blocks: &[usize]) {
        // SAFETY: live blocks of the test, each freed once.
        blocks.iter().for_each(|&at| unsafe { raw::free(ptr::with_exposed_provenance_mut(at)) });
    }

    fn is_resident(at: usize) -> bool {
        let mut page = 0u8;
        let start = at & !(mm::page_bytes() - 1);
        // SAFETY: mincore only reports on mappings; one byte for one page.
        let answer = unsafe { libc::mincore(ptr::with_exposed_provenance_mut(start), 1, &raw mut page) };
        answer == 0 && page & 1 == 1
    }

    #[test]
    fn the_pages_of_a_word_are_those_of_its_blocks() {
        for size in [16, 48, 112, 208, 576, 1008] {
            let (slab, blocks) = full_slab(size);
            let page = |at: usize| (at - slab.base()) / mm::page_bytes();
            for (word, blocks) in blocks.chunks(64).enumerate() {
                let bytes = slab.block_bytes as usize;
                let pages = blocks.iter().flat_map(|&at| page(at)..=page(at + bytes - 1));
                assert_eq!(slab.pages_of_word(word), pages.fold(0, |all, page| all | 1 << page), "{size}");
            }
            free(&blocks);
        }
    }

    #[test]
    fn pages_go_while_other_words_of_their_slab_are_in_use() {
        let (slab, blocks) = full_slab(112);
        let (kept, freed) = blocks.split_at(64 + 10);
        free(freed);
        slab.purge_pages(false);
        slab.begin_low();
        for _ in 0..3 {
            // As a program does that has fallen quiet but for a few blocks.
            slab.forget_cursor();
            let block = slab.pop().expect("free blocks").addr().get();
            assert_eq!(block, freed[0], "beside those that stay");
            assert_eq!(slab.push_local(block), Ok(slab.index_of(block).unwrap()));
            slab.purge_pages(false);
        }
        // Words 0 and 1 are in use. What lies on pages of their own behind that was freed, and has gone.
        let last = *freed.last().unwrap();
        assert!(is_resident(kept[0]) && is_resident(freed[0]));
        assert!(is_resident(freed[0] + 112));
        if mm::page_bytes() < SLICE_BYTES {
            assert!(!is_resident(last + 111));
        }
        free(kept);
    }
}
