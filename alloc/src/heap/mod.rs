//! Thread heaps: each thread allocates from slabs of its own.
//!
//! Zone: fast (bins), cold (the rest). A heap is found through the thread slot, which starts at the static [`EMPTY`] heap: every bin
//! of it is the empty slab, so the first allocation of a thread falls into the slow path without a test on the fast one.
//!
//! Locking: the owner's fast path takes no lock. Its slow path, and anyone who works on a heap without an owner, holds the heap's lock. That lock
//! protects the lists, the extents, and the bins' *replacement*; it is what fork takes to find every heap at rest.
//! Heaps are never freed: a dead thread's heap is abandoned whole and adopted by a later thread, so a slab's owner never changes.

mod abandon;
mod boot;
mod census;
mod extents;
pub(crate) mod foreign;
pub(crate) mod hardened;
mod large;
#[cfg(feature = "model")]
pub(crate) mod model;
mod purge;
mod refill;
mod release;
mod remote_cache;
mod thread;
#[cfg(feature = "invariants")]
mod walk;

pub(crate) use abandon::{lock_for_fork, reset_after_fork, unlock_after_fork};
pub(crate) use census::class_at;
pub use census::{HeapStats, heap_stats};
pub(crate) use hardened::allocate as allocate_slow;
pub(crate) use large::{allocate_large, large_usable, resize_large};
pub(crate) use purge::trim;
pub(crate) use refill::allocate_small_in;
pub(crate) use release::{free_slow, report_use};
pub(crate) use thread::{attached, become_own, on_own_thread};
#[cfg(feature = "invariants")]
pub use walk::check_invariants;

use crate::arch::slot;
use crate::arena::Pool;
use crate::class::{CLASSES, PLACES, places_of};
use crate::slab::{EMPTY_SLAB, RemoteStack, Slab};
use crate::sync::Lock;
use crate::sync::atomic::{AtomicBool, AtomicPtr};
use core::cell::{Cell, UnsafeCell};
use core::mem::MaybeUninit;
use core::ptr;
use remote_cache::RemoteCache;

/// A heap's slabs of one pool.
#[repr(C)]
pub(crate) struct Bins {
    /// The slab that each class allocates from, at all [`places_of`] it; the empty slab if none.
    current: [Cell<*mut Slab>; PLACES],
    /// Slabs with free blocks, per class.
    partial: [Cell<*mut Slab>; CLASSES],
    /// First extent with free slices, as extent index + 1; 0 = none.
    open: Cell<u32>,
    /// How many extents it owns.
    extents: Cell<u32>,
    /// How many more slices are taken, whose pages are not there, before slabs are swept for empty ones.
    until_sweep: Cell<u32>,
    /// Slices of the slabs that were listed since they last were.
    freed: Cell<u32>,
    /// Whether extents without live slices stay until the sweep is over: it goes before growing, which may need them.
    keeps_extents: Cell<bool>,
    pool: Cell<u8>,
}

impl Bins {
    const fn new(pool: Pool) -> Self {
        Bins {
            current: [const { Cell::new((&raw const EMPTY_SLAB).cast_mut()) }; PLACES],
            partial: [const { Cell::new(ptr::null_mut()) }; CLASSES],
            open: Cell::new(0),
            extents: Cell::new(0),
            until_sweep: Cell::new(0),
            freed: Cell::new(0),
            keeps_extents: Cell::new(false),
            pool: Cell::new(pool as u8),
        }
    }

    /// The slab for sizes of `place`, of [`class::place_of`] them.
    ///
    /// # Safety
    /// * `place` is below [`PLACES`].
    #[inline(always)]
    pub(crate) unsafe fn in_use(&self, place: usize) -> *mut Slab {
        debug_assert!(place < PLACES);
        // SAFETY: passed on from the caller.
        unsafe { self.current.get_unchecked(place) }.get()
    }

    /// The slab that `class` allocates from.
    fn current(&self, class: usize) -> *mut Slab {
        self.current[places_of(class).start].get()
    }

    /// The slabs that it allocates from, some several times, and the empty one.
    fn slabs_in_use(&self) -> impl Iterator<Item = *mut Slab> {
        self.current.iter().map(Cell::get)
    }

    /// Makes `class` allocate from `slab`. By the owner under its lock, or for a heap without one.
    fn set_current(&self, class: usize, slab: *mut Slab) {
        self.current[places_of(class)].iter().for_each(|place| place.set(slab));
    }
}

/// A thread's heap. The default pool's bins come first: the fast path indexes them from the slot's value.
#[repr(C, align(64))]
pub(crate) struct Heap {
    pub(crate) default: Bins,
    /// The other pools' bins, made when first used; entry 0 unused.
    pools: [AtomicPtr<Bins>; Pool::COUNT],
    /// Slabs that other threads have freed blocks of.
    pub(crate) remote: RemoteStack,
    /// What its thread has freed of other heaps' blocks; null until there is something. By the owner.
    remote_cache: Cell<*mut RemoteCache>,
    /// The slab its thread is giving a block back to that belongs to another heap; null otherwise. For [`abandon::reset_after_fork`].
    pushing: AtomicPtr<Slab>,
    lock: Lock<()>,
    /// Whether a thread owns it.
    live: AtomicBool,
    /// Whether it has no thread any more, and what was empty when that ended has gone back. Under the lock.
    swept: Cell<bool>,
    /// Whether nobody will notice when its thread ends, so that nothing may wait for that. By the owner.
    unnoticed: Cell<bool>,
    /// Counts slow calls, so that the clock is not looked at in each; by the owner.
    slow_calls: Cell<u32>,
    /// Whether a purge period has passed; by the owner.
    purge_due: Cell<bool>,
    /// In hardened mode: what its thread freed and nothing may use yet; null until there is something. Under the lock.
    quarantine: Cell<*mut hardened::Quarantine>,
    /// Allocations until one is guarded, 0 = not drawn yet; and whether a stack is being walked for one. By the owner.
    sample_in: Cell<u32>,
    sampling: Cell<bool>,
    /// When the last purge began, and how long it took. By the owner, or under the lock without one.
    last_purge_ms: Cell<u64>,
    purge_took_ms: Cell<u64>,
    /// Where its metadata lies: [`meta::take_zeroed`].
    stripe: u8,
    /// Next in the registry of all heaps, constant once there.
    next_heap: Cell<*mut Heap>,
    /// Next in the list of abandoned heaps. Under the registry's lock.
    next_abandoned: Cell<*mut Heap>,
}

// SAFETY: cells are accessed by the owner thread or under `lock` as each field says; the rest is atomic.
unsafe impl Sync for Heap {}

impl Heap {
    const fn new() -> Self {
        Heap {
            default: Bins::new(Pool::Default),
            pools: [const { AtomicPtr::new(ptr::null_mut()) }; Pool::COUNT],
            remote: RemoteStack::new(),
            remote_cache: Cell::new(ptr::null_mut()),
            pushing: AtomicPtr::new(ptr::null_mut()),
            lock: Lock::new(()),
            live: AtomicBool::new(false),
            swept: Cell::new(false),
            unnoticed: Cell::new(false),
            slow_calls: Cell::new(0),
            purge_due: Cell::new(false),
            quarantine: Cell::new(ptr::null_mut()),
            sample_in: Cell::new(0),
            sampling: Cell::new(false),
            last_purge_ms: Cell::new(0),
            purge_took_ms: Cell::new(0),
            stripe: 0,
            next_heap: Cell::new(ptr::null_mut()),
            next_abandoned: Cell::new(ptr::null_mut()),
        }
    }
}

impl Heap {
    /// The stripe that its metadata lies in.
    pub(crate) fn stripe(&self) -> usize {
        usize::from(self.stripe)
    }
}

/// A heap no thread owns: what the slot holds before a thread's first allocation, and after its last. Only its bins are ever looked at.
pub(crate) struct Sentinel(UnsafeCell<MaybeUninit<Heap>>);

// SAFETY: the bins of a sentinel are never replaced, and the rest of it is never used; `fill` says when it may be written.
unsafe impl Sync for Sentinel {}

impl Sentinel {
    /// One that [`fill`](Self::fill) makes a heap of: the loader would have to write its pages full of addresses, in processes that
    /// never allocate, too.
    const fn unfilled() -> Self {
        Sentinel(UnsafeCell::new(MaybeUninit::zeroed()))
    }

    /// # Safety
    /// * No thread's slot holds it, and nothing else fills it meanwhile.
    unsafe fn fill(&self) {
        // SAFETY: nobody looks at it, as the caller says, and the other is never written.
        unsafe { self.get().copy_from_nonoverlapping(EMPTY.get(), 1) };
    }

    fn get(&self) -> *mut Heap {
        self.0.get().cast()
    }
}

/// The slot's initial value.
pub(crate) static EMPTY: Sentinel = Sentinel(UnsafeCell::new(MaybeUninit::new(Heap::new())));
/// The slot's value after the thread's heap was abandoned; late allocations go to a shared heap.
static DEAD: Sentinel = Sentinel::unfilled();
/// The slot's value in the control thread.
static OWN: Sentinel = Sentinel::unfilled();

/// What the thread slot holds: this thread's heap, or a sentinel.
#[inline(always)]
pub(crate) fn slot_heap() -> *mut Heap {
    slot::get().cast()
}
