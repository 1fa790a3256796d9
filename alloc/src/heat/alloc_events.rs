//! The tracker of last resort: what the allocator knows without asking anyone.
//!
//! Zone: control. The heat map already holds it: an extent's birth, the slices freed and handed out again, and the
//! assumption that a page nobody looked at is used once in its lifetime so far. Old memory therefore goes to the
//! device before young memory. Nothing can be said about which page is hot, so nothing is ever promoted on this
//! evidence alone.

use super::map::HeatMap;
use super::tracker::{Look, Polled, Tracker};
use crate::sys::Errno;

/// Adds nothing to what [`HeatMap::sync`] notes.
pub struct AllocEvents;

impl Tracker for AllocEvents {
    fn name(&self) -> &'static str {
        "alloc"
    }

    fn poll(&mut self, _: &mut HeatMap, look: &Look<'_>) -> Result<Polled, Errno> {
        Ok(Polled { wake: look.now + 1_000_000_000, ..Polled::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arena::{ExtentView, Pool};

    #[test]
    fn by_age_alone_older_extents_are_colder() {
        let mut map = HeatMap::new();
        let view = |n: usize| ExtentView {
            index: n as u32,
            base: n << 21,
            pool: Pool::Default,
            live: 1,
            birth: 1,
            emptied: 0,
        };
        map.sync(0, |f| f(view(1)));
        map.sync(9_000_000_000, |f| [1, 2].into_iter().for_each(|n| f(view(n))));
        let look = Look { now: 12_000_000_000, arenas: &[], dram_share: 0.3, cut: 0, unsettled: true };
        AllocEvents.poll(&mut map, &look).unwrap();
        let rate: Vec<_> = map.extents().iter().map(|e| e.effective(0, look.now)).collect();
        assert!(rate[0] < rate[1]);
    }
}
