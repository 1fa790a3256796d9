//! What the control plane tells the heap: relaxed flags, and a count, read on the cold path when extents are taken.

use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

static DRAM_FULL: AtomicBool = AtomicBool::new(false);
static DEVICE_FULL: AtomicBool = AtomicBool::new(false);
static TIGHT: AtomicBool = AtomicBool::new(false);
/// Extents that may still be born in DRAM; [`NO_LIMIT`] where what is too much there is taken back.
static ROOM: AtomicUsize = AtomicUsize::new(NO_LIMIT);
const NO_LIMIT: usize = usize::MAX;

/// Says whether this process holds its whole DRAM budget, so that new extents of movable pools are born on the device.
pub fn set_dram_full(full: bool) {
    DRAM_FULL.store(full, Ordering::Relaxed);
}

/// Says whether the device can take no more of this process.
pub fn set_device_full(full: bool) {
    DEVICE_FULL.store(full, Ordering::Relaxed);
}

/// Says how many extents of movable pools may be born in DRAM until more is said; `None` = any number. Where nothing migrates, what was born in
/// DRAM stays, and a tick of the control thread may come late.
pub fn set_dram_room(extents: Option<usize>) {
    ROOM.store(extents.unwrap_or(NO_LIMIT), Ordering::Relaxed);
}

/// Whether new extents of movable pools, so many, should be born on the device.
pub(crate) fn spill(extents: usize) -> bool {
    let full = DRAM_FULL.load(Ordering::Relaxed) || ROOM.load(Ordering::Relaxed) < extents;
    full && !DEVICE_FULL.load(Ordering::Relaxed)
}

/// Notes that so many extents were born in DRAM. Under the arena lock; what the control plane says meanwhile may be lost until it says it again.
pub(crate) fn count_born_in_dram(extents: usize) {
    let room = ROOM.load(Ordering::Relaxed);
    if room != NO_LIMIT {
        ROOM.store(room.saturating_sub(extents), Ordering::Relaxed);
    }
}

/// Whether the device can take no more of this process.
pub(crate) fn device_full() -> bool {
    DEVICE_FULL.load(Ordering::Relaxed)
}

/// Says whether the heap does not fit in its DRAM budget: then freed pages go back to the system at once, because what they hold
/// is wanted, and the budget counts it.
pub fn set_tight(tight: bool) {
    TIGHT.store(tight, Ordering::Relaxed);
}

/// Whether what is allocated should lie close together, and in DRAM, at the price of free blocks that are left alone on the device, which has room.
pub(crate) fn gathers_births() -> bool {
    tight() && !device_full()
}

/// Whether freed pages should go back to the system at once.
pub(crate) fn tight() -> bool {
    TIGHT.load(Ordering::Relaxed)
}
