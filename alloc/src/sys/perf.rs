//! Samples of this process's own accesses, with their addresses (perf_event_open(2)).
//!
//! Zone: control. A [`Stream`] is one event on one thread and the ring of records that the kernel writes for it. Its descriptors are closed
//! as soon as the rings are mapped: a mapping keeps its event alive until it is unmapped, so a program that closes every descriptor
//! cannot make us read or close a file of its own, and none of its numbers is used up. (What is given up is ioctl(2): to change the period
//! an event is opened anew.) The kernel does not let a forked child inherit such a mapping (`VM_DONTCOPY`), and events are not inherited
//! unless that is asked for.

use super::uffd::Fd;
use super::{Call, Errno, may_fail, mm, syscall};
use crate::arch::cache;
use core::sync::atomic::{AtomicU64, Ordering};

/// Pages of a ring, a power of two: a thousand samples of an address each.
const RING_PAGES: usize = 4;
/// Offsets in the page before the ring (`perf_event_mmap_page`): one past the last byte written, and one past the last one read.
const HEAD: usize = 1024;
const TAIL: usize = 1032;

const EXCLUDE_KERNEL: u64 = 1 << 5;
const EXCLUDE_HYPERVISOR: u64 = 1 << 6;
const PRECISE: u32 = 15;
const CLOEXEC: usize = 1 << 3;
/// In a sample: the data address, and where the data came from.
const SAMPLE_ADDRESS: u64 = 1 << 3;
const SAMPLE_SOURCE: u64 = 1 << 15;

/// What is to be sampled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// Number of the unit that counts.
    pub unit: u32,
    /// `config`, `config1` and `config2`.
    pub config: [u64; 3],
    /// Whether to leave out the kernel, which an ordinary user may not look at.
    pub user_only: bool,
    /// How exactly the instruction is to be known, 0 to 3. Addresses of loads need at least 1 on Intel's.
    pub precise: u8,
    /// Whether samples tell where the data came from.
    pub source: bool,
}

/// `perf_event_attr` as it was in its second version (Linux 2.6.33), which every kernel takes.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    unit: u32,
    size: u32,
    config: u64,
    period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_events: u32,
    breakpoint: u32,
    config1: u64,
    config2: u64,
}

/// `period` = 0: the event is only counted.
fn open(event: &Event, thread: u32, period: u64, leader: Option<&Fd>) -> Result<Fd, Errno> {
    may_fail(Call::Open)?;
    let mut attributes = Attributes {
        unit: event.unit,
        size: size_of::<Attributes>() as u32,
        config: event.config[0],
        config1: event.config[1],
        config2: event.config[2],
        ..Attributes::default()
    };
    if event.user_only {
        attributes.flags |= EXCLUDE_KERNEL | EXCLUDE_HYPERVISOR;
    }
    if period > 0 {
        attributes.period = period;
        attributes.sample_type = SAMPLE_ADDRESS | if event.source { SAMPLE_SOURCE } else { 0 };
        attributes.flags |= u64::from(event.precise & 3) << PRECISE;
        // Nobody waits for the ring, but this also has each sample written when it is taken: Intel's otherwise come when some hundreds have
        // gathered, or the thread sleeps.
        attributes.wakeup_events = 1 << 30;
    }
    let group = leader.map_or(usize::MAX, |fd| fd.0);
    let args = [(&raw const attributes).addr(), thread as usize, usize::MAX, group, CLOEXEC, 0];
    // SAFETY: the structure is live, and as large as it says; the call only makes a descriptor.
    Errno::check(unsafe { syscall(libc::SYS_perf_event_open, args) }).map(Fd)
}

/// The mapping of an event.
struct Mapping {
    at: usize,
    bytes: usize,
}

impl Mapping {
    fn new(event: &Fd, pages: usize) -> Result<Mapping, Errno> {
        may_fail(Call::Map)?;
        let bytes = (1 + pages) * mm::page_bytes();
        // Writable: the kernel keeps what was not read yet only where it can be told what was.
        let access = (libc::PROT_READ | libc::PROT_WRITE) as usize;
        let args = [0, bytes, access, libc::MAP_SHARED as usize, event.0, 0];
        // SAFETY: a fresh mapping at an address the kernel chooses touches no existing memory.
        let at = Errno::check(unsafe { syscall(libc::SYS_mmap, args) })?;
        Ok(Mapping { at, bytes })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped by this value, which nobody uses again.
        unsafe { mm::unmap(self.at, self.bytes) };
    }
}

/// One event on one thread, wherever it runs.
pub struct Stream {
    ring: Mapping,
    /// Of the event that must be counted beside it.
    _leader: Option<Mapping>,
}

impl Stream {
    /// Samples every `period`-th event of `thread` (0: the caller). Some need another event to be counted at the same time.
    ///
    /// Fails with `ESRCH` when the thread has ended, `EACCES` where `kernel.perf_event_paranoid` forbids it, `ENOENT` or `EOPNOTSUPP` where
    /// the processor cannot, `EPERM` when the user's processes have locked enough memory for rings (`kernel.perf_event_mlock_kb`), or a
    /// sandbox forbids it.
    pub fn open(event: &Event, beside: Option<&Event>, thread: u32, period: u64) -> Result<Stream, Errno> {
        let mut lead = None;
        if let Some(other) = beside {
            let fd = open(other, thread, 0, None)?;
            lead = Some((Mapping::new(&fd, 0)?, fd));
        }
        let fd = open(event, thread, period, lead.as_ref().map(|(_, fd)| fd))?;
        let ring = Mapping::new(&fd, RING_PAGES)?;
        Ok(Stream { ring, _leader: lead.map(|(mapping, _)| mapping) })
    }

    /// Bytes of a ring, the most that [`Stream::take`] copies.
    #[must_use]
    pub fn ring_bytes() -> usize {
        RING_PAGES * mm::page_bytes()
    }

    /// Copies the records that were written since the last call, and leaves their place to the kernel; `None` if what it says cannot be.
    /// `out` has room for [`Stream::ring_bytes`].
    pub fn take(&mut self, out: &mut [u8]) -> Option<usize> {
        let data = self.ring.at + mm::page_bytes();
        // SAFETY: the mapping is live as long as this value: a header page, then the ring.
        unsafe { take(self.ring.at, data, Stream::ring_bytes(), out) }
    }
}

/// # Safety
/// * `header` is a mapped, page-aligned header; `data` is mapped for `size`, a power of two.
/// * Nobody but the kernel writes to either, and this is the only reader.
unsafe fn take(header: usize, data: usize, size: usize, out: &mut [u8]) -> Option<usize> {
    // SAFETY: both words are mapped, aligned, and only used as atomics here; the kernel writes the one and reads the other.
    let (head, tail) = unsafe {
        let word = |at: usize| &*core::ptr::with_exposed_provenance::<AtomicU64>(header + at);
        (word(HEAD), word(TAIL))
    };
    // Acquire: the records were written before the head was. Release: they were copied before their place is given away.
    let (to, from) = (head.load(Ordering::Acquire), tail.load(Ordering::Relaxed));
    let length = usize::try_from(to.wrapping_sub(from)).ok().filter(|&n| n <= size && n <= out.len());
    if let Some(length) = length {
        let start = from as usize & (size - 1);
        let first = length.min(size - start);
        // SAFETY: between tail and head the kernel does not write; both parts lie in the ring, and `out` has room for them.
        unsafe {
            let part = |at: usize| core::ptr::with_exposed_provenance::<u8>(data + at);
            core::ptr::copy_nonoverlapping(part(start), out.as_mut_ptr(), first);
            core::ptr::copy_nonoverlapping(part(0), out.as_mut_ptr().add(first), length - first);
        }
    }
    tail.store(to, Ordering::Release);
    length
}

/// The calling thread's number (gettid(2)).
#[must_use]
pub fn thread_id() -> u32 {
    // SAFETY: asks for a number.
    unsafe { syscall(libc::SYS_gettid, [0; 6]) as u32 }
}

/// Reads each cache line of `[start, start + bytes)` once, from memory: what caches have of it is dropped before. In an order that no prefetcher foresees; `bytes` is a power of two, at least 256 KiB.
///
/// # Safety
/// * The range is mapped readable, and nobody writes to it meanwhile.
pub unsafe fn read_from_memory(start: usize, bytes: usize) {
    const LINE: usize = 64;
    let lines = bytes / LINE;
    // Odd, so that every line has its turn.
    let line = |i: usize| start + i.wrapping_mul(2053) % lines * LINE;
    for i in 0..lines {
        // SAFETY: the line is mapped.
        unsafe { cache::flush(core::ptr::with_exposed_provenance(line(i))) };
    }
    cache::settle();
    for i in 0..lines {
        // SAFETY: the line is readable.
        unsafe { core::ptr::with_exposed_provenance::<u64>(line(i)).read_volatile() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: usize = 4096;

    /// A header and a ring in plain memory, of which byte `i` is `i` modulo 251.
    struct Played(Vec<u64>);

    impl Played {
        fn new() -> Played {
            let mut bytes = vec![0u8; 4096];
            bytes.extend((0..SIZE).map(|i| (i % 251) as u8));
            let word = |c: &[u8]| u64::from_ne_bytes(c.try_into().unwrap());
            Played(bytes.chunks_exact(8).map(word).collect())
        }

        fn take(&mut self, head: u64, out: &mut [u8]) -> Option<usize> {
            self.0[HEAD / 8] = head;
            let at = self.0.as_mut_ptr().expose_provenance();
            // SAFETY: the vector is both, and nobody else has it.
            unsafe { take(at, at + 4096, SIZE, out) }
        }

        fn tail(&self) -> u64 {
            self.0[TAIL / 8]
        }
    }

    #[test]
    fn what_was_written_is_copied_across_the_rings_end_and_its_place_given_back() {
        let (mut ring, mut out) = (Played::new(), vec![0; SIZE]);
        assert_eq!(ring.take(0, &mut out), Some(0));
        assert_eq!(ring.take(4000, &mut out), Some(4000));
        assert!(out[..4000].iter().enumerate().all(|(i, &b)| b == (i % 251) as u8));
        assert_eq!(ring.tail(), 4000);
        assert_eq!(ring.take(4000 + 200, &mut out), Some(200));
        assert!(
            (0..200).all(|i| out[i] == ((4000 + i) % SIZE % 251) as u8),
            "96 at the end, the others at the start"
        );
        assert_eq!(ring.tail(), 4200);
        assert_eq!(ring.take(4200 + SIZE as u64, &mut out), Some(SIZE), "a full ring");
    }

    #[test]
    fn a_head_that_cannot_be_is_not_believed_and_the_next_is() {
        let (mut ring, mut out) = (Played::new(), vec![7; 2 * SIZE]);
        assert_eq!(ring.take(SIZE as u64 + 8, &mut out), None);
        assert_eq!(ring.tail(), SIZE as u64 + 8);
        assert_eq!(ring.take(8, &mut out), None, "nor one that went back");
        assert!(out.iter().all(|&b| b == 7));
        assert_eq!(ring.take(24, &mut out), Some(16));
        assert_eq!(ring.take(48, &mut [0; 8]), None, "more than there is room for");
    }

    #[test]
    fn the_attributes_are_as_long_as_the_kernel_expects() {
        assert_eq!(size_of::<Attributes>(), 72);
    }

    #[test]
    fn an_event_that_no_unit_has_is_an_error() {
        let none = Event { unit: u32::MAX - 1, user_only: true, ..Event::default() };
        assert!(Stream::open(&none, None, 0, 1000).is_err());
        assert!(thread_id() > 0);
    }

    #[test]
    fn a_forked_child_has_no_ring() {
        // Page faults of this thread.
        let event = Event { unit: 1, config: [2, 0, 0], user_only: true, ..Event::default() };
        let stream = match Stream::open(&event, Some(&event), 0, 1) {
            Ok(stream) => stream,
            Err(e) => return eprintln!("skipped: no samples to be had ({e})"),
        };
        let is_mapped = || mm::is_mapped(stream.ring.at, 8);
        assert!(is_mapped());
        // SAFETY: the child makes two system calls, and never returns.
        let child = unsafe { libc::fork() };
        if child == 0 {
            // SAFETY: ends the child.
            unsafe { libc::_exit(i32::from(is_mapped())) };
        }
        let mut status = -1;
        // SAFETY: waits for the child made above.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0, "{status:#x}");
    }

    #[test]
    fn memory_that_is_read_past_the_caches_stays_as_it_is() {
        let bytes = 256 << 10;
        let at = mm::map(bytes, mm::Access::ReadWrite).unwrap();
        // SAFETY: mapped one line above, and this test's alone.
        unsafe {
            core::ptr::with_exposed_provenance_mut::<u8>(at + 77).write_volatile(9);
            read_from_memory(at, bytes);
            assert_eq!(core::ptr::with_exposed_provenance::<u8>(at + 77).read_volatile(), 9);
            mm::unmap(at, bytes);
        }
    }
}
