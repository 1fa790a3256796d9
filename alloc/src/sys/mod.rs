//! Every system call of the crate, behind one door.
//!
//! Zone: any. Calls are made with inline assembly, not through libc: a malloc must not touch `errno` on paths that
//! succeed, must work before libc is initialised, and must not be re-entered by an interposed wrapper. All functions
//! return [`Errno`] instead of setting it. Nothing here allocates.

#[cfg(feature = "invariants")]
pub mod fault;
pub mod futex;
pub mod mm;
pub mod numa;
pub mod perf;
pub mod proc;
mod raw;
pub mod signal;
pub mod stack;
pub mod uffd;

/// A Linux error number (positive), as in errno(3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Errno(pub i32);

impl Errno {
    /// Splits a raw kernel return value into success and error.
    #[inline]
    pub(crate) fn check(ret: isize) -> Result<usize, Errno> {
        if (-4095..0).contains(&ret) { Err(Errno(-ret as i32)) } else { Ok(ret as usize) }
    }
}

impl core::fmt::Display for Errno {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let name = match self.0 {
            libc::EPERM => "EPERM",
            libc::ENOENT => "ENOENT",
            libc::EIO => "EIO",
            libc::EAGAIN => "EAGAIN",
            libc::ENOMEM => "ENOMEM",
            libc::EACCES => "EACCES",
            libc::EFAULT => "EFAULT",
            libc::EBUSY => "EBUSY",
            libc::ENODEV => "ENODEV",
            libc::EINVAL => "EINVAL",
            libc::ENOSYS => "ENOSYS",
            n => return write!(f, "errno {n}"),
        };
        f.write_str(name)
    }
}

pub use raw::syscall;

/// What a test may make fail (feature `invariants`): every call into the system whose refusal the library must survive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Call {
    /// mmap(2) where the kernel likes.
    Map,
    /// mmap(2) at one address.
    Place,
    /// munmap(2): what was to go stays mapped.
    Unmap,
    /// mprotect(2).
    Protect,
    /// madvise(2) that drops pages.
    Discard,
    /// madvise(2) about huge pages.
    HugePages,
    /// mremap(2).
    Remap,
    /// mbind(2).
    Bind,
    /// move_pages(2).
    MovePages,
    /// get_mempolicy(2).
    Policy,
    /// futex(2) that waits: it returns early, as after a signal.
    Wait,
    /// open(2) of a file of the kernel's.
    Open,
    /// userfaultfd(2).
    Userfault,
    /// pthread_create(3).
    Thread,
    /// pthread_key_create(3).
    Key,
    /// pthread_setspecific(3).
    KeyValue,
}

/// Where a test may make the caller's call into the system fail; nothing otherwise.
#[inline(always)]
pub(crate) fn may_fail(call: Call) -> Result<(), Errno> {
    #[cfg(feature = "invariants")]
    fault::due(call)?;
    let _ = call;
    Ok(())
}
