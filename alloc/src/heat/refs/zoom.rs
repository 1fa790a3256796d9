//! Which extents are looked at page by page, and how finely each of their slices is cut.
//!
//! Zone: control. Mappings are the scarce good: an extent starts as 32 slices, and only slices that turn out to be
//! partly touched are cut further, to 16 KiB or to single pages. Slices whose pages are all clearly hot or all clearly
//! cold stay whole. After [`ROUNDS`] rounds in which nothing had to be cut further, the next extents have their turn.

use super::layout::make_odd;
use crate::heat::map::{Extent, HeatMap, PAGE_BYTES, PAGES, Place, SLICE_PAGES};
use crate::heat::rate::{IGNORANT, OCTAVE};

/// Rounds at final resolution a visit lasts.
pub(super) const ROUNDS: u8 = 2;
const SLICES: usize = PAGES / SLICE_PAGES;
/// One contested page in so many is not worth a closer look.
const FEW: u64 = 50;
/// Pages in the middle resolution, 16 KiB.
const QUAD: usize = 4;

/// How finely a slice is cut.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Grain {
    Slice,
    Quad,
    Page,
}

impl Grain {
    fn pages(self) -> usize {
        match self {
            Grain::Slice => SLICE_PAGES,
            Grain::Quad => QUAD,
            Grain::Page => 1,
        }
    }
}

/// An extent under the glass.
struct Zoomed {
    base: usize,
    /// Segments if all of its live pages had to be told apart.
    at_most: usize,
    rounds: u8,
    refined: bool,
    slices: [Grain; SLICES],
}

impl Zoomed {
    fn segments(&self) -> usize {
        self.slices.iter().map(|g| SLICE_PAGES / g.pages()).sum()
    }
}

/// The extents under the glass, by address.
#[derive(Default)]
pub(super) struct ZoomSet {
    list: Vec<Zoomed>,
    /// Changes with every visit.
    turn: u32,
}

impl ZoomSet {
    /// Mappings that the set needs.
    #[cfg(test)]
    pub(super) fn segments(&self) -> usize {
        self.list.iter().map(Zoomed::segments).sum()
    }

    /// Whether no extent is under the glass.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Ends a round: extents that have been seen [`ROUNDS`] times, or died, leave.
    pub(super) fn end_round(&mut self, map: &HeatMap) {
        self.list.retain_mut(|z| {
            if !std::mem::take(&mut z.refined) {
                z.rounds += 1;
            }
            z.rounds < ROUNDS && map.find(z.base).is_some_and(|i| map.extents()[i].view.base == z.base)
        });
    }

    /// Everything leaves.
    pub(super) fn clear(&mut self) {
        self.list.clear();
    }

    /// Adds the extents that promise most, as long as `limit` mappings would not be passed if all of their pages
    /// had to be told apart. Answers how many pages are contested, if that is not [`FEW`].
    pub(super) fn fill(&mut self, map: &HeatMap, view: &View, limit: usize) -> u64 {
        let (mut undecided, mut all) = (0, 0);
        let mut ranked: Vec<(f32, usize)> = Vec::new();
        for (i, e) in map.extents().iter().enumerate().filter(|(_, e)| e.view.pool.is_tiered()) {
            let contested = contested(e, view);
            undecided += u64::from(contested);
            all += u64::from(e.dram) + u64::from(e.device);
            let p = promise(e, view, contested);
            if p > 0.0 && !self.has(e.view.base) {
                ranked.push((p + self.lot(i), i));
            }
        }
        let contested = if undecided * FEW > all { undecided } else { 0 };
        // An extent that is new under the glass may still have to be cut into single pages.
        let need = |z: &Zoomed| if z.rounds == 0 { z.at_most } else { z.segments() };
        let mut room = limit.saturating_sub(self.list.iter().map(need).sum());
        if room < SLICES {
            return contested;
        }
        ranked.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
        for &(_, i) in &ranked {
            let e = &map.extents()[i];
            let live = e.view.live.count_ones() as usize;
            let at_most = live * SLICE_PAGES + (SLICES - live);
            if at_most > room {
                break;
            }
            room -= at_most;
            let slices = std::array::from_fn(|s| first_grain(e, s, view.unit));
            self.turn = self.turn.wrapping_add(97);
            self.list.push(Zoomed { base: e.view.base, at_most, rounds: 0, refined: false, slices });
        }
        self.list.sort_unstable_by_key(|z| z.base);
        contested
    }

    /// Breaks ties anew at each turn, 0 to 1, so that an extent is not always read last.
    fn lot(&self, i: usize) -> f32 {
        let hash = (i as u32 ^ self.turn.wrapping_mul(0x9e37_79b9)).wrapping_mul(0x85eb_ca6b);
        (hash >> 8) as f32 / (1 << 24) as f32
    }

    fn has(&self, base: usize) -> bool {
        self.list.binary_search_by_key(&base, |z| z.base).is_ok()
    }

    /// A mapping of `pages` pages at `addr`, `touched` of them touched, was mixed: cut it further next time.
    pub(super) fn refine(&mut self, addr: usize, pages: usize, touched: u32) {
        let at = self.list.partition_point(|z| z.base <= addr);
        let Some(z) = at.checked_sub(1).map(|i| &mut self.list[i]) else { return };
        let slice = (addr - z.base) / (SLICE_PAGES * PAGE_BYTES);
        if slice >= SLICES {
            return;
        }
        // A quarter or more touched: quarters would be mixed as well.
        let dense = touched >= 4 || pages <= QUAD;
        let finer = if dense { Grain::Page } else { Grain::Quad };
        if finer > z.slices[slice] {
            z.slices[slice] = finer;
            z.refined = true;
        }
    }

    /// Appends the starts of the segments that extents in `[from, to)` need, in pages from `arena`; extents that are
    /// not under the glass share segments of `unit` pages, counted from the arena's base.
    pub(super) fn bounds(&self, arena: usize, from: u32, to: u32, unit: u32, out: &mut Vec<u32>) {
        let mut at = from;
        while at < to {
            let end = (at + unit).min(to);
            let first = out.len();
            out.push(at);
            let lo = self.list.partition_point(|z| z.base < arena + at as usize * PAGE_BYTES);
            for z in self.list[lo..].iter().take_while(|z| z.base < arena + end as usize * PAGE_BYTES) {
                let mut page = ((z.base - arena) / PAGE_BYTES) as u32;
                for grain in z.slices {
                    let stop = page + SLICE_PAGES as u32;
                    while page < stop {
                        if page > at {
                            out.push(page);
                        }
                        page += grain.pages() as u32;
                    }
                }
                if page < end {
                    out.push(page);
                }
            }
            out.dedup();
            make_odd(out, first, end, self.turn);
            at = end;
        }
    }
}

/// What a choice depends on.
pub(super) struct View {
    pub(super) now: u64,
    /// Extents not seen since then come first.
    pub(super) since: u64,
    /// Rate code of one touch a window.
    pub(super) unit: u16,
    /// Rate code that separates what should be in DRAM from what should not; 0 = not known.
    pub(super) cut: u16,
}

/// A deviation that further looks hardly make smaller, in code units.
const KNOWN: i32 = OCTAVE * 3 / 4;

/// How many pages of an extent may belong on either side of the cut, for all that is known of them.
fn contested(e: &Extent, view: &View) -> u32 {
    let undecided = |i: usize| {
        let heat = &e.pages[i].heat;
        let doubt = if heat.is_blank() { IGNORANT * OCTAVE } else { heat.deviation() };
        let off = i32::from(e.effective(i, view.now)) - i32::from(view.cut);
        doubt > KNOWN && off.abs() < doubt
    };
    let here = |i: &usize| e.is_live(*i) && matches!(e.pages[*i].place, Place::Dram | Place::Device);
    (0..PAGES).filter(here).filter(|&i| undecided(i)).count() as u32
}

/// How much a closer look at this extent promises; 0 = nothing.
fn promise(e: &Extent, view: &View, contested: u32) -> f32 {
    // An extent that answers as a whole needs no closer look.
    if e.dram == 0 && e.device == 0 || e.answers_as_a_whole() {
        return 0.0;
    }
    let age = view.now.saturating_sub(e.zoomed.max(e.born)) as f32 / 1e9;
    // Those known to have changed are before those that may have.
    let waiting = match e.zoomed {
        0 => 30.0,
        at if at < view.since => 20.0,
        _ => 0.0,
    };
    waiting + 5.0 * contested as f32 / PAGES as f32 + (age / 10.0).min(9.0)
}

/// How to begin with slice `s`: whole, unless its pages are known to differ.
fn first_grain(e: &Extent, s: usize, unit: u16) -> Grain {
    let pages = &e.pages[s * SLICE_PAGES..(s + 1) * SLICE_PAGES];
    if e.view.live >> s & 1 == 0 || pages.iter().all(|p| p.heat.is_blank()) {
        return Grain::Slice;
    }
    let (unit, octave) = (i32::from(unit), OCTAVE);
    let hot = pages.iter().filter(|p| i32::from(p.heat.rate) > unit + octave).count();
    let cold = pages.iter().filter(|p| i32::from(p.heat.rate) < unit - octave).count();
    if hot == SLICE_PAGES || cold == SLICE_PAGES { Grain::Slice } else { Grain::Page }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arena::{ExtentView, Pool};

    fn view(now: u64) -> View {
        View { now, since: 0, unit: 30000, cut: 0 }
    }

    fn map_of(n: usize) -> HeatMap {
        let mut map = HeatMap::new();
        map.sync(0, |f| {
            for i in 0..n {
                let base = (i + 8) << 21;
                f(ExtentView {
                    index: i as u32,
                    base,
                    pool: Pool::Default,
                    live: u32::MAX,
                    birth: 1,
                    emptied: 0,
                });
            }
        });
        for e in map.extents_mut() {
            e.dram = 512;
        }
        map
    }

    #[test]
    fn the_set_never_needs_more_mappings_than_allowed() {
        let map = map_of(40);
        let mut set = ZoomSet::default();
        set.fill(&map, &view(1), 2100);
        for z in 0..40 {
            for s in 0..32 {
                set.refine(((z + 8) << 21) + s * 65536, 16, 8);
            }
        }
        assert_eq!(set.segments(), 4 * 512);
        set.fill(&map, &view(1), 2100);
        assert_eq!(set.segments(), 4 * 512);
    }

    #[test]
    fn every_extent_gets_its_turn() {
        let mut map = map_of(20);
        let mut set = ZoomSet::default();
        let mut seen = std::collections::BTreeSet::new();
        for now in 1..100u64 {
            set.fill(&map, &view(now * 1_000_000_000), 4 * 512);
            for z in &set.list {
                seen.insert(z.base);
                let i = map.find(z.base).unwrap();
                let e = &mut map.extents_mut()[i];
                e.zoomed = now * 1_000_000_000;
                e.pages.iter_mut().for_each(|p| p.heat = crate::heat::rate::Estimate::known(1, false));
            }
            set.end_round(&map);
        }
        assert_eq!(seen.len(), 20);
    }

    #[test]
    fn segments_cover_the_arena_and_zoomed_pages_stand_alone() {
        let map = map_of(8);
        let mut set = ZoomSet::default();
        set.fill(&map, &view(1), 512);
        let zoomed = set.list[0].base;
        for s in 0..32 {
            set.refine(zoomed + s * 65536, 16, 8);
        }
        for unit in [512u32, 1024, 2048] {
            let mut bounds = Vec::new();
            set.bounds(8 << 21, 0, 8 * 512, unit, &mut bounds);
            assert!(bounds.is_sorted_by(|a, b| a < b), "ascending without repeats");
            assert_eq!(bounds[0], 0);
            assert_eq!(
                bounds.len() % 2,
                (8 * 512 / unit as usize) % 2,
                "each unit has an odd number of parts"
            );
            let page = ((zoomed - (8 << 21)) / 4096) as u32;
            let alone =
                (page..page + 510).filter(|p| bounds.contains(p) && bounds.contains(&(p + 1))).count();
            assert!(alone >= 508, "{alone}");
        }
    }

    #[test]
    fn a_slice_with_few_touched_pages_is_cut_in_quarters_first() {
        let map = map_of(1);
        let mut set = ZoomSet::default();
        set.fill(&map, &view(1), 512);
        assert_eq!(set.segments(), 32);
        set.refine(8 << 21, 16, 1);
        assert_eq!(set.segments(), 31 + 4);
        set.refine((8 << 21) + 4 * 4096, 4, 1);
        assert_eq!(set.segments(), 31 + 16);
    }

    #[test]
    fn an_extent_that_answers_as_a_whole_is_not_looked_into() {
        let mut map = map_of(1);
        map.extents_mut()[0].present = 512;
        let mut set = ZoomSet::default();
        set.fill(&map, &view(1), 512);
        assert!(set.is_empty());
    }
}
