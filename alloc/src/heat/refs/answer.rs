//! From "so many KiB of this mapping were referenced" to answers about pages.
//!
//! Zone: control. A mapping of one page, or one of which all or nothing was touched, answers for every page exactly.
//! A mixed one says how many of its pages were touched, not which: each gets the probability that it was one of them, by what was known of it
//! and of the others ([`Odds`]).

use super::smaps::Mapping;
use crate::heat::exp;
use crate::heat::map::{Extent, HeatMap, PAGE_BYTES, PAGES, Place, SLICE_PAGES};
use crate::heat::rate::Window;

/// One round is no more than so much of a surprise, in quarters of a bit: it takes two.
const MOST_BITS: f64 = 8.0;
/// Answers after which a page is known well enough to be contradicted.
const SURE: u8 = 4;

/// What one reading of smaps said in total.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Pages in memory.
    pub(super) present: u64,
    /// Pages touched in the window.
    pub(super) touched: u64,
    /// Answers about single pages.
    pub(super) answers: u64,
    /// Single pages that did what their estimate held to be unlikely, and how many were to be expected.
    pub(super) contradictions: u32,
    pub(super) expected: f64,
    /// What was foretold of the slices that were mappings of their own, and of extents that were one mapping, with their place in the map.
    pub(super) slices: Vec<Forecast>,
    pub(super) wholes: Vec<(usize, Forecast)>,
    /// Mappings seen.
    pub(super) mappings: u32,
    /// Mappings of less than an extent.
    pub(super) looks: u64,
    /// Where the last mapping's extent was found; mappings come by ascending address.
    pub(super) cursor: usize,
}

impl Tally {
    /// Share of pages touched.
    pub(super) fn share(&self) -> f64 {
        if self.present == 0 { 0.0 } else { self.touched as f64 / self.present as f64 }
    }

    /// Takes one mapping, seen over `window`, into the map. `mixed(address, pages)` is called when a mapping of
    /// fewer pages than an extent turned out to be partly touched.
    pub(super) fn take(
        &mut self,
        map: &mut HeatMap,
        m: &Mapping,
        window: Window,
        mixed: &mut dyn FnMut(usize, usize),
    ) {
        let (present, touched) = (m.rss_kb / 4, m.referenced_kb / 4);
        self.mappings += 1;
        let extents = map.extents_mut();
        while self.cursor < extents.len() && extents[self.cursor].view.base + PAGES * PAGE_BYTES <= m.start {
            self.cursor += 1;
        }
        if self.cursor >= extents.len() || extents[self.cursor].view.base >= m.end {
            return;
        }
        self.present += u64::from(present);
        self.touched += u64::from(touched);
        if present == 0 {
            return;
        }
        let share = f64::from(touched) / f64::from(present);
        let exact = touched == 0 || touched >= present;
        let is_slice = m.end - m.start == SLICE_PAGES * PAGE_BYTES;
        let odds = if exact && !is_slice {
            Odds::EVEN
        } else {
            Odds::new(&extents[self.cursor..], m, window, share)
        };
        self.slices.extend(odds.forecast.filter(|_| is_slice));
        if m.start == extents[self.cursor].view.base && m.end - m.start == PAGES * PAGE_BYTES {
            self.wholes.extend(odds.forecast.map(|forecast| (self.cursor, forecast)));
        }
        for extent in &mut extents[self.cursor..] {
            if extent.view.base >= m.end {
                break;
            }
            let from = m.start.saturating_sub(extent.view.base) / PAGE_BYTES;
            let to = ((m.end - extent.view.base) / PAGE_BYTES).min(PAGES);
            let single = to - from == 1;
            for i in from..to {
                if !extent.is_live(i) {
                    continue;
                }
                let page = &mut extent.pages[i];
                if single {
                    // A page that answers is there, whatever was known before.
                    if matches!(page.place, Place::Absent) {
                        page.place = Place::Unknown;
                    }
                } else if matches!(page.place, Place::Absent) {
                    continue;
                }
                if page.heat.seen() >= SURE {
                    let p = f64::from(window.probability(&page.heat));
                    let unlikely = p.min(1.0 - p);
                    if single && unlikely < 0.15 {
                        self.expected += unlikely;
                        self.contradictions += u32::from((touched > 0) != (p > 0.5));
                    }
                }
                if exact {
                    if touched == 0 {
                        window.miss(&mut page.heat);
                    } else {
                        window.hit(&mut page.heat);
                    }
                    self.answers += 1;
                } else {
                    let prior =
                        if page.heat.is_blank() { share as f32 } else { window.probability(&page.heat) };
                    window.shared(&mut page.heat, odds.of(prior));
                }
            }
            if to - from <= SLICE_PAGES / 4 {
                extent.surprise[from / SLICE_PAGES] = 0; // what it was about is looked into
            }
            if to - from < PAGES {
                self.looks += 1;
                if !exact {
                    mixed(m.start, to - from);
                }
            }
        }
    }
}

/// Notes how far extents that were one mapping are from what was foretold of each, as a multiple of how far they are on average: where a part of one
/// has changed, its pages touched are too many, or too few, long before anybody looks closer.
pub(super) fn note_unlike(map: &mut HeatMap, wholes: &[(usize, Forecast)]) {
    let pace = pace_of(wholes.iter().map(|(_, whole)| whole));
    let off = |f: &Forecast| f.off(pace) / f.variance.max(1.0).sqrt();
    let all: f32 = wholes.iter().map(|(_, f)| off(f)).sum();
    let usual = (all / wholes.len().max(1) as f32).max(1.0);
    for (i, f) in wholes {
        map.extents_mut()[*i].unlike = off(f) / usual;
    }
}

/// Notes which slices that were mappings of their own were touched in a round, and how unlikely that was for slices of that round. A slice of
/// cold pages is touched now and then, one with a single hot page every time, and of neither is much known about any page.
pub(super) fn note_surprises(map: &mut HeatMap, seen: &[(Mapping, u64)]) {
    let is_slice = |m: &Mapping| m.end - m.start == SLICE_PAGES * PAGE_BYTES && m.rss_kb > 0;
    let slices = seen.iter().map(|(m, _)| m).filter(|m| is_slice(m));
    // Where all is cleared at once, mappings that are none of the heap's were seen as well.
    let slices: Vec<(usize, &Mapping)> = slices.filter_map(|m| Some((map.find(m.start)?, m))).collect();
    let touched = slices.iter().filter(|(_, m)| m.referenced_kb > 0).count();
    if touched == 0 {
        return;
    }
    let bits = (-4.0 * exp::log2(touched as f64 / slices.len() as f64)).min(MOST_BITS) as u8;
    for (i, m) in slices {
        let extent = &mut map.extents_mut()[i];
        let surprise = &mut extent.surprise[(m.start - extent.view.base) / PAGE_BYTES / SLICE_PAGES];
        *surprise = if m.referenced_kb > 0 { surprise.saturating_add(bits) } else { 0 };
    }
}

/// By how much more, or less, likely each page of a mixed mapping was touched than its estimate holds: one factor to all of their odds, such
/// that as many are to be expected as were found.
#[derive(Clone, Copy, Debug)]
struct Odds {
    factor: f32,
    /// If all of the pages are known.
    forecast: Option<Forecast>,
}

/// How many pages of a mapping were touched, of how many, and what their estimates foretold: the mean and the variance.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Forecast {
    pub(super) found: f32,
    pub(super) pages: f32,
    pub(super) mean: f32,
    pub(super) variance: f32,
}

impl Forecast {
    /// How many pages it is off, at a pace that [`pace_of`] found.
    pub(super) fn off(&self, pace: f32) -> f32 {
        (self.found - (pace * self.mean).min(self.pages)).abs()
    }
}

/// How many times as many pages were touched, all together, as foretold, within bounds: a program that runs faster, or slower, has not changed.
pub(super) fn pace_of<'a>(all: impl Iterator<Item = &'a Forecast>) -> f32 {
    let (found, mean) = all.fold((0.0, 0.0), |(found, mean), f| (found + f.found, mean + f.mean));
    (found / f32::max(mean, 1.0)).clamp(0.5, 2.0)
}

/// Bins of the odds, two an octave, around 1.
const BINS: usize = 40;

impl Odds {
    const EVEN: Odds = Odds { factor: 1.0, forecast: None };

    /// For the mapping `m`, of whose pages the fraction `share` was touched; it begins in the first of `extents`.
    fn new(extents: &[Box<Extent>], m: &Mapping, window: Window, share: f64) -> Odds {
        let mut bins = [0.0f64; BINS];
        let (mut all, mut mean, mut variance, mut known) = (0.0, 0.0f32, 0.0f32, true);
        for extent in extents.iter().take_while(|e| e.view.base < m.end) {
            let from = m.start.saturating_sub(extent.view.base) / PAGE_BYTES;
            let to = ((m.end - extent.view.base) / PAGE_BYTES).min(PAGES);
            for i in (from..to).filter(|&i| extent.is_live(i)) {
                let page = &extent.pages[i];
                if matches!(page.place, Place::Absent) {
                    continue;
                }
                let p = if page.heat.is_blank() { share as f32 } else { window.probability(&page.heat) };
                bins[Odds::bin(p)] += 1.0;
                all += 1.0;
                known &= !page.heat.is_blank();
                mean += p;
                variance += p * (1.0 - p);
            }
        }
        let (wanted, mut shift) = (share * all, 0.0f64);
        let forecast = known.then_some(Forecast { found: wanted as f32, pages: all as f32, mean, variance });
        if share == 0.0 || share >= 1.0 {
            return Odds { forecast, ..Odds::EVEN };
        }
        // Newton's method, from where each page's odds are its own.
        for _ in 0..8 {
            let (mut sum, mut slope) = (0.0, 0.0);
            for (bin, &n) in bins.iter().enumerate().filter(|(_, n)| **n > 0.0) {
                let q = 1.0 / (1.0 + exp::exp(-(Odds::middle(bin) + shift)));
                sum += n * q;
                slope += n * q * (1.0 - q);
            }
            let step = ((wanted - sum) / slope.max(1e-6)).clamp(-2.0, 2.0);
            shift += step;
            if step.abs() < 0.05 {
                break;
            }
        }
        Odds { factor: exp::exp(shift) as f32, forecast }
    }

    /// The bin of a probability: its odds' exponent, and the upper bit of the fraction.
    fn bin(p: f32) -> usize {
        let octaves = (p / (1.0 - p).max(1e-6)).to_bits() >> 22;
        (octaves as i32 - 2 * 127 + BINS as i32 / 2).clamp(0, BINS as i32 - 1) as usize
    }

    /// The natural logarithm of the odds in the middle of a bin.
    fn middle(bin: usize) -> f64 {
        (bin as f64 - (BINS / 2) as f64 + 0.5) / 2.0 * core::f64::consts::LN_2
    }

    /// The probability that a page was touched, which was `prior` before.
    fn of(self, prior: f32) -> f32 {
        let odds = self.factor * prior / (1.0 - prior).max(1e-6);
        odds / (1.0 + odds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heat::played;
    use crate::heat::rate::{FINE, OCTAVE};

    fn map_of(n: usize) -> HeatMap {
        played::map_of(1..n + 1)
    }

    fn mapping(start: usize, pages: usize, present: u32, touched: u32) -> Mapping {
        Mapping { start, end: start + pages * 4096, rss_kb: present * 4, referenced_kb: touched * 4 }
    }

    const W: u64 = 100_000_000;

    #[test]
    fn an_untouched_mapping_is_a_miss_for_each_of_its_pages() {
        let mut map = map_of(2);
        let mut t = Tally::default();
        t.take(&mut map, &mapping(1 << 21, 512, 512, 0), Window::new(W), &mut |_, _| panic!("not mixed"));
        assert_eq!(t.answers, 512);
        assert!(map.extents()[0].pages.iter().all(|p| p.heat.seen() == 1 && !p.heat.at_work()));
        assert!(map.extents()[1].pages.iter().all(|p| p.heat.is_blank()));
    }

    #[test]
    fn a_mixed_mapping_gives_unknown_pages_a_first_estimate_and_asks_to_be_refined() {
        let mut map = map_of(1);
        let mut t = Tally::default();
        let mut asked = Vec::new();
        t.take(&mut map, &mapping((1 << 21) + 65536, 16, 16, 5), Window::new(W), &mut |a, n| {
            asked.push((a, n));
        });
        assert_eq!(asked, [((1 << 21) + 65536, 16)]);
        let e = &map.extents()[0];
        assert!(e.pages[16..32].iter().all(|p| p.heat.rate > 0 && p.heat.seen() == 0));
        assert!(e.pages[..16].iter().all(|p| p.heat.rate == 0));
    }

    #[test]
    fn of_a_mixed_mapping_the_page_that_is_known_to_be_hot_was_touched_and_the_cold_ones_were_not() {
        let mut map = map_of(1);
        for (i, page) in map.extents_mut()[0].pages.iter_mut().enumerate() {
            let octaves = if i == 21 { 2 } else { -5 };
            page.heat.rate = (i32::from(Window::new(W).unit_code()) + octaves * OCTAVE) as u16;
            page.heat.doubt = (FINE / 2) as u8;
        }
        let before = map.extents()[0].pages[21].heat;
        let slice = mapping((1 << 21) + 65536, 16, 16, 1);
        let mut t = Tally::default();
        t.take(&mut map, &slice, Window::new(W), &mut |_, _| ());
        let pages = &map.extents()[0].pages;
        assert!(pages[21].heat.rate.abs_diff(before.rate) < OCTAVE as u16 / 4 && pages[21].heat.at_work());
        assert!(pages[20].heat.rate < before.rate - 6 * OCTAVE as u16);
        assert!((t.slices[0].mean - 1.5).abs() < 0.5 && t.slices[0].found == 1.0, "{:?}", t.slices);
        // Almost all of it touched where only one page used to be: all may be hotter than was thought.
        let cold = pages[20].heat;
        t.take(&mut map, &mapping((1 << 21) + 65536, 16, 16, 15), Window::new(W), &mut |_, _| ());
        let now = map.extents()[0].pages[20].heat;
        assert!(now.rate > cold.rate + OCTAVE as u16 / 4 && now.doubt > 2 * cold.doubt, "{cold:?} {now:?}");
    }

    #[test]
    fn a_slice_that_is_touched_each_time_when_others_are_not_is_a_surprise() {
        let mut map = map_of(4);
        for _ in 0..4 {
            let slices = (0..64).map(|s| mapping((1 << 21) + s * 65536, 16, 16, u32::from(s % 16 == 5)));
            note_surprises(&mut map, &slices.map(|m| (m, 0)).collect::<Vec<_>>());
        }
        assert_eq!(map.extents()[0].surprise[5], 4 * 8, "two bits each time, though it was one of sixteen");
        assert_eq!(map.extents()[0].surprise[6], 0);
        note_surprises(&mut map, &[(mapping((1 << 21) + 5 * 65536, 16, 16, 0), 0)]);
        note_surprises(&mut map, &[(mapping((1 << 21) + 6 * 65536, 16, 16, 3), 0)]);
        assert_eq!(map.extents()[0].surprise[6], 0, "nor is it when all are");
    }

    #[test]
    fn a_mapping_outside_the_heap_changes_nothing() {
        let mut map = map_of(1);
        let mut t = Tally::default();
        t.take(&mut map, &mapping(0x10_0000, 16, 16, 5), Window::new(W), &mut |_, _| panic!());
        t.take(&mut map, &mapping(9 << 21, 16, 16, 5), Window::new(W), &mut |_, _| panic!());
        assert_eq!((t.present, t.answers), (0, 0));
    }
}
