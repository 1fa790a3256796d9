//! A live block as the model knows it: where, how long, and what is in every byte the harness has written.

use super::library::{Pointer, library};
use std::ops::Range;

/// Blocks up to here are written and compared whole, longer ones in places.
const WHOLE: usize = 32 << 10;
/// What is written of longer ones: this much at the start of each step, which is a page or, past [`LONG`], nine, and at the end.
const PLACE: usize = 32;
const STEP: usize = 4096;
const LONG: usize = 1 << 20;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Block {
    pub(crate) addr: usize,
    /// What was asked for.
    pub(crate) size: usize,
    /// What the library says may be used: all of it is.
    pub(crate) usable: usize,
    /// What it was aligned to on request.
    pub(crate) align: usize,
    seed: u64,
}

impl Block {
    /// A block just allocated: checks alignment and usable size, and writes to its end.
    pub(crate) fn stamp(at: Pointer, size: usize, align: usize, seed: u64) -> Block {
        let addr = at.expose_provenance();
        assert!(addr.is_multiple_of(align.max(16)), "{addr:#x} is not aligned to {align}");
        // SAFETY: the block is live.
        let usable = unsafe { (library().malloc_usable_size)(at) };
        assert!(usable >= size, "{usable} usable bytes of {size} asked for");
        let block = Block { addr, size, usable, align, seed: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1 };
        for place in places(0, usable) {
            // SAFETY: within the block's usable bytes, which are the harness's alone.
            let bytes = unsafe {
                std::slice::from_raw_parts_mut(block.ptr().cast::<u8>().add(place.start), place.len())
            };
            let mut at = place.start;
            for chunk in bytes.chunks_mut(8) {
                chunk.copy_from_slice(&block.word(at).to_ne_bytes()[..chunk.len()]);
                at += 8;
            }
        }
        block
    }

    pub(crate) fn ptr(&self) -> Pointer {
        std::ptr::with_exposed_provenance_mut(self.addr)
    }

    /// Panics unless the block is what was written.
    pub(crate) fn check(&self) {
        self.check_prefix(self.ptr(), self.usable);
    }

    /// Panics unless the first `len` bytes of what was written to this block are at `at`.
    pub(crate) fn check_prefix(&self, at: Pointer, len: usize) {
        for place in places(0, self.usable) {
            let place = place.start..place.end.min(len);
            if place.is_empty() {
                break;
            }
            // SAFETY: the caller has a live block of at least `len` bytes there.
            let bytes = unsafe { std::slice::from_raw_parts(at.cast::<u8>().add(place.start), place.len()) };
            let mut at = place.start;
            for chunk in bytes.chunks(8) {
                let expected = &self.word(at).to_ne_bytes()[..chunk.len()];
                assert!(chunk == expected, "{self:?}: bytes at {at} are {chunk:x?}, not {expected:x?}");
                at += 8;
            }
        }
    }

    /// What is at offset `at`, a multiple of 8 from the start of its place.
    fn word(&self, at: usize) -> u64 {
        self.seed.wrapping_add(at as u64).wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

/// Panics unless the `size` bytes at `at` are zero, as far as they are looked at: all of a block up to [`LONG`].
pub(crate) fn check_zero(at: Pointer, size: usize) {
    let zero = |range: Range<usize>| {
        // SAFETY: the caller has just been given `size` bytes there.
        let bytes = unsafe { std::slice::from_raw_parts(at.cast::<u8>().add(range.start), range.len()) };
        let found = bytes.iter().position(|&byte| byte != 0);
        assert!(found.is_none(), "calloc of {size}: byte {} is not zero", range.start + found.unwrap_or(0));
    };
    if size <= LONG {
        zero(0..size);
    } else {
        places(0, size).for_each(zero);
    }
}

/// The parts of `[from, to)` that are written and compared.
fn places(from: usize, to: usize) -> impl Iterator<Item = Range<usize>> {
    let whole = to <= WHOLE;
    let step = match to {
        _ if whole => WHOLE,
        ..=LONG => STEP,
        _ => 9 * STEP,
    };
    let place = move |start: usize| start..to.min(if whole { to } else { start + PLACE });
    // The last bytes of a long block, as far as they are not part of a place.
    let last = to.saturating_sub(1) / step * step + PLACE;
    let tail = (!whole && last < to).then(|| last.max(to - PLACE)..to);
    (from..to).step_by(step).map(place).chain(tail)
}
