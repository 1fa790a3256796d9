//! Whether blocks of different allocation sites are kept on different pages.
//!
//! It costs every small allocation of a class with several sites the slow path, and pays only if the sites' blocks differ in heat. So it is
//! begun when the heap will soon not fit in DRAM, for what is allocated from then on, and given up when the groups of sites
//! ([`crate::arena::sites`]) turn out alike, until the heap is twice as large. Meanwhile the groups foretell: new pages of one are expected to be
//! used as its others are.

use crate::arena::Pool;
use crate::heat::map::{HeatMap, PAGES};
use crate::heat::rate::OCTAVE;

const S: u64 = 1_000_000_000;

/// It is judged for the first time after so long, which a tracker needs to see everything, and then this often.
const TRIAL: u64 = 120 * S;
const PERIOD: u64 = 30 * S;

/// The groups are looked at this often.
const LOOK: u64 = 5 * S;

/// Given up when found useless so many times running.
const VAIN: u8 = 3;

/// What so many pages of a group are used like, others will be.
const FEWEST: u64 = 64;

/// A group counts if it has this share of all pages, one in so many, …
const LEAST: u64 = 100;

/// … and two groups are unlike if the means of their pages' rates are so far apart.
const UNLIKE: u16 = OCTAVE as u16;

/// The present decision.
#[derive(Default, Debug)]
pub struct Segregation {
    apart: bool,
    /// When it is judged next, and when the groups are looked at.
    next: u64,
    /// See `next`.
    look: u64,
    vain: u8,
    /// Extents of the heap when it was given up; 0 = it was not.
    given_up_at: usize,
}

impl Segregation {
    /// Whether sites are to be kept apart at time `now`, when the heap will `soon` not fit in DRAM, or does not. While they are, `map` is told
    /// what to expect of new pages.
    pub fn decide(&mut self, now: u64, soon: bool, map: &mut HeatMap) -> bool {
        if !self.apart {
            if soon && map.extents().len() >= 2 * self.given_up_at {
                *self =
                    Segregation { apart: true, next: now + TRIAL, look: now + LOOK, vain: 0, given_up_at: 0 };
            }
            return self.apart;
        }
        if now >= self.look {
            self.look = now + LOOK;
            let groups = Groups::of(map);
            map.expect(&groups.rates);
            if now >= self.next {
                self.next = now + PERIOD;
                self.vain = if groups.unlike { 0 } else { self.vain + 1 };
            }
            if self.vain == VAIN {
                self.apart = false;
                self.given_up_at = map.extents().len().max(1);
                map.expect(&[0; Pool::COUNT]);
            }
        }
        self.apart
    }
}

/// What is known of the groups of sites.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Groups {
    /// The mean rate of each pool's pages that were looked at; 0 = too few, or no group.
    pub rates: [u16; Pool::COUNT],
    /// Whether two of those with many pages are unlike.
    unlike: bool,
}

impl Groups {
    /// Looks at every page.
    #[must_use]
    pub fn of(map: &HeatMap) -> Groups {
        let (mut sums, mut counts, mut all) = ([0u64; Pool::COUNT], [0u64; Pool::COUNT], 0);
        for extent in map.extents() {
            let pool = extent.view.pool as usize;
            for i in (0..PAGES).filter(|&i| extent.is_there(i)) {
                let heat = extent.pages[i].heat;
                all += 1;
                if heat.seen() > 0 {
                    sums[pool] += u64::from(heat.rate);
                    counts[pool] += 1;
                }
            }
        }
        let mut groups = Groups { rates: [0; Pool::COUNT], unlike: false };
        let (mut least, mut most) = (u16::MAX, 0);
        for pool in Pool::ALL.into_iter().filter(|pool| pool.is_group()).map(|pool| pool as usize) {
            if counts[pool] >= FEWEST {
                groups.rates[pool] = (sums[pool] / counts[pool]) as u16;
                if counts[pool] * LEAST >= all {
                    (least, most) = (least.min(groups.rates[pool]), most.max(groups.rates[pool]));
                }
            }
        }
        groups.unlike = most.saturating_sub(least) >= UNLIKE;
        groups
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arena::ExtentView;
    use crate::heat::map::Place;
    use crate::heat::rate::{Estimate, ONE_HZ};

    /// A map of one extent a pool, all its pages used 2^`octave` times a second; `None` = never looked at.
    fn map_of(pools: &[(Pool, Option<i32>)]) -> HeatMap {
        let mut map = HeatMap::new();
        map.sync(0, |add| {
            for (i, &(pool, _)) in pools.iter().enumerate() {
                let base = (i + 1) << 21;
                add(ExtentView { index: i as u32, base, pool, live: u32::MAX, birth: 1, emptied: 0 });
            }
        });
        for (extent, (_, octave)) in map.extents_mut().iter_mut().zip(pools) {
            for page in &mut extent.pages {
                page.place = Place::Device;
                if let Some(octave) = octave {
                    page.heat = Estimate::known((ONE_HZ + octave * OCTAVE) as u16, true);
                }
            }
        }
        map
    }

    /// What is decided, ten seconds apart, in `seconds`.
    fn after(segregation: &mut Segregation, seconds: u64, map: &mut HeatMap) -> bool {
        let decide = |s: u64| segregation.decide(s * S, true, map);
        (0..=seconds / 10).map(|i| i * 10).map(decide).last().unwrap()
    }

    #[test]
    fn nothing_is_kept_apart_while_memory_suffices() {
        let mut map = map_of(&[(Pool::Default, Some(0))]);
        assert!(!Segregation::default().decide(0, false, &mut map));
        assert!(Segregation::default().decide(0, true, &mut map));
    }

    #[test]
    fn groups_that_differ_stay_apart_for_good_even_once_memory_suffices() {
        let mut map = map_of(&[(Pool::Default, Some(0)), (Pool::Group0, Some(4)), (Pool::Group1, Some(-1))]);
        let mut segregation = Segregation::default();
        assert!(after(&mut segregation, 1000, &mut map));
        assert!(segregation.decide(2000 * S, false, &mut map));
    }

    #[test]
    fn what_the_pages_of_a_group_are_used_like_its_new_pages_are_expected_to_be() {
        let pools = [(Pool::Default, Some(9)), (Pool::Group0, Some(4)), (Pool::Group1, None)];
        let mut map = map_of(&pools);
        after(&mut Segregation::default(), 10, &mut map);
        map.sync(0, |add| {
            for (i, &(pool, _)) in pools.iter().enumerate() {
                let base = (i + 9) << 21;
                add(ExtentView { index: i as u32 + 8, base, pool, live: u32::MAX, birth: 1, emptied: 0 });
            }
        });
        let new: Vec<_> = map.extents().iter().map(|e| e.pages[0].heat).collect();
        assert!(new[0].is_blank() && new[2].is_blank());
        assert_eq!(new[1].rate, (ONE_HZ + 4 * OCTAVE) as u16);
    }

    #[test]
    fn groups_that_are_alike_are_given_up_and_tried_again_when_the_heap_has_doubled() {
        for mut map in [
            map_of(&[(Pool::Default, Some(5)), (Pool::Group0, Some(1)), (Pool::Group1, Some(1))]),
            map_of(&[(Pool::Default, Some(5)), (Pool::Group0, Some(1))]),
            map_of(&[(Pool::Default, Some(5)), (Pool::Group0, None), (Pool::Group1, None)]),
        ] {
            let mut segregation = Segregation::default();
            assert!(after(&mut segregation, 170, &mut map), "there is a trial first");
            assert!(!after(&mut segregation, 400, &mut map));
            let half = map.extents().len();
            let mut larger = map_of(&vec![(Pool::Default, None); 2 * half]);
            assert!(!segregation.decide(500 * S, true, &mut map));
            assert!(segregation.decide(510 * S, true, &mut larger));
        }
    }
}
