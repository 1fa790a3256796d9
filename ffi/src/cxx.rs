//! The 20 replaceable C++ allocation functions, [new.delete] of C++17.
//!
//! An `operator new` that fails calls the new-handler and then throws `std::bad_alloc`. The library is built with
//! panic=abort, and an exception may not pass through a Rust frame in any case. So the four throwing operators are
//! naked functions: they call the core and return; when it has no memory they *jump*, with their frame already gone, to
//! `cxx/failed.c`. Whoever unwinds then sees one C frame between the throw and the caller of `new`. The nothrow
//! operators and the deletes cannot throw and are ordinary functions.
//!
//! Zone: fast path; failure is cold.

use core::ffi::c_void;
use core::ptr::null_mut;
use terrace_core::raw;

/// What the naked functions call; the C calling convention, and not exported, so the call is direct.
extern "C" fn allocate(size: usize) -> *mut u8 {
    match raw::malloc_fast(size) {
        Some(block) => block.as_ptr(),
        None if size <= raw::FAST_MAX => allocate_more(size),
        None => raw::malloc(size),
    }
}

/// As `malloc_more`: under a naked operator, what that returns to lies behind its frame. Under another caller it is some other word of the
/// stack, which is as good: all it does is tell blocks apart.
#[unsafe(naked)]
extern "C" fn allocate_more(size: usize) -> *mut u8 {
    #[cfg(target_arch = "x86_64")]
    core::arch::naked_asm!(
        ".cfi_startproc",
        "mov rsi, [rsp + 16]",
        "jmp {rest}",
        ".cfi_endproc",
        rest = sym allocate_more_at,
    );
    #[cfg(target_arch = "aarch64")]
    core::arch::naked_asm!(
        ".cfi_startproc",
        "ldr x1, [sp, #8]",
        "b {rest}",
        ".cfi_endproc",
        rest = sym allocate_more_at,
    );
}

extern "C" fn allocate_more_at(size: usize, site: usize) -> *mut u8 {
    raw::malloc_more(size, site)
}

/// As [`allocate`], with an alignment; null when it is not a power of two.
extern "C" fn allocate_aligned(size: usize, align: usize) -> *mut u8 {
    if align.is_power_of_two() { raw::memalign(align, size) } else { null_mut() }
}

unsafe extern "C" {
    /// Calls the new-handler until `retry` succeeds; throws when there is no handler. Reached by a jump only.
    fn terrace_cxx_new_failed(
        size: usize,
        align: usize,
        retry: extern "C" fn(usize, usize) -> *mut u8,
    ) -> *mut c_void;
    /// The nothrow form: null when there is no handler, or when it throws. `align` 0 is the unaligned form.
    fn terrace_cxx_nothrow_failed(size: usize, align: usize, tag: *const c_void) -> *mut c_void;
}

#[cfg(target_arch = "x86_64")]
macro_rules! throwing {
    // (size in rdi)
    (unaligned) => {
        core::arch::naked_asm!(
            ".cfi_startproc",
            "push rdi",
            ".cfi_adjust_cfa_offset 8",
            "call {allocate}",
            "pop rdi",
            ".cfi_adjust_cfa_offset -8",
            "test rax, rax",
            "je 2f",
            "ret",
            "2:",
            "mov esi, 16",
            "lea rdx, [rip + {retry}]",
            "jmp {failed}",
            ".cfi_endproc",
            allocate = sym allocate,
            retry = sym allocate_aligned,
            failed = sym terrace_cxx_new_failed,
        )
    };
    // (size in rdi, alignment in rsi)
    (aligned) => {
        core::arch::naked_asm!(
            ".cfi_startproc",
            "push rdi",
            ".cfi_adjust_cfa_offset 8",
            "push rsi",
            ".cfi_adjust_cfa_offset 8",
            "sub rsp, 8",
            ".cfi_adjust_cfa_offset 8",
            "call {allocate}",
            "add rsp, 8",
            ".cfi_adjust_cfa_offset -8",
            "pop rsi",
            ".cfi_adjust_cfa_offset -8",
            "pop rdi",
            ".cfi_adjust_cfa_offset -8",
            "test rax, rax",
            "je 2f",
            "ret",
            "2:",
            "lea rdx, [rip + {allocate}]",
            "jmp {failed}",
            ".cfi_endproc",
            allocate = sym allocate_aligned,
            failed = sym terrace_cxx_new_failed,
        )
    };
}

#[cfg(target_arch = "aarch64")]
macro_rules! throwing {
    // (size in x0)
    (unaligned) => {
        throwing!(@body allocate, "mov x1, #16")
    };
    // (size in x0, alignment in x1)
    (aligned) => {
        throwing!(@body allocate_aligned, "")
    };
    (@body $allocate:ident, $default_alignment:literal) => {
        core::arch::naked_asm!(
            ".cfi_startproc",
            "stp x29, x30, [sp, #-32]!",
            ".cfi_def_cfa_offset 32",
            ".cfi_offset 29, -32",
            ".cfi_offset 30, -24",
            $default_alignment,
            "stp x0, x1, [sp, #16]",
            "bl {allocate}",
            "cbz x0, 2f",
            ".cfi_remember_state",
            "ldp x29, x30, [sp], #32",
            ".cfi_def_cfa_offset 0",
            ".cfi_restore 29",
            ".cfi_restore 30",
            "ret",
            "2:",
            ".cfi_restore_state",
            "ldp x0, x1, [sp, #16]",
            "ldp x29, x30, [sp], #32",
            ".cfi_def_cfa_offset 0",
            ".cfi_restore 29",
            ".cfi_restore 30",
            "adrp x2, {retry}",
            "add x2, x2, :lo12:{retry}",
            "b {failed}",
            ".cfi_endproc",
            allocate = sym $allocate,
            retry = sym allocate_aligned,
            failed = sym terrace_cxx_new_failed,
        )
    };
}

macro_rules! operators {
    ($(
        $new:literal, $new_nothrow:literal, $new_aligned:literal, $new_aligned_nothrow:literal,
        $delete:literal, $delete_sized:literal, $delete_nothrow:literal,
        $delete_aligned:literal, $delete_sized_aligned:literal, $delete_aligned_nothrow:literal,
        in $module:ident;
    )*) => {$(
        mod $module {
            use super::*;

            #[unsafe(naked)]
            #[unsafe(export_name = $new)]
            unsafe extern "C-unwind" fn new(size: usize) -> *mut c_void {
                throwing!(unaligned)
            }

            #[unsafe(naked)]
            #[unsafe(export_name = $new_aligned)]
            unsafe extern "C-unwind" fn new_aligned(size: usize, align: usize) -> *mut c_void {
                throwing!(aligned)
            }

            #[unsafe(export_name = $new_nothrow)]
            unsafe extern "C" fn new_nothrow(size: usize, tag: *const c_void) -> *mut c_void {
                // SAFETY: the tag goes back to the C++ runtime unread.
                unsafe { or_null(allocate(size), size, 0, tag) }
            }

            #[unsafe(export_name = $new_aligned_nothrow)]
            unsafe extern "C" fn new_aligned_nothrow(size: usize, align: usize, tag: *const c_void) -> *mut c_void {
                // SAFETY: the tag goes back to the C++ runtime unread.
                unsafe { or_null(allocate_aligned(size, align), size, align, tag) }
            }

            #[unsafe(export_name = $delete)]
            unsafe extern "C" fn delete(p: *mut c_void) {
                // SAFETY: the caller gives a live block, or null.
                unsafe { raw::free(p.cast()) };
            }

            #[unsafe(export_name = $delete_nothrow)]
            unsafe extern "C" fn delete_nothrow(p: *mut c_void, _tag: *const c_void) {
                // SAFETY: the caller gives a live block, or null.
                unsafe { raw::free(p.cast()) };
            }

            #[unsafe(export_name = $delete_sized)]
            unsafe extern "C" fn delete_sized(p: *mut c_void, size: usize) {
                // SAFETY: the caller gives a live block of that size, or null.
                unsafe { raw::free_sized(p.cast(), size) };
            }

            #[unsafe(export_name = $delete_aligned)]
            unsafe extern "C" fn delete_aligned(p: *mut c_void, _align: usize) {
                // SAFETY: the caller gives a live block, or null.
                unsafe { raw::free(p.cast()) };
            }

            #[unsafe(export_name = $delete_sized_aligned)]
            unsafe extern "C" fn delete_sized_aligned(p: *mut c_void, size: usize, align: usize) {
                // SAFETY: the caller gives a live block of that size and alignment, or null.
                unsafe { raw::free_aligned_sized(p.cast(), align, size) };
            }

            #[unsafe(export_name = $delete_aligned_nothrow)]
            unsafe extern "C" fn delete_aligned_nothrow(p: *mut c_void, _align: usize, _tag: *const c_void) {
                // SAFETY: the caller gives a live block, or null.
                unsafe { raw::free(p.cast()) };
            }
        }
    )*};
}

/// The end of a nothrow operator: the block, or what the failure path makes of null.
#[inline(always)]
unsafe fn or_null(p: *mut u8, size: usize, align: usize, tag: *const c_void) -> *mut c_void {
    if !p.is_null() {
        return p.cast();
    }
    // SAFETY: C code without preconditions; nothing it calls lets an exception out.
    unsafe { terrace_cxx_nothrow_failed(size, align, tag) }
}

// size_t mangles as `m` on every 64-bit Linux. A test compares these names with what g++ emits.
operators! {
    "_Znwm", "_ZnwmRKSt9nothrow_t", "_ZnwmSt11align_val_t", "_ZnwmSt11align_val_tRKSt9nothrow_t",
    "_ZdlPv", "_ZdlPvm", "_ZdlPvRKSt9nothrow_t",
    "_ZdlPvSt11align_val_t", "_ZdlPvmSt11align_val_t", "_ZdlPvSt11align_val_tRKSt9nothrow_t",
    in single;
    "_Znam", "_ZnamRKSt9nothrow_t", "_ZnamSt11align_val_t", "_ZnamSt11align_val_tRKSt9nothrow_t",
    "_ZdaPv", "_ZdaPvm", "_ZdaPvRKSt9nothrow_t",
    "_ZdaPvSt11align_val_t", "_ZdaPvmSt11align_val_t", "_ZdaPvSt11align_val_tRKSt9nothrow_t",
    in array;
}
