//! What hardened mode knows of each block beside whether it is free. Zone: cold.
//!
//! The header of a hardened slab is longer: behind the remote bits stand the *dead* bits and the slack of each block.
//!
//! Invariants:
//! * A block's dead bit is set exactly while the application does not hold it: never handed out, in a quarantine, or free. It is set by
//!   whoever frees the block, in one atomic step, so that of two frees one is found out wherever they come from, and cleared by the
//!   owner when it hands the block out.
//! * The slack of a live block is what its class has beyond the bytes asked for; that of a block never handed out is [`FRESH`].
//! * The cursor of a hardened slab is never used, and no bin allocates from one: blocks are taken by [`Slab::take_random`] alone.

use super::{FreeFault, Slab, bits_end};
use crate::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

/// Tag in [`Slab::owner`]: a hardened slab, whose blocks no fast path may free.
pub(super) const HARD: usize = 2;

/// Blocks up to here have their slack in a byte, so that a header stays within the metadata's pooled sizes.
const BYTE_MAX: usize = 256;
/// The slack of a block never handed out, and the largest that a byte holds beside it.
const FRESH: u32 = u32::MAX;
const FRESH_BYTE: u8 = u8::MAX;

/// A block that was free.
#[derive(Clone, Copy)]
pub(crate) struct Taken {
    pub(crate) addr: usize,
    pub(crate) index: usize,
    /// It was never handed out before, so nothing is known of what is in it.
    pub(crate) fresh: bool,
}

/// Bytes that a hardened slab's header has behind its remote bits.
pub(super) const fn side_bytes(blocks: usize, block_bytes: usize) -> usize {
    blocks.div_ceil(64) * 8 + blocks * if block_bytes <= BYTE_MAX { 1 } else { 4 }
}

impl Slab {
    /// Whether it was made in hardened mode.
    #[inline]
    pub(crate) fn is_hardened(&self) -> bool {
        self.owner.load(Ordering::Relaxed).addr() & HARD != 0
    }

    /// Makes a slab of which nothing has been handed out a hardened one.
    pub(super) fn harden(&self) {
        let heap = self.heap();
        self.owner.store(heap.map_addr(|addr| addr | HARD), Ordering::Relaxed);
        for word in 0..self.words as usize {
            self.dead(word).store(self.local(word).load(Ordering::Relaxed), Ordering::Relaxed);
        }
        (0..self.blocks as usize).for_each(|index| self.set_slack(index, FRESH));
    }

    fn dead(&self, word: usize) -> &AtomicU64 {
        debug_assert!(self.is_hardened() && word < self.words as usize);
        let offset = bits_end(self.words as usize) + word * 8;
        // SAFETY: `create` took `side_bytes` more behind the remote words for a hardened slab; `word` is below `words`.
        unsafe { &*(&raw const *self).byte_add(offset).cast::<AtomicU64>() }
    }

    /// Where the slack of block `index` stands.
    fn slack_at(&self, index: usize, entry: usize) -> *const Slab {
        debug_assert!(self.is_hardened() && index < self.blocks as usize);
        // SAFETY: as for `dead`; an entry for each block follows the dead words.
        unsafe {
            (&raw const *self)
                .byte_add(bits_end(self.words as usize) + self.words as usize * 8 + index * entry)
        }
    }

    fn slack(&self, index: usize) -> u32 {
        // SAFETY: see `slack_at`; entries are only accessed as atomics of one width.
        unsafe {
            if self.block_bytes as usize <= BYTE_MAX {
                match (*self.slack_at(index, 1).cast::<AtomicU8>()).load(Ordering::Relaxed) {
                    FRESH_BYTE => FRESH,
                    slack => u32::from(slack),
                }
            } else {
                (*self.slack_at(index, 4).cast::<AtomicU32>()).load(Ordering::Relaxed)
            }
        }
    }

    fn set_slack(&self, index: usize, slack: u32) {
        // SAFETY: as for `slack`.
        unsafe {
            if self.block_bytes as usize <= BYTE_MAX {
                let slack = match slack {
                    FRESH => FRESH_BYTE,
                    slack => slack.min(u32::from(FRESH_BYTE) - 1) as u8,
                };
                (*self.slack_at(index, 1).cast::<AtomicU8>()).store(slack, Ordering::Relaxed);
            } else {
                (*self.slack_at(index, 4).cast::<AtomicU32>()).store(slack, Ordering::Relaxed);
            }
        }
    }

    /// Records that block `index` was asked for with `size` bytes; how many it counts as, which is a few more where a byte cannot
    /// hold the difference.
    pub(crate) fn set_size(&self, index: usize, size: usize) -> usize {
        self.set_slack(index, self.block_bytes - size.min(self.block_bytes as usize) as u32);
        self.size_of(index)
    }

    /// The bytes of live block `index` that are the application's.
    pub(crate) fn size_of(&self, index: usize) -> usize {
        (self.block_bytes - self.slack(index).min(self.block_bytes)) as usize
    }

    /// The bytes of the block that starts at `addr` that the application may use, in a slab of either kind.
    pub(crate) fn usable(&self, addr: usize) -> Result<usize, FreeFault> {
        let index = self.index_of(addr)?;
        if !self.is_hardened() {
            return Ok(self.block_bytes as usize);
        }
        if self.is_dead(index) { Err(FreeFault::Double) } else { Ok(self.size_of(index)) }
    }

    fn is_dead(&self, index: usize) -> bool {
        self.dead(index / 64).load(Ordering::Acquire) >> (index % 64) & 1 == 1
    }

    /// Takes block `index` from the application, by any thread. The caller that succeeds has it for itself until it is
    /// pushed to the local or remote bits.
    pub(crate) fn bury(&self, index: usize) -> Result<(), FreeFault> {
        let bit = 1u64 << (index % 64);
        if self.dead(index / 64).fetch_or(bit, Ordering::AcqRel) & bit != 0 {
            return Err(FreeFault::Double);
        }
        Ok(())
    }

    /// How many blocks the application does not hold.
    pub(super) fn dead_blocks(&self) -> u32 {
        (0..self.words as usize).map(|word| self.dead(word).load(Ordering::Relaxed).count_ones()).sum()
    }

    /// Takes a free block that `random` chooses; `None` if none is free by the local bits. By the owner under its lock.
    pub(crate) fn take_random(&self, random: u16) -> Option<Taken> {
        let words = self.words as usize;
        // There are at most 64 words: the high byte chooses among them, the low one in the word.
        let first = usize::from(random >> 8) * words / 256;
        let word = (first..words).chain(0..first).find(|&w| self.local(w).load(Ordering::Relaxed) != 0)?;
        let bits = self.local(word).load(Ordering::Relaxed);
        // Bits from a random one on, the lowest of them: not quite even, but any free block may be next.
        let turn = u32::from(random) % 64;
        let bit = (bits.rotate_right(turn).trailing_zeros() + turn) % 64;
        self.local(word).store(bits & !(1 << bit), Ordering::Relaxed);
        self.dead(word).fetch_and(!(1 << bit), Ordering::AcqRel);
        let index = word * 64 + bit as usize;
        let addr = self.start + index * self.block_bytes as usize;
        Some(Taken { addr, index, fresh: self.slack(index) == FRESH })
    }
}

#[cfg(feature = "invariants")]
impl Slab {
    /// Whether the block at `addr` is dead and not free.
    pub(crate) fn is_quarantined(&self, addr: usize) -> bool {
        self.index_of(addr).is_ok_and(|index| {
            let (word, bit) = (index / 64, index % 64);
            let free = self.local(word).load(Ordering::Relaxed) | self.remote(word).load(Ordering::Acquire);
            self.is_hardened() && self.is_dead(index) && free >> bit & 1 == 0
        })
    }

    /// Panics if a block is free but held.
    pub(super) fn check_dead(&self) {
        for word in 0..self.words as usize {
            let free = self.local(word).load(Ordering::Relaxed) | self.remote(word).load(Ordering::Acquire);
            let held = free & !self.dead(word).load(Ordering::Acquire);
            assert_eq!(held, 0, "slab {:#x}, word {word}: free blocks that the program holds", self.start);
        }
    }
}
