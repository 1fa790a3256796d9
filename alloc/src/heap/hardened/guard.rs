//! Guarded samples, in the manner of GWP-ASan: now and then an allocation gets a page of its own between inaccessible ones, which stays
//! inaccessible when it is freed. An access past its end or after its free faults there and then, and is reported with
//! the stacks of the allocation and of the free.
//!
//! Zone: cold. Only the default pool is sampled, and only blocks of at most a page. Stacks are taken before the pool's lock is.

use super::pool::{Life, POOL, Trace, contains};
use super::{random, report};
use crate::config;
use crate::heap::thread;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sys::mm;
use core::ptr;

/// Random numbers drawn so far, by all threads.
static DRAWS: AtomicU64 = AtomicU64::new(0);

fn draw() -> u64 {
    random::draw(0, DRAWS.fetch_add(1, Ordering::Relaxed))
}

/// A guarded block if it is this thread's turn for one.
pub(super) fn sample(size: usize, align: usize) -> Option<*mut u8> {
    let one_in = config::get().guard_sample;
    let page = mm::page_bytes();
    if one_in == 0 || size > page || align > page {
        return None;
    }
    // SAFETY: a thread's heap is never freed.
    let heap = unsafe { &*thread::attach()? };
    let left = match heap.sample_in.get() {
        // One in `one_in` on average, and not to be foreseen.
        0 => 1 + draw() % (2 * u64::from(one_in) - 1),
        left => u64::from(left),
    };
    heap.sample_in.set((left - 1) as u32);
    // What an unwinder allocates is not sampled.
    if left > 1 || heap.sampling.replace(true) {
        return None;
    }
    // The first time there is nothing to walk with yet: the pool sees to that.
    let made = POOL.lock().make(report::on_fault);
    let at = Trace::here();
    heap.sampling.set(false);
    let addr = if made { POOL.lock().open(size, align.max(16), draw().is_multiple_of(4), &at) } else { None };
    addr.map(ptr::with_exposed_provenance_mut)
}

/// Whether `addr` is in the page of a live guarded block.
pub(crate) fn owns(addr: usize) -> bool {
    contains(addr) && POOL.lock().slot_of(addr).is_some_and(|(_, slot)| slot.life == Life::Live)
}

/// Frees the block at `addr` if it is in the pool; ends the process if it is, but not a live block, or if something beside the block was
/// written.
pub(in crate::heap) fn free(addr: usize) -> bool {
    if !contains(addr) {
        return false;
    }
    let at = trace();
    let wrong = {
        let mut pool = POOL.lock();
        match pool.slot_of(addr) {
            Some((index, slot)) if slot.life == Life::Live && slot.addr == addr => {
                match pool.first_stray(index) {
                    None => {
                        pool.close(index, &at);
                        return true;
                    }
                    stray => (Some(slot), stray),
                }
            }
            Some((_, slot)) => (Some(slot), None),
            None => (pool.nearest(addr), None),
        }
    };
    report::bad_free(addr, wrong.0, wrong.1, &at)
}

/// The calling thread's trace, without stack while its unwinder runs.
fn trace() -> Trace {
    // SAFETY: a thread's heap is never freed.
    let heap = thread::attach().map(|heap| unsafe { &*heap });
    if heap.is_some_and(|heap| heap.sampling.replace(true)) {
        return Trace { thread: 0, stack: crate::sys::stack::Stack::EMPTY };
    }
    let at = Trace::here();
    heap.inspect(|heap| heap.sampling.set(false));
    at
}

/// Usable bytes of the block at `addr` if it is in the pool; ends the process if it is, but not a live block.
pub(crate) fn usable(addr: usize) -> Option<usize> {
    if !contains(addr) {
        return None;
    }
    let found = POOL.lock().slot_of(addr).map(|(_, slot)| slot);
    match found {
        Some(slot) if slot.life == Life::Live && slot.addr == addr => Some(slot.size),
        wrong => report::bad_free(addr, wrong, None, &trace()),
    }
}

/// Live guarded blocks, and their bytes.
pub(in crate::heap) fn live() -> (usize, usize) {
    POOL.lock().live()
}

/// Takes the pool's lock for fork.
pub(super) fn lock_for_fork() {
    POOL.acquire();
}

/// Releases it in the parent.
///
/// # Safety
/// * This thread called [`lock_for_fork`].
pub(super) unsafe fn unlock_after_fork() {
    // SAFETY: this thread holds it.
    unsafe { POOL.release() };
}

/// Frees it in the child.
///
/// # Safety
/// * This is the only thread of the process.
pub(super) unsafe fn reset_after_fork() {
    // SAFETY: no other thread exists.
    unsafe { POOL.reset() };
}
