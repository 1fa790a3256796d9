//! Heat: how often each page of the heap is used.
//!
//! Zone: control. Owned by the control thread; nothing here is shared with the heap, which is only looked at through
//! `arena`'s snapshots. A [`tracker::Tracker`] feeds answers ("touched in this window, or not") into the
//! [`map::HeatMap`], which the policy reads.

pub mod alloc_events;
mod births;
pub mod clock;
pub mod duty;
pub mod exact;
mod exp;
pub mod map;
mod pace;
pub mod perf;
#[cfg(test)]
pub(crate) mod played;
pub mod profile;
pub mod rate;
pub mod refs;
pub mod tracker;
mod window;
pub mod writes;
