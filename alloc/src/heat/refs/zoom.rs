//! Which extents are looked at more closely, and how finely each of their slices is cut.
//!
//! Zone: control. Mappings are the scarce good. An extent of which nothing is known is *surveyed*: for [`ROUNDS`] rounds its 32 slices
//! are mappings of their own. Then, wherever they lie, the slices are looked into that promise most for what it costs
//! ([`super::worth`]): cut to 16 KiB, and where that was partly touched and may hold pages on either side of the cut, to single pages. What
//! lies between them stays together.

use super::layout::make_odd;
use super::worth::{View, Worth, contested_in};
use crate::heat::map::{Extent, HeatMap, PAGE_BYTES, PAGES, SLICE_PAGES, SLICES};
use crate::heat::rate::OCTAVE;

/// Rounds that a survey, and a look at final resolution, last.
pub(super) const ROUNDS: u8 = 2;
/// Pages in the middle resolution, 16 KiB, and how many of those a slice has.
const QUAD: usize = 4;
const QUADS: usize = SLICE_PAGES / QUAD;
/// A slice with so many pages that are likely to be touched has some in every quarter.
const DENSE: usize = 8;
/// An extent is surveyed again after so long, in ns, if there is room.
const SURVEYED: u64 = 2_000_000_000;

/// How a slice is cut: not at all, in quarters, and which quarters in pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Grain(u8);

impl Grain {
    const QUARTERS: u8 = 1 << QUADS;

    fn is_cut(self) -> bool {
        self.0 != 0
    }

    fn segments(self) -> usize {
        if self.is_cut() {
            QUADS + (QUAD - 1) * (self.0 & (Self::QUARTERS - 1)).count_ones() as usize
        } else {
            1
        }
    }

    /// The same with these quarters cut in pages, too.
    fn with(self, quads: u8) -> Grain {
        Grain(self.0 | Self::QUARTERS | quads)
    }

    /// First pages of the segments.
    fn starts(self) -> impl Iterator<Item = usize> {
        let alone = move |page: usize| self.0 >> (page / QUAD) & 1 == 1;
        (0..SLICE_PAGES).filter(move |&page| page == 0 || self.is_cut() && (page % QUAD == 0 || alone(page)))
    }
}

/// An extent under the glass.
struct Zoomed {
    base: usize,
    /// Rounds left of a survey; 0 = only slices that are cut are looked into.
    survey: u8,
    slices: [Grain; SLICES],
    /// By slice, rounds at its present resolution.
    looks: [u8; SLICES],
    /// By slice, the quarters that were partly touched in the last round.
    mixed: [u8; SLICES],
}

impl Zoomed {
    fn new(base: usize) -> Zoomed {
        let (slices, looks, mixed) = Default::default();
        Zoomed { base, survey: 0, slices, looks, mixed }
    }

    /// Whether there is anything to be seen of it.
    fn is_in_use(&self) -> bool {
        self.survey > 0 || self.slices.iter().any(|g| g.is_cut())
    }

    /// Whether a mapping begins with slice `s`.
    fn is_apart(&self, s: usize) -> bool {
        s == 0 || self.survey > 0 || self.slices[s].is_cut() || self.slices[s - 1].is_cut()
    }

    /// Mappings that it needs, with one to make their number odd.
    fn segments(&self) -> usize {
        1 + (0..SLICES).filter(|&s| self.is_apart(s)).map(|s| self.slices[s].segments()).sum::<usize>()
    }
}

/// The extents under the glass, by address.
#[derive(Default)]
pub(super) struct ZoomSet {
    list: Vec<Zoomed>,
    /// Changes with every visit.
    turn: u32,
    worth: Worth,
}

impl ZoomSet {
    /// Mappings that the set needs.
    fn segments(&self) -> usize {
        self.list.iter().map(Zoomed::segments).sum()
    }

    /// Whether no extent is under the glass.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Everything leaves.
    pub(super) fn clear(&mut self) {
        self.list.clear();
    }

    /// Cuts further what was mixed and is contested, as long as `limit` mappings are not passed; what has been seen often enough, or died, leaves.
    fn refine(&mut self, map: &mut HeatMap, view: &View, limit: usize) {
        let mut room = limit.saturating_sub(self.segments());
        self.list.retain_mut(|z| {
            let Some(i) = map.find(z.base).filter(|&i| map.extents()[i].view.base == z.base) else {
                return false;
            };
            let e = &mut map.extents_mut()[i];
            if z.survey == 1 {
                (e.surveyed, e.unlike) = (view.now, 0.0);
            }
            z.survey = z.survey.saturating_sub(1);
            for (s, mixed) in std::mem::take(&mut z.mixed).into_iter().enumerate() {
                if !z.slices[s].is_cut() {
                    continue;
                }
                let contested = quads(e, s, view);
                let finer = z.slices[s].with(contested & mixed);
                let more = finer.segments() - z.slices[s].segments();
                if more > 0 && more <= room {
                    room -= more;
                    (z.slices[s], z.looks[s]) = (finer, 0);
                } else {
                    z.looks[s] += 1;
                }
                if contested == 0 || z.looks[s] >= ROUNDS {
                    z.slices[s] = Grain(0);
                }
            }
            z.is_in_use()
        });
    }

    /// Takes what the last round has shown into account, and adds what promises most, as long as `limit` mappings would not
    /// be passed. Answers what share of all accesses may be on the wrong side.
    pub(super) fn fill(&mut self, map: &mut HeatMap, view: &View, limit: usize) -> f32 {
        self.refine(map, view, limit);
        let (mut heat, mut worth) = (0.0, 0.0);
        let mut surveys: Vec<(f32, usize)> = Vec::new();
        let mut slices: Vec<(f32, u32, u8)> = Vec::new();
        for (i, e) in map.extents().iter().enumerate().filter(|(_, e)| e.view.pool.is_tiered()) {
            heat += self.worth.heat(e, view);
            let waiting = waiting(e, view);
            let at = self.list.binary_search_by_key(&e.view.base, |z| z.base).ok();
            if waiting > 0.0 && at.is_none_or(|at| self.list[at].survey == 0) {
                surveys.push((waiting + self.lot(i), i));
            }
            let z = at.map(|at| &self.list[at]);
            for s in 0..SLICES {
                let this = self.worth.of(e, s, view);
                worth += this;
                let waits = e.surveyed >= view.since.max(1) && z.is_none_or(|z| !z.slices[s].is_cut());
                if waits && this > 0.0 {
                    slices.push((this / first_grain(e, s, view).segments() as f32, i as u32, s as u8));
                }
            }
        }
        let mut room = limit.saturating_sub(self.segments());
        surveys.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
        // What was surveyed before must not keep what is known to be worth a look from it for long.
        let mut again = if slices.is_empty() { room } else { room.min(limit / 4) };
        for &(waiting, i) in &surveys {
            if room < SLICES || (waiting < UNKNOWN && again < SLICES) {
                break;
            }
            let at = self.find_or_add(map.extents()[i].view.base);
            let before = self.list[at].segments();
            self.list[at].survey = ROUNDS;
            let more = self.list[at].segments() - before;
            (room, again) = (room.saturating_sub(more), again.saturating_sub(more));
        }
        self.turn = self.turn.wrapping_add(97 * surveys.len() as u32 + 1);
        slices.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
        for &(_, i, s) in &slices {
            let (e, s) = (&map.extents()[i as usize], usize::from(s));
            let at = self.find_or_add(e.view.base);
            let z = &mut self.list[at];
            let before = z.segments();
            (z.slices[s], z.looks[s]) = (first_grain(e, s, view), 0);
            // In the end, all that is contested may be cut in pages.
            let need =
                z.segments() - before + Grain(0).with(quads(e, s, view)).segments() - z.slices[s].segments();
            if need > room {
                z.slices[s] = Grain(0);
                break;
            }
            room -= need;
        }
        self.list.retain(Zoomed::is_in_use);
        worth / (heat + worth).max(1.0)
    }

    /// The place in the list of the extent at `base`.
    fn find_or_add(&mut self, base: usize) -> usize {
        self.list.binary_search_by_key(&base, |z| z.base).unwrap_or_else(|at| {
            self.list.insert(at, Zoomed::new(base));
            at
        })
    }

    /// Breaks ties anew at each turn, 0 to 1, so that an extent is not always read last.
    fn lot(&self, i: usize) -> f32 {
        let hash = (i as u32 ^ self.turn.wrapping_mul(0x9e37_79b9)).wrapping_mul(0x85eb_ca6b);
        (hash >> 8) as f32 / (1 << 24) as f32
    }

    /// A mapping of `pages` pages at `addr` was mixed.
    pub(super) fn note_mixed(&mut self, addr: usize, pages: usize) {
        let at = self.list.partition_point(|z| z.base <= addr);
        let Some(z) = at.checked_sub(1).map(|i| &mut self.list[i]) else { return };
        let page = (addr - z.base) / PAGE_BYTES;
        let slice = page / SLICE_PAGES;
        if slice >= SLICES || pages > SLICE_PAGES {
            return;
        }
        z.mixed[slice] |= 1 << (page % SLICE_PAGES / QUAD);
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
                let base = ((z.base - arena) / PAGE_BYTES) as u32;
                for s in (0..SLICES).filter(|&s| z.is_apart(s)) {
                    let page = base + (s * SLICE_PAGES) as u32;
                    let starts = z.slices[s].starts().map(|start| page + start as u32);
                    out.extend(starts.filter(|&page| page > at));
                }
                let page = base + PAGES as u32;
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

/// The quarters of slice `s` that have contested pages, a bit each.
fn quads(e: &Extent, s: usize, view: &View) -> u8 {
    if e.view.live >> s & 1 == 0 {
        return 0;
    }
    contested_in(e, s, view).fold(0, |quads, i| quads | 1 << (i % SLICE_PAGES / QUAD))
}

/// At least so urgent is the survey of an extent that was not seen since all changed.
const UNKNOWN: f32 = 20.0;

/// An extent that is so many times further from what was foretold of it than others are is surveyed again before them.
const UNLIKE: f32 = 3.0;

/// How urgent a survey of this extent is; 0 = not at all.
fn waiting(e: &Extent, view: &View) -> f32 {
    // An extent that answers as a whole needs no closer look.
    if e.dram == 0 && e.device == 0 || e.answers_as_a_whole() {
        return 0.0;
    }
    match e.surveyed {
        0 => UNKNOWN + 10.0,
        at if at < view.since => UNKNOWN,
        at if view.now < at + SURVEYED => 0.0,
        // A part of it may have changed.
        _ if e.unlike > UNLIKE => UNKNOWN / 2.0 + e.unlike.min(UNKNOWN / 2.0 - 1.0),
        at => ((view.now - at) as f32 / 1e9).min(UNKNOWN / 2.0),
    }
}

/// How to begin with slice `s`: in quarters if only few of its pages are likely to be touched.
fn first_grain(e: &Extent, s: usize, view: &View) -> Grain {
    let hot = |page: &usize| i32::from(e.pages[*page].heat.rate) > i32::from(view.cut) - OCTAVE;
    let many = (s * SLICE_PAGES..(s + 1) * SLICE_PAGES).filter(hot).count() >= DENSE;
    Grain(0).with(if many { quads(e, s, view) } else { 0 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heat::map::Place;
    use crate::heat::played;

    fn view(now: u64) -> View {
        View { now, since: 0, cut: 30000 }
    }

    fn map_of(n: usize) -> HeatMap {
        let mut map = played::map_of(8..n + 8);
        for e in map.extents_mut() {
            e.dram = 512;
        }
        map
    }

    /// The survey of all extents is over, and its pages are neither known to be hot nor to be cold.
    fn surveyed(map: &mut HeatMap) {
        for e in map.extents_mut() {
            e.surveyed = 1;
            e.pages.iter_mut().for_each(|page| page.place = Place::Device);
        }
    }

    /// Half of all mappings were mixed.
    fn all_mixed(set: &mut ZoomSet) {
        let bases: Vec<usize> = set.list.iter().map(|z| z.base).collect();
        for (base, s) in bases.into_iter().flat_map(|base| (0..SLICES).map(move |s| (base, s))) {
            for quad in 0..QUADS {
                set.note_mixed(base + (s * SLICE_PAGES + quad * QUAD) * PAGE_BYTES, QUAD);
            }
        }
    }

    #[test]
    fn the_set_never_needs_more_mappings_than_allowed() {
        let mut map = map_of(40);
        let mut set = ZoomSet::default();
        set.fill(&mut map, &view(1), 2100);
        assert_eq!(set.segments(), 40 * (SLICES + 1), "first a survey");
        surveyed(&mut map);
        let mut most = 0;
        for _ in 0..8 {
            all_mixed(&mut set);
            set.fill(&mut map, &view(1), 2100);
            most = most.max(set.segments());
        }
        assert!((1800..=2100).contains(&most), "{most}");
    }

    #[test]
    fn every_extent_gets_its_turn() {
        let mut map = map_of(20);
        let mut set = ZoomSet::default();
        let mut seen = std::collections::BTreeSet::new();
        for now in 1..100u64 {
            set.fill(&mut map, &view(now * 1_000_000_000), 4 * SLICES + 4);
            for z in &set.list {
                seen.insert(z.base);
                let i = map.find(z.base).unwrap();
                let e = &mut map.extents_mut()[i];
                e.surveyed = now * 1_000_000_000;
                e.pages.iter_mut().for_each(|p| p.heat = crate::heat::rate::Estimate::known(1, false));
            }
        }
        assert_eq!(seen.len(), 20);
    }

    #[test]
    fn segments_cover_the_arena_and_pages_that_are_looked_into_stand_alone() {
        let mut map = map_of(8);
        surveyed(&mut map);
        for e in map.extents_mut().iter_mut().skip(1) {
            e.pages.iter_mut().for_each(|p| p.heat = crate::heat::rate::Estimate::known(1, false));
        }
        let mut set = ZoomSet::default();
        set.fill(&mut map, &view(1), PAGES + 1);
        let zoomed = set.list[0].base;
        all_mixed(&mut set);
        set.fill(&mut map, &view(1), PAGES + 1);
        assert_eq!(set.list.iter().map(|z| z.base).collect::<Vec<_>>(), [zoomed]);
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
    fn where_few_pages_are_touched_only_the_quarter_that_has_them_is_cut_in_pages() {
        let mut map = map_of(1);
        surveyed(&mut map);
        let cold = crate::heat::rate::Estimate::known(1, false);
        map.extents_mut()[0].pages[SLICE_PAGES..].iter_mut().for_each(|p| p.heat = cold);
        map.extents_mut()[0].pages[..SLICE_PAGES]
            .iter_mut()
            .for_each(|p| p.heat = crate::heat::rate::Estimate::expected(27_000));
        let mut set = ZoomSet::default();
        set.fill(&mut map, &view(1), 512);
        assert_eq!(set.segments(), QUADS + 2, "the rest is one mapping");
        set.note_mixed((8 << 21) + 4 * PAGE_BYTES, QUAD);
        set.fill(&mut map, &view(1), 512);
        assert_eq!(set.segments(), QUADS - 1 + QUAD + 2);
        for _ in 0..ROUNDS {
            set.fill(&mut map, &view(1), 0);
        }
        assert!(set.is_empty());
    }

    #[test]
    fn what_is_clearly_on_one_side_is_not_looked_into() {
        let mut map = map_of(1);
        surveyed(&mut map);
        let known = crate::heat::rate::Estimate::known(20_000, false);
        map.extents_mut()[0].pages.iter_mut().for_each(|p| p.heat = known);
        let mut set = ZoomSet::default();
        set.fill(&mut map, &view(1), 512);
        assert!(set.is_empty());
    }

    #[test]
    fn an_extent_that_answers_as_a_whole_is_not_looked_into() {
        let mut map = map_of(1);
        map.extents_mut()[0].present = 512;
        let mut set = ZoomSet::default();
        set.fill(&mut map, &view(1), 512);
        assert!(set.is_empty());
    }
}
