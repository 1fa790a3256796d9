//! The tracker `rwp`: asynchronous read-write protection, read by `PAGEMAP_SCAN`.
//!
//! Zone: control. Sees reads and writes, page by page, without privilege; the first use of a page after it was armed costs the program a fault. A
//! huge page answers as a whole. What a fault costs was not measured, for want of a kernel that has it: it is taken to cost what one of write
//! protection does.
//!
//! Arenas are registered when something in them is to be armed that is not: when they are new, have grown, or when somebody replaced a
//! mapping (the heap itself does, where it moves a large block); what was armed in the old one looks unused, once. If the program has closed our
//! userfaultfd, which makes all pages accessible, another is opened.

use super::{Exact, Kernel};
use crate::heat::clock::{now_ns, thread_cpu_ns};
use crate::heat::map::PAGE_BYTES;
use crate::sys::uffd::PageRun;
use crate::sys::uffd::rwp::{AccessWatch, accessed};
use crate::sys::uffd::words::Words;
use crate::sys::{Errno, mm};
use std::ops::Range;

/// What the first use of a protected page costs the program, in ns.
const FAULT_NS: u64 = 750;
/// Pages of the probe.
const PAGES: usize = 4;

/// The tracker on the running kernel.
pub type Rwp = Exact<Linux>;

/// The running kernel.
pub struct Linux {
    watch: Option<AccessWatch>,
    runs: Vec<PageRun>,
}

impl Kernel for Linux {
    fn name(&self) -> &'static str {
        "rwp"
    }

    fn clock(&self) -> (u64, u64) {
        (now_ns(), thread_cpu_ns())
    }

    fn toll(&self) -> u64 {
        FAULT_NS
    }

    fn begin(&mut self) {}

    fn arm(&mut self, part: &Range<usize>, arena: &Range<usize>) -> Result<(), Errno> {
        let watch = match self.watch.take().filter(AccessWatch::is_open) {
            Some(watch) => watch,
            None => AccessWatch::open()?,
        };
        let watch = self.watch.insert(watch);
        match watch.protect(part.start, part.end) {
            Err(Errno(libc::ENOENT)) => {
                watch.register(arena.start, arena.end).or_else(|_| watch.register(part.start, part.end))?;
                watch.protect(part.start, part.end)
            }
            done => done,
        }
    }

    fn read(&mut self, part: &Range<usize>, each: &mut dyn FnMut(usize, usize, bool)) -> Result<(), Errno> {
        // Without the registration every page would look unused.
        if !self.watch.as_ref().is_some_and(AccessWatch::is_open) {
            return Err(Errno(libc::EBADF));
        }
        accessed(part.start, part.end, &mut self.runs, each)
    }
}

/// Tries read-write protection on pages of our own: used by the program, by the kernel for it, and not at all.
pub fn probe() -> Result<Linux, String> {
    let page = mm::page_bytes();
    if page != PAGE_BYTES {
        return Err(format!("pages are {page} bytes here, it works with {PAGE_BYTES} only"));
    }
    let watch = AccessWatch::open().map_err(why_not)?;
    let test = mm::map(PAGES * page, mm::Access::ReadWrite).map_err(|e| format!("no address space: {e}"))?;
    let mut linux = Linux { watch: Some(watch), runs: vec![PageRun::default(); 512] };
    let result = linux.try_on(test);
    // SAFETY: mapped above, known to nobody else.
    unsafe { mm::unmap(test, PAGES * page) };
    result.map(|()| linux)
}

/// Why there is no userfaultfd with read-write protection.
fn why_not(e: Errno) -> String {
    match e.0 {
        libc::EINVAL => "this kernel's userfaultfd has no asynchronous read-write protection".into(),
        libc::EPERM | libc::EACCES => format!("userfaultfd is forbidden here ({e})"),
        libc::ENOSYS => "this kernel has no userfaultfd".into(),
        _ => format!("userfaultfd: {e}"),
    }
}

impl Linux {
    fn try_on(&mut self, test: usize) -> Result<(), String> {
        // SAFETY: the pages are ours.
        let _ = unsafe { mm::no_huge_pages(test, PAGES * PAGE_BYTES) };
        let at = |i: usize| core::ptr::with_exposed_provenance_mut::<u8>(test + i * PAGE_BYTES);
        for i in 0..PAGES {
            // SAFETY: the page is ours.
            unsafe { at(i).write_volatile(i as u8 + 1) };
        }
        let range = test..test + PAGES * PAGE_BYTES;
        self.arm_own(&range)?;
        if self.seen(&range)? != [false; PAGES] {
            return Err("PAGEMAP_SCAN does not tell protected pages".into());
        }
        // SAFETY: the pages are ours. The kernel lets both uses through: that is what is tried out.
        let kept = unsafe {
            at(0).write_volatile(9);
            at(1).read_volatile()
        };
        if kept != 2 || self.seen(&range)? != [true, true, false, false] {
            return Err("PAGEMAP_SCAN does not tell pages that were used".into());
        }
        self.arm_own(&range)?;
        // SAFETY: the page is ours, aligned, and used by nobody else meanwhile.
        let words = unsafe { core::slice::from_raw_parts_mut(at(2).cast::<u64>(), 8) };
        let read = Words::pagemap().and_then(|file| file.read((test / PAGE_BYTES) as u64, words));
        if read != Ok(8) || self.seen(&range)? != [false, false, true, false] {
            return Err("the kernel cannot use pages that are protected".into());
        }
        Ok(())
    }

    fn arm_own(&mut self, range: &Range<usize>) -> Result<(), String> {
        self.arm(range, range).map_err(|e| format!("UFFDIO_RWPROTECT: {e}"))
    }

    /// Which pages were used; `Err` also if of some nothing is known.
    fn seen(&mut self, range: &Range<usize>) -> Result<[bool; PAGES], String> {
        let mut seen = [None; PAGES];
        self.read(range, &mut |from, to, used| {
            let pages = (from - range.start) / PAGE_BYTES..(to - range.start) / PAGE_BYTES;
            seen[pages].fill(Some(used));
        })
        .map_err(|e| format!("PAGEMAP_SCAN: {e}"))?;
        let known = |page: Option<bool>| page.ok_or("PAGEMAP_SCAN leaves pages out".to_string());
        Ok([known(seen[0])?, known(seen[1])?, known(seen[2])?, known(seen[3])?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_probe_finds_read_write_protection_or_says_why_not() {
        if let Err(why) = probe() {
            eprintln!("no read-write protection on this machine: {why}");
            assert!(!why.is_empty());
        }
    }

    #[test]
    fn each_way_to_have_no_read_write_protection_has_its_reason() {
        for (e, why) in [
            (libc::EINVAL, "no asynchronous read-write protection"),
            (libc::EPERM, "forbidden here (EPERM)"),
            (libc::ENOSYS, "no userfaultfd"),
            (libc::EMFILE, "userfaultfd: errno 24"),
        ] {
            assert!(why_not(Errno(e)).contains(why), "{}", why_not(Errno(e)));
        }
    }
}
