//! The census: asking the kernel on which node each live page is.
//!
//! Zone: control. Extents whose placement is unknown, or that have live pages that were not there yet, are asked while
//! the process grows; all others in rotation, because the kernel may move pages too (reclaim, compaction, a child's
//! copies). A query costs 0.1 to 0.5 µs a page.

use super::system::System;
use crate::heat::duty::{Duty, Haste};
use crate::heat::map::{Extent, HeatMap, Moved, PAGES, Place};
use crate::sys::numa::NodeMask;

/// Share of a core that asking may take over time, beside the tracker's own.
const SHARE: f64 = 0.03;
/// Extents asked in one tick at most: 32 MiB of heap, some milliseconds.
const MOST: usize = 16;
/// The same while the process grows, and of extents that are new or have given pages back.
const MOST_HURRY: usize = 128;
/// An extent with absent pages is asked again after this long even if the process does not seem to grow.
const ABSENT_PERIOD: u64 = 5_000_000_000;
/// Everything is asked again after this long, duty permitting.
const FULL_PERIOD: u64 = 10_000_000_000;

/// The census taker.
pub(crate) struct Census {
    cursor: usize,
    duty: Duty,
    rotate_at: u64,
    /// Whether the kernel promotes pages, too.
    assisted: bool,
    pages: Vec<usize>,
    status: Vec<i32>,
    index: Vec<u16>,
}

impl Census {
    pub(crate) fn new(now: u64, assisted: bool) -> Census {
        let (pages, status, index) = (Vec::new(), Vec::new(), Vec::new());
        Census { cursor: 0, duty: Duty::new(now, SHARE), rotate_at: 0, assisted, pages, status, index }
    }

    /// Asks what is most worth asking. `growing`: new pages have appeared since the last call.
    /// Answers whether extents that should have been asked had to be left for the next tick.
    pub(crate) fn take(
        &mut self,
        map: &mut HeatMap,
        system: &mut dyn System,
        device: &NodeMask,
        growing: bool,
    ) -> bool {
        let now = system.now();
        let mut asked = 0;
        let mut left = false;
        // First what is new or has given pages back: else many extents with absent pages would hide the growth behind them, and what a
        // program frees at once would count for seconds.
        let is_new = |e: &Extent| e.asked == 0;
        let is_incomplete = |e: &Extent| {
            !is_new(e)
                && e.absent > 0
                && (growing || now.saturating_sub(e.asked) > ABSENT_PERIOD)
                && e.asked < now
        };
        let others = if growing { MOST_HURRY } else { MOST };
        for (due, most) in [(&is_new as &dyn Fn(&Extent) -> bool, MOST_HURRY), (&is_incomplete, others)] {
            for i in 0..map.extents().len() {
                if due(&map.extents()[i]) {
                    if asked >= most {
                        left = true;
                        break;
                    }
                    self.ask(map, i, system, device);
                    asked += 1;
                }
            }
        }
        if !growing && now >= self.rotate_at && !map.extents().is_empty() {
            let before = system.now();
            let n = map.extents().len();
            let share = n.div_ceil(16).clamp(1, MOST);
            for _ in 0..share {
                self.cursor = (self.cursor + 1) % n;
                self.ask(map, self.cursor, system, device);
            }
            let after = system.now();
            let pause = self.duty.charge(after, after.saturating_sub(before), Haste::Rest);
            self.rotate_at = after + pause.max(FULL_PERIOD * share as u64 / n as u64);
        }
        left
    }

    fn ask(&mut self, map: &mut HeatMap, i: usize, system: &mut dyn System, device: &NodeMask) {
        let extent = &mut map.extents_mut()[i];
        self.pages.clear();
        self.index.clear();
        for page in 0..PAGES {
            if extent.is_live(page) {
                self.pages.push(extent.address(page));
                self.index.push(page as u16);
            }
        }
        self.status.clear();
        self.status.resize(self.pages.len(), i32::MIN);
        extent.asked = system.now().max(1);
        if self.pages.is_empty() || system.move_pages(&self.pages, None, &mut self.status).is_err() {
            return;
        }
        for (&page, &status) in self.index.iter().zip(&self.status) {
            let place = match u32::try_from(status) {
                Ok(node) if device.has(node) => Place::Device,
                Ok(_) => Place::Dram,
                Err(_) => Place::Absent,
            };
            let page = &mut extent.pages[usize::from(page)];
            if self.assisted && (page.place, place) == (Place::Device, Place::Dram) {
                // The kernel has seen it in use: not to be demoted at once by what is known of it from before.
                page.note_move(place, Moved::Up, extent.asked);
            }
            page.place = place;
        }
        extent.recount();
    }
}
