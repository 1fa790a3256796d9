//! Taking blocks and giving them back, by the owning thread. Zone: fast.

use super::Slab;
use core::ptr::{self, NonNull};
use core::sync::atomic::Ordering;

/// Why a pointer cannot be freed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum FreeFault {
    /// The block is free already.
    Double,
    /// The address is inside a block, or past the last, not at the start of one.
    Interior,
}

impl Slab {
    /// Takes a free block of the cursor's word; `None` if it has none, or if it is the slow path's turn, which comes at least once in some
    /// hundred calls also where blocks come and go in the same word for ever.
    ///
    /// A program that frees what it has just allocated gets the same few blocks again and again. Were the word alone the source, each
    /// of its mallocs would wait for the last free's store to it, whose place in turn depends on the page map's entry for the block (35
    /// cycles a pair on Zen 3). So when a word is found at the slow path's turn as it was at the last, the next few blocks are chosen
    /// ahead for a while, and nothing waits for the word. Not always, because how long a choice lasts is hard to predict where blocks
    /// are freed at random.
    #[inline(always)]
    pub(crate) fn pop(&self) -> Option<NonNull<u8>> {
        // SAFETY: the cursor points at a word of this slab's bits, or at the sentinel's.
        let word = unsafe { &*self.cursor.get() };
        let ahead = self.ahead.get();
        let first = if ahead != 0 {
            let rest = ahead & (ahead - 1);
            self.ahead.set(rest);
            word.store(word.load(Ordering::Relaxed) ^ (ahead ^ rest), Ordering::Relaxed);
            ahead.trailing_zeros()
        } else {
            let bits = word.load(Ordering::Relaxed);
            if bits == 0 {
                return None;
            }
            let rest = bits & (bits - 1);
            let first = bits.trailing_zeros();
            let calls = self.calls_left.get();
            if calls > 0 {
                self.calls_left.set(calls - 1);
            } else {
                let choices = self.choices_left.get();
                if choices == 0 {
                    return None;
                }
                self.choices_left.set(choices - 1);
                self.ahead.set(rest & (u64::MAX >> self.ahead_shift) << first);
            }
            word.store(rest, Ordering::Relaxed);
            first
        };
        let at = self.cursor_base.get() + first as usize * self.block_bytes as usize;
        // SAFETY: no block lies at address 0.
        Some(unsafe { NonNull::new_unchecked(ptr::with_exposed_provenance_mut(at)) })
    }

    /// The index of the block that starts at `addr`.
    #[inline(always)]
    pub(crate) fn index_of(&self, addr: usize) -> Result<usize, FreeFault> {
        // With r = ceil(2^64 / size), offset * r has the quotient above bit 64. Below it, an exact multiple leaves less than r
        // (quotient times the rounding error, which is below slab bytes < r), anything else at least r. Also an address before the
        // first block, by less than size - 1 bytes: -d * r leaves 2^64 - d * r, and r * (d + 1) <= 2^64. Behind the last block the slab ends.
        let product = u128::from(addr.wrapping_sub(self.start) as u64) * u128::from(self.reciprocal);
        let index = (product >> 64) as usize;
        if product as u64 >= self.reciprocal {
            return Err(FreeFault::Interior);
        }
        debug_assert!(index < usize::from(self.blocks));
        Ok(index)
    }

    /// Gives the block at `addr` back; by the owning thread. Its index.
    #[inline(always)]
    pub(crate) fn push_local(&self, addr: usize) -> Result<usize, FreeFault> {
        let index = self.index_of(addr)?;
        let word = self.local(index / 64);
        let bits = word.load(Ordering::Relaxed);
        let with = bits | 1 << (index % 64);
        if with == bits {
            return Err(FreeFault::Double);
        }
        word.store(with, Ordering::Relaxed);
        Ok(index)
    }
}
