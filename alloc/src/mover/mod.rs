//! The mover: makes pages be where the policy wants them, in batches, and accounts for every one.
//!
//! Zone: control. `move_pages(2)` keeps address and contents, blocks only threads that touch the page while it is
//! copied, and needs no privilege for pages that this process alone maps. What it cannot do it says page by page
//! ([`outcome`]); nothing here gives up on a page for good, and nothing waits.

pub mod batch;
pub mod outcome;
pub mod rate;
