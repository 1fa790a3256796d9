//! How often pages are used because blocks are allocated there.
//!
//! Zone: control. A program that allocates one block after another uses each page for a moment only, and is seldom seen to. So the heap
//! counts, by slice, and what it has counted is taken in once a second.
//!
//! What is allocated now is used now, more than what was allocated long ago; how much more is each program's own, and learnt from pages that
//! both are known of.

use super::exp;
use super::map::{Page, Place, SLICE_PAGES, SLICES};
use super::rate::{OCTAVE, code_of_hz};

/// A block that is allocated is written to, read and freed: so many uses each, at least; and so many are believed, at most.
const USES: (f32, f32) = (4.0, 64.0);
/// Pages that it takes to learn how many.
const ENOUGH: usize = 64;
/// More births a second than this on a page, and a rate that is known as well as this, for it to be compared.
const COMPARED: f32 = 0.02;
const KNOWN: i32 = 2 * OCTAVE;
/// The mean is one over some so many seconds.
const MEAN: f32 = 8.0;

/// How many times a page is used for each block that is allocated there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Uses(f32);

impl Default for Uses {
    fn default() -> Uses {
        Uses(USES.0)
    }
}

impl Uses {
    /// `seen`: by how many code units some pages are seen in use more often than blocks are allocated there. The middle one counts.
    pub(super) fn learn(&mut self, seen: &mut [i32]) {
        if seen.len() >= ENOUGH {
            let (_, middle, _) = seen.select_nth_unstable(seen.len() / 2);
            let times = exp::exp2(f64::from(*middle) / f64::from(OCTAVE)) as f32;
            self.0 += (times.clamp(USES.0, USES.1) - self.0) / 4.0;
        }
    }
}

/// Fewer births a second on a page count as none.
const LEAST: f32 = 2.5e-4;

/// Births in an extent.
#[derive(Default)]
pub(super) struct Births {
    /// As counted last, and when; 0 = never.
    counted: [u32; SLICES],
    at: u64,
    /// How often there was one lately on each page of a slice, in Hz, and how often it is used because of that, as a rate code; 0 = never.
    hz: [f32; SLICES],
    rate: [u16; SLICES],
}

impl Births {
    /// Takes in what had been counted by `now`, from any beginning and modulo 2^32.
    pub(super) fn take(&mut self, now: u64, counted: [u32; SLICES], uses: Uses) {
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
            let new = born / seconds / SLICE_PAGES as f32;
            *mean += (new - *mean) * (seconds / MEAN).min(1.0);
            self.rate[slice] = if *mean > LEAST { code_of_hz(f64::from(*mean * uses.0)) } else { 0 };
        }
    }

    /// The rate code of each page of a slice; 0 = nothing is allocated there.
    pub(super) fn rate(&self, slice: usize) -> u16 {
        self.rate[slice]
    }

    /// Adds by how many code units pages in DRAM are seen in use more often than blocks are allocated there. Not those on a device: they are looked
    /// at less often, and what is known of them is older than the births.
    pub(super) fn compare(&self, pages: &[Page], seen: &mut Vec<i32>) {
        let slices = pages.chunks(SLICE_PAGES).zip(self.hz).filter(|(_, hz)| *hz > COMPARED);
        for (pages, hz) in slices {
            let births = i32::from(code_of_hz(f64::from(hz)));
            let is_known = |page: &&Page| !page.heat.is_blank() && page.heat.deviation() <= KNOWN;
            let known = pages.iter().filter(|page| page.place == Place::Dram).filter(is_known);
            seen.extend(known.map(|page| i32::from(page.heat.rate) - births));
        }
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
        births.take(second, counted, Uses::default());
        assert_eq!(births.rate(0), 0, "from any beginning");
        for at in 2..60 {
            counted[3] = counted[3].wrapping_add(16 * 100);
            births.take(at * second, counted, Uses::default());
        }
        let hz = hz_of_code(births.rate(3)) / f64::from(USES.0);
        assert!((90.0..110.0).contains(&hz), "{hz}");
        assert_eq!([births.rate(2), births.rate(4)], [0, 0]);
        for at in 60..200 {
            births.take(at * second, counted, Uses::default());
        }
        assert_eq!(births.rate(3), 0);
    }
}
