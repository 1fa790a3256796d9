//! Frees by threads that do not own the slab.
//!
//! Zone: cold (lock-free). The freeing thread sets the block's remote bit, or at once those of several blocks of a word. If that made the word of bits non-zero, it announces the word by
//! adding to the count beside the bits; the one that raises the count from 0 pushes the slab on the owner's stack. So most frees into a
//! busy slab are one atomic instruction. The owner collects the words of the slab it allocates from when that has nothing else, and drains the
//! stack when it has no other slab of a class, when a thread takes the heap over, and before it looks for empty ones: it resets each
//! count, then collects the words.
//!
//! Why a count beside the bits: the header may be destroyed once every block is free, so nobody may touch it after the free that made it
//! so. A freeing thread's last touch is setting its bit in a word that was not zero, or its announcement, or, for the one that pushes,
//! the push, before which the slab is not drained. Each word collected was made non-zero by exactly one thread since it was last
//! collected, and that thread announces once. So the owner counts words collected against announcements drained: none left,
//! and a count of 0, mean that everybody whose bit it has seen is done.
//! No notification is lost: a word's announcement either precedes the owner's reset, and the word is then visible to the collection
//! that follows, or finds the count 0 and pushes again; and a bit set in a word that is not zero goes where that word goes.

use super::{FreeFault, Slab};
use crate::heap::Heap;
use crate::sync::atomic::{AtomicPtr, AtomicU32, Ordering};
use crate::sys::proc::die;
use core::cell::Cell;
use core::ptr;

/// What others write to when they free a slab's blocks, but for the bits, which follow it: most such frees go to no other line. Zero-filled
/// memory is one, too.
#[repr(C)]
pub(super) struct RemoteSide {
    /// Words of remote bits announced since the owner last drained the slab; above 0 exactly while it is on the stack or about to be
    /// pushed.
    pub(super) count: AtomicU32,
    /// Words of remote bits collected whose announcement was not drained yet: 0 exactly if every thread that freed a block we have
    /// seen is done with this header. Under the heap's lock.
    pub(super) unannounced: Cell<i32>,
    /// The next slab on the owner's stack of slabs with remote frees.
    pub(super) next: AtomicPtr<Slab>,
}

/// So many words are collected from a slab before it is drained. No more are announced meanwhile, but for those that were not collected yet.
const UNDRAINED: i32 = 1 << 12;

/// A stack of slabs with remote frees, pushed by anyone, taken whole by the owner.
///
/// A cache line of its own: what the owner keeps beside it would go to and fro with each push.
#[repr(C, align(64))]
pub(crate) struct RemoteStack(pub(super) AtomicPtr<Slab>);

impl RemoteStack {
    /// An empty stack. Zero-filled memory is one, too.
    pub(crate) const fn new() -> Self {
        RemoteStack(AtomicPtr::new(ptr::null_mut()))
    }

    /// Whether there is nothing to take.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.load(Ordering::Relaxed).is_null()
    }

    fn push(&self, slab: &Slab) {
        let this = (&raw const *slab).cast_mut();
        let mut head = self.0.load(Ordering::Relaxed);
        loop {
            slab.remote_side().next.store(head, Ordering::Relaxed);
            match self.0.compare_exchange_weak(head, this, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    /// Takes every slab and drains each, telling `f`. Under the owning heap's lock.
    pub(crate) fn drain(&self, mut f: impl FnMut(&Slab)) {
        let mut slab = self.0.swap(ptr::null_mut(), Ordering::Acquire);
        // SAFETY: slabs on the stack are alive: `is_idle` keeps them until they are drained.
        while let Some(this) = unsafe { slab.as_ref() } {
            let side = this.remote_side();
            // Read before the count is reset: after that another thread may push the slab again.
            slab = side.next.load(Ordering::Relaxed);
            let n = side.count.swap(0, Ordering::AcqRel);
            this.collect();
            side.unannounced.set(side.unannounced.get() - n.cast_signed());
            f(this);
        }
    }
}

impl Slab {
    /// The blocks of word `word` that are free, as far as other threads' stores can be seen.
    pub(crate) fn seen_free(&self, word: usize) -> u64 {
        self.local(word).load(Ordering::Relaxed) | self.remote(word).load(Ordering::Relaxed)
    }

    /// Gives block `index` back, from a thread that does not own the slab.
    pub(crate) fn push_remote_block(&self, index: usize) -> Result<(), FreeFault> {
        self.push_remote(index / 64, 1 << (index % 64)).map_err(|_| FreeFault::Double)
    }

    /// Gives the blocks of `bits` in word `word` back, from a thread that does not own the slab. An error names those
    /// that were free already.
    pub(crate) fn push_remote(&self, word: usize, bits: u64) -> Result<(), u64> {
        // Only an approximation while other threads run, but in a correct program the blocks are live and both bits of each are clear.
        let free = self.local(word).load(Ordering::Relaxed) & bits;
        if free != 0 {
            return Err(free);
        }
        // Read before the blocks are given up: after that the header may go.
        let heap: *mut Heap = self.heap();
        if heap.is_null() {
            // The slab is gone, and the page its header stood on.
            return Err(bits);
        }
        let before = self.remote(word).fetch_or(bits, Ordering::AcqRel);
        if before & bits != 0 {
            return Err(before & bits);
        }
        if before == 0 && self.remote_side().count.fetch_add(1, Ordering::AcqRel) == 0 {
            // SAFETY: heaps are never freed; a slab in use has one, and a count above 0 keeps the slab.
            unsafe { (*heap).remote.push(self) };
        }
        Ok(())
    }

    /// Address of the first block of `bits` in word `word`.
    pub(crate) fn address_of(&self, word: usize, bits: u64) -> usize {
        self.start + (word * 64 + bits.trailing_zeros() as usize) * self.block_bytes as usize
    }

    /// Whether there is something to collect that was announced. By the owner, with or without its lock.
    ///
    /// The count alone does not tell: it is reset when the stack is drained, and the words may have been collected before.
    pub(crate) fn has_remote(&self) -> bool {
        let used = self.used_words.get() as usize;
        // A sentinel has no remote side.
        used != 0
            && self.remote_side().count.load(Ordering::Relaxed) != 0
            && (0..used).any(|word| self.remote(word).load(Ordering::Relaxed) != 0)
    }

    /// Moves the remote bits into the local ones; whether there were any. By the owner under its lock.
    pub(crate) fn collect(&self) -> bool {
        let mut found = 0;
        for word in 0..self.words as usize {
            if self.remote(word).load(Ordering::Relaxed) == 0 {
                continue;
            }
            let bits = self.remote(word).swap(0, Ordering::AcqRel);
            let local = self.local(word);
            let before = local.load(Ordering::Relaxed);
            if before & bits != 0 {
                // Freed by its owner and by another thread, neither of which saw the other's bit.
                die(format_args!("double free of {:#x}", self.address_of(word, before & bits)));
            }
            local.store(before | bits, Ordering::Relaxed);
            found += 1;
        }
        let side = self.remote_side();
        side.unannounced.set(side.unannounced.get() + found);
        found != 0
    }

    /// Whether so much was collected since the slab was drained that it is time to: else the count of what is announced would run over where a
    /// program goes round in one slab, without a purge, for hours. By the owner under its lock.
    pub(crate) fn is_long_undrained(&self) -> bool {
        self.remote_side().unannounced.get() > UNDRAINED
    }

    /// Takes in every remote bit, announced or not, as if nobody were at work on it. Only while no other thread exists, and not on a stack.
    pub(crate) fn settle(&self) {
        let side = self.remote_side();
        side.count.store(0, Ordering::Relaxed);
        self.collect();
        side.unannounced.set(0);
    }

    /// Whether every thread whose remote free was collected is done with the header: each word collected was announced. Under the owner's lock.
    pub(super) fn remote_is_quiet(&self) -> bool {
        let side = self.remote_side();
        side.count.load(Ordering::Acquire) == 0 && side.unannounced.get() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arena::Pool;
    use crate::{class, heap, pagemap};

    /// A block goes to and fro between its owner, who needs no other slab, and somebody else.
    #[test]
    fn what_is_announced_is_counted_off_while_one_slab_is_enough() {
        let allocate = || heap::allocate_slow(Pool::Default, class::class_of(8192), 8192, 16, 0).addr();
        let blocks: Vec<usize> = (0..8).map(|_| allocate()).collect();
        let slab_of = |block| pagemap::slab_at(pagemap::offset(block).unwrap());
        assert!(blocks.iter().all(|&block| slab_of(block) == slab_of(blocks[0])), "one slab");
        // SAFETY: the blocks are live and this thread's, so their slab is, and nobody else uses either.
        let slab = unsafe { &*slab_of(blocks[0]) };
        for _ in 0..3 * UNDRAINED {
            slab.push_remote_block(7).unwrap();
            assert_eq!(allocate(), blocks[7]);
            assert!(slab.remote_side().count.load(Ordering::Relaxed) <= UNDRAINED.cast_unsigned() + 1);
        }
    }

    /// The two states in which a fork can leave a free: bit set but not announced, announced but not pushed.
    #[test]
    fn a_free_that_a_fork_cut_short_is_settled() {
        for announced in [0, 1] {
            let block = heap::allocate_slow(Pool::Default, class::class_of(48), 48, 16, 0).addr();
            let offset = pagemap::offset(block).unwrap();
            // SAFETY: the block is live and this thread's, so its slab is, and nobody else uses either.
            let slab = unsafe { &*pagemap::slab_at(offset) };
            let (index, live) = (slab.index_of(block).unwrap(), slab.live_blocks());
            slab.remote(index / 64).fetch_or(1 << (index % 64), Ordering::AcqRel);
            slab.remote_side().count.fetch_add(announced, Ordering::AcqRel);
            slab.settle();
            assert_eq!(slab.live_blocks(), live - 1);
            assert_ne!(slab.local(index / 64).load(Ordering::Relaxed) & 1 << (index % 64), 0);
            assert!(slab.remote_is_quiet());
        }
    }
}
