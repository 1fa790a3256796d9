//! The door through which a model checker looks into the heap (feature `model`; not in any library that is shipped).
//!
//! Zone: any. A model runs the heap's own source in threads that it schedules itself, as coroutines of one thread of the system. For that
//! it must know of every step at which another thread may come in between, and must stand in for what belongs to threads of the system:
//! the thread slot, sleeping on a lock, the clock, the end of the process. [`install`] hangs its [`Hooks`] in; without any, in the tests
//! that are no models, everything is as in an ordinary build.
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

/// Another thread may come in here, before the present one touches the word at `addr`.
#[inline]
pub(crate) fn step(addr: usize) {
    if let Some(hooks) = hooks() {
        (hooks.step)(addr);
    }
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
