//! From "so many KiB of this mapping were referenced" to answers about pages.
//!
//! Zone: control. A mapping of one page, or one of which all or nothing was touched, answers for every page exactly.
//! A mixed one cannot be taken apart: it gives pages never looked at a first estimate.

use super::smaps::Mapping;
use crate::heat::map::{HeatMap, PAGE_BYTES, PAGES, Place};
use crate::heat::rate::Window;

/// Answers after which a page is known well enough to be contradicted.
const SURE: u8 = 4;

/// What one reading of smaps said in total.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    /// Pages in memory.
    pub(super) present: u64,
    /// Pages touched in the window.
    pub(super) touched: u64,
    /// Answers about single pages.
    pub(super) answers: u64,
    /// Pages that did what their estimate held to be unlikely, and how many were to be expected.
    pub(super) contradictions: u32,
    /// The expectation.
    pub(super) expected: f64,
    /// Mappings seen.
    pub(super) mappings: u32,
    /// Answers of mappings of a single page.
    pub(super) singles: u32,
    /// When the round before this one began: what was seen since then says little new about the program's habits.
    pub(super) since: u64,
    /// The extent that the last single page belongs to, and whether it had not been seen since then.
    pub(super) fresh: (usize, bool),
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
        now: u64,
        mixed: &mut dyn FnMut(usize, usize, u32),
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
        for extent in &mut extents[self.cursor..] {
            if extent.view.base >= m.end {
                break;
            }
            let from = m.start.saturating_sub(extent.view.base) / PAGE_BYTES;
            let to = ((m.end - extent.view.base) / PAGE_BYTES).min(PAGES);
            let single = to - from == 1;
            if self.fresh.0 != extent.view.base {
                self.fresh = (extent.view.base, extent.zoomed <= self.since);
            }
            let fresh = self.fresh.1;
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
                    if exact && fresh && unlikely < 0.15 {
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
                    if single {
                        self.singles += 1;
                    }
                } else {
                    page.heat.suppose(window.code_of_share(share));
                }
            }
            if single {
                extent.zoomed = now;
            } else if !exact && to - from < PAGES {
                extent.zoomed = now;
                mixed(m.start, to - from, touched);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arena::{ExtentView, Pool};

    fn map_of(n: usize) -> HeatMap {
        let mut map = HeatMap::new();
        map.sync(0, |f| {
            for i in 1..=n {
                f(ExtentView {
                    index: i as u32,
                    base: i << 21,
                    pool: Pool::Default,
                    live: u32::MAX,
                    birth: 1,
                    emptied: 0,
                });
            }
        });
        map
    }

    fn mapping(start: usize, pages: usize, present: u32, touched: u32) -> Mapping {
        Mapping { start, end: start + pages * 4096, rss_kb: present * 4, referenced_kb: touched * 4 }
    }

    const W: u64 = 100_000_000;

    #[test]
    fn an_untouched_mapping_is_a_miss_for_each_of_its_pages() {
        let mut map = map_of(2);
        let mut t = Tally::default();
        t.take(&mut map, &mapping(1 << 21, 512, 512, 0), Window::new(W), 5, &mut |_, _, _| {
            panic!("not mixed")
        });
        assert_eq!(t.answers, 512);
        assert!(map.extents()[0].pages.iter().all(|p| p.heat.seen() == 1 && !p.heat.at_work()));
        assert!(map.extents()[1].pages.iter().all(|p| p.heat.is_blank()));
    }

    #[test]
    fn a_mixed_mapping_gives_unknown_pages_a_first_estimate_and_asks_to_be_refined() {
        let mut map = map_of(1);
        let mut t = Tally::default();
        let mut asked = Vec::new();
        t.take(&mut map, &mapping((1 << 21) + 65536, 16, 16, 5), Window::new(W), 5, &mut |a, n, k| {
            asked.push((a, n, k));
        });
        assert_eq!(asked, [((1 << 21) + 65536, 16, 5)]);
        let e = &map.extents()[0];
        assert!(e.pages[16..32].iter().all(|p| p.heat.rate > 0 && p.heat.seen() == 0));
        assert!(e.pages[..16].iter().all(|p| p.heat.rate == 0));
    }

    #[test]
    fn a_mapping_outside_the_heap_changes_nothing() {
        let mut map = map_of(1);
        let mut t = Tally::default();
        t.take(&mut map, &mapping(0x10_0000, 16, 16, 5), Window::new(W), 5, &mut |_, _, _| panic!());
        t.take(&mut map, &mapping(9 << 21, 16, 16, 5), Window::new(W), 5, &mut |_, _, _| panic!());
        assert_eq!((t.present, t.answers), (0, 0));
    }
}
