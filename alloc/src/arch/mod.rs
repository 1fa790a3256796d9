//! What differs between processors: the thread slot, and how a cache line is thrown out.

pub mod cache;
pub mod slot;
