//! The registry of heaps: creation, abandonment, adoption, and what fork does to them all.
//!
//! Zone: cold. Lock order: registry, then heap. A thread that holds its own heap's lock only ever *tries* the registry's.

use super::{Bins, Heap, boot, hardened, purge};
use crate::arena::{self, Pool};
use crate::config;
use crate::meta;
use crate::pagemap;
use crate::slab::Slab;
use crate::sync::Lock;
use crate::sync::atomic::{AtomicPtr, Ordering};
use core::ptr;

pub(super) struct Registry {
    /// Every heap ever made, linked by `next_heap`.
    pub(super) all: *mut Heap,
    /// How many were made.
    pub(super) made: usize,
    /// Heaps without a thread, linked by `next_abandoned`.
    pub(super) abandoned: *mut Heap,
}

// SAFETY: the pointers are to heaps, which are Sync and never freed.
unsafe impl Send for Registry {}

impl Registry {
    /// The abandoned heaps, the latest first.
    fn each_abandoned(&self) -> impl Iterator<Item = &Heap> {
        let mut next = self.abandoned;
        core::iter::from_fn(move || {
            // SAFETY: listed heaps are never freed; the list stands still while the registry is locked.
            let heap = unsafe { next.as_ref() }?;
            next = heap.next_abandoned.get();
            Some(heap)
        })
    }
}

pub(super) static REGISTRY: Lock<Registry> =
    Lock::new(Registry { all: ptr::null_mut(), made: 0, abandoned: ptr::null_mut() });
static SHARED: Lock<()> = Lock::new(());
pub(super) static SHARED_HEAP: AtomicPtr<Heap> = AtomicPtr::new(ptr::null_mut());

/// Makes a heap owned by the calling thread.
pub(super) fn create() -> Option<*mut Heap> {
    let mut registry = REGISTRY.lock();
    let stripe = registry.made % meta::STRIPES;
    let heap = meta::take_zeroed(size_of::<Heap>(), stripe)?.cast::<Heap>().as_ptr();
    // SAFETY: fresh metadata of the right size, 64-byte aligned.
    unsafe {
        heap.write(Heap { stripe: stripe as u8, ..Heap::new() });
        (*heap).live.store(true, Ordering::Relaxed);
        (*heap).next_heap.set(registry.all);
    }
    registry.all = heap;
    registry.made += 1;
    Some(heap)
}

/// Gives the calling thread an abandoned heap, if there is one.
pub(super) fn adopt() -> Option<*mut Heap> {
    let mut registry = REGISTRY.lock();
    // SAFETY: listed heaps are never freed; the list is ours while the registry is locked.
    let heap = unsafe { registry.abandoned.as_ref() }?;
    registry.abandoned = heap.next_abandoned.get();
    // Whoever works on it as an abandoned heap does so under its lock and checks `live` there.
    let _guard = heap.lock.lock();
    heap.swept.set(false);
    // What others have freed since is to be used before blocks that nobody has touched: short threads would never come to need it.
    heap.drain_remote();
    heap.live.store(true, Ordering::Relaxed);
    Some((&raw const *heap).cast_mut())
}

/// How many abandoned heaps keep what is empty in them.
const KEPT: usize = 4;

/// Takes the heap of a thread that ends. The last few wait for adoption as they are: the next thread will probably want blocks of the same
/// sizes, and finds them on the same pages. What is empty in them goes back when another heap grows, and with the next purge.
pub(super) fn abandon(heap: *mut Heap) {
    // SAFETY: heaps are never freed; the thread that owned it is in its key destructor and allocates from it no more.
    let this = unsafe { &*heap };
    this.give_gathered();
    let mut registry = REGISTRY.lock();
    {
        let _guard = this.lock.lock();
        this.live.store(false, Ordering::Relaxed);
        this.empty_quarantine();
    }
    this.next_abandoned.set(registry.abandoned);
    registry.abandoned = heap;
    let kept = if config::get().purge_ms == 0 || arena::pressure::tight() { 0 } else { KEPT };
    // Those further down were swept when they were where this one is now.
    if let Some(heap) = registry.each_abandoned().nth(kept)
        && let Some(_guard) = heap.lock.try_lock()
        && !heap.swept.get()
    {
        purge::release_empty(heap);
    }
}

/// Returns what is empty in abandoned heaps, as far as something was freed in them since that was last done.
pub(super) fn reclaim_abandoned() {
    try_each_abandoned(|heap| {
        if !heap.swept.get() || !heap.remote.is_empty() {
            purge::release_empty(heap);
        }
    });
}

/// Calls `f` for every abandoned heap that nobody works on, with its lock held. The caller may hold its own heap's lock, so nothing is
/// waited for.
pub(super) fn try_each_abandoned(mut f: impl FnMut(&Heap)) {
    let Some(registry) = REGISTRY.try_lock() else { return };
    for heap in registry.each_abandoned() {
        if let Some(_guard) = heap.lock.try_lock() {
            f(heap);
        }
    }
}

/// Runs `f` with the heap that serves threads without one of their own.
pub(super) fn with_shared<R>(f: impl FnOnce(&Heap) -> R) -> Option<R> {
    let _guard = SHARED.lock();
    let mut heap = SHARED_HEAP.load(Ordering::Relaxed);
    if heap.is_null() {
        heap = create()?;
        SHARED_HEAP.store(heap, Ordering::Relaxed);
    }
    // SAFETY: heaps are never freed; SHARED gives this one a single user at a time.
    Some(f(unsafe { &*heap }))
}

/// Runs `f`, for a thread that has no heap, under the lock that fork takes.
pub(super) fn without_heap<R>(f: impl FnOnce() -> R) -> R {
    let _guard = SHARED.lock();
    f()
}

/// Calls `f` for every heap, one after the other, with its lock held.
pub(super) fn for_each_locked(mut f: impl FnMut(&Heap)) {
    let registry = REGISTRY.lock();
    let mut next = registry.all;
    // SAFETY: heaps are never freed; links are constant.
    while let Some(heap) = unsafe { next.as_ref() } {
        let _guard = heap.lock.lock();
        f(heap);
        next = heap.next_heap.get();
    }
}

impl Heap {
    /// The bins of `pool`, made if need be; under the heap's lock or by its owner.
    pub(super) fn bins(&self, pool: Pool) -> Option<&Bins> {
        if let Some(bins) = self.existing_bins(pool) {
            return Some(bins);
        }
        let slot = &self.pools[pool as usize];
        let bins = meta::take_zeroed(size_of::<Bins>(), self.stripe())?.cast::<Bins>().as_ptr();
        // SAFETY: fresh metadata of the right size, 64-byte aligned.
        unsafe { bins.write(Bins::new(pool)) };
        slot.store(bins, Ordering::Release);
        // SAFETY: as above.
        unsafe { bins.as_ref() }
    }

    /// The bins of `pool` if they were made.
    pub(super) fn existing_bins(&self, pool: Pool) -> Option<&Bins> {
        if pool == Pool::Default {
            return Some(&self.default);
        }
        // SAFETY: bins once made are never freed.
        unsafe { self.pools[pool as usize].load(Ordering::Acquire).as_ref() }
    }

    /// The bins that exist.
    pub(super) fn all_bins(&self) -> impl Iterator<Item = &Bins> {
        // SAFETY: bins once made are never freed.
        let others = self.pools.iter().filter_map(|slot| unsafe { slot.load(Ordering::Acquire).as_ref() });
        core::iter::once(&self.default).chain(others)
    }
}

/// Takes the locks of hardened mode, the first-use, the shared heap's, the registry's and every heap's lock, in order.
pub(crate) fn lock_for_fork() {
    hardened::lock_for_fork();
    boot::LOCK.acquire();
    SHARED.acquire();
    let registry = core::mem::ManuallyDrop::new(REGISTRY.lock());
    let mut next = registry.all;
    // SAFETY: heaps are never freed; links are constant.
    while let Some(heap) = unsafe { next.as_ref() } {
        heap.lock.acquire();
        next = heap.next_heap.get();
    }
}

/// Releases them after fork in the parent.
///
/// # Safety
/// * This thread called [`lock_for_fork`].
pub(crate) unsafe fn unlock_after_fork() {
    // SAFETY: this thread holds the registry's lock, so `all` stands still, and every other lock released here.
    unsafe {
        let mut next = REGISTRY.peek().all;
        while let Some(heap) = next.as_ref() {
            next = heap.next_heap.get();
            heap.lock.release();
        }
        REGISTRY.release();
        SHARED.release();
        boot::LOCK.release();
        hardened::unlock_after_fork();
    }
}

/// Frees them after fork in the child, where the other threads' heaps have lost their owners.
///
/// # Safety
/// * This is the only thread of the process, and `mine` is its heap (null if none).
pub(crate) unsafe fn reset_after_fork(mine: *mut Heap) {
    let shared = SHARED_HEAP.load(Ordering::Relaxed);
    // SAFETY: no other thread exists.
    unsafe {
        hardened::reset_after_fork();
        boot::LOCK.reset();
        SHARED.reset();
        REGISTRY.reset();
        let mut registry = REGISTRY.lock();
        registry.abandoned = ptr::null_mut();
        let mut next = registry.all;
        while let Some(heap) = next.as_ref() {
            heap.lock.reset();
            if !ptr::eq(heap, mine) && !ptr::eq(heap, shared) {
                // Its thread may have been between two words of a slab: that takes no lock.
                heap.all_bins().flat_map(Bins::slabs_in_use).for_each(|slab| (*slab).rewind());
                heap.live.store(false, Ordering::Relaxed);
                // Nobody walks a stack for it any more.
                heap.sampling.set(false);
                heap.next_abandoned.set(registry.abandoned);
                registry.abandoned = (&raw const *heap).cast_mut();
                finish_push(heap.pushing.swap(ptr::null_mut(), Ordering::Relaxed));
                heap.give_gathered();
            }
            next = heap.next_heap.get();
        }
    }
}

/// In a forked child: finishes what a thread that stayed behind may have begun with `slab`. A slab with a count but not on its owner's stack
/// would never be drained, and one with bits that were not announced would never be destroyed.
fn finish_push(slab: *mut Slab) {
    // The thread may have been done with the slab, and the header may be something else by now: the page map knows.
    // SAFETY: metadata stays readable.
    let Some(this) = (unsafe { slab.as_ref() }) else { return };
    let known = pagemap::offset(this.start).map(pagemap::slab_at);
    if known.is_some_and(|known| ptr::eq(known, slab)) {
        // SAFETY: the page map has the slab, so it is alive, and so is its heap.
        let heap = unsafe { &*this.heap() };
        heap.drain_remote();
        this.settle();
        heap.list_if_full(this);
    }
}
