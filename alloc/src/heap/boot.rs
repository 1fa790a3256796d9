//! First use: the window, the page map and the thread key. Zone: cold; once per process.

use super::thread;
use crate::arena;
use crate::sync::Lock;
use core::sync::atomic::{AtomicU8, Ordering};

const NEW: u8 = 0;
const READY: u8 = 1;

static STATE: AtomicU8 = AtomicU8::new(NEW);
/// Taken first of all locks, and by fork.
pub(super) static LOCK: Lock<()> = Lock::new(());

/// Whether heaps can be made, after trying to get there. Without address space for even the smallest window every allocation fails, and
/// the next one tries again.
pub(super) fn ready() -> bool {
    STATE.load(Ordering::Acquire) == READY || start()
}

#[cold]
#[inline(never)]
fn start() -> bool {
    let _guard = LOCK.lock();
    if STATE.load(Ordering::Relaxed) == NEW {
        if !arena::open_window() {
            return false;
        }
        thread::make_key();
        STATE.store(READY, Ordering::Release);
    }
    true
}
