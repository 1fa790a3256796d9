//! Whether extents, each as a whole, still do what they used to do.
//!
//! Zone: control. Every round tells what share of each extent was touched, whatever is under the glass. It is compared with what
//! is usual for that extent, not with what is believed about its pages, so that a change is seen however little is known of
//! those. A program that ran slower or faster for a while moves all extents alike: what counts is the distance from the median.
//! And a program that does less has not changed unless it does more elsewhere. An extent out of the ordinary in two rounds has changed, and only what was learnt about its pages becomes doubtful.

use super::smaps::Mapping;
use crate::heat::map::{Extent, HeatMap, PAGE_BYTES, PAGES, Usual};
use crate::heat::rate::{OCTAVE, Window};

/// Fewest pages that are taken for a whole.
const FEWEST: u16 = 16;
/// Windows before an extent is known.
const LEARNT: u8 = 3;
/// Least distance that is out of the ordinary, in code units.
const LEAST: i32 = OCTAVE;
/// So many deviations are out of the ordinary.
const FAR: i32 = 4;
/// The mean distance that is supposed at first, and the most that is believed.
const SWING: (u16, u16) = (OCTAVE as u16 / 4, OCTAVE as u16);
/// Extents that make a median.
const ENOUGH: usize = 8;
/// Shares of touched pages beyond which nothing follows about the rate but that it is lower, or higher.
const TELLING: (f64, f64) = (0.02, 0.98);

/// What a round says, in pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Shift {
    /// In extents that were compared.
    pub(super) compared: u64,
    /// In extents that are out of the ordinary for the first time.
    pub(super) odd: u64,
    /// In extents that have changed.
    pub(super) changed: u64,
}

impl Shift {
    /// Whether so many pages are enough to look again soon, or to call it a change of the program's habits.
    pub(super) fn matters(self, pages: u64) -> bool {
        pages * 50 > self.compared
    }
}

/// Pages of `kb` KiB of the mapping that are the extent's, if they are spread evenly over it.
pub(super) fn part(m: &Mapping, e: &Extent, kb: u32) -> u16 {
    let end = m.end.min(e.view.base + PAGES * PAGE_BYTES);
    (kb as usize / 4 * (end - m.start.max(e.view.base)) / (m.end - m.start)) as u16
}

/// Adds up what the mappings `seen` in the round that began at `cleared`, by ascending address, say of each extent.
fn sum_up(map: &mut HeatMap, seen: &[(Mapping, u64)], cleared: u64) {
    let (extents, mut cursor) = (map.extents_mut(), 0);
    for (m, now) in seen {
        while cursor < extents.len() && extents[cursor].view.base + PAGES * PAGE_BYTES <= m.start {
            cursor += 1;
        }
        for extent in extents[cursor..].iter_mut().take_while(|e| e.view.base < m.end) {
            if extent.answered <= cleared {
                (extent.touched, extent.present) = (0, 0);
            }
            extent.touched += part(m, extent, m.referenced_kb);
            extent.present += part(m, extent, m.rss_kb);
            extent.answered = *now;
        }
    }
}

/// What an extent did in a round.
struct Deed {
    /// The rate that explains it.
    rate: u16,
    /// How far that is from the usual, in code units.
    off: i32,
    /// Rate of one touch in the time for which it was watched.
    unit: u16,
}

/// What an extent did in the round that began at `cleared`.
fn deed(e: &Extent, cleared: u64) -> Option<Deed> {
    if e.answered <= cleared || e.present < FEWEST {
        return None;
    }
    let share = f64::from(e.touched) / f64::from(e.present);
    let window = Window::new(e.answered - cleared);
    let rate = window.code_of_share(share);
    let off = i32::from(rate) - i32::from(e.usual.rate);
    let silent = (share <= TELLING.0 && off > 0) || (share >= TELLING.1 && off < 0);
    Some(Deed { rate, off: if silent { 0 } else { off }, unit: window.unit_code() })
}

/// How far from the usual chance alone takes an extent of so many pages, in code units.
fn chance(e: &Extent) -> i32 {
    let n = f64::from(e.present);
    let p = (f64::from(e.touched) / n).clamp(TELLING.0, TELLING.1);
    let m = -crate::heat::exp::ln(1.0 - p);
    let deviation = crate::heat::exp::pow(p / ((1.0 - p) * n), 0.5) / m;
    (deviation * f64::from(OCTAVE) / core::f64::consts::LN_2) as i32
}

/// How far from the usual an extent of so many pages must be to be out of the ordinary, in code units.
fn bar(e: &Extent, unit: u16) -> i32 {
    // An extent of hot and cold pages seems the hotter the shorter the window: by as much as that is shorter, at most.
    let longer = i32::from(unit) - i32::from(e.usual.unit);
    LEAST.max(FAR * chance(e)).max(FAR * i32::from(e.usual.swing)) + longer.abs()
}

/// Compares what every extent did in the round that began at `cleared` and saw these mappings, by ascending address, with its past, and
/// begins anew with those that have changed.
pub(super) fn compare(map: &mut HeatMap, seen: &[(Mapping, u64)], cleared: u64) -> Shift {
    sum_up(map, seen, cleared);
    judge(map, cleared)
}

fn judge(map: &mut HeatMap, cleared: u64) -> Shift {
    let known = |e: &Extent| e.usual.windows >= LEARNT;
    let mut offs: Vec<i32> = Vec::new();
    for e in map.extents().iter().filter(|e| known(e)) {
        offs.extend(deed(e, cleared).map(|deed| deed.off));
    }
    let middle = offs.len() / 2;
    let pace = if offs.len() < ENOUGH { 0 } else { *offs.select_nth_unstable(middle).1 };
    let rises = |e: &Extent| deed(e, cleared).is_some_and(|d| d.off.min(d.off - pace) > bar(e, d.unit));
    let risen: u64 =
        map.extents().iter().filter(|e| known(e) && rises(e)).map(|e| u64::from(e.present)).sum();
    let mut shift = Shift::default();
    for e in map.extents_mut() {
        let Some(Deed { rate, off, unit }) = deed(e, cleared) else { continue };
        let usual = e.usual;
        if usual.windows == 0 {
            e.usual = Usual { rate, unit, swing: SWING.0, windows: 1, odd: 0 };
            continue;
        }
        let off = off - pace;
        let pages = u64::from(e.present);
        if known(e) {
            shift.compared += pages;
        }
        if !known(e) || off.abs() <= bar(e, unit) {
            // The median's own drift is followed slowly.
            let step = if known(e) { off / 8 } else { off / 2 } + pace / 16;
            let swing = i32::from(usual.swing) + (off.abs() - i32::from(usual.swing)) / 8;
            e.usual = Usual {
                unit: (i32::from(usual.unit) + (i32::from(unit) - i32::from(usual.unit)) / 4) as u16,
                rate: (i32::from(usual.rate) + step).clamp(1, 65535) as u16,
                swing: (swing as u16).min(SWING.1),
                windows: usual.windows.saturating_add(1),
                odd: 0,
            };
        } else if risen < pages {
            // Where nothing to speak of is used more than before, the program only does less.
        } else if usual.odd == 0 {
            e.usual.odd = 1;
            shift.odd += pages;
        } else {
            shift.changed += pages;
            // An extent that changes often has to change more to be noticed.
            let swing = usual.swing.max((off.unsigned_abs() as u16 / 8).min(SWING.1));
            e.usual = Usual { rate, unit, swing, windows: 1, odd: 0 };
            e.surveyed = 0;
            e.pages.iter_mut().for_each(|p| p.heat.unsettle());
        }
    }
    shift
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heat::map::Place;
    use crate::heat::played;

    const W: u64 = 100_000_000;

    struct Heap {
        map: HeatMap,
        now: u64,
    }

    impl Heap {
        fn new(extents: usize) -> Heap {
            let mut map = played::map_of(1..extents + 1);
            let pages = map.extents_mut().iter_mut().flat_map(|e| &mut e.pages);
            pages.for_each(|p| p.place = Place::Dram);
            Heap { map, now: 0 }
        }

        /// A round in which so many pages of extent `i` were touched.
        fn round(&mut self, touched: impl Fn(usize) -> u16) -> Shift {
            let cleared = self.now;
            self.now += W;
            for (i, e) in self.map.extents_mut().iter_mut().enumerate() {
                (e.touched, e.present, e.answered) = (touched(i), PAGES as u16, self.now);
            }
            judge(&mut self.map, cleared)
        }

        fn settled(extents: usize, touched: impl Fn(usize) -> u16) -> Heap {
            let mut heap = Heap::new(extents);
            for round in 0..20 {
                let shift = heap.round(|i| touched(i) + round % 3 * 5);
                assert_eq!((shift.odd, shift.changed), (0, 0));
            }
            heap
        }
    }

    #[test]
    fn an_extent_as_a_whole_is_the_sum_of_its_mappings() {
        let mapping = |start: usize, pages: usize, present: u32, touched: u32| Mapping {
            start,
            end: start + pages * PAGE_BYTES,
            rss_kb: present * 4,
            referenced_kb: touched * 4,
        };
        let mut heap = Heap::new(3);
        for cleared in [10, 20] {
            let base = 1 << 21;
            let seen = [
                mapping(base, 1, 1, 1),
                mapping(base + PAGE_BYTES, 511, 400, 50),
                mapping(2 << 21, 1024, 1024, 512),
            ];
            sum_up(&mut heap.map, &seen.map(|m| (m, cleared + 5)), cleared);
            let wholes: Vec<_> = heap.map.extents().iter().map(|e| (e.touched, e.present)).collect();
            assert_eq!(wholes, [(51, 401), (256, 512), (256, 512)]);
        }
    }

    fn first_hot(i: usize) -> u16 {
        if i < 4 { 300 } else { 20 }
    }

    fn others_hot(i: usize) -> u16 {
        if (4..8).contains(&i) { 300 } else { 20 }
    }

    #[test]
    fn extents_that_change_places_are_noticed_in_two_rounds() {
        let mut heap = Heap::settled(20, first_hot);
        let first = heap.round(others_hot);
        assert_eq!((first.odd, first.changed), (8 * 512, 0));
        assert!(first.matters(first.odd));
        let second = heap.round(others_hot);
        assert_eq!((second.odd, second.changed), (0, 8 * 512));
        assert_eq!(heap.round(others_hot).changed, 0, "what they do now is the usual");
    }

    #[test]
    fn only_what_was_learnt_about_changed_extents_becomes_doubtful() {
        let mut heap = Heap::settled(20, first_hot);
        let w = Window::new(W);
        let pages = heap.map.extents_mut().iter_mut().flat_map(|e| &mut e.pages);
        pages.for_each(|p| (0..9).for_each(|_| w.hit(&mut p.heat)));
        (0..2).for_each(|_| assert!(heap.round(others_hot).compared > 0));
        let doubtful: Vec<_> = heap.map.extents().iter().map(|e| e.pages[7].heat.seen() == 0).collect();
        assert!((0..20).all(|i| doubtful[i] == (i < 8)), "{doubtful:?}");
    }

    #[test]
    fn a_program_that_runs_at_a_quarter_of_its_pace_has_not_changed() {
        let mut heap = Heap::settled(20, first_hot);
        // 300 of 512 touched in a window, or 100 in a quarter of it; 20, or 5.
        for _ in 0..50 {
            let shift = heap.round(|i| if i < 4 { 101 } else { 5 });
            assert_eq!((shift.odd, shift.changed), (0, 0));
        }
    }

    #[test]
    fn a_window_of_another_length_is_no_change() {
        let mut heap = Heap::settled(20, first_hot);
        // Hot pages are touched in any window; of the cold ones, four times as many in one four times as long.
        let cleared = heap.now;
        heap.now += 4 * W;
        for (i, e) in heap.map.extents_mut().iter_mut().enumerate() {
            (e.touched, e.answered) = (if i < 4 { 320 } else { 80 }, heap.now);
        }
        assert_eq!(judge(&mut heap.map, cleared).odd, 0);
    }

    #[test]
    fn a_program_that_falls_asleep_has_not_changed_and_one_that_goes_elsewhere_has() {
        let mut heap = Heap::settled(20, first_hot);
        for _ in 0..20 {
            let shift = heap.round(|_| 0);
            assert_eq!((shift.odd, shift.changed), (0, 0));
        }
        // Two extents are all that is used now.
        let only = |i: usize| if (10..12).contains(&i) { 300 } else { 0 };
        let changed: u64 = (0..2).map(|_| heap.round(only).changed).sum();
        assert_eq!(changed, 6 * 512);
    }

    #[test]
    fn one_odd_round_changes_nothing() {
        let mut heap = Heap::settled(20, first_hot);
        assert!(heap.round(others_hot).odd > 0);
        assert_eq!(heap.round(first_hot), Shift { compared: 20 * 512, odd: 0, changed: 0 });
    }

    #[test]
    fn an_extent_that_always_swings_is_left_alone() {
        let mut heap = Heap::settled(20, first_hot);
        let mut changes = 0;
        for round in 0..100 {
            let shift = heap.round(|i| if i == 9 && round / 2 % 2 == 0 { 200 } else { first_hot(i) });
            changes += u64::from(shift.changed > 0 && round > 50);
        }
        assert!(changes <= 5, "{changes}");
    }
}
