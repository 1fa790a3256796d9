//! The heat map: what the control thread believes about every page of the heap.
//!
//! Zone: control. Eight bytes for each 4 KiB page (0.2 % of the heap), in boxes of one 2 MiB extent, ordered by
//! address. Invariants:
//! * A record describes the extent that had the same index *and the same birth counter* when it was last synchronised;
//!   a new birth resets it, so heat never passes from a freed extent to the next owner of its address.
//! * Only pages in live slices are ever asked about, moved or counted.
//! * Times are nanoseconds of one monotonic clock that the caller supplies, so tests can play time.

use super::births::{Births, Uses};
use super::rate::{Estimate, IGNORANT, OCTAVE, ONE_HZ, code_of_hz};
use crate::arena::{ExtentView, Pool};

/// Pages of 4 KiB in an extent.
pub const PAGES: usize = 512;
/// Bytes of the unit that heat is kept for.
pub const PAGE_BYTES: usize = 4096;
/// Pages in a slice.
pub const SLICE_PAGES: usize = 16;
/// Slices in an extent.
pub const SLICES: usize = PAGES / SLICE_PAGES;

/// The doubt about a rate that was counted.
const BIRTHS_DOUBT: i32 = OCTAVE / 8;
/// Pages by which it is learnt what a birth foretells, about.
const MOST_COMPARED: usize = 8192;
/// How many standard deviations count as likely: three quarters.
const MARGIN: (i32, i32) = (3, 4);

/// Where a page was last seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u8)]
pub enum Place {
    /// Not asked yet.
    #[default]
    Unknown,
    /// No page there (never touched, or given back).
    Absent,
    /// On a DRAM node.
    Dram,
    /// On a device node.
    Device,
}

/// Direction of a page's last move.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u8)]
pub enum Moved {
    /// Not within the time that [`Page::moved_at`] can tell apart.
    #[default]
    Never,
    /// Device to DRAM, because it was hot.
    Up,
    /// DRAM to device, because it was cold.
    Down,
    /// DRAM to device for want of room, before anybody knew whether it is cold.
    Spilled,
    /// Device to DRAM, because the device was over-full.
    Evicted,
}

/// One page.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Page {
    /// How often it is used.
    pub heat: Estimate,
    /// Where it is.
    pub place: Place,
    /// Its last move.
    pub moved: Moved,
    /// When, in quarters of a second of the caller's clock, modulo 2¹⁶ (4.5 hours).
    moved_at: u16,
}

const QUARTER: u64 = 250_000_000;

impl Page {
    /// Notes a move that has happened.
    pub fn note_move(&mut self, to: Place, direction: Moved, now: u64) {
        self.place = to;
        self.moved = direction;
        self.moved_at = (now / QUARTER) as u16;
    }

    /// Nanoseconds since the last move, if there was one.
    pub fn since_move(&self, now: u64) -> Option<u64> {
        (self.moved != Moved::Never)
            .then(|| u64::from(((now / QUARTER) as u16).wrapping_sub(self.moved_at)) * QUARTER)
    }
}

/// What an extent as a whole usually does; for the tracker that sees extents as wholes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usual {
    /// The rate code that explains the share of its pages that is touched in a window.
    pub rate: u16,
    /// The rate code of one touch a window: how long those windows were.
    pub unit: u16,
    /// Mean distance of one window from the usual, in code units.
    pub swing: u16,
    /// Windows that this was learnt from, up to 255.
    pub windows: u8,
    /// Windows in a row that were out of the ordinary.
    pub odd: u8,
}

/// One live extent.
pub struct Extent {
    /// What `arena` said last.
    pub view: ExtentView,
    /// When this birth was first seen.
    pub born: u64,
    /// When each slice was last seen to come into use.
    slice_born: [u64; SLICES],
    /// When its pages were last asked for their node; 0 = never.
    pub asked: u64,
    /// Live pages that were not there when last asked.
    pub absent: u16,
    /// Live pages in DRAM.
    pub dram: u16,
    /// Live pages on a device.
    pub device: u16,
    /// When slices here were last looked at, each by itself.
    pub surveyed: u64,
    /// By slice, how unlikely it is, in quarters of a bit, that chance had its pages touched each time it was looked at lately.
    pub surprise: [u8; SLICES],
    /// Pages touched in the last window that was answered for the extent as a whole.
    pub touched: u16,
    /// Pages in memory then; 0 = no such answer yet.
    pub present: u16,
    /// When the last of these answers came.
    pub answered: u64,
    /// Most pages in memory whenever it was read; `None` = it never was.
    pub filled: Option<u32>,
    /// What it usually does as a whole.
    pub usual: Usual,
    /// How many times further than others the number of its touched pages lately was from what the estimates of them foretold.
    pub unlike: f32,
    /// Uses by allocation.
    births: Births,
    /// Live pages in DRAM when that was last told.
    told: u16,
    /// The pages.
    pub pages: [Page; PAGES],
}

impl Extent {
    fn new(view: ExtentView, now: u64, expected: Estimate) -> Box<Extent> {
        Box::new(Extent {
            view,
            born: now,
            slice_born: [now; SLICES],
            asked: 0,
            absent: 0,
            dram: 0,
            device: 0,
            surveyed: 0,
            surprise: [0; SLICES],
            touched: 0,
            present: 0,
            answered: 0,
            filled: None,
            usual: Usual::default(),
            unlike: 0.0,
            births: Births::default(),
            told: 0,
            pages: [Page { heat: expected, ..Page::default() }; PAGES],
        })
    }

    /// Whether page `i` lies in a live slice.
    pub fn is_live(&self, i: usize) -> bool {
        self.view.live >> (i / SLICE_PAGES) & 1 == 1
    }

    /// Whether all of its pages answered alike when asked together.
    pub fn answers_as_a_whole(&self) -> bool {
        self.present > 0 && (self.touched == 0 || self.touched >= self.present)
    }

    /// Whether page `i` lies in a live slice and was in memory when last asked about.
    pub fn is_there(&self, i: usize) -> bool {
        self.is_live(i) && matches!(self.pages[i].place, Place::Dram | Place::Device)
    }

    /// Address of page `i`.
    pub fn address(&self, i: usize) -> usize {
        self.view.base + i * PAGE_BYTES
    }

    /// The slices most of whose pages are in DRAM, if their number has changed since it was last told.
    pub fn placement_news(&mut self) -> Option<u32> {
        if self.told == self.dram {
            return None;
        }
        self.told = self.dram;
        let in_dram = |pages: &[Page]| pages.iter().filter(|page| page.place == Place::Dram).count();
        let slices = self.pages.chunks(SLICE_PAGES).enumerate();
        Some(
            slices
                .fold(0, |bits, (slice, pages)| bits | u32::from(in_dram(pages) > SLICE_PAGES / 2) << slice),
        )
    }

    /// Whether page `i` is used more often because blocks are allocated there than by all else that is known.
    pub fn gives_birth(&self, i: usize, now: u64) -> bool {
        let births = self.births.rate(i / SLICE_PAGES);
        births > 0 && births > self.seen_rate(i, now)
    }

    /// The rate the policy compares, with the pool's bias: three octaves for or against.
    pub fn effective(&self, i: usize, now: u64) -> u16 {
        let raw = i32::from(self.raw_rate(i, now));
        let bias = match self.view.pool {
            Pool::Hot => 3 * OCTAVE,
            Pool::Cold => -3 * OCTAVE,
            _ => 0,
        };
        (raw + bias).clamp(1, 65535) as u16
    }

    /// The rate at which page `i` is used, for all that is known.
    pub fn raw_rate(&self, i: usize, now: u64) -> u16 {
        self.seen_rate(i, now).max(self.births.rate(i / SLICE_PAGES))
    }

    /// The estimated rate; a page that nobody has looked at yet is assumed to be used once in its lifetime so far,
    /// which makes newborn pages hot and old silent ones cold.
    fn seen_rate(&self, i: usize, now: u64) -> u16 {
        let heat = self.pages[i].heat;
        if heat.is_blank() { prior(self.age(i, now)) } else { heat.rate }
    }

    /// The standard deviation of [`Extent::raw_rate`], in code units.
    pub fn deviation(&self, i: usize, now: u64) -> i32 {
        let heat = &self.pages[i].heat;
        match () {
            () if self.gives_birth(i, now) => BIRTHS_DOUBT,
            () if heat.is_blank() => IGNORANT * OCTAVE,
            () => heat.deviation(),
        }
    }

    /// For how long page `i` has been in use, ns.
    pub fn age(&self, i: usize, now: u64) -> u64 {
        now.saturating_sub(self.slice_born[i / SLICE_PAGES])
    }

    /// The least and the most that [`Extent::effective`] is likely to be in truth.
    pub fn bounds(&self, i: usize, now: u64) -> (u16, u16) {
        let (rate, off) = (i32::from(self.effective(i, now)), self.deviation(i, now) * MARGIN.0 / MARGIN.1);
        ((rate - off).clamp(1, 65535) as u16, (rate + off).clamp(1, 65535) as u16)
    }

    /// Recounts [`Extent::dram`], [`Extent::device`] and [`Extent::absent`].
    pub fn recount(&mut self) {
        let (mut dram, mut device, mut absent) = (0, 0, 0);
        for (i, page) in self.pages.iter().enumerate() {
            if self.view.live >> (i / SLICE_PAGES) & 1 == 1 {
                match page.place {
                    Place::Dram => dram += 1,
                    Place::Device => device += 1,
                    Place::Absent | Place::Unknown => absent += 1,
                }
            }
        }
        (self.dram, self.device, self.absent) = (dram, device, absent);
    }
}

/// Rate code of "used once in `age`".
fn prior(age: u64) -> u16 {
    if age < 1_000_000_000 { ONE_HZ as u16 } else { code_of_hz(1e9 / age as f64) }
}

/// Every live extent, by ascending address.
#[derive(Default)]
pub struct HeatMap {
    extents: Vec<Box<Extent>>,
    incoming: Vec<ExtentView>,
    /// What new pages of each pool begin with.
    expected: [Estimate; Pool::COUNT],
    /// What a block that is allocated foretells.
    uses: Uses,
}

impl HeatMap {
    /// An empty map.
    pub fn new() -> HeatMap {
        HeatMap::default()
    }

    /// From now on new pages of a pool are expected to be used at its rate in `rates`, 0 = nobody knows.
    pub fn expect(&mut self, rates: &[u16; Pool::COUNT]) {
        self.expected =
            rates.map(|rate| if rate == 0 { Estimate::default() } else { Estimate::expected(rate) });
    }

    /// Takes in how often the pages of each slice of each extent had been used by allocation alone by `now`, from any beginning.
    pub fn take_births(&mut self, now: u64, births: impl Fn(u32) -> [u32; SLICES]) {
        let mut seen = Vec::new();
        for extent in &mut self.extents {
            extent.births.take(now, births(extent.view.index), self.uses);
            if seen.len() < MOST_COMPARED {
                extent.births.compare(&extent.pages, &mut seen);
            }
        }
        self.uses.learn(&mut seen);
    }

    /// Takes over the heap's present extents. `list` calls its argument once for each.
    pub fn sync(&mut self, now: u64, list: impl FnOnce(&mut dyn FnMut(ExtentView))) {
        self.incoming.clear();
        let incoming = &mut self.incoming;
        list(&mut |view| incoming.push(view));
        incoming.sort_unstable_by_key(|v| v.base);
        let mut old = std::mem::take(&mut self.extents).into_iter().peekable();
        self.extents.reserve(incoming.len());
        for view in incoming.drain(..) {
            while old.next_if(|e| e.view.base < view.base).is_some() {}
            let heat = self.expected[view.pool as usize];
            match old.next_if(|e| e.view.base == view.base && e.view.birth == view.birth) {
                Some(mut extent) => {
                    let (fresh, gone) = (view.live & !extent.view.live, extent.view.live & !view.live);
                    if view.emptied != extent.view.emptied {
                        extent.asked = 0;
                    }
                    extent.view = view;
                    if fresh | gone != 0 {
                        // A slice that changed hands has new contents: forget what its predecessor did.
                        for i in (0..PAGES).filter(|i| (fresh | gone) >> (i / SLICE_PAGES) & 1 == 1) {
                            extent.pages[i] = Page { heat, place: extent.pages[i].place, ..Page::default() };
                            extent.slice_born[i / SLICE_PAGES] = now;
                            extent.births.forget(i / SLICE_PAGES);
                            extent.surprise[i / SLICE_PAGES] = 0;
                        }
                        extent.asked = if fresh != 0 { 0 } else { extent.asked };
                        extent.recount();
                    }
                    self.extents.push(extent);
                }
                None => self.extents.push(Extent::new(view, now, heat)),
            }
        }
    }

    /// All extents, by address.
    pub fn extents(&self) -> &[Box<Extent>] {
        &self.extents
    }

    /// All extents, by address, to change.
    pub fn extents_mut(&mut self) -> &mut [Box<Extent>] {
        &mut self.extents
    }

    /// The extent that contains `addr`, as an index into [`HeatMap::extents`].
    pub fn find(&self, addr: usize) -> Option<usize> {
        let at = self.extents.partition_point(|e| e.view.base <= addr).checked_sub(1)?;
        (addr < self.extents[at].view.base + PAGES * PAGE_BYTES).then_some(at)
    }

    /// The page at `addr`, if it belongs to a live extent.
    pub fn page_mut(&mut self, addr: usize) -> Option<&mut Page> {
        let at = self.find(addr)?;
        let extent = &mut self.extents[at];
        Some(&mut extent.pages[(addr - extent.view.base) / PAGE_BYTES])
    }

    /// Live bytes in DRAM and on devices, as last seen.
    pub fn placed(&self) -> (u64, u64) {
        let (dram, device) = self
            .extents
            .iter()
            .fold((0u64, 0u64), |(a, b), e| (a + u64::from(e.dram), b + u64::from(e.device)));
        (dram * PAGE_BYTES as u64, device * PAGE_BYTES as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(n: usize, birth: u32, live: u32) -> ExtentView {
        ExtentView { index: n as u32, base: n << 21, pool: Pool::Default, live, birth, emptied: 0 }
    }

    #[test]
    fn a_record_is_small() {
        assert_eq!(size_of::<Page>(), 8);
        let per_extent = size_of::<Extent>() as f64;
        assert!(per_extent / f64::from(2 << 20) < 0.003, "more than 0.3 % of the heap");
    }

    #[test]
    fn a_new_birth_forgets_the_heat_of_the_old_owner() {
        let mut map = HeatMap::new();
        map.sync(0, |f| f(view(7, 1, u32::MAX)));
        map.extents_mut()[0].pages[5].heat.rate = 9999;
        map.sync(1, |f| f(view(7, 1, u32::MAX)));
        assert_eq!(map.extents()[0].pages[5].heat.rate, 9999);
        map.sync(2, |f| f(view(7, 2, u32::MAX)));
        assert_eq!(map.extents()[0].pages[5].heat.rate, 0);
        assert_eq!(map.extents()[0].born, 2);
    }

    #[test]
    fn a_slice_that_was_freed_and_reused_forgets_too() {
        let mut map = HeatMap::new();
        map.sync(0, |f| f(view(7, 1, 0b11)));
        for i in 0..32 {
            map.extents_mut()[0].pages[i].heat.rate = 9999;
        }
        map.sync(1, |f| f(view(7, 1, 0b01)));
        map.sync(2, |f| f(view(7, 1, 0b11)));
        assert_eq!(map.extents()[0].pages[3].heat.rate, 9999);
        assert_eq!(map.extents()[0].pages[20].heat.rate, 0);
        assert_eq!((map.extents()[0].age(3, 9), map.extents()[0].age(20, 9)), (9, 7), "in nanoseconds");
        assert_eq!(map.extents()[0].asked, 0, "a fresh slice is asked for its node at once");
    }

    #[test]
    fn new_pages_of_a_pool_begin_with_what_is_expected_of_it() {
        let mut map = HeatMap::new();
        let group = |n, live| ExtentView { pool: Pool::Group0, ..view(n, 1, live) };
        map.sync(0, |f| f(group(1, 1)));
        let mut rates = [0; Pool::COUNT];
        rates[Pool::Group0 as usize] = 7777;
        map.expect(&rates);
        map.sync(1, |f| [group(1, 0b11), group(2, 1), view(3, 1, 1)].into_iter().for_each(f));
        let rate = |e: usize, i: usize| map.extents()[e].pages[i].heat.rate;
        assert_eq!([rate(0, 0), rate(0, SLICE_PAGES), rate(1, 0), rate(2, 0)], [0, 7777, 7777, 0]);
        assert_eq!(map.extents()[1].pages[0].heat.seen(), 0);
    }

    #[test]
    fn pages_that_were_given_back_are_counted_anew_and_stay_known() {
        let mut map = HeatMap::new();
        map.sync(0, |f| f(view(7, 1, 1)));
        map.extents_mut()[0].pages[3].heat.rate = 9999;
        map.extents_mut()[0].asked = 5;
        map.sync(1, |f| f(view(7, 1, 1)));
        assert_eq!(map.extents()[0].asked, 5);
        map.sync(2, |f| f(ExtentView { emptied: 1, ..view(7, 1, 1) }));
        assert_eq!((map.extents()[0].asked, map.extents()[0].pages[3].heat.rate), (0, 9999));
    }

    #[test]
    fn extents_come_and_go_in_any_order() {
        let mut map = HeatMap::new();
        map.sync(0, |f| [9, 3, 5].into_iter().for_each(|n| f(view(n, 1, 1))));
        map.sync(1, |f| [4, 9, 1].into_iter().for_each(|n| f(view(n, 1, 1))));
        let at: Vec<_> = map.extents().iter().map(|e| e.view.index).collect();
        assert_eq!(at, [1, 4, 9]);
        assert_eq!(map.find(9 << 21), Some(2));
        assert_eq!(map.find((4 << 21) - 1), None);
        assert_eq!(map.extents()[2].born, 0);
    }

    #[test]
    fn only_live_pages_count() {
        let mut map = HeatMap::new();
        map.sync(0, |f| f(view(1, 1, 0b1)));
        let e = &mut map.extents_mut()[0];
        e.pages.iter_mut().for_each(|p| p.place = Place::Dram);
        e.recount();
        assert_eq!(map.placed(), (16 * 4096, 0));
    }

    #[test]
    fn an_unobserved_page_cools_with_age() {
        let mut map = HeatMap::new();
        map.sync(0, |f| f(view(1, 1, 1)));
        let e = &map.extents()[0];
        assert!(e.effective(0, 1_000_000_000) > e.effective(0, 20_000_000_000));
    }

    #[test]
    fn pools_named_hot_and_cold_are_biased() {
        let mut map = HeatMap::new();
        map.sync(0, |f| {
            f(ExtentView { pool: Pool::Cold, ..view(1, 1, 1) });
            f(view(2, 1, 1));
            f(ExtentView { pool: Pool::Hot, ..view(3, 1, 1) });
        });
        let rate: Vec<_> = map.extents().iter().map(|e| e.effective(0, 0)).collect();
        assert!(rate[0] < rate[1] && rate[1] < rate[2]);
    }
}
