//! Arenas: where the heap wing and the tiering wing meet, and the only place.
//!
//! Owns the reserved address ranges, one or a few per pool, each with one memory policy set once; cuts them into extents of
//! 2 MiB; and publishes, in atomics, which extents and slices hold live data. Zone: cold; the views are for the control plane.
//!
//! Who may call what: the heap wing takes and gives back runs of extents and publishes live slices; the tiering wing walks
//! the views and sets the [`pressure`] flags; neither calls the other.

pub(crate) mod extent;
#[cfg(feature = "model")]
pub(crate) mod model;
pub(crate) mod placement;
pub mod pool;
pub mod pressure;
mod reserve;
mod runs;
pub mod sites;
mod view;
#[cfg(feature = "invariants")]
mod walk;

pub use crate::pagemap::SLICE_BYTES;
pub use extent::{EXTENT_BYTES, parts_of_birth};
pub(crate) use extent::{Extent, Kind, SLICES};
pub use placement::{Placement, placement};
pub use pool::Pool;
pub(crate) use reserve::open_window;
#[cfg(feature = "model")]
pub(crate) use reserve::shrink_arenas;
pub(crate) use runs::{
    Run, give, grow_in_place, lock_for_fork, map_afresh, purge_all, purge_old, reset_after_fork, take,
    take_dirty, unlock_after_fork,
};
pub(crate) use view::births;
pub(crate) use view::call_growth_hook;
pub use view::{
    ArenaView, ExtentView, arena_count, extent_view, for_each_arena, for_each_extent, live_extent_bytes,
    reserved_bytes, set_growth_hook, set_in_dram,
};
#[cfg(feature = "invariants")]
pub(crate) use walk::check;
