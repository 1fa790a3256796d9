//! Taking blocks and giving them back, by the owning thread. Zone: fast.

use super::{ONE, Slab};
use core::ptr;
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
    /// Takes a free block of the cursor's word; null if it has none.
    #[inline(always)]
    pub(crate) fn pop(&self) -> *mut u8 {
        // SAFETY: the cursor points at a word of this slab's bits, or at the sentinel's.
        let word = unsafe { &*self.cursor.get() };
        let bits = word.load(Ordering::Relaxed);
        if bits == 0 {
            return ptr::null_mut();
        }
        word.store(bits & (bits - 1), Ordering::Relaxed);
        let at = self.cursor_base.get() + bits.trailing_zeros() as usize * self.block_bytes as usize;
        ptr::with_exposed_provenance_mut(at)
    }

    /// The index of the block that starts at `addr`.
    #[inline(always)]
    pub(crate) fn index_of(&self, addr: usize) -> Result<usize, FreeFault> {
        // With r = ceil(2^40 / size), offset * r has the quotient above bit 40. Below it, an exact multiple leaves less than r
        // (quotient times the rounding error, which is below slab bytes < r), anything else at least r.
        let product = (addr - self.start) as u64 * self.reciprocal;
        let index = product >> ONE;
        if product & ((1 << ONE) - 1) >= self.reciprocal || index >= u64::from(self.blocks) {
            return Err(FreeFault::Interior);
        }
        Ok(index as usize)
    }

    /// Gives the block at `addr` back; by the owning thread.
    #[inline(always)]
    pub(crate) fn push_local(&self, addr: usize) -> Result<(), FreeFault> {
        let index = self.index_of(addr)?;
        let word = self.local(index / 64);
        let bits = word.load(Ordering::Relaxed);
        let bit = 1 << (index % 64);
        if bits & bit != 0 {
            return Err(FreeFault::Double);
        }
        word.store(bits | bit, Ordering::Relaxed);
        Ok(())
    }
}
