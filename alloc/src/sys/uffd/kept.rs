//! Descriptors that stay open for a while, and what is read through one.
//!
//! Zone: control.

use super::{Errno, Fd, syscall};
use core::mem::ManuallyDrop;

/// A descriptor that stays open. A program may close descriptors that it did not open (closefrom(3)) and get the number for a file of its
/// own; so it is looked at again before it is used or closed.
pub(super) struct Kept {
    fd: ManuallyDrop<Fd>,
    file: (u64, u64),
}

impl Kept {
    pub(super) fn new(fd: Fd) -> Result<Kept, Errno> {
        let file = fd.file()?;
        Ok(Kept { fd: ManuallyDrop::new(fd), file })
    }

    /// The descriptor, while it is still that of the same file; else `EBADF`.
    pub(super) fn get(&self) -> Result<&Fd, Errno> {
        if self.fd.file() == Ok(self.file) { Ok(&self.fd) } else { Err(Errno(libc::EBADF)) }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if self.get().is_ok() {
            // SAFETY: this is its last use.
            unsafe { ManuallyDrop::drop(&mut self.fd) };
        }
    }
}

/// `/proc/self/smaps`, open: the kernel looks at the page tables of each mapping when it is read, not before.
pub struct Smaps {
    fd: Kept,
}

impl Smaps {
    /// Opens it, to read from the first mapping on.
    pub fn open() -> Result<Smaps, Errno> {
        Ok(Smaps { fd: Kept::new(Fd::open(c"/proc/self/smaps", libc::O_RDONLY)?)? })
    }

    /// Whether the descriptor is still that of this file.
    pub fn is_open(&self) -> bool {
        self.fd.get().is_ok()
    }

    /// Reads on; the kernel gives some 4 KiB a call, about five mappings. 0 bytes = the end.
    pub fn read(&mut self, buf: &mut [u8]) -> Result<usize, Errno> {
        loop {
            let args = [self.fd.fd.0, buf.as_mut_ptr().addr(), buf.len(), 0, 0, 0];
            // SAFETY: `buf` is writable for its length.
            match Errno::check(unsafe { syscall(libc::SYS_read, args) }) {
                Err(Errno(libc::EINTR)) => {}
                done => return done,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_that_the_program_took_is_neither_read_nor_closed() {
        let smaps = Smaps::open().unwrap();
        assert!(smaps.is_open());
        let number = smaps.fd.fd.0 as i32;
        let own = std::fs::File::open("/proc/self/status").unwrap();
        // SAFETY: the number is the test's to give to another file.
        assert_eq!(unsafe { libc::dup2(std::os::fd::AsRawFd::as_raw_fd(&own), number) }, number);
        assert!(!smaps.is_open());
        drop(smaps);
        // SAFETY: asks about a descriptor, and closes what was duplicated above.
        unsafe {
            assert!(libc::fcntl(number, libc::F_GETFD) >= 0, "it is the program's now");
            libc::close(number);
        }
    }
}
