//! Policy: which pages should be where.
//!
//! Zone: control. Pure: it reads the heat map and a [`pressure::Level`], and answers with a [`Plan`]; the mover makes
//! it so. Three questions, three files: [`pressure`] how many bytes must or may change sides, [`threshold`] which rate
//! separates those that stay from those that go, [`admission`] whether a given page may be moved at all just now. And a fourth that no plan
//! answers: [`segregation`], whether blocks that differ in heat can be kept from sharing pages.
//!
//! Invariants:
//! * With nothing to gain nothing moves: below the high watermark a page leaves DRAM only to make room for one that is
//!   hotter by the hysteresis.
//! * Pages of `Dram`, `DramStrict` and `DeviceStrict` never appear in a plan; pages of `Device` only as evictions.

pub mod admission;
pub mod pressure;
pub mod segregation;
pub mod threshold;

use self::admission::Rules;
use self::pressure::Needs;
use self::threshold::{Beliefs, Histogram};
use crate::arena::Pool;
use crate::heat::map::{Extent, HeatMap, PAGE_BYTES, PAGES, Place};
use crate::heat::rate::OCTAVE;

/// So much hotter, in code units, no page is by mistake.
const CLEARLY: u16 = 2 * OCTAVE as u16;

/// A page that should move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its address.
    pub page: usize,
    /// Its rate, as the policy saw it.
    pub rate: u16,
}

/// What should move, the most urgent first.
#[derive(Default, Debug)]
pub struct Plan {
    /// DRAM to device, coldest first.
    pub demote: Vec<Candidate>,
    /// Device to DRAM, hottest first.
    pub promote: Vec<Candidate>,
    /// Device to DRAM because the device is over-full, hottest first.
    pub evict: Vec<Candidate>,
}

impl Plan {
    /// Whether nothing is to be done.
    pub fn is_empty(&self) -> bool {
        self.demote.is_empty() && self.promote.is_empty() && self.evict.is_empty()
    }

    fn clear(&mut self) {
        self.demote.clear();
        self.promote.clear();
        self.evict.clear();
    }
}

/// The planner, with the memory it reuses from tick to tick.
#[derive(Default)]
pub struct Planner {
    dram: Histogram,
    device: Histogram,
    /// Pages on either side, moved or not.
    all: Beliefs,
    plan: Plan,
    /// A rate that pages in DRAM had when last counted: half of them, or else more than the coldest tenth by far.
    typical: u16,
    /// See [`Planner::cut`].
    cut: u16,
}

impl Planner {
    /// The rate that separates, by the estimates when last counted, what should be in DRAM from what should not; 0 = not known.
    pub fn cut(&self) -> u16 {
        self.cut
    }

    /// Makes the plan for `needs`, of at most `most` pages each way.
    pub fn plan(&mut self, map: &HeatMap, needs: &Needs, rules: &Rules<'_>, most: usize) -> &Plan {
        self.plan.clear();
        if most == 0 {
            return &self.plan;
        }
        let rules = &Rules { typical: self.typical, ..*rules };
        self.count(map, rules);
        self.typical = self.dram.median().min(self.dram.coldest_tenth().saturating_add(CLEARLY));
        let pages = |bytes: u64| (bytes as usize).div_ceil(PAGE_BYTES);
        let down = pages(needs.demote).min(most);
        let out = pages(needs.evict).min(most);
        let room = pages(needs.promote).min(most);
        // Swaps: as many as keep the hysteresis between the coldest that stays and the hottest that waits.
        let swaps = if needs.swap {
            threshold::swaps(&self.device, &self.dram, room, down, rules.hysteresis).min(most)
        } else {
            0
        };
        let up = if needs.promote > 0 || swaps > 0 { (room + swaps).min(most) } else { 0 };
        let low_cut = self.dram.coldest((down + swaps).min(most));
        let high_cut = self.device.hottest(up);
        self.collect(map, rules, low_cut, high_cut);
        if self.plan.demote.len() < down {
            // Not enough pages outside their hold-off: under pressure that no longer counts.
            self.collect_desperate(map, rules, down);
        }
        trim(&mut self.plan.demote, (down + swaps).min(most), |c| u32::from(c.rate));
        trim(&mut self.plan.promote, up, |c| u32::from(u16::MAX - c.rate));
        if out > 0 {
            self.evictions(map, rules, out);
        }
        &self.plan
    }

    fn count(&mut self, map: &HeatMap, rules: &Rules<'_>) {
        self.dram.clear();
        self.device.clear();
        self.all.clear();
        let mut room = 0;
        for extent in map.extents().iter().filter(|e| e.view.pool.is_tiered()) {
            for i in (0..PAGES).filter(|&i| extent.is_live(i)) {
                match extent.pages[i].place {
                    Place::Dram => {
                        room += 1;
                        if rules.may_demote(extent, i) {
                            self.dram.add(extent.bounds(i, rules.now).1);
                        }
                    }
                    Place::Device if rules.may_promote(extent, i) => {
                        self.device.add(extent.bounds(i, rules.now).0);
                    }
                    Place::Device => {}
                    _ => continue,
                }
                self.all.add(extent.effective(i, rules.now), extent.deviation(i, rules.now));
            }
        }
        self.cut = self.all.hottest(room).map_or(0, threshold::Cut::rate);
    }

    fn collect(
        &mut self,
        map: &HeatMap,
        rules: &Rules<'_>,
        low: Option<threshold::Cut>,
        high: Option<threshold::Cut>,
    ) {
        if low.is_none() && high.is_none() {
            return;
        }
        for extent in map.extents().iter().filter(|e| e.view.pool.is_tiered()) {
            for i in 0..PAGES {
                let page = &extent.pages[i];
                let (cut, list) = match page.place {
                    Place::Dram => (low, &mut self.plan.demote),
                    Place::Device => (high, &mut self.plan.promote),
                    _ => continue,
                };
                let Some(cut) = cut else { continue };
                if !extent.is_live(i) {
                    continue;
                }
                let (rate, chosen) = if page.place == Place::Dram {
                    let rate = extent.bounds(i, rules.now).1;
                    (rate, cut.at_most(rate) && rules.may_demote(extent, i))
                } else {
                    let rate = extent.bounds(i, rules.now).0;
                    (rate, cut.at_least(rate) && rules.may_promote(extent, i))
                };
                if chosen {
                    list.push(Candidate { page: extent.address(i), rate });
                }
            }
        }
    }

    fn collect_desperate(&mut self, map: &HeatMap, rules: &Rules<'_>, down: usize) {
        self.plan.demote.clear();
        self.dram.clear();
        let each = |extent: &Extent, f: &mut dyn FnMut(Candidate)| {
            for i in 0..PAGES {
                if extent.pages[i].place == Place::Dram
                    && extent.is_live(i)
                    && !(rules.blocked)(extent.address(i))
                {
                    f(Candidate { page: extent.address(i), rate: extent.effective(i, rules.now) });
                }
            }
        };
        let tiered = || map.extents().iter().filter(|e| e.view.pool.is_tiered());
        tiered().for_each(|e| each(e, &mut |c| self.dram.add(c.rate)));
        let Some(cut) = self.dram.coldest(down) else { return };
        tiered().for_each(|e| {
            each(e, &mut |c| {
                if cut.at_most(c.rate) {
                    self.plan.demote.push(c);
                }
            });
        });
    }

    /// The hottest device pages, of every pool that may leave the device.
    fn evictions(&mut self, map: &HeatMap, rules: &Rules<'_>, out: usize) {
        let evictable = |pool: Pool| pool.is_tiered() || pool == Pool::Device;
        self.device.clear();
        let each = |extent: &Extent, f: &mut dyn FnMut(Candidate)| {
            for i in 0..PAGES {
                if extent.pages[i].place == Place::Device
                    && extent.is_live(i)
                    && !(rules.blocked)(extent.address(i))
                {
                    f(Candidate { page: extent.address(i), rate: extent.effective(i, rules.now) });
                }
            }
        };
        map.extents()
            .iter()
            .filter(|e| evictable(e.view.pool))
            .for_each(|e| each(e, &mut |c| self.device.add(c.rate)));
        let Some(cut) = self.device.hottest(out) else { return };
        map.extents().iter().filter(|e| evictable(e.view.pool)).for_each(|e| {
            each(e, &mut |c| {
                if cut.at_least(c.rate) {
                    self.plan.evict.push(c);
                }
            });
        });
        trim(&mut self.plan.evict, out, |c| u32::from(u16::MAX - c.rate));
        // A page cannot be promoted and evicted: both bring it to DRAM.
        if !self.plan.promote.is_empty() {
            let taken: std::collections::HashSet<usize> = self.plan.evict.iter().map(|c| c.page).collect();
            self.plan.promote.retain(|c| !taken.contains(&c.page));
        }
    }
}

/// Sorts by `key` and keeps the first `n`.
fn trim(list: &mut Vec<Candidate>, n: usize, key: impl Fn(&Candidate) -> u32) {
    list.sort_unstable_by_key(|c| (key(c), c.page));
    list.truncate(n);
}

#[cfg(test)]
mod tests;
