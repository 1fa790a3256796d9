//! mimalloc v3 as a library to preload.
//!
//! Feature `override` makes the C code define `malloc`, its family and the C++ operators as aliases of `mi_malloc` and its
//! family, as mimalloc's own shared library does: no call in between. `build.rs` exports them. Thread-local storage is
//! initial-exec (the crate's default). No Rust code is left in the library, nor what it would make the loader load.
#![no_std]

use libmimalloc_sys as _;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
