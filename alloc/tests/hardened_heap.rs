//! The heap's own tests once more, in hardened mode: what holds without holds with.

#[path = "support/hardened.rs"]
mod hardened;
#[path = "heap.rs"]
mod heap;
