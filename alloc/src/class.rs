//! Size classes: which block size serves a request.
//!
//! Zone: fast. Pure arithmetic.
//!
//! 16 to 128 bytes in steps of 16, then eight classes a doubling up to 256 KiB. A request just above a class wastes less than
//! one step, which is at most 1/9 of the block served (11.1 %) from 129 bytes on; below that the 16-byte alignment every block has
//! decides. A block larger than 256 KiB is a *large* span of whole extents and has no class.

use crate::pagemap::SLICE_BYTES;
use core::ops::Range;

/// The largest request a slab serves, in bytes.
pub(crate) const MAX_SMALL: usize = 256 << 10;

/// How many size classes there are.
pub(crate) const CLASSES: usize = 96;

/// Requests up to here are looked up in a table in steps of 16 bytes, …
pub(crate) const FINE_MAX: usize = 1024;
/// … the rest in steps of 128, as above [`FINE_MAX`] every class is a multiple of 128. Finding the highest bit and shifting by it
/// instead costs 7 ns a request (measured on Zen 3, where both are slow).
const COARSE_STEP: usize = 128;

/// How many classes are reached by steps of 16 bytes, and how many such steps there are.
const FINE_CLASSES: usize = 32;
const FINE_STEPS: usize = FINE_MAX / 16 + 1;

/// How many places a table by size has that the fast path indexes with nothing looked up first: one for each step of 16 bytes, one
/// for each larger class.
pub(crate) const PLACES: usize = CLASSES + PLACES_AHEAD;

/// Where the entries for the larger steps begin.
const COARSE: usize = FINE_STEPS;
/// What the place of a class above [`FINE_MAX`] is ahead of its number.
const PLACES_AHEAD: usize = FINE_STEPS - FINE_CLASSES;

/// The class of each step, the two tables one after the other.
static CLASS: [u8; COARSE + MAX_SMALL / COARSE_STEP + 1] = {
    let mut table = [0; _];
    let mut i = 0;
    while i < table.len() {
        let size = match i {
            0 | COARSE => 1,
            COARSE.. => (i - COARSE) * COARSE_STEP,
            _ => i * 16,
        };
        table[i] = class_by_arithmetic(size) as u8;
        i += 1;
    }
    table
};

const fn class_by_arithmetic(size: usize) -> usize {
    if size <= 128 {
        return size.div_ceil(16) - 1;
    }
    let s = size - 1;
    let exponent = s.ilog2() as usize;
    (exponent - 6) * 8 + ((s >> (exponent - 3)) & 7)
}

/// The place for `size` bytes in a table of [`PLACES`], if that is at most 1 KiB.
#[inline(always)]
pub(crate) fn fine_place_of(size: usize) -> Option<usize> {
    (size <= FINE_MAX).then(|| size.div_ceil(16))
}

/// The place for `size` bytes in a table of [`PLACES`]; `size` is at most [`MAX_SMALL`].
#[inline(always)]
pub(crate) fn place_of(size: usize) -> usize {
    fine_place_of(size).unwrap_or_else(|| class_of(size) + PLACES_AHEAD)
}

/// The places of all sizes that `class` serves.
#[inline]
pub(crate) const fn places_of(class: usize) -> Range<usize> {
    match class {
        0 => 0..2,
        1..FINE_CLASSES => class_bytes(class - 1) / 16 + 1..class_bytes(class) / 16 + 1,
        _ => class + PLACES_AHEAD..class + PLACES_AHEAD + 1,
    }
}

/// The class that serves `size` bytes; `size` is at most [`MAX_SMALL`].
#[inline(always)]
pub(crate) fn class_of(size: usize) -> usize {
    debug_assert!(size <= MAX_SMALL);
    let at = if size <= FINE_MAX { size.div_ceil(16) } else { COARSE + size.div_ceil(COARSE_STEP) };
    // SAFETY: at most 64 and 2048 above the first entry of its kind, and there are as many and one more.
    unsafe { *CLASS.get_unchecked(at) as usize }
}

/// The block size of `class`, in bytes.
#[inline]
pub(crate) const fn class_bytes(class: usize) -> usize {
    if class < 8 {
        return (class + 1) * 16;
    }
    let exponent = class / 8 + 6;
    (9 + class % 8) << (exponent - 3)
}

/// How many slices a slab of `class` spans: at least eight blocks, so that its tail wastes little address space.
#[inline]
pub(crate) const fn slab_slices(class: usize) -> usize {
    match class_bytes(class) {
        0..=0x2000 => 1,
        0x2001..=0x10000 => 8,
        _ => 32,
    }
}

/// The class that serves `size` bytes with every block aligned to `align` (a power of two), or `None` if no slab does.
pub(crate) fn aligned_class(size: usize, align: usize) -> Option<usize> {
    if align > SLICE_BYTES || size > MAX_SMALL {
        return None;
    }
    // The powers of two are among the classes, so the search is short.
    (class_of(size.max(align))..CLASSES).find(|&class| aligns(class_bytes(class), align))
}

/// Whether all blocks of so many bytes lie at multiples of `align`, a power of two and at most [`SLICE_BYTES`]: slabs end on slice boundaries,
/// so they do if their size is one.
#[inline(always)]
pub(crate) const fn aligns(block_bytes: usize, align: usize) -> bool {
    block_bytes & (align - 1) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_gets_the_smallest_class_that_holds_it() {
        for size in 0..=MAX_SMALL {
            let class = class_of(size);
            assert!(class < CLASSES && class_bytes(class) >= size, "{size}");
            assert!(class == 0 || class_bytes(class - 1) < size, "{size}");
        }
        assert_eq!(class_bytes(CLASSES - 1), MAX_SMALL);
    }

    #[test]
    fn every_size_has_a_place_among_those_of_its_class() {
        for size in 0..=MAX_SMALL {
            assert!(places_of(class_of(size)).contains(&place_of(size)), "{size}");
            assert!(fine_place_of(size).is_none_or(|place| place == place_of(size)), "{size}");
        }
        let all: Vec<usize> = (0..CLASSES).flat_map(places_of).collect();
        assert_eq!(all, (0..PLACES).collect::<Vec<_>>());
    }

    #[test]
    fn waste_stays_below_an_eighth_from_129_bytes_on() {
        for size in 129..=MAX_SMALL {
            let block = class_bytes(class_of(size));
            assert!((block - size) * 8 <= block, "{size} served by {block}");
        }
    }

    #[test]
    fn aligned_classes_are_multiples_of_the_alignment() {
        for shift in 4..=16 {
            for size in [1, 100, 5000, 70_000, MAX_SMALL] {
                let align = 1 << shift;
                let class = aligned_class(size, align).unwrap();
                assert_eq!(class_bytes(class) % align, 0);
                assert!(class_bytes(class) >= size);
            }
        }
        assert_eq!(aligned_class(1, 128 << 10), None);
    }

    #[test]
    fn a_slab_holds_at_least_eight_blocks() {
        for class in 0..CLASSES {
            assert!(slab_slices(class) * SLICE_BYTES / class_bytes(class) >= 8, "{class}");
        }
    }
}
