//! How often pages are used because blocks are allocated there.
//!
//! Zone: control. A program that allocates one block after another uses each page for a moment only, and is seldom seen to. So the heap
//! counts, by slice, and what it has counted is taken in once a second.

use super::map::{SLICE_PAGES, SLICES};
use super::rate::code_of_hz;

/// A block that is allocated is written to, read and freed: so many uses each, at least.
const USES: f32 = 4.0;
/// The mean is one over some so many seconds.
const MEAN: f32 = 8.0;

/// Births in an extent.
#[derive(Default)]
pub(super) struct Births {
    /// As counted last, and when; 0 = never.
    counted: [u32; SLICES],
    at: u64,
    /// How often each page of a slice is used by them lately, in Hz, and as a rate code; 0 = never.
    hz: [f32; SLICES],
    rate: [u16; SLICES],
}

impl Births {
    /// Takes in what had been counted by `now`, from any beginning and modulo 2^32.
    pub(super) fn take(&mut self, now: u64, counted: [u32; SLICES]) {
        let seconds = now.saturating_sub(self.at) as f32 / 1e9;
        if self.at != 0 && seconds < 0.1 {
            return;
        }
        let before = std::mem::replace(&mut self.counted, counted);
        let at = std::mem::replace(&mut self.at, now);
        if at == 0 || (counted == before && self.rate == [0; SLICES]) {
            return;
        }
        for (slice, mean) in self.hz.iter_mut().enumerate() {
            let born = counted[slice].wrapping_sub(before[slice]) as f32;
            let new = USES * born / seconds / SLICE_PAGES as f32;
            *mean += (new - *mean) * (seconds / MEAN).min(1.0);
            self.rate[slice] = if *mean > 1e-3 { code_of_hz(f64::from(*mean)) } else { 0 };
        }
    }

    /// The rate code of each page of a slice; 0 = nothing is allocated there.
    pub(super) fn rate(&self, slice: usize) -> u16 {
        self.rate[slice]
    }

    /// The slice has changed hands.
    pub(super) fn forget(&mut self, slice: usize) {
        (self.hz[slice], self.rate[slice]) = (0.0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heat::rate::hz_of_code;

    #[test]
    fn pages_where_blocks_are_allocated_are_used_that_often_and_a_while_later_no_more() {
        let (mut births, second) = (Births::default(), 1_000_000_000);
        let mut counted = [u32::MAX - 100; SLICES];
        births.take(second, counted);
        assert_eq!(births.rate(0), 0, "from any beginning");
        for at in 2..60 {
            counted[3] = counted[3].wrapping_add(16 * 100);
            births.take(at * second, counted);
        }
        let hz = hz_of_code(births.rate(3)) / f64::from(USES);
        assert!((90.0..110.0).contains(&hz), "{hz}");
        assert_eq!([births.rate(2), births.rate(4)], [0, 0]);
        for at in 60..200 {
            births.take(at * second, counted);
        }
        assert_eq!(births.rate(3), 0);
    }
}
