//! Marks a guest program leaves for the access counter: long NOPs, which the emulator's plugin recognises.
//!
//! On a machine without the counter they do nothing. For C programs the same is in `lab/guest/marks.h`.

/// Ends a stretch of counting: what was counted since the last mark becomes the entry `ID` of
/// [`Outcome::counts`](crate::Outcome::counts), and counting goes on from zero.
///
/// Counting stops for no one: mark when the threads of interest are quiet.
#[inline(always)]
pub fn mark<const ID: u16>() {
    // SAFETY: the instruction is `nopl disp32(%rax)`, which neither reads nor writes registers, flags or
    // memory. The default memory clobber keeps the compiler from moving accesses across it.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        std::arch::asm!(".byte 0x0f, 0x1f, 0x80", ".long 0x7ecc0000 + {id}", id = const ID, options(nostack, preserves_flags));
    }
}
