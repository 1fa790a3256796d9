//! Which extents are being filled.
//!
//! Zone: control. A page is touched when it comes into being, whatever becomes of it. What a round says of an extent that has got pages
//! since the round before is therefore left out: taken for use, it makes a heap that was just filled look hot all over, and the program that
//! then begins to use a part of it look slow.

use super::smaps::Mapping;
use super::wholes::part;
use crate::heat::map::{Extent, HeatMap, PAGE_BYTES, PAGES};

/// An extent is being filled when one in so many of its pages is new, and so is the heap.
const NEW: u32 = 16;
const NEW_IN_ALL: u32 = 50;
/// One that is seen for the first time is, if it was handed out less than this before the round, in ns.
const JUST_NOW: u64 = 1_000_000_000;

/// Takes the mappings of extents that are being filled out of those `seen` in the round that began at `cleared`, by ascending address; whether
/// the heap as a whole is.
pub(super) fn leave_out(map: &mut HeatMap, seen: &mut Vec<(Mapping, u64)>, cleared: u64) -> bool {
    let present = count(map.extents(), seen);
    let (mut new, mut is_filled) = (0, Vec::with_capacity(present.len()));
    for (e, present) in map.extents_mut().iter_mut().zip(&present) {
        let arrived = present.map_or(0, |now| arrived(e, now, cleared));
        new += arrived;
        is_filled.push(arrived * NEW > present.unwrap_or(0));
        // Of some mappings nothing is heard in a round: fewer pages than before are no sign that pages have gone.
        e.filled = (*present).max(e.filled);
    }
    let (extents, mut cursor) = (map.extents(), 0);
    seen.retain(|(m, _)| {
        while cursor < extents.len() && end_of(&extents[cursor]) <= m.start {
            cursor += 1;
        }
        let covered = extents[cursor..].iter().take_while(|e| e.view.base < m.end).count();
        !is_filled[cursor..cursor + covered].contains(&true)
    });
    new * NEW_IN_ALL > present.iter().flatten().sum()
}

/// Pages of each extent that are in memory; `None` of those that no mapping was seen of.
fn count(extents: &[Box<Extent>], seen: &[(Mapping, u64)]) -> Vec<Option<u32>> {
    let (mut present, mut cursor) = (vec![None; extents.len()], 0);
    for (m, _) in seen {
        while cursor < extents.len() && end_of(&extents[cursor]) <= m.start {
            cursor += 1;
        }
        for (i, e) in extents.iter().enumerate().skip(cursor).take_while(|(_, e)| e.view.base < m.end) {
            *present[i].get_or_insert(0) += u32::from(part(m, e, m.rss_kb));
        }
    }
    present
}

/// Pages that an extent has got since it was last seen, if so many are in memory now.
fn arrived(e: &Extent, now: u32, cleared: u64) -> u32 {
    match e.filled {
        Some(before) => now.saturating_sub(before),
        None if e.born + JUST_NOW > cleared => now,
        None => 0,
    }
}

fn end_of(e: &Extent) -> usize {
    e.view.base + PAGES * PAGE_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heat::played;

    const S: u64 = 1_000_000_000;

    /// A mapping of `extents` of which so many pages are in memory.
    fn mapping(extents: std::ops::Range<usize>, pages: u32) -> (Mapping, u64) {
        let [start, end] = [extents.start, extents.end].map(|i| i << 21);
        (Mapping { start, end, rss_kb: pages * 4, referenced_kb: 0 }, 0)
    }

    /// Which mappings are left of these, by the number of their first extent; and whether the heap is being filled.
    fn left(map: &mut HeatMap, mut seen: Vec<(Mapping, u64)>, cleared: u64) -> (Vec<usize>, bool) {
        let fills = leave_out(map, &mut seen, cleared);
        (seen.iter().map(|(m, _)| m.start >> 21).collect(), fills)
    }

    #[test]
    fn an_extent_that_gets_pages_is_left_out_until_it_gets_no_more() {
        let mut map = played::map_of(1..4);
        let round = |second: u32| vec![mapping(1..2, 512), mapping(2..3, second), mapping(3..4, 512)];
        assert_eq!(left(&mut map, round(0), 5 * S), (vec![1, 2, 3], false), "they have been there for long");
        assert_eq!(left(&mut map, round(200), 6 * S), (vec![1, 3], true));
        assert_eq!(left(&mut map, round(500), 7 * S), (vec![1, 3], true));
        assert_eq!(left(&mut map, round(510), 8 * S), (vec![1, 2, 3], false), "hardly any");
        assert_eq!(left(&mut map, round(100), 9 * S), (vec![1, 2, 3], false), "given back");
    }

    #[test]
    fn what_was_handed_out_just_now_is_being_filled() {
        let mut map = played::map_of(1..3);
        assert_eq!(left(&mut map, vec![mapping(1..2, 512)], S / 2), (vec![], true));
        assert_eq!(left(&mut map, vec![mapping(1..2, 512)], S), (vec![1], false));
    }

    #[test]
    fn a_mapping_of_several_extents_is_left_out_if_one_of_them_is_filled() {
        let mut map = played::map_of(1..5);
        assert_eq!(left(&mut map, vec![mapping(1..3, 512), mapping(3..5, 1024)], 5 * S).0, [1, 3]);
        assert_eq!(left(&mut map, vec![mapping(1..3, 1024), mapping(3..5, 1024)], 6 * S), (vec![3], true));
    }
}
