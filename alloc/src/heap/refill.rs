//! The slow path of allocation: another word, another slab, another extent. Zone: cold.

use super::extents::Pages;
use super::{Bins, Heap, abandon, census, hardened, purge, slot_heap, thread};
use crate::arena::{self, Kind, Pool, extent, sites};
use crate::class::slab_slices;
use crate::slab::{Slab, empty_slab};
use crate::sync::atomic::Ordering;
use crate::sys::futex;
use core::ptr::{self, NonNull};

/// How many listed slabs are looked at for one that lies in DRAM.
const LOOKED_AT: usize = 16;

/// Allocates a block of `class` for `site` when the fast path found none; null if there is no memory. Not in hardened mode.
pub(super) fn allocate_slow(pool: Pool, class: usize, site: usize) -> *mut u8 {
    if pool == Pool::Default && sites::are_apart() {
        let pool = sites::pool_for(site, class);
        if pool != Pool::Default {
            return allocate_apart(pool, class);
        }
    }
    allocate_next(pool, class)
}

/// Allocates a block of `class` in the `pool` of its site: the default one, which the fast path allocates from, is to have no slab of
/// this class in use, so that all of it comes this way.
fn allocate_apart(pool: Pool, class: usize) -> *mut u8 {
    if let Some(heap) = thread::attached() {
        // SAFETY: a thread's heap is never freed.
        let heap = unsafe { &*heap };
        if !ptr::eq(heap.default.current(class), empty_slab()) {
            heap.put_aside(class);
        }
        let block = heap.pop(pool, class);
        if !block.is_null() {
            return block;
        }
    }
    allocate_next(pool, class)
}

/// Allocates a block of `class` from another word, another slab or another extent of `pool`.
fn allocate_next(pool: Pool, class: usize) -> *mut u8 {
    let block = advance_unlocked(pool, class);
    if !block.is_null() {
        return block;
    }
    let block = match thread::attach() {
        // SAFETY: a thread's heap is never freed.
        Some(heap) => unsafe { (*heap).refill(pool, class) },
        None if super::boot::ready() => {
            abandon::with_shared(|heap| heap.refill(pool, class)).unwrap_or(ptr::null_mut())
        }
        None => ptr::null_mut(),
    };
    // With no lock held: the hook may start a thread, which allocates.
    arena::call_growth_hook();
    block
}

fn or_null(block: Option<NonNull<u8>>) -> *mut u8 {
    block.map_or(ptr::null_mut(), NonNull::as_ptr)
}

/// Takes a block from another word of the slab in use, whose bits are this thread's alone: no lock is needed. Null if it has none, or if
/// a purge is due, which needs the lock.
fn advance_unlocked(pool: Pool, class: usize) -> *mut u8 {
    // SAFETY: the slot holds a heap or a sentinel, both of which live for ever; the bins of a sentinel hold the empty slab.
    let heap = unsafe { &*slot_heap() };
    let Some(bins) = heap.existing_bins(pool) else { return ptr::null_mut() };
    // SAFETY: a bin holds a live slab or the empty one.
    let slab = unsafe { &*bins.current(class) };
    // What others have freed comes before words never used: else a slab whose blocks go to other threads is used to its end.
    let found = slab.revisit() || (!slab.has_remote() && slab.begin_word());
    if !found || heap.is_time() {
        return ptr::null_mut();
    }
    slab.forget_cursor();
    or_null(slab.pop())
}

/// Allocates a block of `class`, which serves `size` bytes at a multiple of `align`, in any pool.
pub(crate) fn allocate_small_in(pool: Pool, class: usize, size: usize, align: usize) -> *mut u8 {
    let block = match thread::attached() {
        // SAFETY: a thread's heap is never freed; its bins once made are not either.
        Some(heap) => unsafe { &*heap }.pop(pool, class),
        None => ptr::null_mut(),
    };
    if block.is_null() { hardened::allocate(pool, class, size, align, 0) } else { block }
}

impl Heap {
    /// Takes a block of `class` from the current slab of `pool`, by the heap's owner; null if there is none.
    fn pop(&self, pool: Pool, class: usize) -> *mut u8 {
        match self.existing_bins(pool) {
            // SAFETY: a bin holds a live slab or the empty one.
            Some(bins) => or_null(unsafe { &*bins.current(class) }.pop()),
            None => ptr::null_mut(),
        }
    }

    /// Takes the default pool's slab of `class` out of use, by the heap's owner.
    fn put_aside(&self, class: usize) {
        let _guard = self.lock.lock();
        // SAFETY: a bin holds a live slab or the empty one.
        let slab = unsafe { &*self.default.current(class) };
        self.default.set_current(class, empty_slab());
        if ptr::eq(slab, empty_slab()) {
            return;
        }
        if slab.advance() {
            self.default.push_partial(slab);
        } else {
            slab.set_full(true);
        }
    }

    /// Allocates a block of `class`, by the heap's owner.
    fn refill(&self, pool: Pool, class: usize) -> *mut u8 {
        let _guard = self.lock.lock();
        self.purge_if_due();
        let Some(bins) = self.bins(pool) else { return ptr::null_mut() };
        let mut pages = Pages::Any;
        loop {
            let slab = bins.current(class);
            if !ptr::eq(slab, empty_slab()) {
                // SAFETY: a current slab is alive.
                let this = unsafe { &*slab };
                if this.revisit() || (self.fetch(this) && this.revisit()) || this.begin_word() {
                    this.forget_cursor();
                    return or_null(this.pop());
                }
                this.set_full(true);
                bins.set_current(class, empty_slab());
                pages = Pages::There;
            }
            let Some(slab) = bins.pop_partial(class).or_else(|| self.find_slab(bins, class, pages)) else {
                return ptr::null_mut();
            };
            bins.set_current(class, slab);
        }
    }

    /// Takes in what others have freed of the slab in use, and leaves it on the stack if it is there; whether there was anything. Under the lock.
    fn fetch(&self, slab: &Slab) -> bool {
        let found = slab.has_remote() && slab.collect();
        if found && slab.is_long_undrained() {
            self.drain_remote();
        }
        found
    }

    /// A slab for `class` where none is listed: a full one that others have freed blocks of, or a new one. Under the lock.
    ///
    /// Not before: what they have freed stays where it is while there is anything else, so that one look finds as much as possible. Each
    /// takes lines from the processors of those who free, and they take them back.
    fn find_slab(&self, bins: &Bins, class: usize, pages: Pages) -> Option<*mut Slab> {
        self.drain_remote();
        let found = bins.pop_partial(class).or_else(|| bins.fresh_slab(self, class, pages));
        // What others have freed meanwhile came in while memory was sought.
        found.or_else(|| bins.pop_partial(class)).or_else(|| {
            self.list_leftovers(class);
            bins.pop_partial(class)
        })
    }

    /// Lists the slabs of `class` that have fewer free blocks than is worth the while: there is no memory for another. Under the lock.
    #[cold]
    #[inline(never)]
    fn list_leftovers(&self, class: usize) {
        arena::for_each_extent(&mut |view| {
            let record = extent::at(view.index as usize);
            if record.kind() != Kind::Slabs || !ptr::eq(record.owner.load(Ordering::Acquire).cast(), self) {
                return;
            }
            // It is this heap's until its lock is released, and so are the slabs in it.
            census::for_each_slab(view.base, record.live(), |slab| {
                if usize::from(slab.class) == class && slab.free_blocks() > 0 {
                    self.list_if_full(slab);
                }
            });
        });
    }

    /// Takes in what other threads have freed; under the lock.
    pub(super) fn drain_remote(&self) {
        if self.remote.is_empty() {
            return;
        }
        self.remote.drain(|slab| {
            if slab.is_worth_reusing() {
                self.list_if_full(slab);
            }
        });
    }

    /// Lists a slab that has free blocks again, if it was found full; under the lock.
    pub(super) fn list_if_full(&self, slab: &Slab) {
        if slab.is_full() {
            slab.set_full(false);
            if let Some(bins) = self.bins(Pool::from_number(slab.pool)) {
                bins.push_partial(slab);
            }
        }
    }

    /// Purges once per period; under the heap's lock.
    pub(super) fn purge_if_due(&self) {
        if self.purge_due.get() || self.is_time() {
            self.purge_due.set(false);
            purge::purge(self);
        }
    }

    /// Whether a purge period has passed, which is not asked at every call: the clock costs as much as the rest of this path. By the owner.
    fn is_time(&self) -> bool {
        self.slow_calls.set(self.slow_calls.get().wrapping_add(1));
        let due = self.slow_calls.get().is_multiple_of(4) && purge::is_due(self, futex::now_ms());
        self.purge_due.set(self.purge_due.get() || due);
        due
    }
}

impl Bins {
    pub(super) fn fresh_slab(&self, heap: &Heap, class: usize, pages: Pages) -> Option<*mut Slab> {
        let start = self.take_slices(heap, slab_slices(class), pages)?;
        let slab = Slab::create((&raw const *heap).cast_mut(), self.pool.get(), class, start);
        if slab.is_none() {
            self.give_slices(start, slab_slices(class));
        }
        slab
    }

    /// Takes a slab with free blocks off the list: the first, or, where the heap does not fit in DRAM, one that lies there if one of the first does.
    fn pop_partial(&self, class: usize) -> Option<*mut Slab> {
        // SAFETY: listed slabs are alive.
        let first = unsafe { self.partial[class].get().as_ref() }?;
        let found = if arena::pressure::gathers_births() { nearby(first) } else { first };
        self.unlist(found);
        Some((&raw const *found).cast_mut())
    }

    /// Puts a slab that has free blocks, or will have, on the list.
    pub(super) fn push_partial(&self, slab: &Slab) {
        debug_assert!(!slab.listed.get());
        let (head, this) = (&self.partial[slab.class as usize], (&raw const *slab).cast_mut());
        slab.listed.set(true);
        self.freed.set(self.freed.get().saturating_add(u32::from(slab.slices)));
        slab.prev.set(ptr::null_mut());
        slab.next.set(head.get());
        // SAFETY: listed slabs are alive.
        if let Some(next) = unsafe { head.get().as_ref() } {
            next.prev.set(this);
        }
        head.set(this);
    }

    /// Takes a slab off the list.
    pub(super) fn unlist(&self, slab: &Slab) {
        debug_assert!(slab.listed.get());
        slab.listed.set(false);
        // SAFETY: listed slabs are alive.
        unsafe {
            match slab.prev.get().as_ref() {
                Some(prev) => prev.next.set(slab.next.get()),
                None => self.partial[slab.class as usize].set(slab.next.get()),
            }
            if let Some(next) = slab.next.get().as_ref() {
                next.prev.set(slab.prev.get());
            }
        }
    }

    /// The listed slabs of `class`, from which `f` may unlist the one it is given.
    pub(super) fn for_each_partial(&self, class: usize, mut f: impl FnMut(&Slab)) {
        let mut slab = self.partial[class].get();
        // SAFETY: listed slabs are alive, and the next one is read before `f` may end this one.
        while let Some(this) = unsafe { slab.as_ref() } {
            slab = this.next.get();
            f(this);
        }
    }
}

/// Of the listed slabs from `first` on, the next that lies in DRAM, if it is near; else `first`. Under the heap's lock.
#[cold]
#[inline(never)]
fn nearby(first: &Slab) -> &Slab {
    let mut slab = Some(first);
    for _ in 0..LOOKED_AT {
        let Some(this) = slab else { break };
        if this.is_in_dram() {
            return this;
        }
        // SAFETY: a listed slab's neighbours are alive.
        slab = unsafe { this.next.get().as_ref() };
    }
    first
}
