//! Metadata memory: out of band, in DRAM, never returned.
//!
//! Owns the chunks that slab headers and thread heaps live in, and the cdylib's own Rust allocations ([`MetaAlloc`]). Zone: cold
//! and control. Blocks are cut from chunks mapped for metadata alone, so that a wild write through an application pointer is
//! far from them (and inaccessible pages stand between), and scanning them never makes application data look hot. Freed blocks go on a list of their size; memory
//! handed out is never unmapped, so a stale pointer to a header reads a header.

use crate::sync::Lock;
use crate::sys::mm::{self, Access};
use core::alloc::{GlobalAlloc, Layout};
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicUsize, Ordering};

const GRAIN: usize = 64;
/// Up to 6 KiB: the header of a hardened slab of the smallest blocks is 5.7 KiB.
const LISTS: usize = 96;
const CHUNK: usize = 1 << 20;
/// Chunks are opened one after the other in a reserved range of this size, whose first and last page stay inaccessible: a run of writes
/// from a neighbouring mapping faults before it reaches metadata. One system call more than without, for every seven chunks.
const AREA: usize = 8 << 20;
/// Past this a block is a mapping of its own.
const MAX_POOLED: usize = GRAIN * LISTS;

static MAPPED: AtomicUsize = AtomicUsize::new(0);

/// Bytes mapped for metadata so far.
pub(crate) fn mapped_bytes() -> usize {
    MAPPED.load(Ordering::Relaxed)
}

/// Counts `bytes` of tables mapped elsewhere as metadata.
pub(crate) fn count_mapped(bytes: usize) {
    MAPPED.fetch_add(bytes, Ordering::Relaxed);
}

/// A pool of metadata blocks: a bump pointer and one free list for each multiple of 64 bytes up to 6 KiB.
///
/// Invariant: every address on `free[i]` was cut for exactly `(i + 1) * 64` bytes and is on no other list.
struct Pool {
    bump: usize,
    /// Where what is accessible ends, and where what is reserved does, less the guard.
    end: usize,
    limit: usize,
    free: [usize; LISTS],
}

impl Pool {
    const fn new() -> Self {
        Pool { bump: 0, end: 0, limit: 0, free: [0; LISTS] }
    }

    /// A block of at least `bytes` bytes, 64-byte aligned, contents unspecified if reused.
    fn take(&mut self, bytes: usize) -> Option<NonNull<u8>> {
        let units = bytes.div_ceil(GRAIN).max(1);
        if let Some(head) = self.free.get_mut(units - 1)
            && *head != 0
        {
            let block = ptr::with_exposed_provenance_mut::<usize>(*head);
            // SAFETY: a listed block is ours, 64-byte aligned, and its first word holds the next link.
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
        let at = mm::map(small, Access::ReadWrite).ok()?;
        count_mapped(small);
        (self.bump, self.end, self.limit) = (at, at + small, at + small);
        Some(())
    }

    /// Takes back a block of `bytes` bytes.
    ///
    /// # Safety
    /// * `block` came from [`Pool::take`] with the same `bytes`, at most 6 KiB, and nobody uses it again.
    unsafe fn give(&mut self, block: NonNull<u8>, bytes: usize) {
        let head = &mut self.free[bytes.div_ceil(GRAIN).max(1) - 1];
        // SAFETY: the block is ours again and holds at least one word.
        unsafe { block.cast::<usize>().write(*head) };
        *head = block.as_ptr().expose_provenance();
    }
}

static HEADERS: Lock<Pool> = Lock::new(Pool::new());
static RUST: Lock<Pool> = Lock::new(Pool::new());

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
// both sides; alignment up to 64 is the pool's grain and up to a page that of a mapping.
unsafe impl GlobalAlloc for MetaAlloc {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.align() > mm::page_bytes() {
            return ptr::null_mut();
        }
        if layout.size() > MAX_POOLED || layout.align() > GRAIN {
            return match mm::map(layout.size(), Access::ReadWrite) {
                Ok(at) => ptr::with_exposed_provenance_mut(at),
                Err(_) => ptr::null_mut(),
            };
        }
        RUST.lock().take(layout.size()).map_or(ptr::null_mut(), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if layout.size() > MAX_POOLED || layout.align() > GRAIN {
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
        let mut pool = Pool::new();
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
        let mut pool = Pool::new();
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
}
