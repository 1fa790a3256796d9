//! A futex lock of one word.
//!
//! Zone: cold and control. Never taken on the fast path. The documented order, outermost first:
//! fork → disturbance → mode, guarded blocks → first use → shared heap → registry → heap → arena → metadata. A thread takes a later lock while holding an earlier one, never the other way
//! round; fork takes all of them in this order.

use crate::sys::futex;
use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicU32, Ordering};

const FREE: u32 = 0;
const HELD: u32 = 1;
/// Held, and somebody may sleep on the word.
const CONTENDED: u32 = 2;

/// A value behind a futex lock. Zero-filled memory is a valid free lock.
#[repr(C)]
pub struct Lock<T> {
    word: AtomicU32,
    value: UnsafeCell<T>,
}

// SAFETY: the lock gives at most one thread at a time access to the value.
unsafe impl<T: Send> Sync for Lock<T> {}

impl<T> Lock<T> {
    /// A free lock around `value`.
    pub const fn new(value: T) -> Self {
        Lock { word: AtomicU32::new(FREE), value: UnsafeCell::new(value) }
    }

    /// Takes the lock, sleeping while another thread holds it.
    #[inline]
    pub fn lock(&self) -> Guard<'_, T> {
        self.acquire();
        Guard { lock: self }
    }

    /// Takes the lock if it is free.
    #[inline]
    pub fn try_lock(&self) -> Option<Guard<'_, T>> {
        self.step();
        self.word.compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed).ok()?;
        self.note_locked();
        Some(Guard { lock: self })
    }

    /// Takes the lock without a guard; pairs with [`Lock::release`]. For fork handlers.
    #[inline]
    pub fn acquire(&self) {
        self.step();
        if self.word.compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed).is_err() {
            self.acquire_slow();
        }
        self.note_locked();
    }

    #[cold]
    #[inline(never)]
    fn acquire_slow(&self) {
        #[cfg(feature = "model")]
        if let Some(hooks) = crate::model::hooks() {
            while self.word.compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed).is_err() {
                (hooks.blocked)();
            }
            return;
        }
        // A short spin covers critical sections of a few hundred instructions on another core; after that sleeping
        // costs less than burning the holder's time slice on an oversubscribed machine.
        for _ in 0..64 {
            core::hint::spin_loop();
            if self.word.load(Ordering::Relaxed) == FREE
                && self.word.compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed).is_ok()
            {
                return;
            }
        }
        while self.word.swap(CONTENDED, Ordering::Acquire) != FREE {
            futex::wait(&self.word, CONTENDED);
        }
    }

    /// As [`Lock::acquire`], but gives up after about `ms` milliseconds; whether the lock was taken.
    #[must_use]
    pub fn acquire_within(&self, ms: u64) -> bool {
        let start = futex::now_ms();
        if self.word.compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed).is_ok() {
            return true;
        }
        while self.word.swap(CONTENDED, Ordering::Acquire) != FREE {
            let spent = futex::now_ms().saturating_sub(start);
            if spent >= ms {
                // The word stays CONTENDED: at worst the holder wakes nobody.
                return false;
            }
            futex::wait_for(&self.word, CONTENDED, ms - spent);
        }
        true
    }

    /// Releases a lock taken with [`Lock::acquire`].
    ///
    /// # Safety
    /// * This thread holds the lock and keeps no reference to the value.
    #[inline]
    pub unsafe fn release(&self) {
        self.step();
        #[cfg(feature = "model")]
        if let Some(hooks) = crate::model::hooks() {
            (hooks.unlocking)(self.word.as_ptr().addr());
        }
        if self.word.swap(FREE, Ordering::Release) == CONTENDED {
            futex::wake(&self.word, 1);
        }
    }

    /// Where a model's scheduler comes in; nothing otherwise.
    #[inline(always)]
    fn step(&self) {
        #[cfg(feature = "model")]
        if let Some(hooks) = crate::model::hooks() {
            (hooks.step)(self.word.as_ptr().addr());
        }
    }

    /// Tells a model that the lock was taken; nothing otherwise.
    #[inline(always)]
    fn note_locked(&self) {
        #[cfg(feature = "model")]
        if let Some(hooks) = crate::model::hooks() {
            (hooks.locked)(self.word.as_ptr().addr());
        }
    }

    /// The value, without taking the lock.
    ///
    /// # Safety
    /// * This thread holds the lock through [`Lock::acquire`], and no guard or mutable reference is alive.
    pub unsafe fn peek(&self) -> &T {
        // SAFETY: the caller holds the lock.
        unsafe { &*self.value.get() }
    }

    /// The value, for changing, without a guard.
    ///
    /// # Safety
    /// * As for [`Lock::peek`], and no other reference to the value is alive.
    #[expect(clippy::mut_from_ref, reason = "the lock, which the caller holds, is what makes it exclusive")]
    pub unsafe fn peek_mut(&self) -> &mut T {
        // SAFETY: the caller holds the lock.
        unsafe { &mut *self.value.get() }
    }

    /// Makes the lock free whatever it was. For the child after fork, where no other thread exists.
    ///
    /// # Safety
    /// * No other thread exists in this process and no reference to the value is alive.
    pub unsafe fn reset(&self) {
        self.word.store(FREE, Ordering::Release);
    }
}

/// Access to a locked value; dropping it releases the lock.
#[must_use]
pub struct Guard<'a, T> {
    lock: &'a Lock<T>,
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the guard proves this thread holds the lock.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for Guard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the guard proves this thread holds the lock, and `&mut self` that no other reference came from it.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T> Drop for Guard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: the guard was the only way to the value, and it is gone.
        unsafe { self.lock.release() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_threads_count_without_losing_one() {
        let lock = Lock::new(0u64);
        std::thread::scope(|s| {
            for _ in 0..4 {
                s.spawn(|| (0..50_000).for_each(|_| *lock.lock() += 1));
            }
        });
        assert_eq!(*lock.lock(), 200_000);
    }

    #[test]
    fn waiting_for_a_while_ends_with_the_lock_or_the_while() {
        let lock = Lock::new(());
        let guard = lock.lock();
        assert!(!lock.acquire_within(30));
        std::thread::scope(|s| {
            let waiter = s.spawn(|| lock.acquire_within(60_000));
            std::thread::sleep(std::time::Duration::from_millis(20));
            drop(guard);
            assert!(waiter.join().unwrap());
        });
        // SAFETY: the waiter took the lock and left it taken.
        unsafe { lock.release() };
        assert!(lock.acquire_within(0));
    }

    #[test]
    fn a_held_lock_cannot_be_tried() {
        let lock = Lock::new(());
        let guard = lock.lock();
        assert!(lock.try_lock().is_none());
        drop(guard);
        assert!(lock.try_lock().is_some());
    }
}
