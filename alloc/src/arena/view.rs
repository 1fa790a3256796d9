//! What the arenas publish: snapshots without a lock, for the control plane and for statistics.

use super::extent::{self, EXTENT_BYTES, Kind, SLICES};
use super::pool::Pool;
use super::reserve;
use crate::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use crate::sys::numa::NodeMask;

static LIVE_EXTENTS: AtomicUsize = AtomicUsize::new(0);
/// A `fn()`, never null.
static HOOK: AtomicPtr<()> = AtomicPtr::new(no_hook as fn() as *mut ());
static HOOK_AT: AtomicUsize = AtomicUsize::new(usize::MAX);

/// An extent that is handed out.
#[derive(Clone, Copy, Debug)]
pub struct ExtentView {
    /// Its index in the window: (base - window base) / 2 MiB.
    pub index: u32,
    /// Its first address.
    pub base: usize,
    /// The pool its data belongs to (the arena it lies in may be another's, after a spill).
    pub pool: Pool,
    /// Bit i: slice i (64 KiB) holds live data.
    pub live: u32,
    /// Changes each time the extent is handed out.
    pub birth: u32,
    /// Changes each time pages of live slices are given back to the system.
    pub emptied: u16,
}

/// An arena.
#[derive(Clone, Copy, Debug)]
pub struct ArenaView {
    /// Its first address.
    pub base: usize,
    /// Reserved bytes.
    pub bytes: usize,
    /// Bytes from `base` on that have been handed out at least once.
    pub used: usize,
    /// The pool whose policy it has.
    pub pool: Pool,
    /// Whether an explicit memory policy was accepted for it.
    pub bound: bool,
    /// That policy: mode and nodes as mbind(2) takes them.
    pub policy: Option<(u32, NodeMask)>,
}

/// The extent with this index as it is now, if it is handed out. All of it is of the life whose birth it bears: whoever finds the same birth
/// later may act on the pool and the slices.
#[must_use]
pub fn extent_view(index: u32) -> Option<ExtentView> {
    let record = extent::at(index as usize);
    while record.kind() != Kind::Free {
        let birth = record.birth();
        let view = ExtentView {
            index,
            base: extent::base_of(index as usize),
            pool: Pool::from_number(record.pool()),
            live: record.live(),
            birth,
            emptied: record.emptied(),
        };
        if record.is_still(birth) {
            return Some(view);
        }
    }
    None
}

/// How often the pages of each slice of the extent with this index were used because blocks were allocated there: counters that begin anywhere,
/// go round, and stand still while memory is not tight.
pub(crate) fn births(index: u32) -> [u32; SLICES] {
    extent::at(index as usize).births()
}

/// Says which slices of the extent with this index have most of their pages in DRAM: where slabs have free blocks on both tiers, blocks are
/// allocated there. A hint, which the extent's next life forgets.
pub fn set_in_dram(index: u32, slices: u32) {
    extent::at(index as usize).set_in_dram(slices);
}

/// Calls `f` for every extent that is handed out, in address order within an arena. Lock-free: extents change under it, and `birth`
/// tells.
pub fn for_each_extent(f: &mut dyn FnMut(ExtentView)) {
    for arena in reserve::arenas() {
        let first = extent::index_of(arena.base.load(Ordering::Relaxed));
        (first..first + arena.used_extents()).filter_map(|index| extent_view(index as u32)).for_each(&mut *f);
    }
}

/// Calls `f` for every arena.
pub fn for_each_arena(f: &mut dyn FnMut(ArenaView)) {
    for arena in reserve::arenas() {
        let policy = arena.policy();
        f(ArenaView {
            base: arena.base.load(Ordering::Relaxed),
            bytes: arena.bytes.load(Ordering::Relaxed),
            used: arena.used.load(Ordering::Relaxed),
            pool: arena.pool(),
            bound: policy.is_some(),
            policy,
        });
    }
}

/// How many arenas there are.
#[must_use]
pub fn arena_count() -> usize {
    reserve::arenas().len()
}

/// Bytes of address space in all arenas.
#[must_use]
pub fn reserved_bytes() -> usize {
    reserve::arenas().iter().map(|arena| arena.bytes.load(Ordering::Relaxed)).sum()
}

/// Bytes of all extents that are handed out.
#[must_use]
pub fn live_extent_bytes() -> usize {
    LIVE_EXTENTS.load(Ordering::Relaxed) * EXTENT_BYTES
}

/// How many extents are handed out.
#[cfg(feature = "model")]
pub(super) fn live_extents() -> usize {
    LIVE_EXTENTS.load(Ordering::Relaxed)
}

pub(super) fn count_live(change: isize) {
    LIVE_EXTENTS.fetch_add(change as usize, Ordering::Relaxed);
}

fn no_hook() {}

/// Has `hook` called, with no lock held, by any thread that takes extents while more than `threshold` bytes of extents are handed
/// out. It may be called many times and by several threads at once.
pub fn set_growth_hook(hook: fn(), threshold: usize) {
    HOOK.store(hook as *mut (), Ordering::Release);
    HOOK_AT.store(threshold, Ordering::Release);
}

/// Calls the growth hook if the heap has passed its threshold. The caller holds no lock.
pub(crate) fn call_growth_hook() {
    if live_extent_bytes() <= HOOK_AT.load(Ordering::Acquire) {
        return;
    }
    let hook = HOOK.load(Ordering::Acquire);
    // SAFETY: whatever is stored is a `fn()`.
    let hook: fn() = unsafe { core::mem::transmute::<*mut (), fn()>(hook) };
    hook();
}
