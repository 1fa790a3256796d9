//! Metadata memory: out of band, in DRAM.
//!
//! Owns the chunks that slab headers and thread heaps live in, and the cdylib's own Rust allocations ([`MetaAlloc`]). Zone: cold
//! and control. Blocks are cut from chunks mapped for metadata alone ([`pool`]), so that a wild write through an application pointer is
//! far from them (and inaccessible pages stand between), and scanning them never makes application data look hot.
//!
//! Pages without a block go back to the system after a while, mappings never: a stale pointer to a header reads what the header last held, or
//! another header that came to be there, or zeros. Only a program that frees a block twice at once gets to read one, and each of its readers
//! finds the fault in a header of zeros, too: of such a slab no address is a block.

mod pool;
mod rust;

pub(crate) use pool::STRIPES;
pub use rust::MetaAlloc;
pub(crate) use rust::{give_own, own_bytes, take_own, wait_in_threads_with};

use crate::sync::Lock;
use core::cell::UnsafeCell;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicUsize, Ordering};
use pool::{Pool, Reserve};

/// Grain of headers: a cache line.
const LINE: usize = 64;
/// Grain of Rust allocations: crossbeam's thread records are aligned to two lines, and each call into its collector makes one.
const TWO_LINES: usize = 128;

static MAPPED: AtomicUsize = AtomicUsize::new(0);

/// Bytes mapped for metadata so far.
pub(crate) fn mapped_bytes() -> usize {
    MAPPED.load(Ordering::Relaxed)
}

/// Counts `bytes` of tables mapped elsewhere as metadata.
pub(crate) fn count_mapped(bytes: usize) {
    MAPPED.fetch_add(bytes, Ordering::Relaxed);
}

static HEADERS: Lock<Pool<LINE>> = Lock::new(Pool::new(None));
/// A heap without headers answers null, which the application knows what to do with; Rust's collections end the process instead. So what
/// little they need in an application's thread (a copy of the table of tiers, a thread's start) is there when nothing else is.
static RUST: Lock<Pool<TWO_LINES>> = Lock::new(Pool::new(Some(&IN_NEED)));
static IN_NEED: Reserve = Reserve(UnsafeCell::new([0; pool::RESERVE]));

/// A zero-filled metadata block of `bytes` bytes, 64-byte aligned. Those of different `stripe`s, below [`STRIPES`], do not share pages if it can be
/// helped: each thread's are to be its own.
pub(crate) fn take_zeroed(bytes: usize, stripe: usize) -> Option<NonNull<u8>> {
    let block = HEADERS.lock().take(bytes, stripe)?;
    if !block.fresh {
        // SAFETY: the block has at least `bytes` bytes and is ours alone.
        unsafe { block.at.as_ptr().write_bytes(0, bytes) };
    }
    Some(block.at)
}

/// Gives a metadata block back.
///
/// # Safety
/// * `block` came from [`take_zeroed`] with the same `bytes`, at most 256 KiB, and `stripe`, and nobody writes to it again.
pub(crate) unsafe fn give(block: NonNull<u8>, bytes: usize, stripe: usize) {
    #[cfg(feature = "model")]
    if let Some(hooks) = crate::model::hooks() {
        // Kept out of use, so that whoever touches it after this is found out, however late.
        return (hooks.gone)(block.as_ptr().addr(), bytes);
    }
    // SAFETY: passed on from the caller.
    unsafe { HEADERS.lock().give(block, bytes, stripe) };
}

/// As [`give`], between two runs of a model, when nobody is left who could touch the block.
///
/// # Safety
/// * As for [`give`].
#[cfg(feature = "model")]
pub(crate) unsafe fn recycle(block: NonNull<u8>, bytes: usize, stripe: usize) {
    // SAFETY: passed on from the caller.
    unsafe { HEADERS.lock().give(block, bytes, stripe) };
}

/// Returns pages to the system that hold no block; the bytes that went. To be called once in a while: what is free now goes with the next
/// call, if nothing was taken there until then. With `all`, at once.
pub(crate) fn purge(all: bool) -> usize {
    HEADERS.lock().purge(all) + RUST.lock().purge(all)
}

/// The lock of both pools, for fork handlers.
pub(crate) fn lock_for_fork() {
    HEADERS.acquire();
    RUST.acquire();
}

/// Unlocks after fork in the parent.
///
/// # Safety
/// * This thread called [`lock_for_fork`].
pub(crate) unsafe fn unlock_after_fork() {
    // SAFETY: both locks are held by this thread.
    unsafe {
        RUST.release();
        HEADERS.release();
    }
}

/// Unlocks after fork in the child.
///
/// # Safety
/// * This is the only thread of the process.
pub(crate) unsafe fn reset_after_fork() {
    // SAFETY: no other thread exists.
    unsafe {
        RUST.reset();
        HEADERS.reset();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_do_not_overlap_and_are_zero_however_often_they_were_used() {
        for _ in 0..3 {
            let size = |i: usize| 64 * (1 + i % 20);
            let blocks: Vec<NonNull<u8>> =
                (0..100).map(|i| take_zeroed(size(i), i % STRIPES).unwrap()).collect();
            let mut sorted: Vec<_> =
                blocks.iter().enumerate().map(|(i, at)| (at.addr().get(), size(i))).collect();
            sorted.sort_unstable();
            assert!(sorted.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0));
            for (i, &block) in blocks.iter().enumerate() {
                // SAFETY: the block is ours and that long; it is given back once and not used after that.
                unsafe {
                    assert!((0..size(i)).all(|at| *block.as_ptr().add(at) == 0));
                    block.as_ptr().write_bytes(0xa5, size(i));
                    give(block, size(i), i % STRIPES);
                }
            }
            purge(true);
        }
    }
}
