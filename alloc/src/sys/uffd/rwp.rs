//! Asynchronous read-write protection: `UFFD_FEATURE_RWP_ASYNC`, `UFFDIO_RWPROTECT` and `PAGE_IS_ACCESSED` (Linux 7.3, says its tree; kernel:
//! admin-guide/mm/userfaultfd, "Read-Write Protection").
//!
//! Zone: control. Protected pages stay where they are; the first use of each, by the program or by the kernel for it, makes the kernel take the
//! protection off and go on, without a message or a wait. Pages that are not in memory cannot be protected: they have been used when they are
//! there unprotected. The mark goes with a page that moves or is swapped out, and ends with one that is given back. It shares a bit with
//! write protection, so a mapping can have only one of the two; and only accessible memory can be registered.
//!
//! In a forked child nothing is registered, and its copies of protected pages are made accessible at the first use.

use super::{Errno, Fd, Kept, PAGE_IS_PRESENT, PAGE_IS_SWAPPED, PageRun, Wanted, register, scan, userfault};

const FEATURE_RWP: u64 = 1 << 17;
const FEATURE_RWP_ASYNC: u64 = 1 << 18;
const REGISTER_MODE_RWP: u64 = 1 << 3;
const UFFDIO_RWPROTECT: usize = 0xc018_aa09;
const RWPROTECT_MODE_RWP: u64 = 1 << 0;
const PAGE_IS_ACCESSED: u64 = 1 << 9;

/// How often a call is made again that some change of the address space interrupted.
const ATTEMPTS: u32 = 4;

#[repr(C)]
struct ProtectArg {
    start: u64,
    len: u64,
    mode: u64,
}

/// A userfaultfd whose registrations last until it is dropped. Whoever closes it for us ends them, and all pages are accessible again.
pub struct AccessWatch {
    fd: Kept,
}

impl AccessWatch {
    /// Needs no privilege. `EINVAL`: the kernel has no such protection; `EPERM`, `ENOSYS`: no userfaultfd is to be had.
    pub fn open() -> Result<AccessWatch, Errno> {
        Ok(AccessWatch { fd: Kept::new(userfault(FEATURE_RWP | FEATURE_RWP_ASYNC)?)? })
    }

    /// Whether the descriptor is still ours: what was registered is so no longer otherwise.
    pub fn is_open(&self) -> bool {
        self.fd.get().is_ok()
    }

    /// Makes `[from, to)` memory whose pages can be protected; all of it must be accessible. Again is as good as once.
    pub fn register(&self, from: usize, to: usize) -> Result<(), Errno> {
        register(self.fd.get()?, from, to - from, REGISTER_MODE_RWP)
    }

    /// Protects the pages of `[from, to)` that are in memory. `ENOENT`: some of it is not registered; nothing was done then.
    pub fn protect(&self, from: usize, to: usize) -> Result<(), Errno> {
        let fd: &Fd = self.fd.get()?;
        let mut arg = ProtectArg { start: from as u64, len: (to - from) as u64, mode: RWPROTECT_MODE_RWP };
        let mut attempt = 1;
        loop {
            match fd.ioctl(UFFDIO_RWPROTECT, &mut arg) {
                Err(Errno(libc::EAGAIN)) if attempt < ATTEMPTS => attempt += 1,
                done => return done.map(drop),
            }
        }
    }
}

/// Calls `each(from, to, used)` for the pages of `[start, end)` of which it is known whether they were used since they were protected.
///
/// The range must be registered: of any other the kernel tells nothing, and it would look unused.
/// `EINVAL`, `ENOTTY`: this kernel cannot tell. `runs` bounds the answers held at a time.
pub fn accessed(
    start: usize,
    end: usize,
    runs: &mut [PageRun],
    each: &mut dyn FnMut(usize, usize, bool),
) -> Result<(), Errno> {
    let any = PAGE_IS_PRESENT | PAGE_IS_SWAPPED;
    let what = Wanted { flags: 0, all: 0, any, told: any | PAGE_IS_ACCESSED };
    scan(start, end, &what, runs, &mut |run| {
        if let Some(used) = use_of(run.categories) {
            each(run.start as usize, run.end as usize, used);
        }
    })
}

/// Whether pages of these categories were used. What is in swap without a mark may have been there when the others were protected.
fn use_of(categories: u64) -> Option<bool> {
    let is = |category| categories & category != 0;
    match () {
        () if !is(PAGE_IS_PRESENT) && !is(PAGE_IS_SWAPPED) => None,
        () if !is(PAGE_IS_ACCESSED) => Some(false),
        () => is(PAGE_IS_PRESENT).then_some(true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_of_a_run_of_pages_is_an_answer_unless_it_is_in_swap_without_a_mark() {
        // Bits as in include/uapi/linux/fs.h: present 3, swapped 4, the zero page 5, accessed 9.
        for (categories, used) in [
            (1 << 3, Some(false)),
            (1 << 3 | 1 << 9, Some(true)),
            (1 << 3 | 1 << 5 | 1 << 9, Some(true)),
            (1 << 4, Some(false)),
            (1 << 4 | 1 << 9, None),
            (1 << 9, None),
            (0, None),
        ] {
            assert_eq!(use_of(categories), used, "{categories:#x}");
        }
    }

    #[test]
    fn a_kernel_without_it_says_so_and_one_with_it_registers_memory() {
        use crate::sys::mm;
        let page = mm::page_bytes();
        let base = mm::map(page, mm::Access::ReadWrite).unwrap();
        match AccessWatch::open() {
            Ok(watch) => {
                assert_eq!(watch.protect(base, base + page), Err(Errno(libc::ENOENT)));
                assert_eq!(watch.register(base, base + page), Ok(()));
                assert_eq!(watch.protect(base, base + page), Ok(()));
            }
            Err(e) => {
                eprintln!("no read-write protection on this machine: {e}");
                assert!([libc::EINVAL, libc::EPERM, libc::ENOSYS].contains(&e.0), "{e}");
            }
        }
        // SAFETY: mapped above, known to nobody else.
        unsafe { mm::unmap(base, page) };
    }
}
