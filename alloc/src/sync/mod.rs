//! Our own lock: the heap cannot use one that allocates, spins for ever, or survives a fork locked.

pub(crate) mod atomic;
mod lock;
#[cfg(feature = "model")]
mod modelled;
pub use lock::{Guard, Lock};
