//! The C allocation functions: malloc(3), posix_memalign(3), malloc_usable_size(3), and C23's sized frees.
//!
//! Zone: fast path. Each function is the core's function plus the C conventions:
//!
//! * a zero size gives a unique pointer, except `realloc(p, 0)`, which frees and returns null as glibc does;
//! * a failed allocation sets errno to `ENOMEM` (also for sizes that overflow or exceed `PTRDIFF_MAX`), a bad
//!   alignment to `EINVAL`; `posix_memalign` returns the number instead and leaves errno alone;
//! * every block is aligned to at least 16 bytes;
//! * all are safe in any thread and, after `fork`, in parent and child.

use core::ffi::{c_int, c_void};
use core::ptr::null_mut;
use terrace_core::raw;

/// Sets errno of the calling thread.
#[cold]
pub(crate) fn set_errno(value: c_int) {
    // SAFETY: glibc returns the address of the calling thread's errno, always valid.
    unsafe { *libc::__errno_location() = value };
}

#[cold]
#[inline(never)]
pub(crate) fn no_memory() -> *mut c_void {
    set_errno(libc::ENOMEM);
    null_mut()
}

#[cold]
#[inline(never)]
fn bad_alignment() -> *mut c_void {
    set_errno(libc::EINVAL);
    null_mut()
}

/// The C form of a core result: null sets errno to `ENOMEM`.
#[inline(always)]
pub(crate) fn or_no_memory(p: *mut u8) -> *mut c_void {
    if p.is_null() { no_memory() } else { p.cast() }
}

/// `malloc(3)`.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn malloc(size: usize) -> *mut c_void {
    match raw::malloc_fast(size) {
        Some(block) => block.as_ptr().cast(),
        None if size <= raw::FAST_MAX => malloc_more(size),
        None => malloc_larger(size),
    }
}

#[inline(never)]
extern "C" fn malloc_larger(size: usize) -> *mut c_void {
    or_no_memory(raw::malloc(size))
}

/// Small blocks when the next few are used up. Reached by a jump, so that what `malloc` returns to is where it was, and
/// tells the allocation site. (If a compiler made a call of the jump, all blocks would have one site.)
#[unsafe(naked)]
extern "C" fn malloc_more(size: usize) -> *mut c_void {
    #[cfg(target_arch = "x86_64")]
    core::arch::naked_asm!(
        ".cfi_startproc",
        "mov rsi, [rsp]",
        "jmp {rest}",
        ".cfi_endproc",
        rest = sym malloc_more_at,
    );
    #[cfg(target_arch = "aarch64")]
    core::arch::naked_asm!(
        ".cfi_startproc",
        "mov x1, x30",
        "b {rest}",
        ".cfi_endproc",
        rest = sym malloc_more_at,
    );
}

extern "C" fn malloc_more_at(size: usize, site: usize) -> *mut c_void {
    or_no_memory(raw::malloc_more(size, site))
}

/// `calloc(3)`.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn calloc(count: usize, size: usize) -> *mut c_void {
    or_no_memory(raw::calloc(count, size))
}

/// `realloc(3)`; `realloc(p, 0)` frees `p` and returns null with errno unchanged.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn realloc(p: *mut c_void, size: usize) -> *mut c_void {
    // SAFETY: the caller gives a live block, or null.
    let resized = unsafe { raw::realloc(p.cast(), size) };
    if resized.is_null() && (size > 0 || p.is_null()) { no_memory() } else { resized.cast() }
}

/// `reallocarray(3)`: `realloc(p, count * size)`, `ENOMEM` and `p` untouched when the product overflows.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn reallocarray(p: *mut c_void, count: usize, size: usize) -> *mut c_void {
    match count.checked_mul(size) {
        // SAFETY: the contract is realloc's.
        Some(bytes) => unsafe { realloc(p, bytes) },
        None => no_memory(),
    }
}

/// `free(3)`; errno is preserved.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn free(p: *mut c_void) {
    // SAFETY: the caller gives a live block, or null; the core recognises everything else.
    unsafe { raw::free(p.cast()) };
}

/// `cfree(3)`, long removed from the headers and still in old binaries.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cfree(p: *mut c_void) {
    // SAFETY: as for `free`.
    unsafe { raw::free(p.cast()) };
}

/// C23 7.24.3.5: `free` with the size that was asked for.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn free_sized(p: *mut c_void, size: usize) {
    // SAFETY: as for `free`; `size` is what the block was allocated with.
    unsafe { raw::free_sized(p.cast(), size) };
}

/// C23 7.24.3.4: `free` with the alignment and size given to `aligned_alloc`.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn free_aligned_sized(p: *mut c_void, align: usize, size: usize) {
    // SAFETY: as for `free`; `align` and `size` are what the block was allocated with.
    unsafe { raw::free_aligned_sized(p.cast(), align, size) };
}

/// `aligned_alloc(3)`: `EINVAL` unless `align` is a power of two. Any size is allowed, as since C17.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn aligned_alloc(align: usize, size: usize) -> *mut c_void {
    if !align.is_power_of_two() {
        return bad_alignment();
    }
    or_no_memory(raw::memalign(align, size))
}

/// `memalign(3)`: as `aligned_alloc`. (glibc rounds other alignments up; the manual promises `EINVAL`.)
#[unsafe(no_mangle)]
pub(crate) extern "C" fn memalign(align: usize, size: usize) -> *mut c_void {
    aligned_alloc(align, size)
}

/// `posix_memalign(3)`: `EINVAL` unless `align` is a power of two and a multiple of `sizeof(void *)`. On failure
/// neither `*out` nor errno is touched.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn posix_memalign(out: *mut *mut c_void, align: usize, size: usize) -> c_int {
    if !align.is_power_of_two() || align < size_of::<*mut c_void>() {
        return libc::EINVAL;
    }
    let p = raw::memalign(align, size);
    if p.is_null() {
        return libc::ENOMEM;
    }
    // SAFETY: the caller gives a place for one pointer.
    unsafe { out.write(p.cast()) };
    0
}

pub(crate) fn page_size() -> usize {
    // SAFETY: no memory is involved.
    unsafe { libc::sysconf(libc::_SC_PAGESIZE) }.unsigned_abs() as usize
}

/// `valloc(3)`: a block aligned to the page size.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn valloc(size: usize) -> *mut c_void {
    or_no_memory(raw::memalign(page_size(), size))
}

/// `pvalloc(3)`: `valloc` of the size rounded up to whole pages.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn pvalloc(size: usize) -> *mut c_void {
    let page = page_size();
    match size.checked_next_multiple_of(page) {
        Some(bytes) => or_no_memory(raw::memalign(page, bytes)),
        None => no_memory(),
    }
}

/// `malloc_usable_size(3)`: 0 for null.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn malloc_usable_size(p: *mut c_void) -> usize {
    // SAFETY: the caller gives a live block, or null.
    unsafe { raw::usable_size(p.cast()) }
}
