//! Making and unmaking slabs, and walking their bits. Zone: cold, under the owning heap's lock.

use super::hardened::side_bytes;
use super::{Slab, bits_end};
use crate::arena::{self, EXTENT_BYTES, extent};
use crate::class::{class_bytes, slab_slices};
use crate::config;
use crate::heap::Heap;
use crate::meta;
use crate::pagemap::{self, SLICE_BYTES};
use crate::sync::atomic::{AtomicPtr, Ordering};
use core::cell::Cell;
use core::ptr::{self, NonNull};

/// So many blocks [`Slab::pop`] takes one by one before it is the slow path's turn.
const CALLS: u8 = 128;

/// The share of a slab's blocks that are free, numerator and denominator, for it to be allocated from again on a device: a sixteenth more of the
/// heap is unused on average, of which only what hot blocks lie on comes to DRAM.
const WORTH: (u32, u32) = (3, 16);

/// How many times running blocks are chosen ahead, at least, before it is the slow path's turn; where few are, as often as makes [`CALLS`] of them.
const CHOICES: u8 = 4;

/// How many blocks of so many bytes are chosen ahead, at most: a program that frees what it allocated last is to get it again warm in the
/// cache. So 8 KiB of them, and, of larger ones, two that fit into a first-level cache together, or into a second-level one where the first
/// does not hold even one.
const fn warm_blocks(bytes: usize) -> usize {
    match bytes {
        ..128 => 64,
        128..=4096 => 8192 / bytes,
        4097..=16384 | 32769..=131_072 => 2,
        _ => 1,
    }
}

const fn words_for(blocks: usize) -> usize {
    blocks.div_ceil(64)
}

/// Bytes of the header of a slab of so many blocks of `bytes` bytes, with all that follows it.
fn header_bytes(blocks: usize, bytes: usize, hardened: bool) -> usize {
    bits_end(words_for(blocks)) + if hardened { side_bytes(blocks, bytes) } else { 0 }
}

/// Whether at least three bits are set.
const fn at_least_three(bits: u64) -> bool {
    // Each step clears the lowest bit; zero stays zero. (Counting takes three times as many instructions where POPCNT must not be used.)
    let bits = bits & bits.wrapping_sub(1);
    bits & bits.wrapping_sub(1) != 0
}

/// Whether at least four bits are set.
const fn at_least_four(bits: u64) -> bool {
    at_least_three(bits & bits.wrapping_sub(1))
}

impl Slab {
    /// Makes a slab of `class` at `base`, all of whose blocks are free, and enters it in the page map; `None` if there is no metadata.
    pub(crate) fn create(heap: *mut Heap, pool: u8, class: usize, base: usize) -> Option<*mut Slab> {
        let (bytes, slices) = (class_bytes(class), slab_slices(class));
        let blocks = slices * SLICE_BYTES / bytes;
        let words = words_for(blocks);
        // What the blocks do not fill is in front of them, so that no address behind the last one is the slab's.
        let start = base + slices * SLICE_BYTES - blocks * bytes;
        let hardened = config::get().hardened;
        // SAFETY: heaps are never freed.
        let stripe = unsafe { &*heap }.stripe();
        let slab = meta::take_zeroed(header_bytes(blocks, bytes, hardened), stripe)?.cast::<Slab>().as_ptr();
        // SAFETY: the block is ours, 64-byte aligned and large enough for the header and its bits.
        unsafe {
            slab.write(Slab {
                owner: AtomicPtr::new(heap),
                start,
                // The ceiling, also for powers of two.
                reciprocal: u64::MAX / bytes as u64 + 1,
                ahead: Cell::new(0),
                cursor: Cell::new(ptr::null()),
                cursor_base: Cell::new(start),
                block_bytes: bytes as u32,
                blocks: blocks as u16,
                words: words as u16,
                ahead_shift: 64 - warm_blocks(bytes) as u8,
                calls_left: Cell::new(CALLS),
                choices_left: Cell::new(0),
                last: Cell::new(0),
                class: class as u8,
                pool,
                slices: slices as u8,
                listed: Cell::new(false),
                next: Cell::new(ptr::null_mut()),
                prev: Cell::new(ptr::null_mut()),
                cursor_word: Cell::new(0),
                used_words: Cell::new(0),
                idle: Cell::new(0),
                purged: Cell::new(0),
                lately: Cell::new(0),
                _spare: [0; 7],
            });
            let slab = &*slab;
            for word in 0..words {
                let left = blocks - word * 64;
                slab.local(word)
                    .store(if left >= 64 { u64::MAX } else { (1 << left) - 1 }, Ordering::Relaxed);
            }
            slab.point_at(0);
            if hardened {
                slab.harden();
            }
        }
        pagemap::set(base, slices, slab);
        Some(slab)
    }

    /// Address of its first slice.
    pub(crate) fn base(&self) -> usize {
        let blocks = usize::from(self.blocks) * self.block_bytes as usize;
        self.start + blocks - usize::from(self.slices) * SLICE_BYTES
    }

    /// Removes the slab from the page map and gives its header back.
    ///
    /// # Safety
    /// * [`Slab::is_idle`] was true under the owning heap's lock, which is still held, and the slab is in no bin and on no list.
    pub(crate) unsafe fn destroy(slab: *mut Slab) {
        // SAFETY: the header is readable; nobody else refers to it any more.
        let this = unsafe { &*slab };
        let header = header_bytes(this.blocks as usize, this.block_bytes as usize, this.is_hardened());
        pagemap::set(this.base(), this.slices as usize, ptr::null_mut());
        if let Some(block) = NonNull::new(slab.cast()) {
            // SAFETY: heaps are never freed; the block came from `take_zeroed` with this size and its heap's stripe.
            unsafe { meta::give(block, header, (*this.heap()).stripe()) };
        }
    }

    /// Whether a full slab is to be listed now that block `index` is free. By the owner.
    ///
    /// Where many slabs are full and blocks are freed at random, a slab listed at its first free block would be full again at the next
    /// malloc, which would be a slow call each time, as would every free. So it waits for three of a word, and up to one block in thirty is
    /// not used.
    pub(crate) fn is_worth_listing(&self, index: usize) -> bool {
        let some = self.blocks < 64 || at_least_three(self.local(index / 64).load(Ordering::Relaxed));
        some && self.is_worth_reusing()
    }

    /// Whether a full slab that has free blocks again is to be allocated from.
    ///
    /// Where the heap does not fit in DRAM, one that lies on a device waits until many are free: what is allocated now is used now, and one such
    /// block on each of many cold pages would make all of them worth a place in DRAM.
    pub(crate) fn is_worth_reusing(&self) -> bool {
        self.slices > 1 || !arena::pressure::gathers_births() || self.is_good_for_births()
    }

    #[cold]
    #[inline(never)]
    fn is_good_for_births(&self) -> bool {
        self.is_in_dram() || self.free_blocks() * WORTH.1 >= u32::from(self.blocks) * WORTH.0
    }

    /// Whether most of its first slice lies in DRAM, as far as is known.
    pub(crate) fn is_in_dram(&self) -> bool {
        let (extent, slice) = self.place();
        extent.is_in_dram(slice)
    }

    /// The extent of its first slice, and which of that's it is.
    fn place(&self) -> (&'static arena::Extent, usize) {
        let base = self.base();
        (extent::at(extent::index_of(base)), base % EXTENT_BYTES / SLICE_BYTES)
    }

    /// Makes the word of block `index` the next that is allocated from. By the owner under its lock, for a slab that it does not allocate from.
    pub(crate) fn begin_at(&self, index: usize) {
        self.point_at(index / 64);
    }

    /// Makes the lowest word that is worth a visit the next that is allocated from. As [`Slab::begin_at`], or for a heap without an owner.
    ///
    /// Once per purge period: where few blocks come and go, they then do so beside those that stay, and the pages behind them can go.
    pub(crate) fn begin_low(&self) {
        let worthy = |word: &usize| at_least_four(self.local(*word).load(Ordering::Relaxed));
        if let Some(word) = (0..usize::from(self.used_words.get())).find(worthy) {
            self.point_at(word);
        }
    }

    /// Points the cursor at `word`.
    fn point_at(&self, word: usize) {
        self.cursor.set(&raw const *self.local(word));
        self.cursor_base.set(self.start + word * 64 * self.block_bytes as usize);
        self.cursor_word.set(word as u16);
        let used = self.used_words.get();
        self.used_words.set(used.max(word as u16 + 1));
        self.ahead.set(0);
        // Memory that is used for the first time says nothing about how often it will be.
        if word < usize::from(used) && arena::pressure::tight() {
            self.note_births(word);
        }
    }

    /// Points the cursor at a word with free blocks, if it does not; `false` if there is none. By the owner, with or without its lock.
    ///
    /// Goes round, so that each word has had time to gather freed blocks since its last visit (lowest first makes five times as many
    /// visits on random lifetimes), but among the words used so far, so that a small working set stays small. A word never used is
    /// taken only when none of the others is worth a visit.
    pub(crate) fn advance(&self) -> bool {
        self.revisit() || self.begin_word()
    }

    /// As [`Slab::advance`], but for words used before that are worth a visit; a full slab's are.
    pub(crate) fn revisit(&self) -> bool {
        // SAFETY: the cursor points at a word of this slab's bits, or at the sentinel's.
        let bits = unsafe { &*self.cursor.get() }.load(Ordering::Relaxed);
        if bits != 0 {
            // As it was then: the blocks taken from it came back.
            let again = self.last.replace(bits) == bits && self.ahead_shift < 63 && at_least_four(bits);
            // Each is of the blocks chosen and the one that is taken at once.
            let choices = (CALLS / (65 - self.ahead_shift)).max(CHOICES);
            self.choices_left.set(if again { choices } else { 0 });
            self.calls_left.set(if again { 0 } else { CALLS });
            return true;
        }
        let (words, used) = (self.words as usize, self.used_words.get() as usize);
        let free = |word: usize| self.local(word).load(Ordering::Relaxed);
        let next = self.cursor_word.get() as usize + 1;
        let mut round = (next..used).chain(0..next.min(used));
        let worthy = |word: &usize| if used < words { at_least_four(free(*word)) } else { free(*word) != 0 };
        self.point_at_if(round.find(worthy))
    }

    /// The rest of [`Slab::advance`]: a word never used, else one with few free blocks.
    pub(crate) fn begin_word(&self) -> bool {
        let (words, used) = (self.words as usize, self.used_words.get() as usize);
        let free = |word: &usize| self.local(*word).load(Ordering::Relaxed) != 0;
        self.point_at_if((used..words).chain(0..used).find(free))
    }

    fn point_at_if(&self, word: Option<usize>) -> bool {
        if let Some(word) = word {
            self.point_at(word);
            self.calls_left.set(CALLS);
        }
        word.is_some()
    }

    /// Tells the extent how often the pages of a word are going to be used because blocks of it are allocated, each written once: a time for a
    /// block, or, of tiny ones, for a cache line. Not where blocks have pages of their own, in slabs of several slices.
    #[cold]
    #[inline(never)]
    fn note_births(&self, word: usize) {
        if self.slices == 1 {
            let free = self.local(word).load(Ordering::Relaxed).count_ones();
            let (extent, slice) = self.place();
            extent.note_births(slice, (free * self.block_bytes.min(64)).div_ceil(64));
        }
    }

    /// Puts the cursor in order, wherever its thread was when a fork left it behind. Only while no other thread exists.
    pub(crate) fn rewind(&self) {
        if self.words > 0 {
            self.point_at(0);
            self.forget_cursor();
        }
    }

    /// Blocks chosen ahead that are not free by their local bits: there must be none.
    ///
    /// The owner's thread may be at work, and take a block between the look at what is chosen and the one at its word. Only what is still so
    /// after it was given time again and again is a contradiction.
    #[cfg(feature = "invariants")]
    pub(super) fn strays(&self) -> u64 {
        let look = || {
            let ahead = self.ahead.get();
            ahead & !self.local(usize::from(self.cursor_word.get())).load(Ordering::Relaxed)
        };
        let mut strays = look();
        for _ in 0..100 {
            if strays == 0 {
                break;
            }
            crate::sys::futex::rest(1);
            strays &= look();
        }
        strays
    }

    /// How many blocks are free by their local bits.
    pub(crate) fn free_blocks(&self) -> u32 {
        (0..self.words as usize).map(|word| self.local(word).load(Ordering::Relaxed).count_ones()).sum()
    }

    /// How many blocks the application holds; a snapshot while other threads free.
    pub(crate) fn live_blocks(&self) -> u32 {
        if self.is_hardened() {
            return u32::from(self.blocks) - self.dead_blocks();
        }
        let remote: u32 =
            (0..self.words as usize).map(|word| self.remote(word).load(Ordering::Relaxed).count_ones()).sum();
        u32::from(self.blocks).saturating_sub(self.free_blocks() + remote)
    }

    /// Whether every block is free and no other thread is still busy with the header, so that it may be destroyed.
    pub(crate) fn is_idle(&self) -> bool {
        self.free_blocks() == u32::from(self.blocks) && self.remote_is_quiet()
    }
}
