//! What the kernel can tell about page use: asynchronous write protection (userfaultfd(2), ioctl_userfaultfd(2)),
//! `PAGEMAP_SCAN` (kernel: admin-guide/mm/pagemap), `clear_refs` and the pagemap words (proc_pid_pagemap(5)).
//!
//! Zone: control. Every file is opened for one use and closed: a program that closes all descriptors when it turns
//! itself into a daemon must not make us write into a file it opens later. Only a userfaultfd must stay open (closing
//! it ends the registration); it is moved out of the way of the program's own numbers, and is never used again or, like
//! whatever else stays open for a while, looked at again before it is used ([`Kept`]).

mod kept;
pub mod rwp;
pub mod words;

use self::kept::Kept;
pub use self::kept::Smaps;

use super::{Call, Errno, may_fail, syscall};
use core::ffi::CStr;

const USER_MODE_ONLY: usize = 1;
const API: u64 = 0xAA;
const UFFDIO_API: usize = 0xc018_aa3f;
const UFFDIO_REGISTER: usize = 0xc020_aa00;
const REGISTER_MODE_WP: u64 = 1 << 1;
const FEATURE_WP: u64 = 1 << 0;
const FEATURE_WP_UNPOPULATED: u64 = 1 << 13;
const FEATURE_WP_ASYNC: u64 = 1 << 15;

const PAGEMAP_SCAN: usize = 0xc060_6610;
const SCAN_WP_MATCHING: u64 = 1 << 0;
const SCAN_CHECK_WPASYNC: u64 = 1 << 1;
const PAGE_IS_WRITTEN: u64 = 1 << 1;
const PAGE_IS_PRESENT: u64 = 1 << 3;
const PAGE_IS_SWAPPED: u64 = 1 << 4;

/// Bit of a pagemap word: the page is mapped by this process only (not shared after fork).
pub const PAGEMAP_EXCLUSIVE: u64 = 1 << 56;
/// Bit of a pagemap word: a page is present in memory.
pub const PAGEMAP_PRESENT: u64 = 1 << 63;

/// The lowest descriptor number we keep, so that a program sees the small numbers it expects.
const KEEP_ABOVE: usize = 700;

/// A file descriptor that closes itself.
pub(super) struct Fd(pub(super) usize);

impl Fd {
    fn open(path: &CStr, flags: i32) -> Result<Fd, Errno> {
        may_fail(Call::Open)?;
        let args =
            [libc::AT_FDCWD as usize, path.as_ptr().addr(), (flags | libc::O_CLOEXEC) as usize, 0, 0, 0];
        // SAFETY: `path` is a NUL-terminated string that outlives the call.
        Errno::check(unsafe { syscall(libc::SYS_openat, args) }).map(Fd)
    }

    /// Device and number of the file.
    fn file(&self) -> Result<(u64, u64), Errno> {
        // SAFETY: all zero is a value of this plain structure.
        let mut stat: libc::stat = unsafe { core::mem::zeroed() };
        // SAFETY: the structure is what the call fills, and live.
        Errno::check(unsafe { syscall(libc::SYS_fstat, [self.0, (&raw mut stat).addr(), 0, 0, 0, 0]) })?;
        Ok((stat.st_dev, stat.st_ino))
    }

    fn ioctl<T>(&self, request: usize, arg: &mut T) -> Result<usize, Errno> {
        let arg = (&raw mut *arg).addr();
        // SAFETY: each request below is paired with the structure the kernel documents for it, live for the call.
        Errno::check(unsafe { syscall(libc::SYS_ioctl, [self.0, request, arg, 0, 0, 0]) })
    }
}

impl Drop for Fd {
    fn drop(&mut self) {
        // SAFETY: the descriptor was opened by this value and is known to nobody else.
        unsafe { syscall(libc::SYS_close, [self.0, 0, 0, 0, 0, 0]) };
    }
}

#[repr(C)]
struct ApiArg {
    api: u64,
    features: u64,
    ioctls: u64,
}

#[repr(C)]
struct RegisterArg {
    start: u64,
    len: u64,
    mode: u64,
    ioctls: u64,
}

/// A run of pages that [`written`] reports.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug)]
pub struct PageRun {
    /// First byte.
    pub start: u64,
    /// One past the last byte.
    pub end: u64,
    /// `PAGE_IS_*` bits.
    pub categories: u64,
}

#[repr(C)]
struct ScanArg {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

/// A registration that lasts until it is dropped (or the program closes the descriptor, which is harmless).
pub struct WriteWatch {
    fd: Kept,
}

impl WriteWatch {
    /// Watches what of `[addr, addr + len)` is not watched any more, because it was mapped anew or moved. `EBADF`: the program closed the descriptor,
    /// and nothing is.
    pub fn renew(&self, addr: usize, len: usize) -> Result<(), Errno> {
        register(self.fd.get()?, addr, len, REGISTER_MODE_WP)
    }
}

/// Puts `[addr, addr + len)` under asynchronous write protection: a write to a protected page is noted by the kernel
/// and goes on without a signal or a wait, in user and in kernel mode alike. Needs no privilege (Linux 6.7).
pub fn watch_writes(addr: usize, len: usize) -> Result<WriteWatch, Errno> {
    let fd = userfault(FEATURE_WP | FEATURE_WP_UNPOPULATED | FEATURE_WP_ASYNC)?;
    register(&fd, addr, len, REGISTER_MODE_WP)?;
    Ok(WriteWatch { fd: Kept::new(fd)? })
}

/// A userfaultfd with these features, out of the way of the program's own numbers; `EINVAL`: the kernel lacks one.
fn userfault(features: u64) -> Result<Fd, Errno> {
    may_fail(Call::Userfault)?;
    let flags = USER_MODE_ONLY | (libc::O_CLOEXEC | libc::O_NONBLOCK) as usize;
    // SAFETY: creates a descriptor, touches no memory.
    let fd = Errno::check(unsafe { syscall(libc::SYS_userfaultfd, [flags, 0, 0, 0, 0, 0]) }).map(Fd)?;
    let mut api = ApiArg { api: API, features, ioctls: 0 };
    fd.ioctl(UFFDIO_API, &mut api)?;
    if api.features & features != features {
        return Err(Errno(libc::EINVAL)); // not refused, but not granted either
    }
    let args = [fd.0, libc::F_DUPFD_CLOEXEC as usize, KEEP_ABOVE, 0, 0, 0];
    // SAFETY: duplicates our own descriptor.
    let high = Errno::check(unsafe { syscall(libc::SYS_fcntl, args) });
    Ok(high.map_or(fd, Fd)) // RLIMIT_NOFILE is low: keep the small number
}

fn register(fd: &Fd, addr: usize, len: usize, mode: u64) -> Result<(), Errno> {
    let mut arg = RegisterArg { start: addr as u64, len: len as u64, mode, ioctls: 0 };
    fd.ioctl(UFFDIO_REGISTER, &mut arg).map(drop)
}

/// Reports the present pages of `[start, end)` that were written since the last call, and protects them again.
///
/// The range must be watched; otherwise the answer is `EPERM`. `ENOTTY`: the kernel has no `PAGEMAP_SCAN`.
/// `runs` bounds the answers held at a time; `each` may be called many times.
pub fn written(
    start: usize,
    end: usize,
    runs: &mut [PageRun],
    each: &mut dyn FnMut(PageRun),
) -> Result<(), Errno> {
    let what = Wanted {
        flags: SCAN_WP_MATCHING | SCAN_CHECK_WPASYNC,
        // "Present" keeps the kernel from planting markers in address space that was never touched.
        all: PAGE_IS_WRITTEN | PAGE_IS_PRESENT,
        any: 0,
        told: PAGE_IS_WRITTEN,
    };
    scan(start, end, &what, runs, each)
}

/// What a scan is to report: pages that have all of these categories and one of those, and which categories it tells of each.
struct Wanted {
    flags: u64,
    all: u64,
    any: u64,
    told: u64,
}

fn scan(
    start: usize,
    end: usize,
    what: &Wanted,
    runs: &mut [PageRun],
    each: &mut dyn FnMut(PageRun),
) -> Result<(), Errno> {
    let fd = Fd::open(c"/proc/self/pagemap", libc::O_RDONLY)?;
    let mut from = start as u64;
    while from < end as u64 {
        let mut arg = ScanArg {
            size: size_of::<ScanArg>() as u64,
            flags: what.flags,
            start: from,
            end: end as u64,
            walk_end: 0,
            vec: runs.as_mut_ptr().addr() as u64,
            vec_len: runs.len() as u64,
            max_pages: 0,
            category_inverted: 0,
            category_mask: what.all,
            category_anyof_mask: what.any,
            return_mask: what.told,
        };
        let n = fd.ioctl(PAGEMAP_SCAN, &mut arg)?;
        runs[..n.min(runs.len())].iter().for_each(|&run| each(run));
        if arg.walk_end <= from {
            break;
        }
        from = arg.walk_end;
    }
    Ok(())
}

/// Marks every page of this process as not referenced (`1` to `/proc/self/clear_refs`).
pub fn clear_refs() -> Result<(), Errno> {
    let fd = Fd::open(c"/proc/self/clear_refs", libc::O_WRONLY)?;
    // SAFETY: the buffer is one readable byte.
    Errno::check(unsafe { syscall(libc::SYS_write, [fd.0, b"1".as_ptr().addr(), 1, 0, 0, 0]) }).map(drop)
}

/// Marks the pages of `[from, from + len)` as not referenced, and has every processor forget their translations: `MADV_COLD` (Linux 5.4).
/// To the kernel they are then the first to be reclaimed, until they are used again. Fails with `EINVAL` on locked memory (mlock(2)).
pub fn clear_refs_of(from: usize, len: usize) -> Result<(), Errno> {
    // SAFETY: neither contents nor mappings change.
    Errno::check(unsafe { syscall(libc::SYS_madvise, [from, len, libc::MADV_COLD as usize, 0, 0, 0]) })
        .map(drop)
}

/// Reads the pagemap words of `words.len()` pages of 4 KiB from `addr`; the words tell presence and exclusivity
/// to any user, frame numbers only to root.
pub fn pagemap(addr: usize, words: &mut [u64]) -> Result<usize, Errno> {
    let fd = Fd::open(c"/proc/self/pagemap", libc::O_RDONLY)?;
    let args = [fd.0, words.as_mut_ptr().addr(), words.len() * 8, (addr >> 12) * 8, 0, 0];
    // SAFETY: `words` is writable for its length.
    Errno::check(unsafe { syscall(libc::SYS_pread64, args) }).map(|n| n / 8)
}

/// Reads one byte at `addr` through the kernel: it faults the page in as a read by the program would, but answers
/// `EFAULT` instead of a signal when nothing is mapped there (process_vm_readv(2) on ourselves).
pub fn touch(addr: usize) -> Result<(), Errno> {
    let mut byte = 0u8;
    let local = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    let remote = libc::iovec { iov_base: core::ptr::without_provenance_mut(addr), iov_len: 1 };
    let pid = super::futex::process_id() as usize;
    let args = [pid, (&raw const local).addr(), 1, (&raw const remote).addr(), 1, 0];
    // SAFETY: the local vector is one writable byte; the kernel checks the remote one.
    Errno::check(unsafe { syscall(libc::SYS_process_vm_readv, args) }).map(drop)
}

/// Makes every processor that runs this process forget its cached translations.
///
/// A cached translation hides the next use of a page from the accessed bits. Unmapping two pages more than 33 pages
/// apart in one call makes the kernel flush the whole address space rather than page by page, on the processors that
/// run it and on no other. `span` is a private mapping of at least 64 pages that nobody else uses.
pub fn flush_translations(span: usize, page_bytes: usize) -> Result<(), Errno> {
    for at in [span, span + 63 * page_bytes] {
        // SAFETY: the caller gave the mapping to this call alone; a volatile write only faults the page in.
        unsafe { core::ptr::with_exposed_provenance_mut::<u8>(at).write_volatile(1) };
    }
    // SAFETY: as above, nobody relies on the contents.
    unsafe { super::mm::discard(span, 64 * page_bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::mm;

    fn fresh(pages: usize) -> usize {
        let len = pages * mm::page_bytes();
        let addr = mm::map(len, mm::Access::ReadWrite).unwrap();
        // SAFETY: the mapping was made one line above.
        unsafe { mm::no_huge_pages(addr, len).unwrap() };
        addr
    }

    fn poke(addr: usize) {
        // SAFETY: tests pass addresses inside their own mappings.
        unsafe { core::ptr::with_exposed_provenance_mut::<u8>(addr).write_volatile(1) };
    }

    #[test]
    fn only_written_pages_are_reported_and_only_once() {
        let page = mm::page_bytes();
        let base = fresh(64);
        let watch = match watch_writes(base, 64 * page) {
            Ok(w) => w,
            Err(e) => {
                eprintln!("skipped: this kernel offers no asynchronous write protection ({e})");
                return;
            }
        };
        (0..32).for_each(|i| poke(base + i * page));
        let mut runs = [PageRun::default(); 16];
        let mut count = |expect: usize| {
            let mut n = 0;
            written(base, base + 64 * page, &mut runs, &mut |r| n += (r.end - r.start) as usize / page)
                .unwrap();
            assert_eq!(n, expect);
        };
        count(32); // all that exist; untouched address space is not reported
        count(0);
        [3, 5, 31].iter().for_each(|i| poke(base + i * page));
        count(3);
        drop(watch);
    }

    #[test]
    fn what_was_mapped_anew_is_refused_until_it_is_watched_again() {
        let page = mm::page_bytes();
        let base = fresh(8);
        let watch = match watch_writes(base, 8 * page) {
            Ok(w) => w,
            Err(e) => {
                eprintln!("skipped: this kernel offers no asynchronous write protection ({e})");
                return;
            }
        };
        let mut runs = [PageRun::default(); 16];
        let mut scan = || written(base, base + 8 * page, &mut runs, &mut |_| ());
        assert_eq!(scan(), Ok(()));
        // SAFETY: the mapping is the test's own.
        unsafe { mm::map_over(base + 2 * page, 2 * page, mm::Access::ReadWrite).unwrap() };
        assert_eq!(scan(), Err(Errno(libc::EPERM)));
        assert_eq!(watch.renew(base, 8 * page), Ok(()));
        assert_eq!(scan(), Ok(()));
    }

    #[test]
    fn a_touch_of_unmapped_memory_is_an_error_not_a_signal() {
        let base = fresh(1);
        assert_eq!(touch(base), Ok(()));
        assert_eq!(touch(0x10), Err(Errno(libc::EFAULT)));
    }

    #[test]
    fn a_fresh_page_is_present_and_exclusive() {
        let base = fresh(2);
        poke(base);
        let mut words = [0; 2];
        assert_eq!(pagemap(base, &mut words), Ok(2));
        assert_ne!(words[0] & PAGEMAP_PRESENT, 0);
        assert_ne!(words[0] & PAGEMAP_EXCLUSIVE, 0);
        assert_eq!(words[1] & PAGEMAP_PRESENT, 0);
    }

    #[test]
    fn flushing_translations_needs_only_a_private_span() {
        let span = fresh(64);
        assert_eq!(flush_translations(span, mm::page_bytes()), Ok(()));
    }
}
