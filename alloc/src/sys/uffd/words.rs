//! Files of the kernel's that are arrays of 64-bit words: page table entries by page (proc_pid_pagemap(5)), page flags by frame (kernel:
//! admin-guide/mm/pagemap) and idle bits, 64 frames a word (admin-guide/mm/idle_page_tracking).
//!
//! Zone: control. Opened for one use and closed. None tells anything to ordinary users: page flags and idle bits are the superuser's files, and
//! pagemap withholds the frame numbers from who has not `CAP_SYS_ADMIN`.

use super::{Errno, Fd, syscall};

/// Such a file, open.
pub struct Words {
    fd: Fd,
}

impl Words {
    /// `/proc/self/pagemap`: word `i` is that of the page at `i * 4096`.
    pub fn pagemap() -> Result<Words, Errno> {
        Fd::open(c"/proc/self/pagemap", libc::O_RDONLY).map(|fd| Words { fd })
    }

    /// `/proc/kpageflags`: word `i` has the flags of frame `i`.
    pub fn page_flags() -> Result<Words, Errno> {
        Fd::open(c"/proc/kpageflags", libc::O_RDONLY).map(|fd| Words { fd })
    }

    /// `/sys/kernel/mm/page_idle/bitmap`: bit `i % 64` of word `i / 64` is that of frame `i`. `ENOENT`: the kernel was built without it.
    pub fn idle_bits() -> Result<Words, Errno> {
        Fd::open(c"/sys/kernel/mm/page_idle/bitmap", libc::O_RDWR).map(|fd| Words { fd })
    }

    /// Reads the words from number `first` on; answers how many there were.
    pub fn read(&self, first: u64, words: &mut [u64]) -> Result<usize, Errno> {
        let mut done = 0;
        while done < words.len() {
            let rest = &mut words[done..];
            let at = (first as usize + done) * 8;
            let args = [self.fd.0, rest.as_mut_ptr().addr(), rest.len() * 8, at, 0, 0];
            // SAFETY: `rest` is writable for its length.
            match Errno::check(unsafe { syscall(libc::SYS_pread64, args) }) {
                Err(Errno(libc::EINTR)) => {}
                Ok(n) if n >= 8 => done += n / 8,
                Err(e) if done == 0 => return Err(e),
                Ok(_) | Err(_) => break,
            }
        }
        Ok(done)
    }

    /// Writes words from number `first` on; answers how many were taken.
    pub fn write(&self, first: u64, words: &[u64]) -> Result<usize, Errno> {
        let mut done = 0;
        while done < words.len() {
            let rest = &words[done..];
            let at = (first as usize + done) * 8;
            let args = [self.fd.0, rest.as_ptr().addr(), rest.len() * 8, at, 0, 0];
            // SAFETY: `rest` is readable for its length.
            match Errno::check(unsafe { syscall(libc::SYS_pwrite64, args) }) {
                Err(Errno(libc::EINTR)) => {}
                Ok(n) if n >= 8 => done += n / 8,
                Err(Errno(libc::ENXIO)) | Ok(_) => break, // beyond the last frame
                Err(e) if done == 0 => return Err(e),
                Err(_) => break,
            }
        }
        Ok(done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::mm;

    #[test]
    fn words_are_read_by_their_number_and_missing_ones_are_none() {
        let page = mm::page_bytes();
        let base = mm::map(4 * page, mm::Access::ReadWrite).unwrap();
        // SAFETY: mapped above.
        unsafe { core::ptr::with_exposed_provenance_mut::<u8>(base + page).write_volatile(1) };
        let mut words = [0; 4];
        let pagemap = Words::pagemap().unwrap();
        assert_eq!(pagemap.read((base / page) as u64, &mut words), Ok(4));
        let present = words.map(|w| w & super::super::PAGEMAP_PRESENT != 0);
        assert_eq!(present, [false, true, false, false]);
        assert_eq!(pagemap.read(u64::MAX >> 13, &mut words), Ok(0), "beyond the address space");
        // SAFETY: mapped above, known to nobody else.
        unsafe { mm::unmap(base, 4 * page) };
    }
}
