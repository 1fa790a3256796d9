//! Terrace: a malloc whose heap spans memory tiers.
//!
//! The crate is a house of two wings on one foundation; a module uses only what stands below it:
//!
//! ```text
//! api/        what users call
//! control/    the one background thread: one tick = look, decide, move, count
//!             -- tiering wing --            -- heap wing --
//! policy/  heat/  mover/  tier/             heap/  slab/
//!             -- foundation --
//! arena/      where the two wings meet, and the only place
//! pagemap  class  meta  config  sync/
//! sys/        every system call, one door
//! arch/       the thread slot, per CPU architecture
//! ```
//!
//! Code knows which of three zones it is in. *Fast*: `malloc`/`free` of small blocks, `core` and the thread slot only.
//! *Cold*: refill, large blocks, thread start and end: raw system calls, our own futex locks, metadata from our own
//! pools, never `std`. *Control*: one thread per process, where `std` and the ordinary crates live; it holds no lock
//! that the other two can want.

#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
compile_error!("Terrace runs on 64-bit Linux");

mod api;
pub mod arch;
pub mod arena;
mod class;
pub mod config;
pub mod control;
mod heap;
pub mod heat;
pub mod meta;
#[cfg(feature = "model")]
pub mod model;
pub mod mover;
pub mod pagemap;
pub mod policy;
mod slab;
pub mod sync;
pub mod sys;
pub mod tier;

pub use api::global::{Terrace, TierAlloc};
pub use api::hint::{AdviseError, Hint, advise, node_of};
#[cfg(feature = "model")]
pub use api::model as model_driver;
pub use api::raw;
pub use heap::HeapStats;
#[cfg(feature = "invariants")]
pub use heap::check_invariants;
