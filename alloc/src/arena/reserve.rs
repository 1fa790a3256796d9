//! Reservation: the window, its tables, and the arenas in it.
//!
//! Zone: cold. Address space is reserved without access and made writable from the bottom up as it is used. So a reservation
//! costs nothing under strict overcommit (`vm.overcommit_memory=2`), a core dump holds only what was used, and each arena
//! stays two mappings: the used part and the rest. The window itself is not reserved, only chosen: arenas ask for fixed
//! addresses in it with `MAP_FIXED_NOREPLACE`, which fails rather than replace what is there.

use super::extent::{self, EXTENT_BYTES, EXTENT_SHIFT, Extent};
use super::pool::Pool;
use crate::meta;
use crate::pagemap::{self, SLICE_SHIFT};
use crate::slab::Slab;
use crate::sys::mm::{self, Access};
use crate::sys::numa::{self, NodeMask};
use core::cell::UnsafeCell;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicUsize, Ordering};

/// All windows lie in `[LOWEST, HIGHEST)`: below the loader's and the stack's addresses on x86-64 and 48-bit arm64, so that
/// heap addresses are recognisable, and walking `/proc/self/smaps` meets them first.
const LOWEST: usize = 0x1000_0000_0000;
const HIGHEST: usize = 0x5000_0000_0000;
/// 16 TiB: room for 256 arenas of the usual size.
const WINDOW_BYTES: usize = 1 << 44;
const SMALLEST_WINDOW: usize = 1 << 30;
/// The usual size of an arena: 64 GiB of address space.
const ARENA_BYTES: usize = 64 << 30;
/// How many arenas there can be; an extent names its arena in a byte.
pub(super) const MAX_ARENAS: usize = 255;

/// One reserved range. Written under the arena lock; `base`, `bytes` and `pool` are constant once it is published.
pub(super) struct Arena {
    pub(super) base: AtomicUsize,
    pub(super) bytes: AtomicUsize,
    /// Writable so far, from `base` on.
    committed: AtomicUsize,
    /// Handed out at least once, from `base` on.
    pub(super) used: AtomicUsize,
    pool: AtomicU8,
    bound: AtomicBool,
    policy_mode: AtomicU32,
    policy_mask: UnsafeCell<NodeMask>,
    /// Three bitmaps of one bit an extent: free below `used`; free with contents, since this and since the last purge period.
    bitmaps: AtomicPtr<u64>,
}

// SAFETY: `policy_mask` is written before the arena is published by `COUNT` and constant after; all else is atomic.
unsafe impl Sync for Arena {}

static ARENAS: [Arena; MAX_ARENAS] = [const {
    Arena {
        base: AtomicUsize::new(0),
        bytes: AtomicUsize::new(0),
        committed: AtomicUsize::new(0),
        used: AtomicUsize::new(0),
        pool: AtomicU8::new(0),
        bound: AtomicBool::new(false),
        policy_mode: AtomicU32::new(0),
        policy_mask: UnsafeCell::new(NodeMask::EMPTY),
        bitmaps: AtomicPtr::new(ptr::null_mut()),
    }
}; MAX_ARENAS];
static COUNT: AtomicUsize = AtomicUsize::new(0);
/// Where the next arena is tried, as an offset in the window.
static NEXT: AtomicUsize = AtomicUsize::new(0);
/// Where the tables are, and how many bytes of them are the page map.
static TABLES: AtomicUsize = AtomicUsize::new(0);
static MAP_TABLE: AtomicUsize = AtomicUsize::new(0);
/// What an arena is tried with first.
static ARENA_SIZE: AtomicUsize = AtomicUsize::new(ARENA_BYTES);
/// Whether the whole window is one mapping of ours, because fixed addresses were refused.
static SOLID: AtomicBool = AtomicBool::new(false);

/// The arenas so far.
pub(super) fn arenas() -> &'static [Arena] {
    &ARENAS[..COUNT.load(Ordering::Acquire)]
}

/// Chooses the window and maps its tables; `false` if there is not even address space for the smallest.
pub(crate) fn open_window() -> bool {
    let mut bytes = WINDOW_BYTES;
    if let Some(limit) = mm::address_space_limit() {
        // Under RLIMIT_AS no more than the limit can ever be mapped; sparse room around it costs only table entries.
        bytes = limit.checked_next_power_of_two().map_or(WINDOW_BYTES, |n| (n / 2).saturating_mul(4));
        bytes = bytes.clamp(SMALLEST_WINDOW, WINDOW_BYTES);
        // Stacks and files need their share of the limit: small arenas, as many as it takes.
        ARENA_SIZE.store((limit / 16).next_multiple_of(EXTENT_BYTES).min(ARENA_BYTES), Ordering::Relaxed);
    }
    loop {
        let map_bytes = (bytes >> SLICE_SHIFT) * size_of::<AtomicPtr<Slab>>();
        let table_bytes = map_bytes + (bytes >> EXTENT_SHIFT) * size_of::<Extent>();
        // Read-only until an arena needs its part: any pointer may be looked up, and read-only pages are never charged. One page more
        // at either end stays so for good, between the tables and whatever lies beside them.
        let page = mm::page_bytes();
        if let Ok(tables) = mm::map(table_bytes + 2 * page, Access::ReadOnly).map(|at| at + page) {
            TABLES.store(tables, Ordering::Relaxed);
            MAP_TABLE.store(map_bytes, Ordering::Relaxed);
            extent::open(ptr::with_exposed_provenance_mut(tables + map_bytes));
            pagemap::open(window_base(bytes), bytes, ptr::with_exposed_provenance_mut(tables));
            return true;
        }
        if bytes == SMALLEST_WINDOW {
            return false;
        }
        bytes = (bytes / 16).max(SMALLEST_WINDOW);
    }
}

/// Makes arenas small, so that a model can look at every extent of one. Before the first is reserved.
#[cfg(feature = "model")]
pub(crate) fn shrink_arenas(bytes: usize) {
    ARENA_SIZE.store(bytes, Ordering::Relaxed);
}

/// A random place for the window.
fn window_base(bytes: usize) -> usize {
    let choices = (HIGHEST - LOWEST - bytes) / ARENA_BYTES;
    LOWEST + random() % (choices + 1) * ARENA_BYTES
}

/// Before the first arena: reserves one range wherever the kernel likes as the whole window, because no fixed address was to be had
/// (39-bit address spaces, some tools).
fn solidify() -> bool {
    let most = pagemap::window_bytes().min(ARENA_BYTES);
    let mut bytes = most;
    // Less would bind the process for good to what may be a moment's shortage.
    while bytes >= most / 8 {
        if let Ok(at) = mm::map(bytes + EXTENT_BYTES, Access::None) {
            pagemap::rebase(at.next_multiple_of(EXTENT_BYTES), bytes);
            SOLID.store(true, Ordering::Relaxed);
            return true;
        }
        bytes /= 2;
    }
    false
}

/// Bits the kernel drew for this process (`AT_RANDOM`).
fn random() -> usize {
    // SAFETY: AT_RANDOM is the address of 16 bytes that live as long as the process, or 0.
    unsafe {
        let at = libc::getauxval(libc::AT_RANDOM) as usize;
        if at == 0 { 0 } else { ptr::with_exposed_provenance::<usize>(at).read_unaligned() }
    }
}

/// Reserves an arena of at least `need` bytes for `pool` and makes that many writable, under the arena lock; `None` if address space,
/// memory or slots run out, and then nothing is used up: the next try finds what this one found.
pub(super) fn reserve(pool: Pool, need: usize) -> Option<&'static Arena> {
    let need = need.checked_next_multiple_of(EXTENT_BYTES)?;
    let slot = COUNT.load(Ordering::Relaxed);
    let arena = ARENAS.get(slot)?;
    let first = slot == 0 && !SOLID.load(Ordering::Relaxed);
    let (base, bytes) = find(need).or_else(|| if first && solidify() { find(need) } else { None })?;
    if publish(arena, slot, base, bytes, need, pool) {
        return Some(arena);
    }
    unplace(base, bytes);
    None
}

/// Maps a range of the usual size or, where there is no such range now, of less, but at least `need`, without access.
fn find(need: usize) -> Option<(usize, usize)> {
    let mut bytes = ARENA_SIZE.load(Ordering::Relaxed).min(pagemap::window_bytes() / 4).max(need);
    loop {
        if let Some(base) = place(bytes) {
            return Some((base, bytes));
        }
        if bytes == need {
            return None;
        }
        bytes = (bytes / 2).next_multiple_of(EXTENT_BYTES).max(need);
    }
}

/// Finds and maps `bytes` of the window without access.
fn place(bytes: usize) -> Option<usize> {
    let (start, window) = (pagemap::window_base(), pagemap::window_bytes());
    let mut off = NEXT.load(Ordering::Relaxed);
    // Somebody else's mapping in the window is stepped over.
    for _ in 0..64 {
        if off.checked_add(bytes)? > window {
            return None;
        }
        let there = start + off;
        if SOLID.load(Ordering::Relaxed) {
            NEXT.store(off + bytes, Ordering::Relaxed);
            return Some(there);
        }
        match mm::map_at(there, bytes, Access::None) {
            Ok(()) => {
                NEXT.store(off + bytes, Ordering::Relaxed);
                return Some(there);
            }
            Err(e) if e.0 == libc::EEXIST => off += bytes,
            Err(_) => return None,
        }
    }
    None
}

/// Undoes [`place`] of a range that nothing points into.
fn unplace(base: usize, bytes: usize) {
    if SOLID.load(Ordering::Relaxed) {
        // The window stays ours. A failure leaves pages writable that nobody touches.
        // SAFETY: the range is ours and unused.
        let _ = unsafe { mm::protect(base, bytes, Access::None) };
    } else {
        // SAFETY: as above.
        unsafe { mm::unmap(base, bytes) };
    }
    NEXT.store(base - pagemap::window_base(), Ordering::Relaxed);
}

/// Makes the range `slot`'s arena, its first `need` bytes writable. The bitmaps come last: they cannot be given back.
fn publish(arena: &'static Arena, slot: usize, base: usize, bytes: usize, need: usize, pool: Pool) -> bool {
    let words = (bytes >> EXTENT_SHIFT).div_ceil(64);
    arena.base.store(base, Ordering::Relaxed);
    arena.bytes.store(bytes, Ordering::Relaxed);
    arena.pool.store(pool as u8, Ordering::Relaxed);
    arena.committed.store(0, Ordering::Relaxed);
    arena.bound.store(false, Ordering::Relaxed);
    if !open_tables(base, bytes) {
        return false;
    }
    let policy = pool.policies().find(|(mode, mask)| numa::mbind(base, bytes, *mode, mask, 0).is_ok());
    if let Some((mode, mask)) = policy {
        // SAFETY: the arena is not published yet, so nobody reads the mask.
        unsafe { *arena.policy_mask.get() = mask };
        arena.policy_mode.store(mode, Ordering::Relaxed);
        arena.bound.store(true, Ordering::Relaxed);
        // Heat is told apart page by page, and one accessed bit for 2 MiB tells nothing.
        // SAFETY: the range is ours; a refusal (no THP in this kernel) changes nothing.
        let _ = unsafe { mm::no_huge_pages(base, bytes) };
    }
    if !arena.commit(need) {
        return false;
    }
    let Some(bitmaps) = meta::take_zeroed(3 * words * 8, 0) else { return false };
    arena.bitmaps.store(bitmaps.as_ptr().cast(), Ordering::Relaxed);
    COUNT.store(slot + 1, Ordering::Release);
    true
}

/// Makes the parts of both tables that describe `[base, base + bytes)` writable.
fn open_tables(base: usize, bytes: usize) -> bool {
    let tables = TABLES.load(Ordering::Relaxed);
    let map_bytes = MAP_TABLE.load(Ordering::Relaxed);
    let off = base - pagemap::window_base();
    let parts = [
        (
            tables + (off >> SLICE_SHIFT) * size_of::<AtomicPtr<Slab>>(),
            (bytes >> SLICE_SHIFT) * size_of::<AtomicPtr<Slab>>(),
        ),
        (
            tables + map_bytes + (off >> EXTENT_SHIFT) * size_of::<Extent>(),
            (bytes >> EXTENT_SHIFT) * size_of::<Extent>(),
        ),
    ];
    let page = mm::page_bytes();
    parts.into_iter().all(|(at, len)| {
        let first = at & !(page - 1);
        let len = (at + len).next_multiple_of(page) - first;
        // SAFETY: the range lies in the tables, which are ours; more access breaks nobody.
        unsafe { mm::protect(first, len, Access::ReadWrite) }.is_ok()
    })
}

impl Arena {
    /// The pool whose policy the range has.
    pub(super) fn pool(&self) -> Pool {
        Pool::from_number(self.pool.load(Ordering::Relaxed))
    }

    /// The memory policy that was accepted for the range.
    pub(super) fn policy(&self) -> Option<(u32, NodeMask)> {
        // SAFETY: written before the arena was published, constant since.
        self.bound
            .load(Ordering::Relaxed)
            .then(|| unsafe { (self.policy_mode.load(Ordering::Relaxed), *self.policy_mask.get()) })
    }

    /// Number of extents.
    pub(super) fn extents(&self) -> usize {
        self.bytes.load(Ordering::Relaxed) >> EXTENT_SHIFT
    }

    /// Number of extents handed out at least once.
    pub(super) fn used_extents(&self) -> usize {
        self.used.load(Ordering::Relaxed) >> EXTENT_SHIFT
    }

    /// Bitmap `which` (0 free, 1 dirty since this period, 2 dirty since the last). Under the arena lock.
    ///
    /// # Safety
    /// * The caller holds the arena lock and keeps no other reference to the same bitmap.
    #[expect(
        clippy::mut_from_ref,
        reason = "the arena lock, which the caller holds, is what makes it exclusive"
    )]
    pub(super) unsafe fn bitmap(&self, which: usize) -> &mut [u64] {
        let words = self.extents().div_ceil(64);
        // SAFETY: `publish` took three bitmaps of `words` words each; the caller has exclusive access.
        unsafe {
            core::slice::from_raw_parts_mut(self.bitmaps.load(Ordering::Relaxed).add(which * words), words)
        }
    }

    /// Makes `[base, base + upto)` writable; under the arena lock.
    pub(super) fn commit(&self, upto: usize) -> bool {
        let committed = self.committed.load(Ordering::Relaxed);
        if upto <= committed {
            return true;
        }
        let (base, bytes) = (self.base.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed));
        // Doubling, at most 1 GiB ahead: few system calls, and little more than is used in a core dump or a strict commit charge.
        let ahead = committed.clamp(16 << 20, 1 << 30);
        for target in [upto.max(committed + ahead).min(bytes), upto] {
            // SAFETY: the range is the arena's own.
            if unsafe { mm::protect(base + committed, target - committed, Access::ReadWrite) }.is_ok() {
                self.committed.store(target, Ordering::Relaxed);
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_begin_and_end_with_a_page_that_nobody_can_write() {
        // The first allocation of the process maps them.
        assert!(!crate::api::raw::malloc(1).is_null());
        let at = TABLES.load(Ordering::Relaxed);
        let bytes = MAP_TABLE.load(Ordering::Relaxed)
            + (pagemap::window_bytes() >> EXTENT_SHIFT) * size_of::<Extent>();
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let access = |addr: usize| {
            maps.lines().find_map(|line| {
                let (range, rest) = line.split_once(' ')?;
                let (start, end) = range.split_once('-')?;
                let hex = |text| usize::from_str_radix(text, 16).unwrap();
                (hex(start)..hex(end)).contains(&addr).then(|| rest[..4].to_owned())
            })
        };
        assert_eq!(access(at - 1).as_deref(), Some("r--p"));
        assert_eq!(access(at + bytes).as_deref(), Some("r--p"));
    }
}
