//! The thread slot: one pointer per thread, read with two instructions.
//!
//! Zone: fast. Stable Rust's `thread_local!` in a shared library costs a call to `__tls_get_addr` an access (5.0 ns against
//! 2.7 ns, measured), which may itself allocate. The slot is therefore a symbol in `.tdata`, defined and read in assembly
//! with the initial-exec model, as glibc's manual asks of a malloc ("Replacing malloc"). Its initial value is the address
//! of a static empty heap, so no thread ever reads null and the fast path needs no test.
//!
//! The crate's version is part of the symbol's name: two versions in one program do not share a slot. The aarch64 forms
//! are written after the ELF TLS document and have not been run on hardware.

use crate::heap::EMPTY;
use core::ffi::c_void;

#[cfg(target_arch = "x86_64")]
core::arch::global_asm!(
    ".pushsection .tdata.terrace,\"awT\",@progbits",
    ".p2align 3",
    ".globl terrace_slot_v0_1",
    ".hidden terrace_slot_v0_1",
    ".type terrace_slot_v0_1,@object",
    ".size terrace_slot_v0_1,8",
    "terrace_slot_v0_1: .quad {initial}",
    ".popsection",
    initial = sym EMPTY,
);

#[cfg(target_arch = "aarch64")]
core::arch::global_asm!(
    ".pushsection .tdata.terrace,\"awT\",%progbits",
    ".p2align 3",
    ".globl terrace_slot_v0_1",
    ".hidden terrace_slot_v0_1",
    ".type terrace_slot_v0_1,%object",
    ".size terrace_slot_v0_1,8",
    "terrace_slot_v0_1: .quad {initial}",
    ".popsection",
    initial = sym EMPTY,
);

unsafe extern "C" {
    /// Only an operand of the assembly below, never read through this declaration.
    static terrace_slot_v0_1: u8;
}

/// This thread's value.
#[inline(always)]
pub(crate) fn get() -> *mut c_void {
    #[cfg(feature = "model")]
    if let Some(hooks) = crate::model::hooks() {
        // SAFETY: a model's slot lives as long as its thread, which is the present one.
        let value = unsafe { &*(hooks.slot)() }.get();
        return if value.is_null() { (&raw const EMPTY).cast_mut().cast() } else { value };
    }
    let value: *mut c_void;
    // SAFETY: reads this thread's copy of an initialised, aligned word through its initial-exec offset.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        core::arch::asm!(
            "mov {v}, qword ptr [rip + {slot}@GOTTPOFF]",
            "mov {v}, qword ptr fs:[{v}]",
            v = out(reg) value, slot = sym terrace_slot_v0_1,
            options(nostack, preserves_flags, readonly),
        );
    }
    // SAFETY: as above, with tpidr_el0 as the thread pointer.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        core::arch::asm!(
            "mrs {t}, tpidr_el0",
            "adrp {v}, :gottprel:{slot}",
            "ldr {v}, [{v}, :gottprel_lo12:{slot}]",
            "ldr {v}, [{t}, {v}]",
            v = out(reg) value, t = out(reg) _, slot = sym terrace_slot_v0_1,
            options(nostack, preserves_flags, readonly),
        );
    }
    value
}

/// Sets this thread's value.
#[inline]
pub(crate) fn set(value: *mut c_void) {
    #[cfg(feature = "model")]
    if let Some(hooks) = crate::model::hooks() {
        // SAFETY: as in `get`.
        return unsafe { &*(hooks.slot)() }.set(value);
    }
    // SAFETY: writes this thread's copy of an aligned word; no other thread reads it.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        core::arch::asm!(
            "mov {t}, qword ptr [rip + {slot}@GOTTPOFF]",
            "mov qword ptr fs:[{t}], {v}",
            v = in(reg) value, t = out(reg) _, slot = sym terrace_slot_v0_1,
            options(nostack, preserves_flags),
        );
    }
    // SAFETY: as above, with tpidr_el0 as the thread pointer.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        core::arch::asm!(
            "mrs {t}, tpidr_el0",
            "adrp {o}, :gottprel:{slot}",
            "ldr {o}, [{o}, :gottprel_lo12:{slot}]",
            "str {v}, [{t}, {o}]",
            v = in(reg) value, t = out(reg) _, o = out(reg) _, slot = sym terrace_slot_v0_1,
            options(nostack, preserves_flags),
        );
    }
}
