//! The system call instruction, per architecture.

/// Makes system call `nr` with six arguments and returns the kernel's raw result.
///
/// # Safety
/// * The arguments must be valid for the call: pointers point to memory of the size and access the kernel expects.
/// * The call must not break invariants of memory that Rust code holds references to (unmapping it, say).
#[cfg(target_arch = "x86_64")]
#[inline]
pub unsafe fn syscall(nr: i64, args: [usize; 6]) -> isize {
    let ret: isize;
    // SAFETY: the caller vouches for the call itself; the instruction clobbers only rcx and r11 (Linux x86-64 ABI).
    unsafe {
        core::arch::asm!(
            "syscall",
            inlateout("rax") nr as isize => ret,
            in("rdi") args[0], in("rsi") args[1], in("rdx") args[2],
            in("r10") args[3], in("r8") args[4], in("r9") args[5],
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    ret
}

/// Makes system call `nr` with six arguments and returns the kernel's raw result.
///
/// # Safety
/// * The arguments must be valid for the call: pointers point to memory of the size and access the kernel expects.
/// * The call must not break invariants of memory that Rust code holds references to (unmapping it, say).
#[cfg(target_arch = "aarch64")]
#[inline]
pub unsafe fn syscall(nr: i64, args: [usize; 6]) -> isize {
    let ret: isize;
    // SAFETY: the caller vouches for the call itself; `svc 0` preserves everything but x0 (Linux arm64 ABI).
    unsafe {
        core::arch::asm!(
            "svc 0",
            in("x8") nr,
            inlateout("x0") args[0] as isize => ret,
            in("x1") args[1], in("x2") args[2], in("x3") args[3], in("x4") args[4], in("x5") args[5],
            options(nostack),
        );
    }
    ret
}
