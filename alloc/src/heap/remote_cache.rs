//! Other heaps' blocks that this thread has freed: gathered by the word of bits, given back by one atomic instruction a word.
//!
//! Zone: cold. A remote free costs an atomic read-modify-write of a cache line that the owner's processor holds, and now and then a
//! notice to the owner. A thread that frees many of another's blocks frees neighbours, so their bits are gathered first. Gathered blocks
//! are live to everybody else, so their slab stays. They go back when there are enough of a word, when the place is needed for
//! another word, once per purge period, on trim, and at the thread's end; a thread that does nothing else but free keeps less than 2 KiB
//! of each of 128 words. Large blocks are not gathered: what can wait unseen is to be small. Nor does a thread gather whose end nobody will notice.
//!
//! A block that was free before the first of its word was gathered, or is gathered here, is refused at once. What its owner or another thread
//! frees after that is found when the bits go back; not if the owner has handed it out again by then, as between any two threads that free
//! one block at once.

use super::Heap;
use crate::meta;
use crate::pagemap;
use crate::slab::{FreeFault, Slab};
use crate::sync::atomic::{Ordering, compiler_fence};
use crate::sys::proc::die;
use core::cell::Cell;
use core::ptr;

/// Blocks up to this size are gathered.
const LARGEST: u32 = 512;
/// So many of a word, or so many bytes of them, go back at once.
const BATCH: u32 = 16;
const BATCH_BYTES: u32 = 2048;
/// How many words are gathered for. Two threads that exchange blocks of 16 sizes have some 80 in use each.
const WORDS: usize = 128;

/// Bits of one word.
struct Entry {
    /// Null if there never were any.
    slab: Cell<*const Slab>,
    /// Address of the block gathered last.
    at: Cell<usize>,
    bits: Cell<u64>,
    /// Blocks of the word that were free already when the first of these was gathered, or so it seemed.
    free: Cell<u64>,
    word: Cell<u32>,
    count: Cell<u32>,
}

/// A heap's gathered remote frees; used by its owner thread alone. Zero-filled memory is one with nothing gathered.
///
/// Not a part of the heap: most threads never free another's block, and a program's start would touch two pages more.
pub(super) struct RemoteCache([Entry; WORDS]);

impl Heap {
    /// Frees a block of another heap's slab, by this heap's thread.
    pub(super) fn free_remote(&self, slab: &Slab, addr: usize) -> Result<(), FreeFault> {
        let index = slab.index_of(addr)?;
        let (word, bit) = (index / 64, 1u64 << (index % 64));
        let at_once = slab.block_bytes > LARGEST || self.unnoticed.get();
        let cache = if at_once { None } else { self.remote_cache() };
        let Some(cache) = cache else {
            return self.give_remote(slab, word, bit).map_err(|_| FreeFault::Double);
        };
        let entry = &cache.0[((&raw const *slab).addr() / 64 + word) % WORDS];
        if !ptr::eq(entry.slab.get(), slab) || entry.word.get() as usize != word {
            self.give_entry(entry);
            entry.slab.set(slab);
            entry.word.set(word as u32);
        }
        // Each time: a header may be another slab's by now, with blocks elsewhere.
        entry.at.set(addr);
        // What was free then may have been handed out since: another look tells. One at each free would take the line, which the owner writes
        // to at each malloc and free, from its processor each time.
        if entry.bits.get() == 0 || entry.free.get() & bit != 0 {
            entry.free.set(slab.seen_free(word));
        }
        if (entry.bits.get() | entry.free.get()) & bit != 0 {
            return Err(FreeFault::Double);
        }
        // A child forked in between must not find bits of one word with the name of another.
        compiler_fence(Ordering::Release);
        entry.bits.set(entry.bits.get() | bit);
        let count = entry.count.get() + 1;
        entry.count.set(count);
        if count >= BATCH || count * slab.block_bytes >= BATCH_BYTES {
            self.give_entry(entry);
        }
        Ok(())
    }

    /// Gives everything gathered back to its heaps; by the owner thread, or in a forked child for a thread that is no more.
    pub(super) fn give_gathered(&self) {
        // SAFETY: once made it is never freed, and it is this heap's alone.
        if let Some(cache) = unsafe { self.remote_cache.get().as_ref() } {
            cache.0.iter().for_each(|entry| self.give_entry(entry));
        }
    }

    /// What its thread has gathered, made if need be; `None` without metadata. By the owner.
    fn remote_cache(&self) -> Option<&RemoteCache> {
        if self.remote_cache.get().is_null() {
            self.remote_cache.set(make(self.stripe())?);
        }
        // SAFETY: as in `give_gathered`.
        unsafe { self.remote_cache.get().as_ref() }
    }

    fn give_entry(&self, entry: &Entry) {
        // Emptied first: a child forked in between loses these blocks, where the other order would free them twice.
        let bits = entry.bits.replace(0);
        entry.count.set(0);
        if bits == 0 {
            return;
        }
        // Gathered blocks are live to their slab, so it is alive, unless somebody freed one of them again.
        let known = pagemap::offset(entry.at.get()).map(pagemap::slab_at);
        if !known.is_some_and(|known| ptr::eq(known, entry.slab.get())) {
            die(format_args!("double free of {:#x} or a neighbour", entry.at.get()));
        }
        // SAFETY: the page map has the slab.
        let slab = unsafe { &*entry.slab.get() };
        let word = entry.word.get() as usize;
        if let Err(free) = self.give_remote(slab, word, bits) {
            die(format_args!("double free of {:#x}", slab.address_of(word, free)));
        }
    }

    fn give_remote(&self, slab: &Slab, word: usize, bits: u64) -> Result<(), u64> {
        // Before the first and after the last step, so that a child forked in between knows which slab it finds between two steps.
        self.pushing.store((&raw const *slab).cast_mut(), Ordering::Relaxed);
        let result = slab.push_remote(word, bits);
        self.pushing.store(ptr::null_mut(), Ordering::Release);
        result
    }
}

#[cold]
#[inline(never)]
fn make(stripe: usize) -> Option<*mut RemoteCache> {
    let cache = meta::take_zeroed(size_of::<RemoteCache>(), stripe)?;
    // A child forked in between must not find one that is not empty yet.
    compiler_fence(Ordering::Release);
    Some(cache.as_ptr().cast())
}
