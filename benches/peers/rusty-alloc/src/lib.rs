//! rusty_alloc as a library to preload: the C library's names over the crate's functions, as the crate asks its callers to
//! (`free_inline` in the one export that is `free`). Link-time optimisation leaves no call in between.

use rusty_alloc::alloc;
use std::ffi::{c_int, c_void};

/// The least alignment of any block.
const WORD: usize = size_of::<*mut c_void>();

#[unsafe(no_mangle)]
extern "C" fn malloc(size: usize) -> *mut c_void {
    alloc::malloc(size).cast()
}

/// # Safety
/// `p` is null or a live block of this library, and is not used again.
#[unsafe(no_mangle)]
unsafe extern "C" fn free(p: *mut c_void) {
    // SAFETY: null or a live block, as this function requires.
    unsafe { alloc::free_inline(p.cast()) }
}

#[unsafe(no_mangle)]
extern "C" fn calloc(count: usize, size: usize) -> *mut c_void {
    alloc::calloc(count, size).cast()
}

/// # Safety
/// As [`free`], but that `p` lives on if null is returned.
#[unsafe(no_mangle)]
unsafe extern "C" fn realloc(p: *mut c_void, size: usize) -> *mut c_void {
    // SAFETY: null or a live block, as this function requires.
    unsafe { alloc::realloc(p.cast(), size).cast() }
}

/// # Safety
/// As [`realloc`].
#[unsafe(no_mangle)]
unsafe extern "C" fn reallocarray(p: *mut c_void, count: usize, size: usize) -> *mut c_void {
    // SAFETY: null or a live block, as this function requires.
    unsafe { alloc::reallocn(p.cast(), count, size).cast() }
}

#[unsafe(no_mangle)]
extern "C" fn memalign(alignment: usize, size: usize) -> *mut c_void {
    alloc::malloc_aligned(size, alignment).cast()
}

#[unsafe(no_mangle)]
extern "C" fn aligned_alloc(alignment: usize, size: usize) -> *mut c_void {
    alloc::malloc_aligned(size, alignment).cast()
}

/// # Safety
/// `out` is valid for writing a pointer.
#[unsafe(no_mangle)]
unsafe extern "C" fn posix_memalign(out: *mut *mut c_void, alignment: usize, size: usize) -> c_int {
    if !alignment.is_power_of_two() || alignment < WORD {
        return libc::EINVAL;
    }
    // SAFETY: a power of two, tested above.
    let block = unsafe { alloc::malloc_aligned_pow2(size, alignment) };
    if block.is_null() {
        return libc::ENOMEM;
    }
    // SAFETY: valid for writing, as this function requires.
    unsafe { out.write(block.cast()) };
    0
}

#[unsafe(no_mangle)]
extern "C" fn valloc(size: usize) -> *mut c_void {
    alloc::malloc_aligned(size, 4096).cast()
}

#[unsafe(no_mangle)]
extern "C" fn pvalloc(size: usize) -> *mut c_void {
    alloc::malloc_aligned(size.next_multiple_of(4096), 4096).cast()
}

/// # Safety
/// `p` is null or a live block of this library.
#[unsafe(no_mangle)]
unsafe extern "C" fn malloc_usable_size(p: *mut c_void) -> usize {
    if p.is_null() {
        return 0;
    }
    // SAFETY: a live block, as this function requires.
    unsafe { alloc::usable_size(p.cast()) }
}

/// What `operator new` does when memory has run out: nothing here catches `std::bad_alloc`.
struct Abort;

impl alloc::OnOom for Abort {
    fn on_oom(_size: usize) -> *mut u8 {
        std::process::abort()
    }
}

/// The operators of C++ without alignment; those with it reach `aligned_alloc` through libstdc++.
mod operators {
    use super::{Abort, alloc, c_void};

    #[unsafe(no_mangle)]
    extern "C" fn _Znwm(size: usize) -> *mut c_void {
        alloc::malloc_or_with::<Abort>(size).cast()
    }

    #[unsafe(no_mangle)]
    extern "C" fn _Znam(size: usize) -> *mut c_void {
        alloc::malloc_or_with::<Abort>(size).cast()
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn _ZdlPv(p: *mut c_void) {
        // SAFETY: null or a live block of this library, as C++ requires of `delete`.
        unsafe { alloc::free_inline(p.cast()) }
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn _ZdaPv(p: *mut c_void) {
        // SAFETY: as `_ZdlPv`.
        unsafe { alloc::free_inline(p.cast()) }
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn _ZdlPvm(p: *mut c_void, _size: usize) {
        // SAFETY: as `_ZdlPv`.
        unsafe { alloc::free_inline(p.cast()) }
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn _ZdaPvm(p: *mut c_void, _size: usize) {
        // SAFETY: as `_ZdlPv`.
        unsafe { alloc::free_inline(p.cast()) }
    }
}
