//! A pool of metadata blocks: chunks with a bitmap of what is in use at their head.
//!
//! ```text
//! area, 8 MiB of addresses                                    chunk, 1 MiB, 1 MiB-aligned
//! +-------+---------+---------+--     --+---------+-------+   +------+----------------------------+
//! | guard | chunk   | chunk   |    …    | closed  | guard |   | head | blocks, in grains          |
//! +-------+---------+---------+--     --+---------+-------+   +------+----------------------------+
//!                                                             used: a bit a grain; a word of bits is 4 KiB of 64-byte grains
//! ```
//!
//! Zone: cold, under the pool's lock. A block goes where it fits first, from the oldest chunk on, so that the youngest pages run empty when
//! much was given back; [`Pool::purge`] returns those to the system. A block of up to 64 grains lies in one word; a longer one begins with a
//! word. Nothing is written into a block that was given back.
//!
//! What different processors write to all the time should not lie on the same page: they fetch lines ahead that they do not need, and so take
//! them from each other (a tenth of the time of two threads with heaps of their own, on a Xeon). So searches for different *stripes* begin at
//! different places of a chunk, and go on past the next stripe's only when their own is full.
//!
//! Invariants:
//! * A grain's bit is set exactly while it belongs to a block, or to the head.
//! * A word's `dirty` bit is set if anything may have been written to its grains since their pages were last returned.

use super::count_mapped;
use crate::sys::mm::{self, Access};
use core::cell::UnsafeCell;
use core::ptr::{self, NonNull};

const CHUNK: usize = 1 << 20;
/// Stripes of a chunk, of 64 KiB.
pub(crate) const STRIPES: usize = 16;
/// Chunks are opened one after the other in a reserved range of this size, whose first and last page stay inaccessible: a run of writes
/// from a neighbouring mapping faults before it reaches metadata. One system call more than without, for every six or seven chunks.
const AREA: usize = 8 << 20;
/// The longest block of a chunk. What is longer is a mapping of its own, and for good.
pub(super) const LARGEST: usize = CHUNK / 4;

/// Bits of a word.
const BITS: usize = u64::BITS as usize;
/// Words that a chunk has at most: with the smallest grain, of 64 bytes.
const WORDS: usize = CHUNK / 64 / BITS;
/// A power of two above that.
const ORDERS: usize = 2 * WORDS;

/// What a chunk begins with. All zero, as fresh memory is, but for the first four fields it is the head of a chunk without a block.
#[repr(C)]
struct Chunk {
    /// Address of the chunk opened after this one; 0 = none.
    next: usize,
    /// How many were opened before it.
    number: usize,
    /// Words of `used` that stand for memory of the chunk.
    words: usize,
    /// The first word of which nothing was ever part of a block: its memory is zero, and there are no stale pointers to it.
    fresh: usize,
    dirty: [u64; WORDS / BITS],
    /// Words that were free and dirty at the last purge, and that no block was taken from since.
    idle: [u64; WORDS / BITS],
    used: [u64; WORDS],
}

/// A word of a chunk. The address 0 stands for the first chunk.
#[derive(Clone, Copy)]
struct Place {
    /// Grows with the chunks' opening, and in a chunk: its number times [`ORDERS`], plus the word's.
    order: usize,
    chunk: usize,
}

/// Kinds of length: 1, 2, up to 4, … up to 64 grains, more.
const LENGTHS: usize = 8;

/// The kind of `count` grains.
fn length_of(count: usize) -> usize {
    ((count - 1).checked_ilog2().map_or(0, |log| log as usize + 1)).min(LENGTHS - 1)
}

/// A block that was taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Block {
    pub(super) at: NonNull<u8>,
    /// Nothing was ever written to it: it is all zero.
    pub(super) fresh: bool,
}

/// A pool of blocks in multiples of the grain, 64 or 128 bytes.
pub(super) struct Pool<const GRAIN: usize> {
    first: usize,
    last: usize,
    /// Where in the latest area the next chunk is to be opened, and where those end.
    next: usize,
    limit: usize,
    /// Chunks of less than a MiB, for times with little address space, the latest first. They are tried before the others, and keep
    /// their pages.
    small: usize,
    /// Where the search for each kind of length begins: where the last one ended, or before it, where something was given back since that
    /// made room for a length of the kind. For each stripe.
    from: [[Place; LENGTHS]; STRIPES],
    /// Whether there may be something to do for [`Pool::purge`].
    stirred: bool,
    /// What to cut from, once, when the system has nothing.
    reserve: Option<&'static Reserve>,
}

/// Memory of the library's own image: never touched, it costs nothing.
#[repr(align(128))]
pub(super) struct Reserve(pub(super) UnsafeCell<[u8; RESERVE]>);

pub(super) const RESERVE: usize = 64 << 10;

// SAFETY: only its address is taken, by the one pool that has it, which hands each part out once.
unsafe impl Sync for Reserve {}

/// The chunk at `addr`, an address of a chunk or 0. Under the pool's lock, and not beside another reference to the same chunk.
fn chunk_at<'a>(addr: usize) -> Option<&'a mut Chunk> {
    // SAFETY: a chunk, once opened, stays for ever; the lock makes the reference the only one.
    unsafe { ptr::with_exposed_provenance_mut::<Chunk>(addr).as_mut() }
}

/// `count` bits from `first` on.
const fn mask(first: usize, count: usize) -> u64 {
    u64::MAX >> (BITS - count) << first
}

/// The first of the lowest `count` set bits in a row; `count` is at least 1.
fn run_of(bits: u64, count: usize) -> Option<usize> {
    let (mut starts, mut have) = (bits, 1);
    while have < count && starts != 0 {
        let more = have.min(count - have);
        starts &= starts >> more;
        have += more;
    }
    (starts != 0).then(|| starts.trailing_zeros() as usize)
}

/// How many set bits in a row bit `at` is one of.
fn run_around(bits: u64, at: usize) -> usize {
    ((bits << (BITS - 1 - at)).leading_ones() + (bits >> at).trailing_ones()) as usize - 1
}

impl Chunk {
    fn place(&self, word: usize) -> Place {
        Place { order: self.number * ORDERS + word, chunk: (&raw const *self).expose_provenance() }
    }

    /// The first word of `stripe`.
    fn stripe(&self, stripe: usize) -> usize {
        self.words * stripe / STRIPES
    }

    /// Where `count` free grains are, from `word` on: the word, and the first bit in it.
    fn fit(&self, mut word: usize, count: usize) -> Option<(usize, usize)> {
        while word < self.words {
            if count <= BITS {
                if let Some(bit) = run_of(!self.used[word], count) {
                    return Some((word, bit));
                }
            } else {
                let (whole, rest) = (count / BITS, count % BITS);
                let taken = (word..word + whole).find(|&word| word >= self.words || self.used[word] != 0);
                let behind = self.used.get(word + whole).filter(|_| word + whole < self.words);
                match taken {
                    Some(taken) => word = taken,
                    None if rest == 0 => return Some((word, 0)),
                    None if behind.is_some_and(|used| used & mask(0, rest) == 0) => return Some((word, 0)),
                    None => word += whole,
                }
            }
            word += 1;
        }
        None
    }

    /// Calls `f` for each word that `count` grains from `bit` of `word` on have a part in, with that part's bits.
    fn for_each_part(
        &mut self,
        word: usize,
        bit: usize,
        count: usize,
        mut f: impl FnMut(&mut Chunk, usize, u64),
    ) {
        let (mut word, mut bit, mut left) = (word, bit, count);
        while left > 0 {
            let here = left.min(BITS - bit);
            f(self, word, mask(bit, here));
            (word, bit, left) = (word + 1, 0, left - here);
        }
    }

    /// Marks grains as used; whether their words were fresh.
    fn claim(&mut self, word: usize, bit: usize, count: usize) -> bool {
        let fresh = word >= self.fresh;
        self.for_each_part(word, bit, count, |chunk, word, bits| {
            debug_assert_eq!(chunk.used[word] & bits, 0);
            chunk.used[word] |= bits;
            chunk.dirty[word / BITS] |= 1 << (word % BITS);
            chunk.idle[word / BITS] &= !(1 << (word % BITS));
            chunk.fresh = chunk.fresh.max(word + 1);
        });
        fresh
    }

    /// Returns the pages, of `page` bytes, without a block that had none at the last call either, or with `all` that have none now; the
    /// bytes that went, and whether the next call may have something to do.
    fn purge<const GRAIN: usize>(&mut self, base: usize, page: usize, all: bool) -> (usize, bool) {
        // Where a page is several words, they go together; where a word is several pages, these do. The head is part of word 0, so
        // that the first page is never free.
        let (step, bytes) = ((page / (GRAIN * BITS)).max(1), GRAIN * BITS);
        let (mut gone, mut more, mut run) = (0, false, 0..0);
        for word in (0..=self.words).step_by(step) {
            let (mut free, mut dirty, mut idle) = (word < self.words, false, true);
            for word in word..(word + step).min(self.words) {
                free &= self.used[word] == 0;
                dirty |= is_set(&self.dirty, word);
                idle &= is_set(&self.idle, word);
            }
            if free && dirty && (all || idle) {
                run = if run.is_empty() { word..word + step } else { run.start..word + step };
                continue;
            }
            if free && dirty {
                (word..word + step).for_each(|word| self.idle[word / BITS] |= 1 << (word % BITS));
                more = true;
            }
            // SAFETY: no block is on these pages, and the lock keeps it so. Failure leaves old pages, which is only memory.
            if !run.is_empty() && unsafe { mm::discard(base + run.start * bytes, run.len() * bytes) }.is_ok()
            {
                gone += run.len() * bytes;
                run.clone().for_each(|word| self.dirty[word / BITS] &= !(1 << (word % BITS)));
            }
            run = 0..0;
        }
        (gone, more)
    }
}

fn is_set(bits: &[u64], bit: usize) -> bool {
    bits[bit / BITS] >> (bit % BITS) & 1 == 1
}

impl<const GRAIN: usize> Pool<GRAIN> {
    /// Grains of a chunk's head, and bytes of a word of grains.
    const HEAD: usize = size_of::<Chunk>().div_ceil(GRAIN);
    const WORD_BYTES: usize = GRAIN * BITS;

    pub(super) const fn new(reserve: Option<&'static Reserve>) -> Self {
        const { assert!(Self::HEAD < BITS && CHUNK / Self::WORD_BYTES <= WORDS) };
        Pool {
            first: 0,
            last: 0,
            next: 0,
            limit: 0,
            small: 0,
            from: [[Place { order: 0, chunk: 0 }; LENGTHS]; STRIPES],
            stirred: false,
            reserve,
        }
    }

    /// A block of at least `bytes` bytes, aligned to the grain, contents unspecified if it is not fresh; in `stripe` while that has room.
    pub(super) fn take(&mut self, bytes: usize, stripe: usize) -> Option<Block> {
        if bytes > LARGEST {
            return map_alone(bytes);
        }
        let count = bytes.div_ceil(GRAIN).max(1);
        if let Some(block) = self.take_small(count).or_else(|| self.take_first(count, stripe)) {
            return Some(block);
        }
        self.grow(bytes)?;
        self.take_small(count).or_else(|| self.take_first(count, stripe))
    }

    fn block(chunk: &mut Chunk, word: usize, bit: usize, count: usize) -> Option<Block> {
        let fresh = chunk.claim(word, bit, count);
        let base = (&raw const *chunk).expose_provenance();
        let at = base + word * Self::WORD_BYTES + bit * GRAIN;
        Some(Block { at: NonNull::new(ptr::with_exposed_provenance_mut(at))?, fresh })
    }

    fn take_small(&mut self, count: usize) -> Option<Block> {
        let (chunk, (word, bit)) = Self::search(self.small, None, 0, count)?;
        Self::block(chunk, word, bit, count)
    }

    /// Searches on from where the last search for about as many grains ended, and before a chunk is opened for them everywhere: so what a search
    /// has passed by because it was a little too small is found when it is needed.
    fn take_first(&mut self, count: usize, stripe: usize) -> Option<Block> {
        let from = &mut self.from[stripe][length_of(count)];
        let found = match from.chunk {
            0 => Self::search(self.first, None, stripe, count),
            chunk => Self::search(chunk, Some(from.order % ORDERS), stripe, count),
        };
        let (chunk, (word, bit)) = found.or_else(|| Self::search(self.first, None, 0, count))?;
        *from = chunk.place(word);
        Self::block(chunk, word, bit, count)
    }

    /// The first chunk with `count` free grains, and where in it, from `word` of the chunk at `next` on, or else where `stripe` begins in it, as
    /// in each that follows.
    fn search<'a>(
        mut next: usize,
        mut word: Option<usize>,
        stripe: usize,
        count: usize,
    ) -> Option<(&'a mut Chunk, (usize, usize))> {
        while let Some(chunk) = chunk_at(next) {
            let start = word.take().unwrap_or_else(|| chunk.stripe(stripe));
            if let Some(found) = chunk.fit(start, count) {
                return Some((chunk, found));
            }
            next = chunk.next;
        }
        None
    }

    /// Takes back a block of `bytes` bytes.
    ///
    /// # Safety
    /// * `block` came from [`Pool::take`] with the same `bytes`, at most [`LARGEST`], and `stripe`, and nobody uses it again.
    pub(super) unsafe fn give(&mut self, block: NonNull<u8>, bytes: usize, stripe: usize) {
        let (at, count) = (block.addr().get(), bytes.div_ceil(GRAIN).max(1));
        let small = self.small_of(at);
        let base = small.unwrap_or(at & !(CHUNK - 1));
        let Some(chunk) = chunk_at(base) else { return };
        let grain = (at - base) / GRAIN;
        chunk.for_each_part(grain / BITS, grain % BITS, count, |chunk, word, bits| {
            debug_assert_eq!(chunk.used[word] & bits, bits, "given back twice");
            chunk.used[word] &= !bits;
            if small.is_none() {
                // What fits there now did not before.
                let run = run_around(!chunk.used[word], bits.trailing_zeros() as usize);
                let place = chunk.place(word);
                let lengths = if run == BITS { LENGTHS } else { length_of(run) + 1 };
                for from in &mut self.from[stripe][..lengths] {
                    if from.order > place.order {
                        *from = place;
                    }
                }
            }
        });
        self.stirred = true;
    }

    /// The small chunk that `addr` lies in.
    fn small_of(&self, addr: usize) -> Option<usize> {
        let mut next = self.small;
        while let Some(chunk) = chunk_at(next) {
            if addr.wrapping_sub(next) < chunk.words * Self::WORD_BYTES {
                return Some(next);
            }
            next = chunk.next;
        }
        None
    }

    /// As [`super::purge`].
    pub(super) fn purge(&mut self, all: bool) -> usize {
        let (mut gone, mut next) = (0, self.first);
        if !core::mem::take(&mut self.stirred) && !all {
            return 0;
        }
        while let Some(chunk) = chunk_at(next) {
            let (bytes, more) = chunk.purge::<GRAIN>(next, mm::page_bytes(), all);
            gone += bytes;
            self.stirred |= more;
            next = chunk.next;
        }
        gone
    }

    /// Opens a chunk with room for `bytes` bytes, at most [`LARGEST`].
    fn grow(&mut self, bytes: usize) -> Option<()> {
        let page = mm::page_bytes();
        if self.limit - self.next >= CHUNK {
            // SAFETY: the range is reserved for this pool, and nobody uses it yet.
            if unsafe { mm::protect(self.next, CHUNK, Access::ReadWrite) }.is_ok() {
                return self.open_next();
            }
        }
        // The shorter one has room for a chunk and both guards, too, wherever it lies.
        for area in [AREA, 2 * CHUNK + page] {
            let Ok(at) = mm::map(area, Access::None) else { continue };
            let first = (at + page).next_multiple_of(CHUNK);
            // SAFETY: the range was reserved one line above.
            if unsafe { mm::protect(first, CHUNK, Access::ReadWrite) }.is_ok() {
                (self.next, self.limit) = (first, at + area - page);
                return self.open_next();
            }
            // SAFETY: as above; nobody knows of it.
            unsafe { mm::unmap(at, area) };
        }
        // Little address space left (RLIMIT_AS): what this block needs behind a head, without guards.
        let least = bytes + Self::WORD_BYTES;
        let small = least.next_multiple_of(16 * page);
        if let Ok(at) = mm::map(small, Access::ReadWrite) {
            count_mapped(small);
            self.open_small(at, small);
            return Some(());
        }
        let reserve = self.reserve.take_if(|_| least <= RESERVE)?;
        self.open_small(reserve.0.get().expose_provenance(), RESERVE);
        Some(())
    }

    /// Makes the memory of a MiB at `next` a chunk, the last.
    fn open_next(&mut self) -> Option<()> {
        count_mapped(CHUNK);
        let (at, number) = (self.next, chunk_at(self.last).map_or(0, |last| last.number + 1));
        self.next += CHUNK;
        Self::open(at, CHUNK).number = number;
        match chunk_at(self.last) {
            Some(last) => last.next = at,
            None => self.first = at,
        }
        self.last = at;
        Some(())
    }

    fn open_small(&mut self, at: usize, bytes: usize) {
        Self::open(at, bytes).next = self.small;
        self.small = at;
    }

    /// Makes `bytes` bytes of fresh memory at `at` a chunk.
    fn open<'a>(at: usize, bytes: usize) -> &'a mut Chunk {
        let chunk = chunk_at(at).expect("a mapping is not at address 0");
        chunk.words = (bytes / Self::WORD_BYTES).min(CHUNK / Self::WORD_BYTES);
        chunk.claim(0, 0, Self::HEAD);
        chunk
    }
}

/// A block of `bytes` bytes for good, in a mapping of its own, between inaccessible pages if there is address space for them.
fn map_alone(bytes: usize) -> Option<Block> {
    let page = mm::page_bytes();
    let bytes = bytes.next_multiple_of(page);
    let guarded = mm::map(bytes + 2 * page, Access::None).ok().and_then(|at| {
        // SAFETY: the range was reserved one line above.
        let opened = unsafe { mm::protect(at + page, bytes, Access::ReadWrite) }.is_ok();
        if !opened {
            // SAFETY: as above; nobody knows of it.
            unsafe { mm::unmap(at, bytes + 2 * page) };
        }
        opened.then_some(at + page)
    });
    let at = guarded.or_else(|| mm::map(bytes, Access::ReadWrite).ok())?;
    count_mapped(bytes);
    Some(Block { at: NonNull::new(ptr::with_exposed_provenance_mut(at))?, fresh: true })
}

#[cfg(test)]
mod tests;
