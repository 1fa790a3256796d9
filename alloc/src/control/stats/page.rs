//! The page in shared memory: one writer, any number of readers, no lock.
//!
//! Zone: control. Invariants:
//! * Only the process named by the file writes to it, from one thread. A forked child does not inherit the mapping
//!   (`MADV_DONTFORK`): it has a process id, and in time a page, of its own.
//! * The file is created exclusively and without following links, mode 0600, so nobody can make us write elsewhere or
//!   read what is not theirs. It goes with the process: [`remove_at_exit`], or `terrace stat` after a crash.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use super::{StatsSnapshot, WORDS};

const BYTES: usize = 4096;
const MAGIC: u64 = u64::from_le_bytes(*b"TERRACE\0");
/// Changes with the layout; the number of words is beside it, so a reader sees either kind of change.
const VERSION: u64 = 1 | (WORDS as u64) << 32;
const SEQUENCE: usize = 2;
const FIRST: usize = 3;
const _: () = assert!((FIRST + WORDS) * 8 <= BYTES);

/// The process whose page this process has published; 0 = none. Not this process's own id in a forked child.
static PUBLISHED: AtomicU32 = AtomicU32::new(0);

fn path(pid: u32) -> String {
    format!("/dev/shm/terrace-{pid}.stats")
}

/// A mapped page, to publish on or to read from. Unmapped when dropped; the file of a published one is removed too.
#[derive(Debug)]
pub struct StatsPage {
    words: NonNull<AtomicU64>,
    /// The process to publish for; `None` in a reader.
    owner: Option<u32>,
}

// SAFETY: the page is shared memory made of atomics; a mapping belongs to the process, not to a thread.
unsafe impl Send for StatsPage {}

impl StatsPage {
    /// Creates this process's page, all zero. A page left by an earlier process of the same id and user is replaced.
    ///
    /// # Errors
    /// What open(2), ftruncate(2) or mmap(2) say: no /dev/shm, no room in it, a sandbox. The process can do without.
    pub fn create() -> io::Result<Self> {
        let pid = std::process::id();
        let path = path(pid);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        let file = match options.open(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                fs::remove_file(&path)?;
                options.open(&path)?
            }
            other => other?,
        };
        let made = file.set_len(BYTES as u64).and_then(|()| map(&file, libc::PROT_READ | libc::PROT_WRITE));
        let words = made.inspect_err(|_| drop(fs::remove_file(&path)))?;
        let page = Self { words, owner: Some(pid) };
        // SAFETY: the mapping was made just now; it is only advice, so a failure changes nothing that is relied on:
        // `publish` checks the process id as well.
        unsafe { libc::madvise(words.as_ptr().cast(), BYTES, libc::MADV_DONTFORK) };
        page.word(1).store(VERSION, Ordering::Relaxed);
        // The magic comes last: a reader that sees it sees the version.
        page.word(0).store(MAGIC, Ordering::Release);
        PUBLISHED.store(pid, Ordering::Release);
        Ok(page)
    }

    /// Puts `snapshot` on the page. Does nothing in a reader, and in a forked child of the owner.
    pub fn publish(&mut self, snapshot: &StatsSnapshot) {
        if self.owner != Some(std::process::id()) {
            return;
        }
        let sequence = self.word(SEQUENCE).load(Ordering::Relaxed);
        self.word(SEQUENCE).store(sequence.wrapping_add(1) | 1, Ordering::Relaxed);
        // Orders the odd number before the words: a reader that sees a new word sees it odd, or the next even one.
        fence(Ordering::Release);
        for (at, &word) in snapshot.as_words().iter().enumerate() {
            self.word(FIRST + at).store(word, Ordering::Relaxed);
        }
        self.word(SEQUENCE).store((sequence | 1).wrapping_add(1), Ordering::Release);
    }

    /// What process `pid` published last.
    ///
    /// # Errors
    /// * `NotFound`: it publishes no page (or does not exist).
    /// * `PermissionDenied`: it belongs to another user.
    /// * `InvalidData`: the file is no page, or one of another version of Terrace.
    /// * `WouldBlock`: the writer stopped in the middle of a page and stays there, as a stopped process may.
    pub fn read_pid(pid: u32) -> io::Result<StatsSnapshot> {
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(path(pid))?;
        let invalid = |why| io::Error::new(io::ErrorKind::InvalidData, why);
        // Less than a page would be a SIGBUS to touch.
        if file.metadata()?.len() != BYTES as u64 {
            return Err(invalid("not a statistics page"));
        }
        let page = Self { words: map(&file, libc::PROT_READ)?, owner: None };
        match (page.word(0).load(Ordering::Acquire), page.word(1).load(Ordering::Relaxed)) {
            (MAGIC, VERSION) => page.read(),
            (MAGIC, _) => Err(invalid("published by another version of Terrace")),
            _ => Err(invalid("not a statistics page")),
        }
    }

    /// One consistent reading.
    fn read(&self) -> io::Result<StatsSnapshot> {
        const ATTEMPTS: u32 = 10_000;
        for attempt in 0..ATTEMPTS {
            let before = self.word(SEQUENCE).load(Ordering::Acquire);
            if before & 1 == 0 {
                let words = std::array::from_fn(|at| self.word(FIRST + at).load(Ordering::Relaxed));
                fence(Ordering::Acquire);
                if self.word(SEQUENCE).load(Ordering::Relaxed) == before {
                    return Ok(StatsSnapshot::from_words(&words));
                }
            }
            if attempt % 100 == 99 {
                std::thread::sleep(std::time::Duration::from_micros(100));
            }
        }
        Err(io::Error::new(io::ErrorKind::WouldBlock, "the process stopped while it was writing the page"))
    }

    fn word(&self, at: usize) -> &AtomicU64 {
        debug_assert!(at * 8 < BYTES);
        // SAFETY: `at` is below the number of words of a page (a constant, or FIRST plus an index of the snapshot,
        // which the assertion above the type keeps inside), the mapping lives as long as `self`, and all sides of it
        // access it as atomics.
        unsafe { self.words.add(at).as_ref() }
    }
}

impl Drop for StatsPage {
    fn drop(&mut self) {
        let mine = self.owner.is_none_or(|owner| owner == std::process::id());
        if mine {
            // SAFETY: the mapping was made by `map` with this length, and `self` was the only one to use it. A forked
            // child does not have it.
            unsafe { libc::munmap(self.words.as_ptr().cast(), BYTES) };
        }
        if self.owner.is_some() {
            remove_at_exit();
        }
    }
}

/// Removes the page of this process, if it has one; does nothing in a forked child that has none of its own. For the
/// library's destructor: the control thread does not get to run its own.
pub fn remove_at_exit() {
    let pid = std::process::id();
    if PUBLISHED.compare_exchange(pid, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        && let Ok(path) = CString::new(path(pid))
    {
        // SAFETY: a terminated string. Whether it works changes nothing any more.
        unsafe { libc::unlink(path.as_ptr()) };
    }
}

/// Maps the first page of `file`, shared.
fn map(file: &File, protection: i32) -> io::Result<NonNull<AtomicU64>> {
    // SAFETY: a fresh mapping at an address of the kernel's choice replaces nothing.
    let at =
        unsafe { libc::mmap(std::ptr::null_mut(), BYTES, protection, libc::MAP_SHARED, file.as_raw_fd(), 0) };
    if at == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(at.cast()).ok_or_else(|| io::Error::from(io::ErrorKind::OutOfMemory))
}

#[cfg(test)]
mod tests;
