//! Slabs: runs of slices cut into blocks of one size, with all state out of band.
//!
//! Zone: fast ([`Slab::pop`], [`Slab::push_local`]), cold (the rest). A slab's header is metadata; its blocks are the application's and
//! are never read or written here. So a `free` of a cold object touches no slow memory, and heat is the application's alone.
//!
//! ```text
//! header (metadata, DRAM)                                   blocks (any tier)
//! +--------+-------------------+-------------------+        +-------+-------+-------+---
//! | fields | local: 1 = free   | remote: 1 = freed |        |   0   |   1   |   2   | …
//! |        | by owner, to take | by others, to be  |        +-------+-------+-------+---
//! |        |                   | merged into local |        start   + size  + 2 size
//! +--------+-------------------+-------------------+
//!          each from a cache line of its own on
//! ```
//!
//! Invariants:
//! * A block is live exactly if neither its local nor its remote bit is set.
//!   In a hardened slab ([`hardened`]) it may also be in a quarantine.
//! * Local bits are changed only by the owner thread (fast path, no lock needed) or, for an abandoned heap, under its lock. Others
//!   read them to recognise a double free.

mod bits;
mod free_list;
mod hardened;
mod pages;
mod remote;
#[cfg(feature = "invariants")]
mod walk;

pub(crate) use free_list::FreeFault;
pub(crate) use hardened::Taken;
pub(crate) use remote::RemoteStack;

use crate::heap::Heap;
use crate::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use core::cell::Cell;
use core::ptr;
use remote::RemoteSide;

/// Tag in [`Slab::owner`]: no block was free when the owner last looked, and the slab is on no list, so that the owner's next `free`
/// must take the slow path, which lists it if that is worth the while.
pub(crate) const FULL: usize = 1;

/// The header of a slab; the local and the remote bits follow it in memory.
///
/// Two cache lines: the first is what any thread needs to free a block, and seldom changes; the second is the owner's alone, whose mallocs
/// change it all the time. So do its frees the local bits, and what others write begins with a line of its own ([`RemoteSide`]): a line
/// that two processors write to goes to and fro between them, which costs more than everything else in a malloc or free.
#[repr(C, align(64))]
pub(crate) struct Slab {
    /// The heap whose thread allocates from it, tagged with [`FULL`]; null in the sentinels.
    pub(crate) owner: AtomicPtr<Heap>,
    /// Address of block 0.
    pub(crate) start: usize,
    /// ceil(2^64 / block size): one multiplication gives a block's index and whether an address is a block's start.
    reciprocal: u64,
    /// Block size in bytes.
    pub(crate) block_bytes: u32,
    /// How many blocks it has.
    pub(crate) blocks: u16,
    /// Words of local bits (and as many remote ones).
    words: u16,
    /// Size class.
    pub(crate) class: u8,
    /// Number of the pool.
    pub(crate) pool: u8,
    /// Slices it spans.
    pub(crate) slices: u8,
    /// Whether it is on its bin's partial list. Under the heap's lock.
    pub(crate) listed: Cell<bool>,
    /// Blocks of the only word, or pages if there are more words, that were discarded and not handed out since. By the owner, or under
    /// the lock of a heap without one.
    purged: Cell<u64>,
    /// Those that were free when last looked at, and not handed out since. As `purged`.
    idle: Cell<u64>,
    /// How many times its bin has gone on to another word of it since the last purge, as far as that matters. As `purged`.
    lately: Cell<u8>,
    /// The rest of the line.
    _spare: [u8; 7],

    /// Blocks that [`Slab::pop`] takes before others: bits of the cursor's word, set there, too. By the owner.
    ahead: Cell<u64>,
    /// The word of local bits that [`Slab::pop`] takes from.
    cursor: Cell<*const AtomicU64>,
    /// Address of the block of bit 0 of that word.
    cursor_base: Cell<usize>,
    /// The word as it was at the slow path's last turn. By the owner.
    last: Cell<u64>,
    /// How many more blocks [`Slab::pop`] takes one by one, and how many more times it then chooses some ahead, before it is the slow path's
    /// turn. By the owner.
    calls_left: Cell<u8>,
    choices_left: Cell<u8>,
    /// 64 less the number of blocks chosen ahead.
    ahead_shift: u8,
    /// The index of the cursor's word, and how many words it has been pointed at, from the first on. By the owner.
    cursor_word: Cell<u16>,
    used_words: Cell<u16>,
    /// Neighbours on its bin's partial list. Under the heap's lock.
    pub(crate) next: Cell<*mut Slab>,
    pub(crate) prev: Cell<*mut Slab>,
}

// SAFETY: cells are accessed under the owner's rules stated on each field; the rest is atomic or constant after `create`.
unsafe impl Sync for Slab {}

const HEADER_BYTES: usize = size_of::<Slab>();
const LINE: usize = 64;
const _: () = assert!(core::mem::offset_of!(Slab, ahead) == LINE && HEADER_BYTES == 2 * LINE);

/// What a bin points to when it has no slab: never has a free block.
pub(crate) static EMPTY_SLAB: Slab = Slab::sentinel();
/// What the page map points to for a large span.
pub(crate) static LARGE: Slab = Slab::sentinel();
static NO_BITS: AtomicU64 = AtomicU64::new(0);

/// The sentinel of an empty bin, as bins hold it.
#[inline]
pub(crate) fn empty_slab() -> *mut Slab {
    (&raw const EMPTY_SLAB).cast_mut()
}

impl Slab {
    const fn sentinel() -> Slab {
        Slab {
            owner: AtomicPtr::new(ptr::null_mut()),
            start: 0,
            reciprocal: 0,
            ahead: Cell::new(0),
            cursor: Cell::new(&raw const NO_BITS),
            cursor_base: Cell::new(0),
            block_bytes: 0,
            blocks: 0,
            words: 0,
            ahead_shift: 63,
            calls_left: Cell::new(0),
            choices_left: Cell::new(0),
            last: Cell::new(0),
            class: 0,
            pool: 0,
            slices: 0,
            listed: Cell::new(false),
            next: Cell::new(ptr::null_mut()),
            prev: Cell::new(ptr::null_mut()),
            cursor_word: Cell::new(0),
            used_words: Cell::new(0),
            idle: Cell::new(0),
            purged: Cell::new(0),
            lately: Cell::new(0),
            _spare: [0; 7],
        }
    }

    /// The heap it belongs to, without the tags.
    #[inline]
    pub(crate) fn heap(&self) -> *mut Heap {
        self.owner.load(Ordering::Relaxed).map_addr(|a| a & !(FULL | hardened::HARD))
    }

    /// Whether it is tagged [`FULL`].
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.owner.load(Ordering::Relaxed).addr() & FULL != 0
    }

    /// Sets or clears the [`FULL`] tag; by the owner under its lock.
    pub(crate) fn set_full(&self, full: bool) {
        let owner = self.owner.load(Ordering::Relaxed);
        self.owner.store(owner.map_addr(|a| if full { a | FULL } else { a & !FULL }), Ordering::Relaxed);
    }

    #[inline]
    fn local(&self, word: usize) -> &AtomicU64 {
        debug_assert!(word < self.words as usize);
        // SAFETY: `create` allocated `words` words behind the header; `word` is below `words`.
        unsafe { &*(&raw const *self).byte_add(HEADER_BYTES).cast::<AtomicU64>().add(word) }
    }

    #[inline]
    fn remote_side(&self) -> &RemoteSide {
        // SAFETY: `create` allocated the remote side behind the local words, zeroed, which is a valid one.
        unsafe { &*(&raw const *self).byte_add(remote_offset(self.words as usize)).cast::<RemoteSide>() }
    }

    #[inline]
    fn remote(&self, word: usize) -> &AtomicU64 {
        debug_assert!(word < self.words as usize);
        // SAFETY: `create` allocated `words` words behind the remote side; `word` is below `words`.
        unsafe { &*(&raw const *self.remote_side()).add(1).cast::<AtomicU64>().add(word) }
    }
}

/// Where the remote side begins in the header of a slab of so many words.
const fn remote_offset(words: usize) -> usize {
    HEADER_BYTES + (words * 8).next_multiple_of(LINE)
}

/// Where the remote bits end.
const fn bits_end(words: usize) -> usize {
    remote_offset(words) + size_of::<RemoteSide>() + words * 8
}
