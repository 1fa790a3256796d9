//! libterrace.so and libterrace.a: the malloc ABI, the C++ operators and the `terrace_*` C API.
//!
//! Owns every exported name and the C conventions: errno, null returns, alignment rules, `extern "C"`. All logic is in
//! the `terrace` crate, which never sets errno and exports nothing. Exported symbols exist only here: `#[no_mangle]`
//! in an rlib would be re-exported by every dynamic library that links it. The list is `ffi/symbols.txt`.
//!
//! Zones: [`malloc`], [`libc_names`] and [`cxx`] are the fast path and its edges; [`glibc`] and [`api`] are cold.
//!
//! Invariants:
//! * `free` and what calls it leave errno alone: the core makes its system calls without touching it.
//! * Rust code that runs inside the library (the control thread, mainly) allocates from the metadata pools, never
//!   from the exported `malloc`, so it can neither recurse into the heap nor make it look hot.
//! * No unwinding reaches a Rust frame: operators that throw are naked functions around C (`cxx/failed.c`).

pub mod api;
mod cxx;
mod glibc;
mod libc_names;
mod malloc;
pub mod stats;
#[cfg(feature = "invariants")]
mod walkers;

use terrace_core::meta::MetaAlloc;

#[global_allocator]
static METADATA: MetaAlloc = MetaAlloc;
