//! At what pace the program ran during a round, by what its mappings say.
//!
//! Zone: control. [`crate::heat::pace`] says what it is good for.

use super::smaps::Mapping;
use crate::heat::map::{HeatMap, PAGE_BYTES, PAGES, Place};
use crate::heat::pace::{Pace, Witnesses};
use crate::heat::rate::Window;

/// Pages looked at in mappings of more than one page, at most.
const SAMPLE: usize = 4096;

/// Finds the pace of a round: `seen` are its mappings by ascending address, each with the time when it was read.
pub(super) fn of(map: &HeatMap, seen: &[(Mapping, u64)], cleared: u64) -> Pace {
    let coarse: usize =
        seen.iter().map(|(m, _)| (m.end - m.start) / PAGE_BYTES).filter(|&pages| pages > 1).sum();
    let stride = coarse.div_ceil(SAMPLE).max(1);
    let mut witnesses = Witnesses::default();
    let (extents, mut cursor) = (map.extents(), 0);
    for (m, now) in seen {
        while cursor < extents.len() && extents[cursor].view.base + PAGES * PAGE_BYTES <= m.start {
            cursor += 1;
        }
        if m.rss_kb == 0 {
            continue;
        }
        let window = Window::new(now.saturating_sub(cleared));
        let share = f64::from(m.referenced_kb) / f64::from(m.rss_kb);
        let step = if m.end - m.start == PAGE_BYTES { 1 } else { stride };
        for extent in extents[cursor..].iter().take_while(|e| e.view.base < m.end) {
            let from = m.start.saturating_sub(extent.view.base) / PAGE_BYTES;
            let to = ((m.end - extent.view.base) / PAGE_BYTES).min(PAGES);
            for i in (from..to).step_by(step) {
                let page = &extent.pages[i];
                if extent.is_live(i) && !matches!(page.place, Place::Absent) {
                    witnesses.hear(&page.heat, window, share);
                }
            }
        }
    }
    witnesses.pace()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heat::played;
    use crate::heat::rate::OCTAVE;

    const W: u64 = 50_000_000;

    /// A map of `n` extents, in each of which every third page has been touched in 20 windows and the others in none.
    fn map_of(n: usize) -> HeatMap {
        let mut map = played::map_of(1..n + 1);
        let w = Window::new(W);
        for e in map.extents_mut() {
            for (i, page) in e.pages.iter_mut().enumerate() {
                page.place = Place::Dram;
                for round in 0..20 {
                    if i % 3 == 0 && round % 4 != 0 {
                        w.hit(&mut page.heat);
                    } else {
                        w.miss(&mut page.heat);
                    }
                }
            }
        }
        map
    }

    fn round(n: usize, touched: u32) -> Vec<(Mapping, u64)> {
        let mapping = |i: usize| Mapping {
            start: i << 21,
            end: (i + 1) << 21,
            rss_kb: 2048,
            referenced_kb: touched * 4,
        };
        (1..=n).map(|i| (mapping(i), W)).collect()
    }

    #[test]
    fn at_the_usual_pace_windows_are_what_they_are() {
        assert_eq!(of(&map_of(4), &round(4, 128), 0), Pace::Usual);
        assert_eq!(of(&map_of(4), &round(4, 500), 0), Pace::Usual, "or faster");
    }

    #[test]
    fn a_program_that_ran_for_an_eighth_of_the_window_is_known_by_it() {
        let Pace::Slow(by) = of(&map_of(4), &round(4, 27), 0) else { panic!("not noticed") };
        assert!((-4 * OCTAVE..-2 * OCTAVE).contains(&by), "{by}");
        assert_eq!(of(&map_of(4), &round(4, 0), 0), Pace::Asleep);
    }

    #[test]
    fn of_pages_nobody_knows_nothing_follows() {
        let mut map = map_of(4);
        map.extents_mut().iter_mut().flat_map(|e| &mut e.pages).for_each(|p| p.heat.unsettle());
        assert_eq!(of(&map, &round(4, 10), 0), Pace::Usual);
    }
}
