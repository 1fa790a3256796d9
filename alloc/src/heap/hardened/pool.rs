//! The pool of guarded samples: pages for one block each, between pages that nobody may touch.
//!
//! ```text
//! | guard | slot 0 | guard | slot 1 | guard | …      pages; all inaccessible but the slots of live blocks
//! ```
//!
//! Zone: cold, under the pool's lock, which is taken with no other lock of the heap held. Outside the window of the heap, so that an arena stays two
//! mappings; at most 513 mappings and 2 MiB of address space. Invariants:
//! * A slot's page is accessible exactly while its block is live (a `Lost` one may be: the system refused to close it).
//! * The queue holds the freed slots, the one freed longest ago first.

use super::random;
use crate::meta;
use crate::sync::Lock;
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sys::futex;
use crate::sys::mm::{self, Access};
use crate::sys::signal::{self, Fault};
use crate::sys::stack::{self, Stack};
use core::ptr;

/// Blocks guarded at a time, and freed ones remembered.
const SLOTS: usize = 256;

/// Where a thread was.
#[derive(Clone, Copy)]
pub(super) struct Trace {
    pub(super) thread: u32,
    pub(super) stack: Stack,
}

impl Trace {
    /// The calling thread, here. With no lock of the heap held.
    pub(super) fn here() -> Trace {
        Trace { thread: futex::thread_id(), stack: Stack::here() }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Life {
    Unused = 0,
    Live = 1,
    Freed = 2,
    Lost = 3,
}

/// One page and the block that is, or was last, in it.
#[derive(Clone, Copy)]
pub(super) struct Slot {
    pub(super) life: Life,
    pub(super) addr: usize,
    pub(super) size: usize,
    pub(super) allocated: Trace,
    pub(super) freed: Trace,
}

impl Slot {
    pub(super) fn end(&self) -> usize {
        self.addr + self.size
    }
}

/// The slots and the queue of freed ones.
pub(super) struct Pool {
    /// An array of [`SLOTS`]; null until made.
    slots: *mut Slot,
    /// Whether it could not be made, so that it is not tried again.
    refused: bool,
    /// Slots never used are those from here on.
    unused: usize,
    queue: [u16; SLOTS],
    head: usize,
    len: usize,
}

// SAFETY: the array is metadata that is never freed; it is accessed under the lock.
unsafe impl Send for Pool {}

pub(super) static POOL: Lock<Pool> =
    Lock::new(Pool { slots: ptr::null_mut(), refused: false, unused: 0, queue: [0; SLOTS], head: 0, len: 0 });

/// The address of the first page; 0 until the pool is made.
static BASE: AtomicUsize = AtomicUsize::new(0);

fn pool_bytes() -> usize {
    (2 * SLOTS + 1) * mm::page_bytes()
}

/// Whether `addr` is in the pool.
#[inline]
pub(super) fn contains(addr: usize) -> bool {
    let base = BASE.load(Ordering::Acquire);
    base != 0 && addr.wrapping_sub(base) < pool_bytes()
}

/// Of an address in the pool: the number of its page.
fn page_of(addr: usize) -> usize {
    (addr - BASE.load(Ordering::Relaxed)) / mm::page_bytes()
}

/// The first address of slot `index`.
fn page_at(index: usize) -> usize {
    BASE.load(Ordering::Relaxed) + (2 * index + 1) * mm::page_bytes()
}

impl Pool {
    /// Makes the pool if that was not tried yet; whether there is one.
    pub(super) fn make(&mut self, on_fault: fn(Fault) -> bool) -> bool {
        if !self.slots.is_null() || self.refused {
            return !self.refused;
        }
        self.refused = true;
        let Some(slots) = meta::take_zeroed(SLOTS * size_of::<Slot>(), 0) else { return false };
        let Ok(base) = mm::map(pool_bytes(), Access::None) else { return false };
        // Zero-filled, every slot is unused.
        (self.slots, self.refused) = (slots.as_ptr().cast(), false);
        BASE.store(base, Ordering::Release);
        stack::prepare();
        signal::on_fault(on_fault);
        true
    }

    fn slots(&mut self) -> &mut [Slot] {
        let len = if self.slots.is_null() { 0 } else { SLOTS };
        let slots = if len == 0 { ptr::dangling_mut() } else { self.slots };
        // SAFETY: `make` took zero-filled room for so many, which is valid for each: life `Unused`, no stack.
        unsafe { core::slice::from_raw_parts_mut(slots, len) }
    }

    /// Opens the slot that was not in use for longest and makes it `size` bytes' at a multiple of `align`; `None` if all are live or the system
    /// refuses.
    pub(super) fn open(&mut self, size: usize, align: usize, left: bool, at: &Trace) -> Option<usize> {
        let fresh = self.unused < SLOTS;
        if !fresh && self.len == 0 {
            return None;
        }
        let index = if fresh { self.unused } else { usize::from(self.queue[self.head]) };
        let (first, page) = (page_at(index), mm::page_bytes());
        // SAFETY: the page is ours; it holds no live block.
        if unsafe { mm::protect(first, page, Access::ReadWrite) }.is_err() {
            return None;
        }
        if fresh {
            self.unused += 1;
        } else {
            self.head = (self.head + 1) % SLOTS;
            self.len -= 1;
        }
        // As close to the guard page behind it, or before it, as the alignment allows.
        let addr = if left { first } else { (first + page - size.max(1)) & !(align - 1) };
        let slot = &mut self.slots()[index];
        (slot.life, slot.addr, slot.size, slot.allocated) = (Life::Live, addr, size, *at);
        // SAFETY: the page was just made writable, and is nobody else's. It is fresh unless the system refused that in `close`.
        unsafe { ptr::with_exposed_provenance_mut::<u8>(addr).write_bytes(0, size) };
        let canary = random::canary(first);
        for at in (first..addr).chain(addr + size..first + page) {
            // SAFETY: as above.
            unsafe { ptr::with_exposed_provenance_mut::<u8>(at).write(canary[at % canary.len()]) };
        }
        Some(addr)
    }

    /// Closes the slot of a live block.
    pub(super) fn close(&mut self, index: usize, at: &Trace) {
        let (first, page) = (page_at(index), mm::page_bytes());
        // SAFETY: the block is freed. Fresh inaccessible pages in place of the old: closed and returned to the system at once.
        let closed = unsafe {
            mm::map_over(first, page, Access::None).is_ok() || mm::protect(first, page, Access::None).is_ok()
        };
        let slot = &mut self.slots()[index];
        slot.freed = *at;
        slot.life = if closed { Life::Freed } else { Life::Lost };
        if closed {
            self.queue[(self.head + self.len) % SLOTS] = index as u16;
            self.len += 1;
        }
    }

    /// The slot whose page holds `addr`, an address in the pool, and its number; `None` for a guard page.
    pub(super) fn slot_of(&mut self, addr: usize) -> Option<(usize, Slot)> {
        let page = page_of(addr);
        let index = page / 2;
        (page % 2 == 1).then(|| (index, self.slots()[index]))
    }

    /// Of an address in a guard page: the block that an access there is most likely meant for, the nearer of its neighbours.
    pub(super) fn nearest(&mut self, addr: usize) -> Option<Slot> {
        let right = page_of(addr) / 2;
        let slots = self.slots();
        let before = right.checked_sub(1).map(|left| slots[left]).filter(|slot| slot.life != Life::Unused);
        let behind = slots.get(right).copied().filter(|slot| slot.life != Life::Unused);
        match (before, behind) {
            (Some(left), Some(right)) if right.addr - addr < addr - left.end() => Some(right),
            (None, right) => right,
            (left, _) => left,
        }
    }

    /// The first byte of the slot's page outside its block that was written.
    pub(super) fn first_stray(&mut self, index: usize) -> Option<usize> {
        let (slot, first) = (self.slots()[index], page_at(index));
        let canary = random::canary(first);
        // Nearest to the block first.
        let stray = |at: &usize| {
            // SAFETY: the page of a live block is readable.
            unsafe { ptr::with_exposed_provenance::<u8>(*at).read() != canary[*at % canary.len()] }
        };
        (slot.end()..first + mm::page_bytes()).find(stray).or_else(|| (first..slot.addr).rev().find(stray))
    }

    /// Live blocks, and their bytes.
    pub(super) fn live(&mut self) -> (usize, usize) {
        let live = self.slots().iter().filter(|slot| slot.life == Life::Live);
        live.fold((0, 0), |(blocks, bytes), slot| (blocks + 1, bytes + slot.size))
    }
}
