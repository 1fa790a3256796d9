//! Signals that hit threads anywhere, the allocator included.
//!
//! The handler does what a handler may: it uses memory of the heap that exists, makes system calls, fails one, and leaves errno as it
//! was. It neither allocates nor frees. It is installed without `SA_RESTART`, so that it also ends waits early.

#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "the words the handler uses live as long as the process"
)]

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU64, Ordering};
use std::time::Duration;
use terrace::raw;

/// Threads that are to be hit, by their kernel id; 0 = none.
static TARGETS: [AtomicI32; 16] = [const { AtomicI32::new(0) }; 16];

/// Words of a block of the heap: each handler adds one to each.
static WORDS: AtomicPtr<AtomicU64> = AtomicPtr::new(std::ptr::null_mut());
const COUNT: usize = 6000;
/// The handler uses one word in this many, so that it touches every page of the block.
const STRIDE: usize = 500;

extern "C" fn on_signal(_: libc::c_int) {
    let errno = unsafe { *libc::__errno_location() };
    let words = WORDS.load(Ordering::Acquire);
    for i in (0..COUNT).step_by(STRIDE) {
        unsafe { &*words.add(i) }.fetch_add(1, Ordering::Relaxed);
    }
    unsafe { libc::close(-1) };
    unsafe { *libc::__errno_location() = errno };
}

/// Installs the handler.
pub(crate) fn handle() {
    let words = raw::calloc(COUNT, 8);
    assert!(!words.is_null());
    WORDS.store(words.cast(), Ordering::Release);
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_signal as extern "C" fn(libc::c_int) as usize;
        assert_eq!(libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut()), 0);
    }
}

/// The calling thread as a target, while the value lives.
pub(crate) struct Target(&'static AtomicI32);

impl Target {
    pub(crate) fn new() -> Target {
        let id = unsafe { libc::gettid() };
        let free =
            |slot: &&AtomicI32| slot.compare_exchange(0, id, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        Target(TARGETS.iter().find(free).expect("a slot for every thread"))
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

/// Hits every target at short and random intervals until `done`.
pub(crate) fn storm(done: &AtomicBool) {
    let mut random = super::blocks::Random::new(0x5167);
    while !done.load(Ordering::Relaxed) {
        for id in TARGETS.iter().map(|slot| slot.load(Ordering::Relaxed)).filter(|&id| id != 0) {
            // A thread may have ended meanwhile: then there is nobody of that id.
            unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), id, libc::SIGUSR1) };
        }
        // Bursts, in which handlers follow each other without the thread getting on, and pauses.
        if !random.next().is_multiple_of(4) {
            std::thread::sleep(Duration::from_micros(20 + random.next() % 400));
        }
    }
}

/// How many handlers have run to their end.
pub(crate) fn seen() -> u64 {
    unsafe { &*WORDS.load(Ordering::Acquire).add((COUNT - 1) / STRIDE * STRIDE) }.load(Ordering::Relaxed)
}

/// Panics if what the handlers wrote is not what the block holds.
pub(crate) fn check() {
    let words = WORDS.load(Ordering::Acquire);
    for i in 0..COUNT {
        let expected = if i.is_multiple_of(STRIDE) { seen() } else { 0 };
        assert_eq!(unsafe { &*words.add(i) }.load(Ordering::Relaxed), expected, "word {i}");
    }
}
