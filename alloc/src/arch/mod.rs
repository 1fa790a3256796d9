//! What differs between processors: the thread slot.

pub mod slot;
