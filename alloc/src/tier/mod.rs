//! Tiers: which memory is near and which is far, how much of it this process may hold, and in which mode.
//!
//! Zone: control. Nothing here moves anything.

pub mod budget;
pub mod hwloc;
pub mod latency;
pub mod mode;
pub mod stall;
pub mod sysfs;
pub mod topology;
