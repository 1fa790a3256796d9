//! Metadata memory: out of band, in DRAM, never returned.
//!
//! Owns the chunks that slab headers and thread heaps live in, and the cdylib's own Rust allocations ([`MetaAlloc`]). Zone: cold
//! and control. Blocks are cut from chunks mapped for metadata alone, so that a wild write through an application pointer is
//! far from them (and inaccessible pages stand between), and scanning them never makes application data look hot. Freed blocks go on a list of their size; memory
//! handed out is never unmapped, so a stale pointer to a header reads a header.

use crate::arch::slot;
use crate::sync::Lock;
use crate::sys::futex;
use crate::sys::mm::{self, Access};
use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::ffi::c_void;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

/// Grain of headers: a cache line.
const LINE: usize = 64;
/// Grain of Rust allocations: crossbeam's thread records are aligned to two lines, and each call into its collector makes one.
const TWO_LINES: usize = 128;
/// Headers of up to 6 KiB: that of a hardened slab of the smallest blocks is 5.7 KiB.
const LISTS: usize = 96;
const CHUNK: usize = 1 << 20;
/// Chunks are opened one after the other in a reserved range of this size, whose first and last page stay inaccessible: a run of writes
/// from a neighbouring mapping faults before it reaches metadata. One system call more than without, for every seven chunks.
const AREA: usize = 8 << 20;
/// Past this a Rust block is a mapping of its own.
const MAX_POOLED: usize = TWO_LINES * LISTS;

static MAPPED: AtomicUsize = AtomicUsize::new(0);

/// Bytes mapped for metadata so far.
pub(crate) fn mapped_bytes() -> usize {
    MAPPED.load(Ordering::Relaxed)
}

/// Counts `bytes` of tables mapped elsewhere as metadata.
pub(crate) fn count_mapped(bytes: usize) {
    MAPPED.fetch_add(bytes, Ordering::Relaxed);
}

/// A pool of metadata blocks: a bump pointer and one free list for each multiple of the grain, up to [`LISTS`] times that.
///
/// Invariant: every address on `free[i]` was cut for exactly `(i + 1) * GRAIN` bytes and is on no other list.
struct Pool<const GRAIN: usize> {
    bump: usize,
    /// Where what is accessible ends, and where what is reserved does, less the guard.
    end: usize,
    limit: usize,
    free: [usize; LISTS],
    /// What to cut from, once, when the system has nothing.
    reserve: Option<&'static Reserve>,
}

/// Memory of the library's own image: never touched, it costs nothing.
#[repr(align(128))]
struct Reserve(UnsafeCell<[u8; RESERVE]>);

const RESERVE: usize = 64 << 10;

// SAFETY: only its address is taken, by the one pool that has it, which hands each part out once.
unsafe impl Sync for Reserve {}

impl<const GRAIN: usize> Pool<GRAIN> {
    const fn new(reserve: Option<&'static Reserve>) -> Self {
        Pool { bump: 0, end: 0, limit: 0, free: [0; LISTS], reserve }
    }

    /// A block of at least `bytes` bytes, aligned to the grain, contents unspecified if reused.
    fn take(&mut self, bytes: usize) -> Option<NonNull<u8>> {
        let units = bytes.div_ceil(GRAIN).max(1);
        if let Some(head) = self.free.get_mut(units - 1)
            && *head != 0
        {
            let block = ptr::with_exposed_provenance_mut::<usize>(*head);
            // SAFETY: a listed block is ours, aligned to the grain, and its first word holds the next link.
            *head = unsafe { block.read() };
            return NonNull::new(block.cast());
        }
        let bytes = units * GRAIN;
        if self.end - self.bump < bytes {
            self.grow(bytes)?;
        }
        let at = self.bump;
        self.bump += bytes;
        NonNull::new(ptr::with_exposed_provenance_mut(at))
    }

    /// Makes room for `bytes` bytes at `bump`.
    fn grow(&mut self, bytes: usize) -> Option<()> {
        let page = mm::page_bytes();
        let missing = (bytes - (self.end - self.bump)).next_multiple_of(page);
        if missing <= self.limit - self.end {
            let more = CHUNK.max(missing).min(self.limit - self.end);
            // SAFETY: the range is reserved for this pool, and nobody uses it yet.
            if unsafe { mm::protect(self.end, more, Access::ReadWrite) }.is_ok() {
                count_mapped(more);
                self.end += more;
                return Some(());
            }
        }
        let want = CHUNK.max(bytes.next_multiple_of(page));
        for area in [AREA.max(want + 2 * page), want + 2 * page] {
            let Ok(at) = mm::map(area, Access::None) else { continue };
            // SAFETY: the range was reserved one line above.
            if unsafe { mm::protect(at + page, want, Access::ReadWrite) }.is_ok() {
                count_mapped(want);
                (self.bump, self.end, self.limit) = (at + page, at + page + want, at + area - page);
                return Some(());
            }
            // SAFETY: as above; nobody knows of it.
            unsafe { mm::unmap(at, area) };
        }
        // Little address space left (RLIMIT_AS): what this block needs, without guards.
        let small = bytes.next_multiple_of(16 * page);
        if let Ok(at) = mm::map(small, Access::ReadWrite) {
            count_mapped(small);
            (self.bump, self.end, self.limit) = (at, at + small, at + small);
            return Some(());
        }
        let at = self.reserve.take_if(|_| bytes <= RESERVE)?.0.get().expose_provenance();
        (self.bump, self.end, self.limit) = (at, at + RESERVE, at + RESERVE);
        Some(())
    }

    /// Takes back a block of `bytes` bytes.
    ///
    /// # Safety
    /// * `block` came from [`Pool::take`] with the same `bytes`, at most [`LISTS`] grains, and nobody uses it again.
    unsafe fn give(&mut self, block: NonNull<u8>, bytes: usize) {
        let head = &mut self.free[bytes.div_ceil(GRAIN).max(1) - 1];
        // SAFETY: the block is ours again and holds at least one word.
        unsafe { block.cast::<usize>().write(*head) };
        *head = block.as_ptr().expose_provenance();
    }
}

static HEADERS: Lock<Pool<LINE>> = Lock::new(Pool::new(None));
/// A heap without headers answers null, which the application knows what to do with; Rust's collections end the process instead. So what
/// little they need in an application's thread (a copy of the table of tiers, a thread's start) is there when nothing else is.
static RUST: Lock<Pool<TWO_LINES>> = Lock::new(Pool::new(Some(&IN_NEED)));
static IN_NEED: Reserve = Reserve(UnsafeCell::new([0; RESERVE]));
/// The slot's value of the thread that waits for memory rather than be told that there is none; 0 = none.
static PATIENT: AtomicUsize = AtomicUsize::new(0);
/// How long it waits between two tries, in ms.
const PATIENCE_MS: u64 = 50;

/// Says that threads with this value in their slot wait for memory: the control thread, which nobody waits for, and whose Rust code
/// would end the process.
pub(crate) fn wait_in_threads_with(slot: *mut c_void) {
    PATIENT.store(slot.addr(), Ordering::Relaxed);
}

/// Whether the caller, which was refused memory, is to try again; then some time has passed.
fn may_retry() -> bool {
    let patient = slot::get().addr() == PATIENT.load(Ordering::Relaxed);
    if patient {
        let never = AtomicU32::new(0);
        futex::wait_for(&never, 0, PATIENCE_MS);
    }
    patient
}

/// A zero-filled metadata block of `bytes` bytes, 64-byte aligned.
pub(crate) fn take_zeroed(bytes: usize) -> Option<NonNull<u8>> {
    let block = HEADERS.lock().take(bytes)?;
    // SAFETY: the block has at least `bytes` bytes and is ours alone.
    unsafe { block.as_ptr().write_bytes(0, bytes) };
    Some(block)
}

/// Gives a metadata block back.
///
/// # Safety
/// * `block` came from [`take_zeroed`] with the same `bytes`, at most 6 KiB, and nobody writes to it again.
pub(crate) unsafe fn give(block: NonNull<u8>, bytes: usize) {
    #[cfg(feature = "model")]
    if let Some(hooks) = crate::model::hooks() {
        // Kept out of use, so that whoever touches it after this is found out, however late.
        return (hooks.gone)(block.as_ptr().addr(), bytes);
    }
    // SAFETY: passed on from the caller.
    unsafe { HEADERS.lock().give(block, bytes) };
}

/// As [`give`], between two runs of a model, when nobody is left who could touch the block.
///
/// # Safety
/// * As for [`give`].
#[cfg(feature = "model")]
pub(crate) unsafe fn recycle(block: NonNull<u8>, bytes: usize) {
    // SAFETY: passed on from the caller.
    unsafe { HEADERS.lock().give(block, bytes) };
}

/// The lock of both pools, for fork handlers.
pub(crate) fn lock_for_fork() {
    HEADERS.acquire();
    RUST.acquire();
}

/// Unlocks after fork in the parent.
///
/// # Safety
/// * This thread called [`lock_for_fork`].
pub(crate) unsafe fn unlock_after_fork() {
    // SAFETY: both locks are held by this thread.
    unsafe {
        RUST.release();
        HEADERS.release();
    }
}

/// Unlocks after fork in the child.
///
/// # Safety
/// * This is the only thread of the process.
pub(crate) unsafe fn reset_after_fork() {
    // SAFETY: no other thread exists.
    unsafe {
        RUST.reset();
        HEADERS.reset();
    }
}

/// The allocator for Rust code inside `libterrace.so`: control-plane allocations come from metadata memory, so they
/// neither recurse into `malloc` nor count as the application's.
///
/// Thread-safe; fork-safe through the library's fork handlers.
pub struct MetaAlloc;

// SAFETY: blocks come from the locked pool or from mappings of their own; sizes are derived from the layout the same way on
// both sides; alignment up to 128 is the pool's grain and up to a page that of a mapping.
unsafe impl GlobalAlloc for MetaAlloc {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.align() > mm::page_bytes() {
            return ptr::null_mut();
        }
        loop {
            let block = if layout.size() > MAX_POOLED || layout.align() > TWO_LINES {
                mm::map(layout.size(), Access::ReadWrite)
                    .map_or(ptr::null_mut(), ptr::with_exposed_provenance_mut)
            } else {
                RUST.lock().take(layout.size()).map_or(ptr::null_mut(), NonNull::as_ptr)
            };
            if !block.is_null() || !may_retry() {
                return block;
            }
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if layout.size() > MAX_POOLED || layout.align() > TWO_LINES {
            // SAFETY: `alloc` mapped this block for itself, and GlobalAlloc's contract says it is unused now.
            unsafe { mm::unmap(block.expose_provenance(), layout.size()) };
            return;
        }
        if let Some(block) = NonNull::new(block) {
            // SAFETY: `alloc` took it from this pool with the same layout.
            unsafe { RUST.lock().give(block, layout.size()) };
        }
    }
}

/// What stands before a block that the control thread allocated through a handle of the program's ([`take_own`]): such a block may be freed
/// by any thread and through any door, and must be told from others there.
#[repr(C)]
#[derive(Clone, Copy)]
struct Seal {
    bytes: usize,
    align: usize,
    /// The block's address, mixed.
    mark: usize,
    _pad: usize,
}

const SEAL_BYTES: usize = size_of::<Seal>();

fn mark_of(addr: usize) -> usize {
    addr.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x7e44_ace5_ea1e_d0e5
}

impl Seal {
    /// The layout of the whole block, and where in it the application's part begins.
    fn layout(bytes: usize, align: usize) -> Option<(Layout, usize)> {
        let offset = align.max(SEAL_BYTES);
        Some((
            Layout::from_size_align(bytes.checked_add(offset)?, align.max(align_of::<Seal>())).ok()?,
            offset,
        ))
    }

    /// The seal before `block`, if there is one.
    fn of(block: *mut u8) -> Option<Seal> {
        let at = block.addr().checked_sub(SEAL_BYTES)?;
        // A block under a seal is a multiple of its size, so the seal lies in one page. Others' blocks may begin right behind a guard.
        if !block.addr().is_multiple_of(SEAL_BYTES) || !mm::is_mapped(at, SEAL_BYTES) || !mm::is_readable(at)
        {
            return None;
        }
        // SAFETY: the words are mapped, aligned and readable.
        let seal = unsafe { ptr::with_exposed_provenance::<Seal>(at).read_volatile() };
        (seal.mark == mark_of(block.addr())).then_some(seal)
    }
}

/// Memory for the control thread's own data, where the program's allocator is asked for it; null if there is none.
pub(crate) fn take_own(layout: Layout, zero: bool) -> *mut u8 {
    let Some((whole, offset)) = Seal::layout(layout.size(), layout.align().max(16)) else {
        return ptr::null_mut();
    };
    // SAFETY: the layout is not empty: it has room for the seal.
    let base = unsafe { if zero { MetaAlloc.alloc_zeroed(whole) } else { MetaAlloc.alloc(whole) } };
    if base.is_null() {
        return base;
    }
    // SAFETY: `offset` is within the block, at least the seal's size, and a multiple of both alignments.
    unsafe {
        let block = base.add(offset);
        let mark = mark_of(block.expose_provenance());
        block.cast::<Seal>().sub(1).write(Seal {
            bytes: layout.size(),
            align: layout.align().max(16),
            mark,
            _pad: 0,
        });
        block
    }
}

/// Bytes of a block of [`take_own`]; `None` for any other pointer.
pub(crate) fn own_bytes(block: *mut u8) -> Option<usize> {
    Seal::of(block).map(|seal| seal.bytes)
}

/// Gives back a block of [`take_own`]; `false` if it is none.
///
/// # Safety
/// * Nobody uses the block again, if it is one.
pub(crate) unsafe fn give_own(block: *mut u8) -> bool {
    let Some(seal) = Seal::of(block) else { return false };
    let Some((whole, offset)) = Seal::layout(seal.bytes, seal.align) else { return false };
    // SAFETY: the seal says that `take_own` allocated it with this layout; broken, it is none any more.
    unsafe {
        block.cast::<Seal>().sub(1).write(Seal { bytes: 0, align: 0, mark: 0, _pad: 0 });
        MetaAlloc.dealloc(block.sub(offset), whole);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_do_not_overlap_and_are_reused() {
        let mut blocks: Vec<NonNull<u8>> =
            (0..100).map(|i| take_zeroed(64 * (1 + i % 20)).unwrap()).collect();
        blocks.sort();
        for (i, pair) in blocks.windows(2).enumerate() {
            assert!(pair[1].addr().get() - pair[0].addr().get() >= 64, "{i}");
        }
        let mut pool = Pool::<LINE>::new(None);
        let block = pool.take(700).unwrap();
        // SAFETY: just taken with the same size.
        unsafe { pool.give(block, 700) };
        assert_eq!(pool.take(704), Some(block));
    }

    /// First address, end and access of the mappings of this process.
    fn mappings() -> Vec<(usize, usize, String)> {
        let hex = |text: &str| usize::from_str_radix(text, 16).unwrap();
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        maps.lines()
            .map(|line| {
                let (range, rest) = line.split_once(' ').unwrap();
                let (start, end) = range.split_once('-').unwrap();
                (hex(start), hex(end), rest[..4].to_owned())
            })
            .collect()
    }

    #[test]
    fn metadata_lies_between_inaccessible_pages() {
        let mut pool = Pool::<LINE>::new(None);
        // Through several chunks, and into a second area.
        let blocks: Vec<usize> = (0..12).map(|_| pool.take(1 << 20).unwrap().addr().get()).collect();
        let maps = mappings();
        for block in blocks {
            let at = maps.iter().position(|(start, end, _)| (*start..*end).contains(&block)).unwrap();
            let (start, end, access) = &maps[at];
            assert_eq!(access, "rw-p");
            assert!(maps[at - 1].1 == *start && maps[at - 1].2 == "---p", "before {block:#x}");
            assert!(maps[at + 1].0 == *end && maps[at + 1].2 == "---p", "behind {block:#x}");
        }
    }

    #[test]
    fn rust_allocations_of_every_size_hold_their_contents() {
        for size in [1usize, 64, 65, 4096, 4097, 1 << 20] {
            let layout = Layout::from_size_align(size, 16).unwrap();
            // SAFETY: the layout is not empty; the block is written within its size and freed with the same layout.
            unsafe {
                let block = MetaAlloc.alloc(layout);
                assert!(!block.is_null());
                block.write_bytes(0xab, size);
                assert_eq!(*block.add(size - 1), 0xab);
                MetaAlloc.dealloc(block, layout);
            }
        }
    }

    #[test]
    fn blocks_of_the_control_thread_are_told_from_all_others() {
        for (bytes, align) in [(1, 1), (100, 8), (5000, 16), (300, 256), (70_000, 4096)] {
            let layout = Layout::from_size_align(bytes, align).unwrap();
            let block = take_own(layout, true);
            assert!(block.addr().is_multiple_of(align));
            assert_eq!(own_bytes(block), Some(bytes));
            assert_eq!(own_bytes(block.wrapping_add(16)), None);
            // SAFETY: the block is ours and as long as that; it is given back once, and only looked at after that.
            unsafe {
                assert!((0..bytes).all(|i| *block.add(i) == 0));
                block.write_bytes(0xa5, bytes);
                assert!(give_own(block));
                assert!(!give_own(block), "and not twice");
            }
        }
        let other = Box::new([0usize; 64]);
        assert_eq!(own_bytes((&raw const other[8]).cast_mut().cast()), None);
        assert_eq!(own_bytes(ptr::without_provenance_mut(48)), None);
    }
    /// No system maps this much.
    const IMPOSSIBLE: usize = 1 << 47;

    #[test]
    fn the_control_thread_waits_for_memory_and_others_are_told() {
        let layout = Layout::from_size_align(IMPOSSIBLE, 16).unwrap();
        let ask = move |own: bool| {
            std::thread::spawn(move || {
                if own {
                    crate::heap::become_own();
                }
                // SAFETY: the layout is not empty.
                unsafe { MetaAlloc.alloc(layout) }.is_null()
            })
        };
        let control = ask(true);
        assert!(ask(false).join().unwrap());
        std::thread::sleep(std::time::Duration::from_millis(4 * PATIENCE_MS));
        assert!(!control.is_finished(), "it would have ended the process");
    }
}
