//! The table that a workload shares with its observer (`workloads/tier.h`), seen from outside.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// What the program writes first when its heap is filled.
const MAGIC: u64 = 0x7265_6974;

/// Words before the objects, and words of each.
const HEADER_WORDS: usize = 10;
const OBJECT_WORDS: usize = 3;
const DEPARTURE_WORDS: usize = 4;

/// Objects that a table has room for.
const MOST_OBJECTS: usize = 1 << 20;

/// Departures that the ring has room for.
const MOST_DEPARTURES: usize = 1 << 17;

/// Where the ring begins.
const DEPARTURES: usize = HEADER_WORDS + OBJECT_WORDS * MOST_OBJECTS;

const WORDS: usize = DEPARTURES + DEPARTURE_WORDS * MOST_DEPARTURES;

/// Bytes of the file, in whole huge pages: where it may have them, it takes no DRAM and nobody moves it.
const BYTES: usize = (WORDS * 8).next_multiple_of(2 << 20);

/// A workload's table, mapped.
///
/// Invariant: `words` points to [`WORDS`] words of a shared mapping of [`BYTES`] that lives as long as this value and is only accessed atomically,
/// by both sides.
pub struct Table {
    words: *mut AtomicU64,
}

/// One object as the program describes it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Object {
    /// Where it is; 0 while there is none.
    pub address: usize,
    /// Bytes.
    pub bytes: usize,
    /// Accesses so far, of all blocks that ever were this object.
    pub accesses: u64,
}

/// A block that an object has left for another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Departure {
    /// The object's number.
    pub object: usize,
    /// The block as it was, and the object's accesses up to then.
    pub from: Object,
}

impl Table {
    /// Maps the table in `file`, which the program makes.
    ///
    /// # Errors
    /// `NotFound` or `UnexpectedEof` while it is not there in full; whatever mmap(2) says.
    pub fn open(file: &Path) -> io::Result<Table> {
        let file = File::options().read(true).write(true).open(file)?;
        if file.metadata()?.len() < BYTES as u64 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping of a file that is long enough.
        let base = unsafe {
            libc::mmap(std::ptr::null_mut(), BYTES, protection, libc::MAP_SHARED, file.as_raw_fd(), 0)
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Table { words: base.cast() })
    }

    fn word(&self, index: usize) -> &AtomicU64 {
        assert!(index < WORDS);
        // SAFETY: the index is within the mapping, by the invariant and the line above.
        unsafe { &*self.words.add(index) }
    }

    /// Whether the heap is filled and the accesses have begun.
    pub fn is_ready(&self) -> bool {
        self.word(0).load(Ordering::Acquire) == MAGIC
    }

    /// How many objects there are.
    pub fn objects(&self) -> usize {
        (self.word(1).load(Ordering::Acquire) as usize).min(MOST_OBJECTS)
    }

    /// All accesses so far.
    pub fn accesses(&self) -> u64 {
        self.word(2).load(Ordering::Relaxed)
    }

    /// The phase that the program is in.
    pub fn phase(&self) -> u64 {
        self.word(3).load(Ordering::Acquire)
    }

    /// Asks for phase `phase`.
    pub fn ask_for_phase(&self, phase: u64) {
        self.word(4).store(phase, Ordering::Release);
    }

    /// Asks the program to check its objects and end.
    pub fn ask_to_end(&self) {
        self.word(5).store(1, Ordering::Release);
    }

    /// Objects that were found right and wrong when the program ended.
    pub fn verdict(&self) -> (u64, u64) {
        (self.word(6).load(Ordering::Acquire), self.word(7).load(Ordering::Acquire))
    }

    /// Object number `i`.
    pub fn object(&self, i: usize) -> Object {
        let at = HEADER_WORDS + OBJECT_WORDS * i;
        let word = |n: usize| self.word(at + n).load(Ordering::Relaxed);
        Object { address: word(0) as usize, bytes: word(1) as usize, accesses: word(2) }
    }

    /// Tells of the departures that nobody has heard of yet, in order; whether the ring was full, so that some may be missing.
    pub fn departures(&self, tell: &mut dyn FnMut(Departure)) -> bool {
        let [departed, heard] = [8, 9].map(|n| self.word(n));
        let (first, next) = (heard.load(Ordering::Relaxed), departed.load(Ordering::Acquire));
        for i in first..next {
            let at = DEPARTURES + DEPARTURE_WORDS * (i as usize % MOST_DEPARTURES);
            let word = |n: usize| self.word(at + n).load(Ordering::Relaxed);
            let from = Object { address: word(1) as usize, bytes: word(2) as usize, accesses: word(3) };
            tell(Departure { object: word(0) as usize, from });
        }
        heard.store(next, Ordering::Release);
        next - first >= MOST_DEPARTURES as u64
    }
}

#[cfg(test)]
impl Table {
    /// One without a program: the test plays that.
    pub(crate) fn for_test() -> Table {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping of zeroed memory.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), BYTES, protection, flags, -1, 0) };
        assert_ne!(base, libc::MAP_FAILED);
        Table { words: base.cast() }
    }

    fn write(&self, at: usize, words: &[u64]) {
        words.iter().enumerate().for_each(|(i, &word)| self.word(at + i).store(word, Ordering::Relaxed));
    }

    /// Object number `i` is this now.
    pub(crate) fn put(&self, i: usize, object: Object) {
        let words = [object.address as u64, object.bytes as u64, object.accesses];
        self.write(HEADER_WORDS + OBJECT_WORDS * i, &words);
        self.word(1).fetch_max(i as u64 + 1, Ordering::Release);
    }

    /// Object number `i` has left this block.
    pub(crate) fn depart(&self, i: usize, from: Object) {
        let departed = self.word(8).load(Ordering::Relaxed);
        let at = DEPARTURES + DEPARTURE_WORDS * (departed as usize % MOST_DEPARTURES);
        self.write(at, &[i as u64, from.address as u64, from.bytes as u64, from.accesses]);
        self.word(8).store(departed + 1, Ordering::Release);
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours by the invariant, and no reference to it outlives `self`.
        unsafe { libc::munmap(self.words.cast(), BYTES) };
    }
}
