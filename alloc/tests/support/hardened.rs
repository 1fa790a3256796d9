//! Turns hardened mode on for a whole test program, with one in fifty allocations guarded.

use std::ffi::CStr;

/// Before `main`, so before the first allocation reads the environment, and while there is one thread.
#[used]
#[unsafe(link_section = ".init_array")]
static HARDEN: extern "C" fn() = harden;

extern "C" fn harden() {
    let settings: [(&CStr, &CStr); 2] = [(c"TERRACE_HARDENED", c"on"), (c"TERRACE_GUARD_SAMPLE", c"50")];
    for (name, value) in settings {
        // SAFETY: no other thread exists yet that could read the environment.
        unsafe { libc::setenv(name.as_ptr(), value.as_ptr(), 1) };
    }
}

#[test]
fn the_mode_is_on() {
    assert!(terrace::config::get().hardened && terrace::config::get().guard_sample == 50);
}
