//! What it is worth to look at pages more closely.
//!
//! Zone: control. A page is contested that may belong on either side of the cut, for all that is known of it. What knowing is worth is how
//! many of its accesses are on the wrong side, by the same, if the page stays where it is: the hotter it may be, the more. Over all pages,
//! that is the share of accesses that is still to be gained.

use crate::heat::exp;
use crate::heat::map::{Extent, PAGES, Place, SLICE_PAGES};
use crate::heat::rate::OCTAVE;

/// What a choice depends on.
pub(super) struct View {
    pub(super) now: u64,
    /// Extents not seen since then come first.
    pub(super) since: u64,
    /// Rate code that separates what should be in DRAM from what should not; 0 = not known.
    pub(super) cut: u16,
}

/// A deviation that further looks hardly make smaller, in code units.
const KNOWN: i32 = OCTAVE * 3 / 4;
/// So many deviations from the cut a page is out of question.
const FAR: i32 = 2;

/// Answers after which a page is taken to have answered for itself.
const ANSWERED: u8 = 2;

/// Whether page `i` may belong on either side of the cut, for all that is known of it.
fn is_contested(e: &Extent, i: usize, view: &View) -> bool {
    let doubt = e.deviation(i, view.now);
    let off = i32::from(e.effective(i, view.now)) - i32::from(view.cut);
    doubt > KNOWN && off.abs() < doubt * FAR
}

/// Whether page `i` is worth a look: it is contested, and if it has answered before, by more than a tail of what it may be.
fn is_promising(e: &Extent, i: usize, view: &View) -> bool {
    let off = i32::from(e.effective(i, view.now)) - i32::from(view.cut);
    is_contested(e, i, view) && (e.pages[i].heat.seen() < ANSWERED || off.abs() < e.deviation(i, view.now))
}

/// The contested pages of slice `s`.
pub(super) fn contested_in(e: &Extent, s: usize, view: &View) -> impl Iterator<Item = usize> {
    (s * SLICE_PAGES..(s + 1) * SLICE_PAGES).filter(move |&i| e.is_there(i) && is_contested(e, i, view))
}

// The tables of Worth: by deviation, in quarters of an octave, and by distance from the cut, in halves.
const LEVELS: usize = 16;
const REACH: i32 = 16;
const DISTANCES: usize = 2 * REACH as usize + 1;
/// So much surprise, in quarters of a bit, is a sign of a page that is always touched, and what it is taken to be worth, in accesses at the rate of the cut.
const SURPRISING: u8 = 4 * 4;
const HOT: f32 = 50.0;
/// Samples of a normal distribution.
const SAMPLES: i32 = 32;

/// What it is worth to know the rate of a page, in accesses at the rate of the cut.
pub(super) struct Worth {
    on_device: Vec<[f32; DISTANCES]>,
    in_dram: Vec<[f32; DISTANCES]>,
}

impl Default for Worth {
    fn default() -> Self {
        let mut worth =
            Worth { on_device: vec![[0.0; DISTANCES]; LEVELS], in_dram: vec![[0.0; DISTANCES]; LEVELS] };
        for (level, at) in (0..LEVELS).flat_map(|level| (0..DISTANCES).map(move |at| (level, at))) {
            let (deviation, off) = (level as f64 / 4.0, f64::from(at as i32 - REACH) / 2.0);
            let (mut more, mut less, mut all) = (0.0, 0.0, 0.0);
            for sample in -SAMPLES..=SAMPLES {
                let z = 2.5 * f64::from(sample) / f64::from(SAMPLES);
                let (weight, times) = (exp::exp(-z * z / 2.0), exp::exp2(off + deviation * z));
                all += weight;
                more += weight * (times - 1.0).max(0.0);
                less += weight * (1.0 - times).max(0.0);
            }
            (worth.on_device[level][at], worth.in_dram[level][at]) =
                ((more / all) as f32, (less / all) as f32);
        }
        worth
    }
}

impl Worth {
    /// The accesses that an extent's pages in DRAM serve, at the rate of the cut.
    pub(super) fn heat(&self, e: &Extent, view: &View) -> f32 {
        let pages = (0..PAGES).filter(|&i| e.is_live(i) && e.pages[i].place == Place::Dram);
        let above = &self.on_device[0];
        let rate = |i: usize| {
            let off = i32::from(e.effective(i, view.now)) - i32::from(view.cut);
            if off < 0 { 0.5 } else { 1.0 + above[(off / (OCTAVE / 2) + REACH).min(2 * REACH) as usize] }
        };
        pages.map(rate).sum()
    }

    /// That of slice `s`.
    pub(super) fn of(&self, e: &Extent, s: usize, view: &View) -> f32 {
        let pages =
            (s * SLICE_PAGES..(s + 1) * SLICE_PAGES).filter(|&i| e.is_there(i) && is_promising(e, i, view));
        let worth = |i: usize| {
            let off = i32::from(e.effective(i, view.now)) - i32::from(view.cut);
            let at = (off / (OCTAVE / 2) + REACH).clamp(0, 2 * REACH) as usize;
            let level = (e.deviation(i, view.now) / (OCTAVE / 4)).clamp(0, LEVELS as i32 - 1) as usize;
            let table = if e.pages[i].place == Place::Dram { &self.in_dram } else { &self.on_device };
            table[level][at]
        };
        let known: f32 = pages.map(worth).sum();
        let hot = |i: usize| e.pages[i].heat.seen() >= ANSWERED && e.effective(i, view.now) > view.cut;
        let surprising = e.surprise[s] >= SURPRISING
            && !(s * SLICE_PAGES..(s + 1) * SLICE_PAGES).any(hot)
            && contested_in(e, s, view).any(|i| e.pages[i].place == Place::Device);
        // One page that nobody knows, as hot as it takes.
        if surprising { known.max(HOT) } else { known }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heat::played;
    use crate::heat::rate::Estimate;

    /// What a slice on the device is worth, of all of whose pages this is known.
    fn worth(heat: Estimate) -> f32 {
        let mut map = played::map_of(1..2);
        let e = &mut map.extents_mut()[0];
        for page in &mut e.pages {
            (page.heat, page.place) = (heat, Place::Device);
        }
        Worth::default().of(e, 0, &View { now: 1, since: 0, cut: 30_000 })
    }

    #[test]
    fn of_pages_alike_in_doubt_the_one_that_may_be_hotter_is_worth_more() {
        let [cold, middle, hot] = [26_000, 29_000, 32_000].map(|rate| worth(Estimate::expected(rate)));
        assert!(0.0 < cold && cold < middle && middle < hot, "{cold} {middle} {hot}");
    }

    #[test]
    fn what_is_known_is_worth_nothing() {
        assert_eq!(worth(Estimate::known(34_000, true)), 0.0);
        assert_eq!(worth(Estimate::known(26_000, false)), 0.0);
    }
}
