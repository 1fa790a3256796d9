//! The library's constructor. Zone: cold; runs once, before `main`.
//!
//! The heap needs none of this to work: whatever allocates earlier gets memory. It registers what must be registered first.

use super::fork;
use crate::control;

#[used]
#[unsafe(link_section = ".init_array")]
static CONSTRUCTOR: extern "C" fn() = constructor;

/// pthread_atfork(3). In glibc that is a static function in front of this one, which the linker puts far from all other code that
/// every process runs.
#[cfg(target_env = "gnu")]
unsafe fn register_atfork(prepare: extern "C" fn(), parent: extern "C" fn(), child: extern "C" fn()) {
    unsafe extern "C" {
        fn __register_atfork(
            prepare: extern "C" fn(),
            parent: extern "C" fn(),
            child: extern "C" fn(),
            dso: *const core::ffi::c_void,
        ) -> core::ffi::c_int;
        /// Whose handlers they are: the program or library that this is linked into.
        static __dso_handle: core::ffi::c_void;
    }
    // SAFETY: passed on from the caller; only the handle's address is used.
    unsafe { __register_atfork(prepare, parent, child, &raw const __dso_handle) };
}

#[cfg(not(target_env = "gnu"))]
unsafe fn register_atfork(prepare: extern "C" fn(), parent: extern "C" fn(), child: extern "C" fn()) {
    // SAFETY: passed on from the caller.
    unsafe { libc::pthread_atfork(Some(prepare), Some(parent), Some(child)) };
}

extern "C" fn constructor() {
    // SAFETY: the handlers live as long as the program: the library is never unloaded (`-z nodelete`).
    unsafe { register_atfork(fork::prepare, fork::parent, fork::child) };
    control::install();
}
