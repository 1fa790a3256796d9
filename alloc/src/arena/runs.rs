//! Runs of extents: handing them out, taking them back, and returning idle ones to the system.
//!
//! Zone: cold, under the arena lock. First fit at the lowest address: a large block freed and asked for again gets the same
//! pages back, already resident. What stays free for a whole purge period is discarded.

use super::extent::{self, EXTENT_SHIFT, Kind};
use super::placement::{self, placement};
use super::pool::Pool;
use super::reserve::{self, Arena};
use super::{pressure, view};
use crate::config::{self, Amount, Mode};
use crate::meta;
use crate::sync::Lock;
use crate::sys::{futex, mm, numa};
use core::sync::atomic::Ordering;

/// A run longer than this (128 MiB) is returned to the system at once: keeping it would be felt, and its next user pays for faults
/// only as it would pay for touching so much memory.
const KEEP_EXTENTS: usize = 64;

/// For how many purge periods free runs are kept: a program that takes and frees large buffers would fault them in anew each time,
/// where pages between live blocks are only now and then used again.
const PERIODS: u64 = 10;

pub(super) const FREE: usize = 0;
pub(super) const DIRTY_NEW: usize = 1;
pub(super) const DIRTY_OLD: usize = 2;

/// The arena lock and what it protects beside the arenas themselves.
pub(super) struct State {
    last_purge_ms: u64,
}

pub(super) static STATE: Lock<State> = Lock::new(State { last_purge_ms: 0 });

/// Consecutive extents that were handed out together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Run {
    /// Index of the first extent in the window.
    pub(crate) index: usize,
    /// How many extents.
    pub(crate) extents: usize,
    /// How many of them, from the first on, may hold old contents; the rest reads as zero.
    pub(crate) dirty: usize,
}

/// Takes `extents` consecutive extents for data of `pool`, the first at a multiple of `align` extents.
pub(crate) fn take(pool: Pool, kind: Kind, extents: usize, align: usize) -> Option<Run> {
    if pool == Pool::DeviceStrict && !device_has_room(extents << EXTENT_SHIFT) {
        return None;
    }
    let mut state = STATE.lock();
    purge_if_due(&mut state);
    let placement = placement();
    let tiered = !placement.device.is_empty();
    let home = if tiered { pool.home() } else { Pool::Default };
    let may_spill = tiered && pool.is_tiered() && placement.mode != Mode::Isolate;
    let spill = may_spill && pool != Pool::Hot && pressure::spill(extents);
    let found = if spill { take_from(Pool::Device, extents, align) } else { None };
    let run = found.or_else(|| take_from(home, extents, align))?;
    if may_spill && found.is_none() {
        pressure::count_born_in_dram(extents);
    }
    for i in 0..extents {
        let kind = if i > 0 && kind == Kind::LargeHead { Kind::LargeBody } else { kind };
        extent::at(run.index + i).hand_out(kind, pool as u8);
    }
    view::count_live(extents as isize);
    Some(run)
}

/// Takes a free extent whose pages may still be there, for slabs, if that can be had without waiting. Only where there are no tiers: with them,
/// where pages are matters more than that they are there.
pub(crate) fn take_dirty(pool: Pool) -> Option<Run> {
    if !placement().device.is_empty() {
        return None;
    }
    let _state = STATE.try_lock()?;
    let run = reserve::arenas().iter().filter(|arena| arena.pool() == Pool::Default).find_map(|arena| {
        let used = arena.used_extents();
        // SAFETY: the lock is held; each bitmap is borrowed for one call.
        let (new, old) = unsafe {
            (next_set(arena.bitmap(DIRTY_NEW), 0, used), next_set(arena.bitmap(DIRTY_OLD), 0, used))
        };
        let start = new.or(old)?;
        // SAFETY: the lock is held. What is dirty is free.
        let dirty = unsafe { claim(arena, start, 1) };
        Some(Run { index: extent::index_of(arena.base.load(Ordering::Relaxed)) + start, extents: 1, dirty })
    })?;
    extent::at(run.index).hand_out(Kind::Slabs, pool as u8);
    view::count_live(1);
    Some(run)
}

/// Gives `extents` extents from `index` on back.
///
/// # Safety
/// * They were handed out and nothing uses their memory any more.
pub(crate) unsafe fn give(index: usize, extents: usize) {
    let mut state = STATE.lock();
    let arena = arena_of(index).expect("a run lies in an arena");
    let first = index - extent::index_of(arena.base.load(Ordering::Relaxed));
    let mut advised = false;
    for i in 0..extents {
        let extent = extent::at(index + i);
        advised |= Pool::from_number(extent.pool()).home() != arena.pool();
        extent.take_back();
    }
    view::count_live(-(extents as isize));
    // Where the placement is a contract (the arena's, or by advice this span's), or purging is immediate, old pages must not be
    // found again: they may be on the wrong node.
    let ordinary = arena.pool() == Pool::Default && !advised;
    let keep = ordinary && config::get().purge_ms > 0 && extents <= KEEP_EXTENTS && !pressure::tight();
    // SAFETY: the lock is held; each bitmap is borrowed for one call.
    unsafe {
        if keep {
            set(arena.bitmap(DIRTY_NEW), first, extents);
        } else {
            // Cannot fail on memory of ours; if it did, the pages would be counted clean, so keep them dirty then.
            if mm::discard(extent::base_of(index), extents << EXTENT_SHIFT).is_err() {
                set(arena.bitmap(DIRTY_NEW), first, extents);
            }
        }
        set(arena.bitmap(FREE), first, extents);
    }
    purge_if_due(&mut state);
}

/// Lengthens a large span in place by the extents that follow it, if they are free.
pub(crate) fn grow_in_place(index: usize, extents: usize, more: usize) -> bool {
    let _state = STATE.lock();
    let Some(arena) = arena_of(index) else { return false };
    if arena.pool() == Pool::DeviceStrict && !device_has_room(more << EXTENT_SHIFT) {
        return false;
    }
    let start = index - extent::index_of(arena.base.load(Ordering::Relaxed)) + extents;
    let used = arena.used_extents();
    if start + more > arena.extents() {
        return false;
    }
    // SAFETY: the lock is held; each bitmap is borrowed for one call.
    unsafe {
        let inside = more.min(used.saturating_sub(start));
        if !all_set(arena.bitmap(FREE), start, inside)
            || (start + more > used && !arena.commit((start + more) << EXTENT_SHIFT))
        {
            return false;
        }
        clear(arena.bitmap(FREE), start, inside);
        clear(arena.bitmap(DIRTY_NEW), start, inside);
        clear(arena.bitmap(DIRTY_OLD), start, inside);
    }
    arena.used.fetch_max((start + more) << EXTENT_SHIFT, Ordering::Relaxed);
    let pool = extent::at(index).pool();
    for i in 0..more {
        extent::at(index + extents + i).hand_out(Kind::LargeBody, pool);
    }
    view::count_live(more as isize);
    if arena.pool().is_tiered() {
        pressure::count_born_in_dram(more);
    }
    true
}

/// Replaces the mapping of extents by a fresh one with the arena's policy, so that it joins its neighbours again; `false` if that was
/// refused and left a hole, so that the extents must never be used again.
///
/// # Safety
/// * The extents were handed out and nothing relies on their contents.
#[must_use]
pub(crate) unsafe fn map_afresh(index: usize, extents: usize) -> bool {
    let (addr, bytes) = (extent::base_of(index), extents << EXTENT_SHIFT);
    // SAFETY: the range is the caller's own.
    if unsafe { mm::map_over(addr, bytes, mm::Access::ReadWrite) }.is_err() {
        // A kernel may unmap before it refuses. Discarding succeeds only where everything is mapped.
        // SAFETY: as above.
        return unsafe { mm::discard(addr, bytes) }.is_ok();
    }
    if let Some((mode, mask)) = arena_of(index).and_then(Arena::policy) {
        // Accepted for the whole arena before, so accepted now; were it not, these pages would be placed by the default policy.
        let _ = numa::mbind(addr, bytes, mode, &mask, 0);
        // SAFETY: as above.
        let _ = unsafe { mm::no_huge_pages(addr, bytes) };
    }
    true
}

/// Returns every free extent's pages to the system now; the bytes that went.
pub(crate) fn purge_all() -> usize {
    let _state = STATE.lock();
    let discard_all = |arena: &Arena| {
        // SAFETY: the lock is held.
        unsafe { discard_dirty(arena, DIRTY_NEW) + discard_dirty(arena, DIRTY_OLD) }
    };
    reserve::arenas().iter().map(discard_all).sum()
}

/// Once in [`PERIODS`] purge periods: returns the pages of extents, and of metadata, that have been free for so long.
pub(crate) fn purge_old() {
    purge_if_due(&mut STATE.lock());
}

fn purge_if_due(state: &mut State) {
    let now = futex::now_ms();
    if now.wrapping_sub(state.last_purge_ms) < PERIODS * u64::from(config::get().purge_ms) {
        return;
    }
    state.last_purge_ms = now;
    for arena in reserve::arenas() {
        // SAFETY: the lock is held; each bitmap is borrowed for one call or for this block, and they are different ones.
        unsafe {
            discard_dirty(arena, DIRTY_OLD);
            let words = arena.used_extents().div_ceil(64);
            let (new, old) = (arena.bitmap(DIRTY_NEW), arena.bitmap(DIRTY_OLD));
            for (new, old) in new[..words].iter_mut().zip(&mut old[..words]) {
                *old |= core::mem::take(new);
            }
        }
    }
    meta::purge(false);
}

/// Discards the extents marked in dirty bitmap `which`; the bytes that went.
///
/// # Safety
/// * The caller holds the arena lock and no reference to the bitmap.
unsafe fn discard_dirty(arena: &Arena, which: usize) -> usize {
    // SAFETY: passed on from the caller.
    let dirty = unsafe { arena.bitmap(which) };
    let base = arena.base.load(Ordering::Relaxed);
    let (mut at, mut gone) = (0, 0);
    while let Some(start) = next_set(dirty, at, arena.used_extents()) {
        let mut end = start + 1;
        while end < arena.used_extents() && is_set(dirty, end) {
            end += 1;
        }
        let bytes = (end - start) << EXTENT_SHIFT;
        // SAFETY: dirty extents are free, so nobody relies on their contents; they stay so while the lock is held.
        if unsafe { mm::discard(base + (start << EXTENT_SHIFT), bytes) }.is_ok() {
            clear(dirty, start, end - start);
            gone += bytes;
        }
        at = end;
    }
    gone
}

/// Whether the device nodes have room for `bytes` more beyond their head-room. A strict device allocation that the node
/// cannot back would not fail but call the out-of-memory killer, so it is refused here.
fn device_has_room(bytes: usize) -> bool {
    let device = &placement().device;
    if device.is_empty() || pressure::device_full() {
        return false;
    }
    let (free, total) = device
        .iter()
        .filter_map(numa::node_free_bytes)
        .fold((0, 0), |(free, total), node| (free + node.0, total + node.1));
    let headroom = match config::get().headroom {
        Amount::Bytes(bytes) => bytes,
        Amount::Auto => (total / 50).max(16 << 20),
    };
    // Without sysfs nothing is known; then the policy decides.
    total == 0 || free >= (bytes as u64).saturating_add(headroom)
}

fn take_from(home: Pool, extents: usize, align: usize) -> Option<Run> {
    let mut refused = false;
    for arena in reserve::arenas().iter().filter(|arena| arena.pool() == home) {
        match take_in(arena, extents, align) {
            Ok(run) => return Some(run),
            Err(none) => refused |= none == Shortage::Memory,
        }
    }
    // An arena that has the addresses but not the memory: another one would only use up address space.
    if refused {
        return None;
    }
    take_in(reserve::reserve(home, (extents + align - 1) << EXTENT_SHIFT)?, extents, align).ok()
}

/// Why an arena has no run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Shortage {
    /// No free run is long enough, and what was never used is not either.
    Addresses,
    /// The system refuses to make more of it writable.
    Memory,
}

fn take_in(arena: &Arena, extents: usize, align: usize) -> Result<Run, Shortage> {
    let first_index = extent::index_of(arena.base.load(Ordering::Relaxed));
    // Aligned addresses, not aligned indices: the window starts at an arbitrary multiple of 2 MiB.
    let window = crate::pagemap::window_base() >> EXTENT_SHIFT;
    let aligned =
        |start: usize| (window + first_index + start).next_multiple_of(align) - window - first_index;
    let used = arena.used_extents();
    // SAFETY: the lock is held by `take`; each bitmap is borrowed for one call or for this block, and they are different ones.
    unsafe {
        let free = arena.bitmap(FREE);
        let mut at = 0;
        while let Some(start) = next_set(free, at, used) {
            let start = aligned(start);
            if start + extents > used {
                break;
            }
            match first_clear(free, start, extents) {
                Some(taken) => at = taken + 1,
                None => {
                    let dirty = claim(arena, start, extents);
                    return Ok(Run { index: first_index + start, extents, dirty });
                }
            }
        }
        // Nothing free fits: extend the free run at the end, if there is one, into addresses never used before, and keep what
        // alignment skips as free. Not beside it: then the pages of both would be resident.
        let free = arena.bitmap(FREE);
        let mut tail = used;
        while tail > 0 && is_set(free, tail - 1) {
            tail -= 1;
        }
        let start = aligned(tail);
        if start + extents > arena.extents() {
            return Err(Shortage::Addresses);
        }
        if !arena.commit((start + extents) << EXTENT_SHIFT) {
            return Err(Shortage::Memory);
        }
        let dirty = if start < used {
            claim(arena, start, used - start)
        } else {
            set(arena.bitmap(FREE), used, start - used);
            0
        };
        arena.used.store((start + extents) << EXTENT_SHIFT, Ordering::Relaxed);
        Ok(Run { index: first_index + start, extents, dirty })
    }
}

/// Makes free extents of `arena` no longer free; how many of them may be dirty, from the first on.
///
/// # Safety
/// * The caller holds the arena lock and no reference to the bitmaps.
unsafe fn claim(arena: &Arena, start: usize, extents: usize) -> usize {
    // SAFETY: passed on from the caller; the bitmaps are different ones.
    let (free, new, old) = unsafe { (arena.bitmap(FREE), arena.bitmap(DIRTY_NEW), arena.bitmap(DIRTY_OLD)) };
    let dirty = (0..extents).rev().find(|&i| is_set(new, start + i) || is_set(old, start + i));
    [free, new, old].into_iter().for_each(|map| clear(map, start, extents));
    dirty.map_or(0, |last| last + 1)
}

fn arena_of(index: usize) -> Option<&'static Arena> {
    let addr = extent::base_of(index);
    reserve::arenas().iter().find(|arena| {
        addr.wrapping_sub(arena.base.load(Ordering::Relaxed)) < arena.bytes.load(Ordering::Relaxed)
    })
}

pub(super) fn is_set(map: &[u64], bit: usize) -> bool {
    map[bit / 64] >> (bit % 64) & 1 == 1
}

fn next_set(map: &[u64], from: usize, end: usize) -> Option<usize> {
    let mut bit = from;
    while bit < end {
        let rest = map[bit / 64] >> (bit % 64);
        if rest != 0 {
            return Some(bit + rest.trailing_zeros() as usize).filter(|&found| found < end);
        }
        bit = (bit / 64 + 1) * 64;
    }
    None
}

fn first_clear(map: &[u64], from: usize, n: usize) -> Option<usize> {
    (from..from + n).find(|&bit| !is_set(map, bit))
}

fn all_set(map: &[u64], from: usize, n: usize) -> bool {
    first_clear(map, from, n).is_none()
}

fn set(map: &mut [u64], from: usize, n: usize) {
    (from..from + n).for_each(|bit| map[bit / 64] |= 1 << (bit % 64));
}

fn clear(map: &mut [u64], from: usize, n: usize) {
    (from..from + n).for_each(|bit| map[bit / 64] &= !(1 << (bit % 64)));
}

/// Takes the arena lock for fork.
pub(crate) fn lock_for_fork() {
    STATE.acquire();
    placement::lock_for_fork();
}

/// Releases the arena lock after fork in the parent.
///
/// # Safety
/// * This thread called [`lock_for_fork`].
pub(crate) unsafe fn unlock_after_fork() {
    // SAFETY: both are held by this thread.
    unsafe {
        placement::unlock_after_fork();
        STATE.release();
    }
}

/// Frees the arena lock after fork in the child.
///
/// # Safety
/// * This is the only thread of the process.
pub(crate) unsafe fn reset_after_fork() {
    // SAFETY: no other thread exists.
    unsafe {
        placement::reset_after_fork();
        STATE.reset();
    }
}
