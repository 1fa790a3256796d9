//! Slices for slabs: cut from extents that the heap owns. Zone: cold, under the heap's lock.

use super::purge::{self, Idle};
use super::{Bins, Heap, abandon};
use crate::arena::{self, EXTENT_BYTES, Extent, Kind, Pool, Run, SLICE_BYTES, SLICES, extent};
use crate::config;
use crate::sys::mm;
use core::hint::black_box;
use core::sync::atomic::Ordering;

/// Empty slabs are looked for each time so many slices have been taken whose pages may not be there, or this share of all, if that is more:
/// sweeping stays in proportion to growing (about 10 microseconds for an extent whose pages cost 250 to fault in).
const SWEEP_LEAST: u32 = 16;
const SWEEP_SHARE: u32 = 8;
/// And for [`Pages::There`] once slabs of so many slices have got free blocks since the last time, or of the same share of all: a program that
/// goes from one size to the next uses the same memory for both.
const SWEEP_FREED: u32 = 4;

/// How many open extents are tried for a slab of several slices before a fresh extent is taken.
const TRIES: usize = 16;

/// Which free slices are taken first.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Pages {
    /// Those whose pages are there since their last use: for a class that has filled a slab and will probably fill this one.
    There,
    /// The lowest: for a class that may need only a few blocks, which would hold all those pages.
    Any,
}

impl Bins {
    /// Takes `slices` (1, 8 or 32) aligned slices and publishes them as live; their address.
    pub(super) fn take_slices(&self, heap: &Heap, slices: usize, pages: Pages) -> Option<usize> {
        let there = pages == Pages::There;
        if there && let Some(addr) = self.take_open(slices, Pages::There) {
            return Some(addr);
        }
        let pool = Pool::from_number(self.pool.get());
        let due = self.until_sweep.get() < slices as u32;
        let sweeps = due || (there && self.freed.get() >= self.sweep_after(SWEEP_FREED));
        let mut found = None;
        if sweeps {
            // Before growing: what others have freed, and slabs that have run empty.
            if due {
                abandon::reclaim_abandoned();
                self.until_sweep.set(self.sweep_after(SWEEP_LEAST));
            }
            self.keeps_extents.set(true);
            purge::release_idle(heap, Idle::Listed);
            self.keeps_extents.set(false);
            self.freed.set(0);
            if there {
                found = self.take_open(slices, Pages::There);
            }
        }
        if there
            && found.is_none()
            && let Some(run) = arena::take_dirty(pool)
        {
            self.add(heap, run);
            found = self.take_open(slices, Pages::There);
        }
        if found.is_none() {
            self.until_sweep.set(self.until_sweep.get().saturating_sub(slices as u32));
            found = self.take_open(slices, Pages::Any);
        }
        if sweeps {
            self.give_empty_extents();
        }
        if found.is_some() {
            return found;
        }
        let run = match arena::take(pool, Kind::Slabs, 1, 1) {
            Some(run) => run,
            None => {
                // No memory: slabs of other classes that have run empty hold what this class needs.
                heap.give_gathered();
                abandon::reclaim_abandoned();
                purge::release_idle(heap, Idle::All);
                if let Some(addr) = self.take_open(slices, Pages::Any) {
                    return Some(addr);
                }
                arena::take(pool, Kind::Slabs, 1, 1)?
            }
        };
        self.add(heap, run);
        self.take_open(slices, Pages::Any)
    }

    /// Adds an extent that was handed out.
    fn add(&self, heap: &Heap, run: Run) {
        self.extents.set(self.extents.get() + 1);
        let record = extent::at(run.index);
        record.owner.store((&raw const *heap).cast_mut().cast(), Ordering::Release);
        // Pages of its last use may still be there, in slices that this heap may never take.
        let last = record.dirty_new.load(Ordering::Relaxed) | record.dirty_old.load(Ordering::Relaxed);
        record.dirty_new.store(if run.dirty > 0 { last } else { 0 }, Ordering::Relaxed);
        record.dirty_old.store(0, Ordering::Relaxed);
        self.link(run.index);
    }

    /// `least`, or the share of all slices if that is more.
    fn sweep_after(&self, least: u32) -> u32 {
        least.max(self.extents.get() * SLICES as u32 / SWEEP_SHARE)
    }

    /// Takes slices of an extent that the heap owns and publishes them as live; their address.
    fn take_open(&self, slices: usize, pages: Pages) -> Option<usize> {
        let any = if pages == Pages::Any { u32::MAX } else { 0 };
        let mut next = self.open.get();
        // A number the compiler does not know: it would write the loop out, and what every process runs is to fit into 64 KiB (`ffi/order.ld`).
        for _ in 0..black_box(TRIES) {
            let index = (next as usize).checked_sub(1)?;
            let record = extent::at(index);
            let there =
                record.dirty_new.load(Ordering::Relaxed) | record.dirty_old.load(Ordering::Relaxed) | any;
            if let Some(first) = free_run(record.live() | !there, slices) {
                let live = record.live() | mask(first, slices);
                record.set_live(live);
                let taken = mask(first, slices);
                record.dirty_new.fetch_and(!taken, Ordering::Relaxed);
                record.dirty_old.fetch_and(!taken, Ordering::Relaxed);
                if live == u32::MAX {
                    self.unlink(index);
                }
                return Some(extent::base_of(index) + first * SLICE_BYTES);
            }
            next = record.next.load(Ordering::Relaxed);
        }
        None
    }

    /// Gives back the slices of a destroyed slab at `addr`.
    pub(super) fn give_slices(&self, addr: usize, slices: usize) {
        let index = extent::index_of(addr);
        let record = extent::at(index);
        let freed = mask((addr - extent::base_of(index)) / SLICE_BYTES, slices);
        let was = record.live();
        debug_assert_eq!(was & freed, freed);
        record.set_live(was & !freed);
        if was == u32::MAX {
            self.link(index);
        }
        // The last extent stays: a heap that lives on would take one again at once.
        let gives = was == freed && self.extents.get() > 1 && !self.keeps_extents.get();
        if !gives && (config::get().purge_ms == 0 || arena::pressure::tight()) {
            discard(record, index, freed);
            return;
        }
        record.dirty_new.fetch_or(freed, Ordering::Relaxed);
        if gives {
            self.give_extent(index);
        }
    }

    /// Gives back every extent without live slices, but for the last.
    fn give_empty_extents(&self) {
        let mut next = self.open.get();
        while let Some(index) = (next as usize).checked_sub(1) {
            let record = extent::at(index);
            next = record.next.load(Ordering::Relaxed);
            if record.live() == 0 && self.extents.get() > 1 {
                self.give_extent(index);
            }
        }
    }

    /// Gives back the extent that is kept for a heap that lives on, if nothing in it is live.
    pub(super) fn give_last_extent(&self) {
        if let Some(index) = (self.open.get() as usize).checked_sub(1)
            && self.extents.get() == 1
            && extent::at(index).live() == 0
        {
            self.give_extent(index);
        }
    }

    /// Gives an extent without live slices back to its arena.
    pub(super) fn give_extent(&self, index: usize) {
        debug_assert_eq!(extent::at(index).live(), 0);
        self.unlink(index);
        self.extents.set(self.extents.get() - 1);
        // SAFETY: no slice of the extent is live, so nothing uses its memory.
        unsafe { arena::give(index, 1) };
    }

    /// Discards slices that have been free for a whole purge period.
    pub(super) fn purge_slices(&self, all: bool) {
        if all {
            self.give_empty_extents();
        }
        let mut next = self.open.get();
        while let Some(index) = (next as usize).checked_sub(1) {
            let record = extent::at(index);
            next = record.next.load(Ordering::Relaxed);
            let new = record.dirty_new.swap(0, Ordering::Relaxed);
            let old = record.dirty_old.swap(new, Ordering::Relaxed);
            let due = if all { record.dirty_old.swap(0, Ordering::Relaxed) | old } else { old };
            discard(record, index, due & !record.live());
        }
    }

    fn link(&self, index: usize) {
        let (record, head) = (extent::at(index), self.open.get());
        record.next.store(head, Ordering::Relaxed);
        record.prev.store(0, Ordering::Relaxed);
        if head != 0 {
            extent::at(head as usize - 1).prev.store(index as u32 + 1, Ordering::Relaxed);
        }
        self.open.set(index as u32 + 1);
    }

    fn unlink(&self, index: usize) {
        let record = extent::at(index);
        let (next, prev) = (record.next.load(Ordering::Relaxed), record.prev.load(Ordering::Relaxed));
        if prev == 0 {
            self.open.set(next);
        } else {
            extent::at(prev as usize - 1).next.store(next, Ordering::Relaxed);
        }
        if next != 0 {
            extent::at(next as usize - 1).prev.store(prev, Ordering::Relaxed);
        }
    }
}

fn mask(first: usize, slices: usize) -> u32 {
    if slices == SLICES { u32::MAX } else { ((1 << slices) - 1) << first }
}

/// The first free run of `slices` slices, aligned to its length.
fn free_run(live: u32, slices: usize) -> Option<usize> {
    match slices {
        1 => (live != u32::MAX).then(|| live.trailing_ones() as usize),
        _ => (0..SLICES).step_by(slices).find(|&first| live & mask(first, slices) == 0),
    }
}

/// Returns the pages of the slices in `which` to the system, run by run.
fn discard(record: &Extent, index: usize, which: u32) {
    let base = extent::base_of(index);
    let mut rest = which;
    while rest != 0 {
        let first = rest.trailing_zeros() as usize;
        let n = (rest >> first).trailing_ones() as usize;
        // SAFETY: the slices are free and stay so while the heap's lock is held. Failure leaves old pages, which is only memory.
        if unsafe { mm::discard(base + first * SLICE_BYTES, n * SLICE_BYTES) }.is_err() {
            record.dirty_new.fetch_or(mask(first, n), Ordering::Relaxed);
        }
        rest &= !mask(first, n);
    }
}

const _: () = assert!(SLICES == 32 && SLICES * SLICE_BYTES == EXTENT_BYTES);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::raw;
    use std::collections::HashSet;

    #[test]
    fn runs_are_found_lowest_first_and_aligned() {
        assert_eq!(free_run(0, 1), Some(0));
        assert_eq!(free_run(0b0111, 1), Some(3));
        assert_eq!(free_run(1, 8), Some(8));
        assert_eq!(free_run(0x0101_0101, 8), None);
        assert_eq!(free_run(0, 32), Some(0));
        assert_eq!(free_run(1 << 31, 32), None);
        assert_eq!(free_run(u32::MAX, 1), None);
    }

    #[test]
    fn a_program_that_goes_from_one_size_to_the_next_uses_the_same_slices() {
        const SLABS: usize = 8;
        let of_slabs = |bytes: usize| -> Vec<*mut u8> {
            (0..SLABS * SLICE_BYTES / bytes).map(|_| raw::malloc(bytes)).collect()
        };
        let slices = |blocks: &[*mut u8]| -> HashSet<usize> {
            blocks.iter().map(|block| block.addr() / SLICE_BYTES).collect()
        };
        // A thread of its own has a heap of its own.
        std::thread::spawn(move || {
            let first = of_slabs(8192);
            for block in &first {
                // SAFETY: allocated above, freed once.
                unsafe { raw::free(*block) };
            }
            let next = of_slabs(4096);
            let (before, after) = (slices(&first), slices(&next));
            assert_eq!((before.len(), after.len()), (SLABS, SLABS));
            // One is kept for the first size, and the next one's first slab may be anywhere.
            let shared = before.intersection(&after).count();
            assert!(shared >= SLABS - 2, "{shared} slices shared");
        })
        .join()
        .unwrap();
    }
}
