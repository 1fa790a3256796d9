//! Waiting and waking (futex(2)), yielding, and the identity of thread and process.

use super::{Call, may_fail, syscall};
use core::sync::atomic::AtomicU32;

/// Sleeps while `*word == expected`, until woken; returns at once if it differs. Spurious wake-ups happen.
pub fn wait(word: &AtomicU32, expected: u32) {
    if may_fail(Call::Wait).is_err() {
        return;
    }
    let op = (libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG) as usize;
    // SAFETY: `word` outlives the call; a null timeout waits for ever.
    unsafe { syscall(libc::SYS_futex, [word.as_ptr().addr(), op, expected as usize, 0, 0, 0]) };
}

/// As [`wait`], but for at most `ms` milliseconds.
pub fn wait_for(word: &AtomicU32, expected: u32, ms: u64) {
    if may_fail(Call::Wait).is_err() {
        return;
    }
    let op = (libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG) as usize;
    let time = libc::timespec {
        tv_sec: (ms / 1000).min(i32::MAX as u64) as libc::time_t,
        tv_nsec: (ms % 1000 * 1_000_000) as libc::c_long,
    };
    // SAFETY: `word` and `time` outlive the call.
    unsafe {
        syscall(
            libc::SYS_futex,
            [word.as_ptr().addr(), op, expected as usize, (&raw const time).addr(), 0, 0],
        )
    };
}

/// Does nothing for `ms` milliseconds, or less if a signal comes.
pub fn rest(ms: u64) {
    wait_for(&AtomicU32::new(0), 0, ms);
}

/// Wakes at most `n` sleepers on `word`.
pub fn wake(word: &AtomicU32, n: u32) {
    let op = (libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG) as usize;
    // SAFETY: waking reads no memory.
    unsafe { syscall(libc::SYS_futex, [word.as_ptr().addr(), op, n as usize, 0, 0, 0]) };
}

/// The kernel's id of this thread.
pub fn thread_id() -> u32 {
    // SAFETY: no arguments, no side effects.
    unsafe { syscall(libc::SYS_gettid, [0; 6]) as u32 }
}

/// The kernel's id of this process.
pub fn process_id() -> u32 {
    // SAFETY: no arguments, no side effects.
    unsafe { syscall(libc::SYS_getpid, [0; 6]) as u32 }
}

/// Monotonic time in milliseconds (through the vDSO: no system call on common machines).
pub fn now_ms() -> u64 {
    #[cfg(feature = "model")]
    if let Some(now) = crate::model::now_ms() {
        return now;
    }
    let mut ts = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `ts` is a live timespec; clock_gettime with a constant valid clock cannot fail and so leaves errno alone.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_COARSE, &raw mut ts) };
    ts.tv_sec as u64 * 1000 + ts.tv_nsec as u64 / 1_000_000
}
