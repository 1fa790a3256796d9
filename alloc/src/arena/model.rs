//! What models do to the arenas beside using them (feature `model`). Zone: cold; while nobody uses the heap.

use super::extent;
use super::reserve;
use super::runs::{DIRTY_NEW, DIRTY_OLD, FREE, STATE};
use super::view;
use crate::pagemap::{self, SLICE_BYTES};
use core::ptr;
use core::sync::atomic::Ordering;

/// Makes every extent free, whatever a model has left.
///
/// # Safety
/// * Nobody uses the memory of any extent.
pub(crate) unsafe fn free_all() {
    let _state = STATE.lock();
    for arena in reserve::arenas() {
        let base = arena.base.load(Ordering::Relaxed);
        let (first, used) = (extent::index_of(base), arena.used_extents());
        (first..first + used).for_each(|index| extent::at(index).end());
        pagemap::set(base, used * (extent::EXTENT_BYTES / SLICE_BYTES), ptr::null_mut());
        for bit in 0..used {
            // SAFETY: the lock is held; each bitmap is borrowed for one statement.
            unsafe {
                arena.bitmap(FREE)[bit / 64] |= 1 << (bit % 64);
                // There may be something in it, for the next purge to return.
                arena.bitmap(DIRTY_NEW)[bit / 64] |= 1 << (bit % 64);
                arena.bitmap(DIRTY_OLD)[bit / 64] &= !(1 << (bit % 64));
            }
        }
    }
    view::count_live(-(view::live_extents() as isize));
}
