//! The control thread's sleep, and how advice ends it early.
//!
//! Zone: control, and API calls that are not part of `malloc`. One word and futex(2), so that there is nothing a fork could leave half done
//! but the word. Not `parking_lot`: it queues sleepers in a table of its own, by the address of thread-local memory. A child finds the
//! parent's control thread queued there and gives its own the same stack and thread-locals: 21 of 372 children of a thread asleep on a
//! `parking_lot::Condvar` died when they slept on another (0.12.5).

use crate::sys::futex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

const AWAKE: u32 = 0;
const ASLEEP: u32 = 1;
/// Somebody has called since the thread last slept.
const CALLED: u32 = 2;

static WORD: AtomicU32 = AtomicU32::new(AWAKE);

/// Sleeps for `time`, or until called; returns at once if somebody has called since the last sleep. The control thread only.
pub(super) fn sleep(time: Duration) {
    if WORD.compare_exchange(AWAKE, ASLEEP, Ordering::Acquire, Ordering::Acquire).is_ok() {
        // What was called before the wait began is seen by the kernel: the word differs. A spurious end is a tick too early.
        futex::wait_for(&WORD, ASLEEP, u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1));
    }
    WORD.swap(AWAKE, Ordering::AcqRel);
}

/// Has the control thread look now, if there is one. Never waits.
pub(crate) fn wake() {
    if WORD.swap(CALLED, Ordering::AcqRel) == ASLEEP {
        futex::wake(&WORD, 1);
    }
}

/// In a forked child: nobody sleeps.
pub(super) fn forget() {
    WORD.store(AWAKE, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn a_call_ends_the_sleep_and_one_before_it_prevents_it() {
        let start = Instant::now();
        wake();
        sleep(Duration::from_secs(60));
        std::thread::scope(|s| {
            s.spawn(|| {
                std::thread::sleep(Duration::from_millis(20));
                wake();
            });
            sleep(Duration::from_secs(60));
        });
        assert!(start.elapsed() < Duration::from_secs(30));
        let start = Instant::now();
        sleep(Duration::from_millis(30));
        assert!(start.elapsed() >= Duration::from_millis(30));
        wake();
        forget();
        let start = Instant::now();
        sleep(Duration::from_millis(30));
        assert!(start.elapsed() >= Duration::from_millis(30));
    }
}
