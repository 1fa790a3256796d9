//! Throwing a cache line out of every cache of the machine, so that the next load of it comes from memory.
//!
//! Zone: any. The aarch64 form is written after the architecture's manual and has not been run on hardware.

use core::sync::atomic::{Ordering, fence};

/// Writes the line at `line` back and drops it from all caches; done when [`settle`] returns.
///
/// # Safety
/// * `line` is mapped and readable.
pub unsafe fn flush(line: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 processor has the instruction; it changes no contents.
    unsafe {
        core::arch::x86_64::_mm_clflush(line);
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: Linux lets user space clean and invalidate by address (SCTLR_EL1.UCI); contents are written back first.
    unsafe {
        core::arch::asm!("dc civac, {}", in(reg) line, options(nostack, preserves_flags));
    }
}

/// Waits until every flush before it is done, and every load.
pub fn settle() {
    fence(Ordering::SeqCst);
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 processor has both; they only wait.
    unsafe {
        core::arch::x86_64::_mm_mfence();
        core::arch::x86_64::_mm_lfence();
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: barriers only wait.
    unsafe {
        core::arch::asm!("dsb sy", "isb", options(nostack, preserves_flags));
    }
}
