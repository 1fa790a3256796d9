//! The library's constructor. Zone: cold; runs once, before `main`.
//!
//! The heap needs none of this to work: whatever allocates earlier gets memory. It registers what must be registered first.

use super::fork;
use crate::control;

#[used]
#[unsafe(link_section = ".init_array")]
static CONSTRUCTOR: extern "C" fn() = constructor;

extern "C" fn constructor() {
    // SAFETY: the handlers live as long as the program: the library is never unloaded (`-z nodelete`).
    unsafe { libc::pthread_atfork(Some(fork::prepare), Some(fork::parent), Some(fork::child)) };
    control::install();
}
