//! From "these pages were used since then" to answers in the map, and what they say about the program.
//!
//! Zone: control. What the kernel says is noted first: only a whole round tells at what pace the program ran.

use super::surprise::{Bits, Table};
use crate::heat::map::{Extent, HeatMap, PAGE_BYTES, PAGES, Place};
use crate::heat::pace::{Pace, Witnesses};
use crate::heat::rate::Window;
use std::ops::Range;

/// Answers after which a page is known well enough to be contradicted, and after which it is known.
const SURE: u8 = 4;
const KNOWN: u8 = 8;
/// Pages by which the pace is told, at most.
const SAMPLE: usize = 8192;

const WORDS: usize = PAGES / 64;

/// What was seen of one extent.
pub(super) struct Seen {
    pub(super) base: usize,
    birth: u32,
    /// For how long it was watched, ns.
    pub(super) window: u64,
    /// By page, whether there is an answer, and whether it was used.
    answered: [u64; WORDS],
    used: [u64; WORDS],
}

impl Seen {
    fn of(&self, page: usize) -> Option<bool> {
        let is = |bits: &[u64; WORDS]| bits[page / 64] >> (page % 64) & 1 == 1;
        is(&self.answered).then(|| is(&self.used))
    }
}

/// The extents in `range`, by ascending address, of which nothing has been seen yet.
pub(super) fn begin(map: &HeatMap, range: &Range<usize>) -> Vec<Seen> {
    let extents = map.extents();
    let first = extents.partition_point(|e| e.view.base < range.start);
    let within = extents[first..].iter().take_while(|e| e.view.base < range.end);
    let none = [0; WORDS];
    within
        .map(|e| Seen { base: e.view.base, birth: e.view.birth, window: 0, answered: none, used: none })
        .collect()
}

/// The pages of `[from, to)` were used, or not. What lies in no extent (it may have been freed meanwhile) is left out.
pub(super) fn note(seen: &mut [Seen], from: usize, to: usize, used: bool) {
    let first = seen.partition_point(|s| s.base + PAGES * PAGE_BYTES <= from);
    for s in seen[first..].iter_mut().take_while(|s| s.base < to) {
        let begin = from.saturating_sub(s.base) / PAGE_BYTES;
        for page in begin..((to - s.base) / PAGE_BYTES).min(PAGES) {
            s.answered[page / 64] |= 1 << (page % 64);
            s.used[page / 64] |= u64::from(used) << (page % 64);
        }
    }
}

/// How many pages were used.
pub(super) fn used(seen: &[Seen]) -> u64 {
    seen.iter().flat_map(|s| &s.used).map(|bits| u64::from(bits.count_ones())).sum()
}

/// The extent that was seen, if it still is the same.
pub(super) fn extent_of<'a>(map: &'a mut HeatMap, seen: &Seen) -> Option<&'a mut Extent> {
    let at = map.find(seen.base)?;
    let extent = &mut map.extents_mut()[at];
    (extent.view.base == seen.base && extent.view.birth == seen.birth).then_some(extent)
}

/// The pace of a round.
pub(super) fn pace(map: &HeatMap, seen: &[Seen]) -> Pace {
    let stride = (seen.len() * PAGES).div_ceil(SAMPLE).max(1);
    let mut witnesses = Witnesses::default();
    for s in seen {
        let Some(extent) = map.find(s.base).map(|at| &map.extents()[at]) else { continue };
        let window = Window::new(s.window);
        for page in (0..PAGES).step_by(stride) {
            if let Some(used) = s.of(page).filter(|_| extent.is_live(page)) {
                witnesses.hear(&extent.pages[page].heat, window, f64::from(u8::from(used)));
            }
        }
    }
    witnesses.pace()
}

/// What a round said in total.
#[derive(Default)]
pub(super) struct Account {
    /// Answers that were taken in, and how many of them were that the page was used.
    pub(super) answers: u64,
    pub(super) used: u64,
}

/// How an extent's answers compare with what was foretold.
#[derive(Clone, Debug)]
pub(super) struct Verdict {
    /// Whether its pages have answered often enough to be known.
    pub(super) known: bool,
    /// How much of a surprise that was.
    pub(super) bits: Bits,
}

/// Takes what was seen of an extent over `window` into the map.
pub(super) fn take(
    extent: &mut Extent,
    seen: &Seen,
    window: Window,
    table: &Table,
    account: &mut Account,
) -> Verdict {
    let mut bits = Bits::default();
    let (mut answers, mut known) = (0, 0);
    for i in 0..PAGES {
        let Some(used) = seen.of(i).filter(|_| extent.is_live(i)) else { continue };
        let page = &mut extent.pages[i];
        if used && matches!(page.place, Place::Absent) {
            page.place = Place::Unknown; // it has come into memory since it was asked for
        }
        let answered = page.heat.seen();
        known += u32::from(answered >= KNOWN);
        if answered >= SURE {
            bits.add(&table.bits(window.probability(&page.heat), used));
        }
        answers += 1;
        account.used += u64::from(used);
        if used {
            window.hit(&mut page.heat);
        } else {
            window.miss(&mut page.heat);
        }
    }
    account.answers += u64::from(answers);
    // Where nothing answers there is nothing to be known.
    Verdict { known: known * 8 >= answers * 7, bits }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heat::played;

    const BASE: usize = 1 << 21;
    const W: u64 = 100_000_000;

    fn watch(map: &mut HeatMap, used: impl Fn(usize) -> bool, account: &mut Account) -> Verdict {
        let mut seen = begin(map, &(BASE..2 * BASE));
        for page in 0..PAGES {
            let at = BASE + page * PAGE_BYTES;
            note(&mut seen, at, at + PAGE_BYTES, used(page));
        }
        let extent = extent_of(map, &seen[0]).unwrap();
        take(extent, &seen[0], Window::new(W), &Table::default(), account)
    }

    #[test]
    fn a_run_over_two_extents_is_noted_in_both_and_what_lies_in_none_in_neither() {
        let map = played::map_of(1..3);
        let mut seen = begin(&map, &(BASE..3 * BASE));
        note(&mut seen, 2 * BASE - 2 * PAGE_BYTES, 2 * BASE + PAGE_BYTES, true);
        note(&mut seen, BASE, BASE + PAGE_BYTES, false);
        note(&mut seen, 0, PAGE_BYTES, true);
        note(&mut seen, 3 * BASE - PAGE_BYTES, 4 * BASE, true);
        let all = |s: &Seen| (0..PAGES).filter_map(|i| Some((i, s.of(i)?))).collect::<Vec<_>>();
        assert_eq!(all(&seen[0]), [(0, false), (510, true), (511, true)]);
        assert_eq!(all(&seen[1]), [(0, true), (511, true)]);
        assert_eq!(used(&seen), 4);
    }

    #[test]
    fn each_live_page_with_an_answer_takes_it_in_and_no_other() {
        let mut map = played::map_of(1..2);
        map.extents_mut()[0].view.live = 0b1;
        map.extents_mut()[0].pages[3].place = Place::Absent;
        let mut account = Account::default();
        watch(&mut map, |i| i == 3, &mut account);
        let pages = &map.extents()[0].pages;
        assert!(pages[3].heat.at_work() && pages[3].place == Place::Unknown);
        assert!(pages[4].heat.seen() == 1 && !pages[4].heat.at_work());
        assert!(pages[16].heat.is_blank());
        assert_eq!((account.answers, account.used), (16, 1));
    }

    #[test]
    fn what_an_extent_usually_does_is_foretold_and_its_opposite_contradicts_that() {
        let mut map = played::map_of(1..2);
        for round in 0..12 {
            let verdict = watch(&mut map, |i| i % 4 == 0, &mut Account::default());
            assert_eq!(verdict.known, round >= KNOWN, "in round {round}");
            assert!(verdict.bits.found <= 1.5 * verdict.bits.expected, "{verdict:?}");
        }
        let verdict = watch(&mut map, |i| i % 4 == 1, &mut Account::default());
        assert!(verdict.bits.found > 4.0 * verdict.bits.expected, "{verdict:?}");
    }

    #[test]
    fn what_was_seen_of_an_extent_is_not_believed_of_the_next_at_its_place() {
        let mut map = played::map_of(1..2);
        let seen = begin(&map, &(BASE..2 * BASE));
        map.extents_mut()[0].view.birth += 1;
        assert!(extent_of(&mut map, &seen[0]).is_none());
    }

    #[test]
    fn an_extent_of_which_nothing_answers_need_not_be_looked_at_again_soon() {
        let mut map = played::map_of(1..2);
        let seen = begin(&map, &(BASE..2 * BASE));
        let extent = extent_of(&mut map, &seen[0]).unwrap();
        assert!(take(extent, &seen[0], Window::new(W), &Table::default(), &mut Account::default()).known);
    }
}
