//! Checks of a slab's bits, for stress tests (feature `invariants`). Zone: cold, under the owning heap's lock.

use super::{RemoteStack, Slab};
use core::sync::atomic::Ordering;

impl RemoteStack {
    /// The slabs on the stack. Under the owning heap's lock, which keeps them there.
    pub(crate) fn for_each(&self, mut f: impl FnMut(&Slab)) {
        let mut slab = self.0.load(Ordering::Acquire);
        // SAFETY: slabs on the stack are alive.
        while let Some(this) = unsafe { slab.as_ref() } {
            f(this);
            slab = this.remote_side().next.load(Ordering::Relaxed);
        }
    }
}

impl Slab {
    /// Whether frees have been announced that were not drained yet.
    pub(crate) fn is_announced(&self) -> bool {
        self.remote_side().count.load(Ordering::Relaxed) > 0
    }

    /// Whether the block that starts at `addr` is live.
    #[cfg(feature = "model")]
    pub(crate) fn has_live(&self, addr: usize) -> bool {
        self.index_of(addr).is_ok_and(|index| {
            let word = index / 64;
            let free = self.local(word).load(Ordering::Relaxed) | self.remote(word).load(Ordering::Relaxed);
            free >> (index % 64) & 1 == 0
        })
    }

    /// Panics if the bits contradict each other.
    pub(crate) fn check_bits(&self) {
        for word in 0..self.words as usize {
            let left = (self.blocks as usize - word * 64).min(64);
            let outside = if left == 64 { 0 } else { u64::MAX << left };
            // Remote first: a block freed by another thread cannot get its local bit before the heap's lock is free.
            let remote = self.remote(word).load(Ordering::Acquire);
            let local = self.local(word).load(Ordering::Relaxed);
            assert_eq!(local & remote, 0, "slab {:#x}, word {word}: blocks that are free twice", self.start);
            assert_eq!(
                (local | remote) & outside,
                0,
                "slab {:#x}, word {word}: bits past the last block",
                self.start
            );
        }
        if self.is_hardened() {
            self.check_dead();
        }
        let unannounced = self.remote_side().unannounced.get();
        assert!(unannounced >= 0, "slab {:#x}: {unannounced} words collected but not announced", self.start);
        assert_eq!(self.strays(), 0, "slab {:#x}: blocks chosen ahead that are not free", self.start);
    }
}
