//! What the control plane tells the heap: relaxed flags, read on the cold path when extents are taken.

use core::sync::atomic::{AtomicBool, Ordering};

static DRAM_FULL: AtomicBool = AtomicBool::new(false);
static DEVICE_FULL: AtomicBool = AtomicBool::new(false);
static TIGHT: AtomicBool = AtomicBool::new(false);

/// Says whether this process holds its whole DRAM budget, so that new extents of movable pools are born on the device.
pub fn set_dram_full(full: bool) {
    DRAM_FULL.store(full, Ordering::Relaxed);
}

/// Says whether the device can take no more of this process.
pub fn set_device_full(full: bool) {
    DEVICE_FULL.store(full, Ordering::Relaxed);
}

/// Whether new extents of movable pools should be born on the device.
pub(crate) fn spill() -> bool {
    DRAM_FULL.load(Ordering::Relaxed) && !DEVICE_FULL.load(Ordering::Relaxed)
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

/// Whether freed pages should go back to the system at once.
pub(crate) fn tight() -> bool {
    TIGHT.load(Ordering::Relaxed)
}
