//! Small files and the error stream: open(2), read(2), write(2), abort(3).

use super::{Call, Errno, may_fail, syscall};
use core::ffi::CStr;

/// Reads at most `buf.len()` bytes from the start of `path`.
pub fn read_file(path: &CStr, buf: &mut [u8]) -> Result<usize, Errno> {
    may_fail(Call::Open)?;
    let flags = (libc::O_RDONLY | libc::O_CLOEXEC) as usize;
    let at = libc::AT_FDCWD as usize;
    // SAFETY: `path` is a NUL-terminated string that outlives the call.
    let fd = Errno::check(unsafe { syscall(libc::SYS_openat, [at, path.as_ptr().addr(), flags, 0, 0, 0]) })?;
    let mut filled = 0;
    let result = loop {
        let rest = &mut buf[filled..];
        if rest.is_empty() {
            break Ok(filled);
        }
        // SAFETY: `rest` is writable for its length.
        match Errno::check(unsafe {
            syscall(libc::SYS_read, [fd, rest.as_mut_ptr().addr(), rest.len(), 0, 0, 0])
        }) {
            Ok(0) => break Ok(filled),
            Ok(n) => filled += n,
            Err(Errno(libc::EINTR)) => {}
            Err(e) => break Err(e),
        }
    };
    // SAFETY: `fd` was opened above and is known to nobody else.
    unsafe { syscall(libc::SYS_close, [fd, 0, 0, 0, 0, 0]) };
    result
}

/// Calls `f` with each line of `path`, without its end, as long as it answers `true`; a line longer than `buf` comes in pieces.
pub fn for_each_line(path: &CStr, buf: &mut [u8], f: &mut dyn FnMut(&[u8]) -> bool) {
    let flags = (libc::O_RDONLY | libc::O_CLOEXEC) as usize;
    let at = libc::AT_FDCWD as usize;
    // SAFETY: `path` is a NUL-terminated string that outlives the call.
    let opened = unsafe { syscall(libc::SYS_openat, [at, path.as_ptr().addr(), flags, 0, 0, 0]) };
    let Ok(fd) = Errno::check(opened) else { return };
    let (mut filled, mut more) = (0, true);
    while more {
        // SAFETY: the rest of `buf` is writable for its length.
        let got = Errno::check(unsafe {
            let rest = &mut buf[filled..];
            syscall(libc::SYS_read, [fd, rest.as_mut_ptr().addr(), rest.len(), 0, 0, 0])
        });
        match got {
            Err(Errno(libc::EINTR)) => continue,
            Ok(n) if n > 0 => filled += n,
            _ => break,
        }
        let mut start = 0;
        while let Some(end) = buf[start..filled].iter().position(|&b| b == b'\n') {
            more = more && f(&buf[start..start + end]);
            start += end + 1;
        }
        if start == 0 && filled == buf.len() {
            more = more && f(&buf[..filled]);
            start = filled;
        }
        buf.copy_within(start..filled, 0);
        filled -= start;
    }
    // SAFETY: `fd` was opened above and is known to nobody else.
    unsafe { syscall(libc::SYS_close, [fd, 0, 0, 0, 0, 0]) };
}

/// Fills `bytes` with random ones that the kernel draws (getrandom(2)); `false` if it has none yet or a sandbox forbids it.
#[must_use]
pub fn random(bytes: &mut [u8]) -> bool {
    let (at, len) = (bytes.as_mut_ptr().addr(), bytes.len());
    // SAFETY: `bytes` is writable for its length.
    let got = unsafe { syscall(libc::SYS_getrandom, [at, len, libc::GRND_NONBLOCK as usize, 0, 0, 0]) };
    got == len as isize
}

/// Writes `bytes` to file descriptor 2, ignoring errors.
pub fn write_err(bytes: &[u8]) {
    let mut rest = bytes;
    while !rest.is_empty() {
        // SAFETY: `rest` is readable for its length.
        match Errno::check(unsafe {
            syscall(libc::SYS_write, [2, rest.as_ptr().addr(), rest.len(), 0, 0, 0])
        }) {
            Ok(n) if n > 0 => rest = &rest[n.min(rest.len())..],
            Err(Errno(libc::EINTR)) => {}
            _ => return,
        }
    }
}

/// A line of at most 256 bytes built on the stack; what does not fit is cut.
pub struct Line {
    bytes: [u8; 256],
    len: usize,
}

impl Line {
    /// An empty line.
    #[must_use]
    pub const fn new() -> Self {
        Line { bytes: [0; 256], len: 0 }
    }

    /// What has been written so far.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Default for Line {
    fn default() -> Self {
        Self::new()
    }
}

impl core::fmt::Write for Line {
    fn write_str(&mut self, s: &str) -> core::fmt::Result {
        let n = s.len().min(self.bytes.len() - self.len);
        self.bytes[self.len..self.len + n].copy_from_slice(&s.as_bytes()[..n]);
        self.len += n;
        Ok(())
    }
}

/// Writes one line `terrace: …` to file descriptor 2, without allocating.
pub fn say(args: core::fmt::Arguments<'_>) {
    use core::fmt::Write;
    let mut line = Line::new();
    let _ = writeln!(line, "terrace: {args}");
    if line.len == line.bytes.len() {
        line.bytes[line.len - 1] = b'\n';
    }
    write_err(line.as_bytes());
}

/// Says one line and ends the process with `SIGABRT`: the program has broken the heap's contract.
#[cold]
#[inline(never)]
pub fn die(args: core::fmt::Arguments<'_>) -> ! {
    #[cfg(feature = "model")]
    crate::model::die(args);
    say(args);
    // SAFETY: abort never returns and needs no state of ours.
    unsafe { libc::abort() }
}
