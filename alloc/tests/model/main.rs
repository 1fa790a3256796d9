//! Models of the heap's lock-free protocols over its own source: needs `--features model`.
//!
//! Each model is a small program of two to four threads. A scheduler (shuttle) runs it some thousand times, each time in another order of
//! the steps at which threads can come in between each other: every atomic operation, every lock. Whatever order it is, no block may be lost
//! or handed out twice, no heap may have two threads, no header may be touched after it went back, and in the end nothing may be left.
//!
//! What this cannot see is what a processor or a compiler does beyond interleaving: every operation counts as sequentially consistent.
//! `docs/models.md` says what each model is proved to find.

mod abandon;
mod double;
mod explore;
mod extents;
mod fork;
mod memory;
mod remote;
mod walkers;
mod world;
