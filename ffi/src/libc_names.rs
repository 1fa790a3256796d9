//! The double-underscore names under which glibc exports its allocator, for programs that call past an interposer.
//!
//! glibc 2.36 exports `__libc_malloc` and its kin with a default version; hooks, static-link shims and a few
//! sanitizers call them directly. If these stayed glibc's, a block of one heap could reach the other heap's `free`.
//!
//! Zone: fast path. Each is the function of [`crate::malloc`] of the same name ([`crate::glibc`] has its own two).

use crate::malloc;
use core::ffi::{c_int, c_void};

macro_rules! same_as {
    ($($name:ident = $path:path, ($($arg:ident: $ty:ty),*) $(-> $ret:ty)?;)*) => {$(
        #[unsafe(no_mangle)]
        pub(crate) unsafe extern "C" fn $name($($arg: $ty),*) $(-> $ret)? {
            #[allow(unused_unsafe, reason = "some of the functions are safe")]
            // SAFETY: the contract is that of the function it stands for.
            unsafe {
                $path($($arg),*)
            }
        }
    )*};
}

same_as! {
    __libc_malloc = malloc::malloc, (size: usize) -> *mut c_void;
    __libc_calloc = malloc::calloc, (count: usize, size: usize) -> *mut c_void;
    __libc_realloc = malloc::realloc, (p: *mut c_void, size: usize) -> *mut c_void;
    __libc_free = malloc::free, (p: *mut c_void);
    __libc_cfree = malloc::free, (p: *mut c_void);
    __libc_memalign = malloc::memalign, (align: usize, size: usize) -> *mut c_void;
    __libc_valloc = malloc::valloc, (size: usize) -> *mut c_void;
    __libc_pvalloc = malloc::pvalloc, (size: usize) -> *mut c_void;
    __posix_memalign = malloc::posix_memalign, (out: *mut *mut c_void, align: usize, size: usize) -> c_int;
}
