//! The quarantine of a heap: blocks that its thread freed and that nothing may use yet, first in, first out.
//!
//! Zone: cold, under the heap's lock. A block in it is dead but neither local nor remote free, so its slab stays and nobody takes it. It may
//! belong to any heap's slab.

use super::super::Heap;
use super::random;
use crate::config;
use crate::heap::release::report;
use crate::meta;
use crate::pagemap;
use crate::slab::Slab;
use core::cell::Cell;
use core::ptr;

/// Most blocks in it. A ring of so many addresses is 64 KiB of metadata for each heap.
const BLOCKS: usize = 8192;

/// What a heap has in hardened mode beside its bins.
pub(crate) struct Quarantine {
    ring: [Cell<usize>; BLOCKS],
    /// The oldest block, and how many there are.
    head: Cell<usize>,
    len: Cell<usize>,
    /// Their bytes, as their classes count.
    bytes: Cell<usize>,
    /// Random numbers drawn so far for this heap, and what is left of the last one.
    draws: Cell<u64>,
    random: Cell<u64>,
}

impl Quarantine {
    fn push(&self, addr: usize, bytes: usize) {
        self.ring[(self.head.get() + self.len.get()) % BLOCKS].set(addr);
        self.len.set(self.len.get() + 1);
        self.bytes.set(self.bytes.get() + bytes);
    }

    fn pop(&self) -> Option<(usize, &'static Slab)> {
        self.len.set(self.len.get().checked_sub(1)?);
        let addr = self.ring[self.head.get()].get();
        self.head.set((self.head.get() + 1) % BLOCKS);
        let slab = pagemap::slab_at(addr - pagemap::window_base());
        // SAFETY: a slab with a block that is not free by its bits stays, and the page map has it.
        let slab = unsafe { &*slab };
        self.bytes.set(self.bytes.get() - slab.block_bytes as usize);
        Some((addr, slab))
    }
}

impl Heap {
    /// This heap's quarantine, made if need be; `None` without metadata. Under the lock.
    pub(super) fn quarantine(&self) -> Option<&Quarantine> {
        if self.quarantine.get().is_null() {
            // Zero-filled, it is an empty quarantine.
            let fresh = meta::take_zeroed(size_of::<Quarantine>(), self.stripe())?;
            self.quarantine.set(fresh.as_ptr().cast());
        }
        // SAFETY: once made it is never freed.
        unsafe { self.quarantine.get().as_ref() }
    }

    /// Sixteen random bits; `None` without metadata. Under the lock.
    pub(super) fn random(&self) -> Option<u16> {
        let quarantine = self.quarantine()?;
        let draws = quarantine.draws.get();
        quarantine.draws.set(draws.wrapping_add(1));
        let rest = match draws % 4 {
            0 => random::draw((&raw const *self).addr() as u64, draws / 4),
            _ => quarantine.random.get() >> 16,
        };
        quarantine.random.set(rest);
        Some(rest as u16)
    }

    /// Puts a dead block of `slab` into quarantine, and frees the oldest ones that there is no room for any more. Under the lock.
    pub(super) fn put_in_quarantine(&self, slab: &Slab, addr: usize) {
        let bytes = slab.block_bytes as usize;
        let most = config::get().quarantine_bytes as usize;
        let Some(quarantine) = self.quarantine().filter(|_| bytes <= most) else {
            return self.release(addr, slab);
        };
        while quarantine.len.get() == BLOCKS || quarantine.bytes.get() + bytes > most {
            let Some((addr, slab)) = quarantine.pop() else { break };
            self.release(addr, slab);
        }
        quarantine.push(addr, bytes);
    }

    /// Frees all that is in quarantine; whether there was anything. Under the lock.
    pub(in crate::heap) fn empty_quarantine(&self) -> bool {
        // SAFETY: as above.
        let Some(quarantine) = (unsafe { self.quarantine.get().as_ref() }) else { return false };
        let any = quarantine.len.get() > 0;
        while let Some((addr, slab)) = quarantine.pop() {
            self.release(addr, slab);
        }
        any
    }

    /// Frees a dead block. Under the lock, by the owner or for a heap without one.
    fn release(&self, addr: usize, slab: &Slab) {
        let freed = if ptr::eq(slab.heap(), self) {
            slab.push_local(addr).map(|_| self.list_if_full(slab))
        } else {
            // Under this heap's lock, so no fork finds the push half done.
            slab.index_of(addr).and_then(|index| slab.push_remote_block(index))
        };
        if let Err(fault) = freed {
            report(addr, fault);
        }
    }
}

#[cfg(feature = "invariants")]
impl Heap {
    /// Panics if the quarantine's counts are not those of its blocks. Under the lock.
    pub(in crate::heap) fn check_quarantine(&self) {
        // SAFETY: as above.
        let Some(quarantine) = (unsafe { self.quarantine.get().as_ref() }) else { return };
        let mut bytes = 0;
        for i in 0..quarantine.len.get() {
            let addr = quarantine.ring[(quarantine.head.get() + i) % BLOCKS].get();
            let slab = pagemap::slab_at(addr - pagemap::window_base());
            // SAFETY: as for `pop`.
            let slab = unsafe { slab.as_ref() }.expect("a block in quarantine keeps its slab");
            assert!(slab.is_quarantined(addr), "{addr:#x} in quarantine is free or held");
            bytes += slab.block_bytes as usize;
        }
        assert_eq!(bytes, quarantine.bytes.get(), "bytes in quarantine");
    }
}
