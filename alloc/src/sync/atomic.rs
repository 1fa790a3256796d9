//! The atomics of the heap's protocols: `core`'s, or, for the models, `core`'s with a step of the scheduler before every operation.
//!
//! Zone: fast. In an ordinary build this is a re-export and nothing else. The models' types have the same layout and are valid
//! zero-filled, too, since slab headers and heaps are made from raw memory. What is constant once it is published (the window, the arenas)
//! uses `core`'s directly, so that models do not spend their steps on it; `tests/structure.rs` lists who may.

#[cfg(feature = "model")]
pub(crate) use super::modelled::{
    AtomicBool, AtomicPtr, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
};
/// Orders what one thread does as a forked child finds it: no step of its own.
pub(crate) use core::sync::atomic::compiler_fence;
#[cfg(not(feature = "model"))]
pub(crate) use core::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
};
