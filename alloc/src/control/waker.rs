//! The control thread's sleep, and how advice ends it early.
//!
//! Zone: control, and API calls that are not part of `malloc`. A lock and a condition variable of `parking_lot`'s, held for a few
//! instructions by either side. Each control thread brings its own pair and publishes it: one that a fork copied in whatever state
//! is never used again.

use parking_lot::{Condvar, Mutex};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::time::Duration;

/// A thread's bed: whether somebody has called since it last slept.
#[derive(Default)]
pub(super) struct Waker {
    called: Mutex<bool>,
    bell: Condvar,
}

static PRESENT: AtomicPtr<Waker> = AtomicPtr::new(ptr::null_mut());

impl Waker {
    /// Makes the calling thread's waker the one that [`wake`] rings.
    pub(super) fn publish() -> &'static Waker {
        let waker: &'static Waker = Box::leak(Box::default());
        PRESENT.store(ptr::from_ref(waker).cast_mut(), Ordering::Release);
        waker
    }

    /// Sleeps for `time`, or until called.
    pub(super) fn sleep(&self, time: Duration) {
        let mut called = self.called.lock();
        if !*called {
            self.bell.wait_for(&mut called, time);
        }
        *called = false;
    }
}

/// Has the control thread look now, if there is one. Never waits longer than for the few instructions it holds the lock.
pub(crate) fn wake() {
    // SAFETY: what is published is leaked, so it lives for ever.
    if let Some(waker) = unsafe { PRESENT.load(Ordering::Acquire).as_ref() } {
        *waker.called.lock() = true;
        waker.bell.notify_one();
    }
}

/// In a forked child: the waker's thread is gone, and its lock may be held for ever.
pub(super) fn forget() {
    PRESENT.store(ptr::null_mut(), Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn a_call_ends_the_sleep_and_one_before_it_prevents_it() {
        let waker = Waker::publish();
        let start = Instant::now();
        wake();
        waker.sleep(Duration::from_secs(60));
        std::thread::scope(|s| {
            s.spawn(|| {
                std::thread::sleep(Duration::from_millis(20));
                wake();
            });
            waker.sleep(Duration::from_secs(60));
        });
        assert!(start.elapsed() < Duration::from_secs(30));
        let start = Instant::now();
        waker.sleep(Duration::from_millis(30));
        assert!(start.elapsed() >= Duration::from_millis(30));
        forget();
        wake();
    }
}
