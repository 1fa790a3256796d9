//! Address space: reserve, commit, return and move pages (mmap(2), madvise(2), mremap(2), mprotect(2)).

use super::{Call, Errno, may_fail, syscall};
use once_cell::race::OnceNonZeroUsize;

static PAGE: OnceNonZeroUsize = OnceNonZeroUsize::new();

/// The page size in bytes (4, 16 or 64 KiB), from the auxiliary vector.
#[inline]
pub fn page_bytes() -> usize {
    PAGE.get_or_init(|| {
        // SAFETY: getauxval reads a table the kernel wrote before the program started; no side effects.
        let n = unsafe { libc::getauxval(libc::AT_PAGESZ) } as usize;
        core::num::NonZeroUsize::new(n).unwrap_or(const { core::num::NonZeroUsize::new(4096).unwrap() })
    })
    .get()
}

/// What may be done with a fresh mapping.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Address space only; not counted by strict overcommit until [`protect`]ed to `ReadWrite`.
    None,
    /// Readable, all zero; never counted.
    ReadOnly,
    /// Readable and writable, zero-filled on first touch, not charged in advance where the kernel allows that.
    ReadWrite,
}

impl Access {
    fn prot(self) -> usize {
        match self {
            Access::None => libc::PROT_NONE as usize,
            Access::ReadOnly => libc::PROT_READ as usize,
            Access::ReadWrite => (libc::PROT_READ | libc::PROT_WRITE) as usize,
        }
    }
}

/// Maps `len` bytes of private anonymous memory anywhere.
pub fn map(len: usize, access: Access) -> Result<usize, Errno> {
    may_fail(Call::Map)?;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a fresh mapping at an address the kernel chooses touches no existing memory.
    Errno::check(unsafe { syscall(libc::SYS_mmap, [0, len, access.prot(), flags as usize, usize::MAX, 0]) })
}

/// Maps `len` bytes at exactly `addr`, or fails with `EEXIST` if anything is mapped there already.
pub fn map_at(addr: usize, len: usize, access: Access) -> Result<(), Errno> {
    may_fail(Call::Place)?;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED_NOREPLACE;
    // SAFETY: MAP_FIXED_NOREPLACE never replaces a mapping; before Linux 4.17 it is a mere hint, checked below.
    let got = Errno::check(unsafe {
        syscall(libc::SYS_mmap, [addr, len, access.prot(), flags as usize, usize::MAX, 0])
    })?;
    if got == addr {
        return Ok(());
    }
    // SAFETY: `got` is the mapping made one line above and known to nobody else.
    unsafe { unmap(got, len) };
    Err(Errno(libc::EEXIST))
}

/// Replaces `[addr, addr + len)` by fresh zero pages in place.
///
/// # Safety
/// * The range lies in a mapping the caller owns, and nobody relies on its contents.
pub unsafe fn map_over(addr: usize, len: usize, access: Access) -> Result<(), Errno> {
    may_fail(Call::Map)?;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED;
    // SAFETY: the caller owns the range.
    Errno::check(unsafe {
        syscall(libc::SYS_mmap, [addr, len, access.prot(), flags as usize, usize::MAX, 0])
    })
    .map(drop)
}

/// Unmaps `[addr, addr + len)`.
///
/// # Safety
/// * The range lies in a mapping the caller owns, and nobody uses it again.
pub unsafe fn unmap(addr: usize, len: usize) {
    if may_fail(Call::Unmap).is_err() {
        return;
    }
    // SAFETY: the caller owns the range. A failure (ENOMEM on a split) leaves it mapped, which is only a leak.
    unsafe { syscall(libc::SYS_munmap, [addr, len, 0, 0, 0, 0]) };
}

/// Changes what may be done with `[addr, addr + len)`.
///
/// # Safety
/// * The range lies in a mapping the caller owns; with `Access::None`, nobody uses it again.
pub unsafe fn protect(addr: usize, len: usize, access: Access) -> Result<(), Errno> {
    may_fail(Call::Protect)?;
    // SAFETY: the caller owns the range.
    Errno::check(unsafe { syscall(libc::SYS_mprotect, [addr, len, access.prot(), 0, 0, 0]) }).map(drop)
}

/// Returns the pages of `[addr, addr + len)` to the system; they read as zero afterwards (`MADV_DONTNEED`).
///
/// # Safety
/// * The range is page-aligned, lies in a mapping the caller owns, and nobody relies on its contents.
pub unsafe fn discard(addr: usize, len: usize) -> Result<(), Errno> {
    may_fail(Call::Discard)?;
    // SAFETY: the caller owns the range.
    Errno::check(unsafe { syscall(libc::SYS_madvise, [addr, len, libc::MADV_DONTNEED as usize, 0, 0, 0]) })
        .map(drop)
}

/// Asks for 4 KiB pages only in `[addr, addr + len)`, so that the processor's accessed bits tell single pages apart.
///
/// # Safety
/// * The range lies in a mapping the caller owns.
pub unsafe fn no_huge_pages(addr: usize, len: usize) -> Result<(), Errno> {
    may_fail(Call::HugePages)?;
    // SAFETY: changes how future faults are served, never contents.
    Errno::check(unsafe { syscall(libc::SYS_madvise, [addr, len, libc::MADV_NOHUGEPAGE as usize, 0, 0, 0]) })
        .map(drop)
}

/// Moves the pages of `[from, from + len)` to `to`, leaving `from` mapped and empty (`MREMAP_DONTUNMAP`, Linux 5.7).
///
/// # Safety
/// * Both ranges are page-aligned, do not overlap, and lie in mappings the caller owns; nobody relies on what was at `to`.
pub unsafe fn move_mapping(from: usize, to: usize, len: usize) -> Result<(), Errno> {
    if let Err(refused) = may_fail(Call::Remap) {
        // As before Linux 6.17: the target is unmapped before the kernel finds that it cannot move.
        // SAFETY: the caller owns the target, and nobody relies on what was there.
        unsafe { unmap(to, len) };
        return Err(refused);
    }
    let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED | libc::MREMAP_DONTUNMAP;
    // SAFETY: the caller owns both ranges.
    Errno::check(unsafe { syscall(libc::SYS_mremap, [from, len, len, flags as usize, to, 0]) }).map(drop)
}

/// Whether every page of `[addr, addr + len)`, at most two of them, is mapped (mincore(2)).
#[must_use]
pub fn is_mapped(addr: usize, len: usize) -> bool {
    let first = addr & !(page_bytes() - 1);
    let pages = (addr + len - first).div_ceil(page_bytes());
    let mut resident = [0u8; 2];
    if pages > resident.len() {
        return false;
    }
    let out = (&raw mut resident).addr();
    // SAFETY: mincore only reports on mappings; the vector has a byte for each page asked about.
    unsafe { syscall(libc::SYS_mincore, [first, pages * page_bytes(), out, 0, 0, 0]) == 0 }
}

/// Whether the eight bytes at `addr` can be read: what is mapped may be inaccessible, as guard pages are.
#[must_use]
pub fn is_readable(addr: usize) -> bool {
    // The kernel reads the set before it looks at what is to be done with it, and that is nothing it knows.
    let nothing = usize::MAX;
    // SAFETY: rt_sigprocmask(2) only reads the eight bytes, or refuses to, and changes nothing.
    let answer = unsafe { syscall(libc::SYS_rt_sigprocmask, [nothing, addr, 0, 8, 0, 0]) };
    answer != -(libc::EFAULT as isize)
}

/// Sets bit 0 of one byte of `out` for each page from `addr`, page-aligned, that is in memory (mincore(2)); `false` if there is a hole.
#[cfg(feature = "invariants")]
pub fn residency(addr: usize, out: &mut [u8]) -> bool {
    let len = out.len() * page_bytes();
    // SAFETY: mincore only reports on mappings; the vector has a byte for each page asked about.
    unsafe { syscall(libc::SYS_mincore, [addr, len, out.as_mut_ptr().addr(), 0, 0, 0]) == 0 }
}

/// The soft limit on address space in bytes (`RLIMIT_AS`), or `None` if unlimited.
pub fn address_space_limit() -> Option<usize> {
    let mut lim = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    let out = (&raw mut lim).addr();
    // SAFETY: `out` points to a live rlimit64, which is what prlimit64 writes.
    let ret = unsafe { syscall(libc::SYS_prlimit64, [0, libc::RLIMIT_AS as usize, 0, out, 0, 0]) };
    (ret == 0 && lim.rlim_cur != libc::RLIM64_INFINITY).then_some(lim.rlim_cur as usize)
}
