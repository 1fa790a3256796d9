//! How slowly the program ran during a window, against its usual pace.
//!
//! Zone: control. A program that waited for input, or for a processor, touched less in the window than its pages' rates
//! foretell. Taken at its word, such a window makes hot pages look cold and the program look changed. So the windows of a
//! round are shortened by the one factor that makes the expected number of touched pages, over the whole heap, equal to the
//! number found. When the program has changed, pages that used to be cold are touched, which no slowness explains: that
//! is still noticed. Nothing is done about a program that runs faster; its rates rise.

use super::smaps::Mapping;
use crate::heat::map::{HeatMap, PAGE_BYTES, PAGES, Place};
use crate::heat::rate::{Estimate, OCTAVE, Window};

/// Pages looked at in mappings of more than one page, at most.
const SAMPLE: usize = 4096;
/// Pages of known rate that it takes to tell the pace.
const ENOUGH: usize = 200;
/// An estimate at least this good counts as known, in code units.
const KNOWN: i32 = 3 * OCTAVE / 2;
/// A pace that differs by less is the usual one: rates stay tied to the clock.
const USUAL: i32 = 3 * OCTAVE / 4;
/// Fewer touches than this foretold in a round, and nothing is a sign of slowness.
const FEW: f64 = 20.0;
/// Slowest pace that is made out.
pub(super) const SLOWEST: i32 = -6 * OCTAVE;
/// A pace is made out to half an octave or so; a round that was slower than this would set its pages apart from all others.
const USEFUL: i32 = -5 * OCTAVE / 4;

/// The pace of one round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// The usual one, or nobody knows.
    Usual,
    /// Slower by so many code units, a negative number.
    Slow(i32),
    /// The program hardly ran: the round tells nothing.
    Asleep,
}

impl Pace {
    /// Whether answers of such a round are worth having.
    pub(super) fn is_useful(self) -> bool {
        match self {
            Pace::Usual => true,
            Pace::Slow(by) => by >= USEFUL,
            Pace::Asleep => false,
        }
    }

    /// The window that a window of this length amounts to.
    pub(super) fn apply(self, window: Window) -> Window {
        match self {
            Pace::Slow(by) => window.stretched(by),
            Pace::Usual | Pace::Asleep => window,
        }
    }
}

/// Finds the pace of a round: `seen` are its mappings by ascending address, each with the time when it was read.
pub(super) fn of(map: &HeatMap, seen: &[(Mapping, u64)], cleared: u64) -> Pace {
    let coarse: usize =
        seen.iter().map(|(m, _)| (m.end - m.start) / PAGE_BYTES).filter(|&pages| pages > 1).sum();
    let stride = coarse.div_ceil(SAMPLE).max(1);
    let mut known: Vec<(Estimate, Window)> = Vec::new();
    let (mut looked, mut touched) = (0, 0.0);
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
                if !extent.is_live(i) || matches!(page.place, Place::Absent) {
                    continue;
                }
                looked += 1;
                if !page.heat.is_blank() && page.heat.deviation() <= KNOWN {
                    known.push((page.heat, window));
                    touched += share;
                }
            }
        }
    }
    if known.len() < ENOUGH || known.len() * 4 < looked {
        return Pace::Usual;
    }
    let expected =
        |by: i32| known.iter().map(|(e, w)| f64::from(w.stretched(by).probability(e))).sum::<f64>();
    if expected(0) < FEW {
        return Pace::Usual;
    }
    if touched <= expected(SLOWEST) {
        return Pace::Asleep;
    }
    if touched >= expected(-USUAL) {
        return Pace::Usual;
    }
    let (mut low, mut high) = (SLOWEST, -USUAL);
    while high - low > OCTAVE / 8 {
        let middle = low.midpoint(high);
        if expected(middle) < touched { low = middle } else { high = middle }
    }
    Pace::Slow(low.midpoint(high))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heat::played;

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
