//! snmalloc as a library to preload.
//!
//! Feature `libc-api` makes the C++ code define `sn_malloc` and its family; `build.rs` exports them under the C library's
//! names as aliases, with no call in between. Thread-local storage is initial-exec (the crate's default). No Rust code is
//! left in the library; libstdc++ is loaded with it, as with snmalloc's own.
#![no_std]

use snmalloc_sys as _;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
