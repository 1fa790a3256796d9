//! The door through which a model checker looks into the heap (feature `model`; not in any library that is shipped).
//!
//! Zone: any. A model runs the heap's own source in threads that it schedules itself, as coroutines of one thread of the system. For that
//! it must know of every step at which another thread may come in between, and must stand in for what belongs to threads of the system:
//! the thread slot, sleeping on a lock, the clock, the end of the process. [`install`] hangs its [`Hooks`] in; without any, in the tests
//! that are no models, everything is as in an ordinary build.
//!
//! A model may also give a load an older value than the word holds, as weakly ordered memory does.
//!
//! What calls the hooks: `sync::atomic` (every atomic operation of the protocols), `sync::Lock`, `arch::slot`, `meta` (blocks given
//! back), `sys::futex` (time), `sys::proc` (death).

use core::cell::Cell;
use core::ffi::c_void;
use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

/// What a model checker does at the heap's steps.
pub struct Hooks {
    /// Before each atomic operation on the word at this address, and before each attempt to take or release a lock there.
    pub step: fn(usize),
    /// What a load gives of the word at `addr`, which now holds `word`: that, or an older value that the ordering and what the thread has seen
    /// allow. With `latest`, of a compare-exchange that fails: that.
    pub load: fn(addr: usize, word: u64, order: Ordering, latest: bool) -> u64,
    /// The word at `addr` holds `old` and is going to hold `new`.
    pub store: fn(addr: usize, old: u64, new: u64, order: Ordering),
    /// The same by an operation that read `old` itself.
    pub update: fn(addr: usize, old: u64, new: u64, order: Ordering),
    /// A fence.
    pub fence: fn(order: Ordering),
    /// The lock at this address was taken.
    pub locked: fn(addr: usize),
    /// The lock at this address is about to be released.
    pub unlocking: fn(addr: usize),
    /// The lock that was to be taken is held: another thread must run.
    pub blocked: fn(),
    /// The present thread's slot; null until it has a heap.
    pub slot: fn() -> *const Cell<*mut c_void>,
    /// The metadata block at this address, so many bytes long, was given back. It is not used again.
    pub gone: fn(usize, usize),
}

static HOOKS: AtomicPtr<Hooks> = AtomicPtr::new(core::ptr::null_mut());
static NOW_MS: AtomicU64 = AtomicU64::new(1);

/// What ends a thread of a model where the process would have died; carries the line.
#[derive(Debug)]
pub struct Died(pub String);

/// Has `hooks` called from now on. By a process all of whose use of the heap is under the model's control.
pub fn install(hooks: &'static Hooks) {
    HOOKS.store((&raw const *hooks).cast_mut(), Ordering::Release);
}

/// The hooks, if a model runs.
#[inline]
pub(crate) fn hooks() -> Option<&'static Hooks> {
    // SAFETY: what is stored comes from a reference that lives for ever.
    unsafe { HOOKS.load(Ordering::Acquire).as_ref() }
}

/// The model's clock in ms, if a model runs.
pub(crate) fn now_ms() -> Option<u64> {
    hooks().map(|_| NOW_MS.load(Ordering::Relaxed))
}

/// Lets `ms` milliseconds pass.
pub fn advance_clock(ms: u64) {
    NOW_MS.fetch_add(ms, Ordering::Relaxed);
}

/// Unwinds instead of ending the process, if a model runs.
pub(crate) fn die(args: core::fmt::Arguments<'_>) {
    if hooks().is_some() {
        // Without the panic hook: this death may be what the model wants to see.
        std::panic::resume_unwind(Box::new(Died(args.to_string())));
    }
}
