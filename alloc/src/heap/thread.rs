//! A thread's heap: made at its first allocation, abandoned when it ends.
//!
//! Zone: cold. The hook for a thread's end is a pthread key with a destructor: it is handed the heap, needs no thread-local of
//! Rust's, and leaves the thread usable, because other destructors and libc itself free (and allocate) after it.

use super::{DEAD, EMPTY, Heap, OWN, Sentinel, abandon, boot, slot_heap};
use crate::arch::slot;
use crate::meta;
use crate::sys::{Call, may_fail};
use core::ffi::c_void;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// The key plus one; 0 = not made yet, or none could be had: then heaps of ended threads are adopted after the next fork only.
static KEY: AtomicU32 = AtomicU32::new(0);

/// Whether [`DEAD`] and [`OWN`] are filled.
static FILLED: AtomicBool = AtomicBool::new(false);

/// Makes the key. Called once, by initialisation, so that it is among the first 32, whose values need no memory.
pub(crate) fn make_key() {
    #[cfg(feature = "model")]
    if crate::model::hooks().is_some() {
        // Its threads are not the system's, and say themselves when they end.
        return;
    }
    if may_fail(Call::Key).is_err() {
        return;
    }
    let mut key = 0;
    // SAFETY: `key` is a live pthread_key_t, and the destructor has the signature pthread wants.
    if unsafe { libc::pthread_key_create(&raw mut key, Some(at_thread_end)) } == 0 {
        KEY.store(key + 1, Ordering::Release);
    }
}

/// Whether the slot holds `sentinel`.
#[inline]
fn slot_is(sentinel: &Sentinel) -> bool {
    ptr::eq(slot_heap(), sentinel.get())
}

/// Puts `sentinel`, one of [`DEAD`] and [`OWN`], into the slot.
fn leave_slot_to(sentinel: &Sentinel) {
    if !FILLED.load(Ordering::Acquire) {
        let _guard = boot::LOCK.lock();
        if !FILLED.load(Ordering::Relaxed) {
            // SAFETY: the first thread to need one of them is here, and the others wait; a slot gets them below only.
            unsafe {
                DEAD.fill();
                OWN.fill();
            }
            FILLED.store(true, Ordering::Release);
        }
    }
    slot::set(sentinel.get().cast());
}

/// This thread's heap, made or adopted if it has none yet; `None` after the thread's end has begun, in the thread of our own, or
/// without memory.
pub(super) fn attach() -> Option<*mut Heap> {
    let heap = slot_heap();
    if slot_is(&DEAD) || slot_is(&OWN) {
        return None;
    }
    if !slot_is(&EMPTY) {
        return Some(heap);
    }
    if !boot::ready() {
        return None;
    }
    let heap = abandon::adopt().or_else(abandon::create)?;
    // First the slot, then the key: setting a key may allocate, and that allocation must find the heap.
    slot::set(heap.cast());
    let noticed = hand_on_at_end(heap);
    // SAFETY: heaps are never freed, and this one is the present thread's.
    unsafe { &*heap }.unnoticed.set(!noticed);
    Some(heap)
}

/// Sees to it that `heap` is handed on when the present thread ends; whether that could be had.
fn hand_on_at_end(heap: *mut Heap) -> bool {
    #[cfg(feature = "model")]
    if crate::model::hooks().is_some() {
        return true;
    }
    let key = KEY.load(Ordering::Acquire);
    if key == 0 || may_fail(Call::KeyValue).is_err() {
        return false;
    }
    // SAFETY: the key exists; a failure (ENOMEM) only means that the heap is not handed on when the thread ends.
    unsafe { libc::pthread_setspecific(key - 1, heap.cast()) == 0 }
}

/// The heap of this thread if it has one.
pub(crate) fn attached() -> Option<*mut Heap> {
    let heap = slot_heap();
    (!slot_is(&EMPTY) && !slot_is(&DEAD) && !slot_is(&OWN)).then_some(heap)
}

/// Makes the calling thread one of our own: it has no heap, and what libc allocates in it comes from the shared one.
pub(crate) fn become_own() {
    let heap = attached();
    meta::wait_in_threads_with(OWN.get().cast());
    leave_slot_to(&OWN);
    if let Some(heap) = heap {
        // The thread's start may have allocated. Its key's destructor will find another heap in the slot.
        abandon::abandon(heap);
    }
}

/// Whether this is a thread of our own.
#[inline]
pub(crate) fn on_own_thread() -> bool {
    slot_is(&OWN)
}

/// The key's destructor.
extern "C" fn at_thread_end(heap: *mut c_void) {
    let heap: *mut Heap = heap.cast();
    // A forked child may run with a copied key value and a slot that was reset: only the slot's own heap is given up.
    if ptr::eq(slot_heap(), heap) {
        end(heap);
    }
}

/// Gives up `heap`, the present thread's.
pub(super) fn end(heap: *mut Heap) {
    leave_slot_to(&DEAD);
    abandon::abandon(heap);
}
