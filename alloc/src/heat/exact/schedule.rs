//! Which extents are looked at when.
//!
//! Zone: control. An extent of which little is known is due at once, and always. When its pages are known and do what was foretold of them, it
//! comes up after [`SHORT`], and each time after twice as long, up to [`LONG`]; when they do not, at once again. Intervals are spread at random,
//! so that at rest each second sees a few extents from all over the heap, by which a change of the program as a whole is noticed soon.

use crate::arena::ArenaView;
use crate::heat::map::{HeatMap, PAGE_BYTES, PAGES};
use std::ops::Range;

/// The interval at which an extent that is known is looked at first, and at most, ns.
const SHORT: u64 = 1_000_000_000;
const LONG: u64 = 32_000_000_000;
/// What cannot be looked at is tried again after so long.
const LATER: u64 = 5_000_000_000;
/// Most extents of one part: for so many one lock of the address space may be held, and their pages count as armed at one time.
const PART: usize = 16;
/// More than one of so many extents being due always, little is known of the heap.
const FRESH: usize = 16;
const EXTENT: usize = PAGES * PAGE_BYTES;

/// An extent's next turn.
#[derive(Clone, Debug)]
struct Turn {
    base: usize,
    birth: u32,
    /// The part of its arena that has been in use.
    arena: Range<usize>,
    due: u64,
    /// 0 = always due.
    interval: u64,
}

/// Neighbouring extents of one arena to be looked at.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Batch {
    pub(super) range: Range<usize>,
    pub(super) arena: Range<usize>,
}

/// All extents that can be looked at, by ascending address.
pub(super) struct Schedule {
    turns: Vec<Turn>,
    seed: u64,
}

impl Default for Schedule {
    fn default() -> Self {
        Schedule { turns: Vec::new(), seed: 0x9e37_79b9_7f4a_7c15 }
    }
}

impl Schedule {
    /// Takes over the extents that there are now; answers how many are new.
    pub(super) fn sync(&mut self, map: &HeatMap, arenas: &[ArenaView], now: u64) -> usize {
        let mut old = std::mem::take(&mut self.turns).into_iter().peekable();
        let mut new = 0;
        let mut arena = 0..0;
        for e in map.extents() {
            let (base, birth) = (e.view.base, e.view.birth);
            if !(arena.start <= base && base + EXTENT <= arena.end) {
                let holds = |a: &&ArenaView| a.base <= base && base + EXTENT <= a.base + a.used;
                let Some(found) = arenas.iter().find(holds) else { continue };
                arena = found.base..found.base + found.used;
            }
            while old.next_if(|t| t.base < base).is_some() {}
            let turn = match old.next_if(|t| t.base == base && t.birth == birth) {
                Some(turn) => Turn { arena: arena.clone(), ..turn },
                None => {
                    new += 1;
                    Turn { base, birth, arena: arena.clone(), due: now, interval: 0 }
                }
            };
            self.turns.push(turn);
        }
        new
    }

    /// How many extents there are.
    pub(super) fn len(&self) -> usize {
        self.turns.len()
    }

    /// Whether little is known of the heap.
    pub(super) fn is_fresh(&self) -> bool {
        self.turns.iter().filter(|t| t.interval == 0).count() * FRESH > self.turns.len()
    }

    /// When the next extent is due.
    pub(super) fn next(&self) -> u64 {
        self.turns.iter().map(|t| t.due).min().unwrap_or(u64::MAX)
    }

    /// Up to `most` extents that are due at `now`, the most overdue, by ascending address.
    pub(super) fn pick(&mut self, now: u64, most: usize) -> Vec<Batch> {
        // What is due at the same time comes in no order of addresses: the first rounds stand for the whole heap.
        let mut due: Vec<(u64, u64, usize)> = Vec::new();
        for i in 0..self.turns.len() {
            if self.turns[i].due <= now {
                due.push((self.turns[i].due, self.random(), i));
            }
        }
        if due.len() > most {
            due.select_nth_unstable(most);
            due.truncate(most);
        }
        let mut chosen: Vec<usize> = due.into_iter().map(|(_, _, i)| i).collect();
        chosen.sort_unstable();
        let mut batches: Vec<Batch> = Vec::new();
        for turn in chosen.into_iter().map(|i| &self.turns[i]) {
            match batches.last_mut() {
                Some(last)
                    if last.range.end == turn.base
                        && last.arena == turn.arena
                        && last.range.len() < PART * EXTENT =>
                {
                    last.range.end += EXTENT;
                }
                _ => batches.push(Batch { range: turn.base..turn.base + EXTENT, arena: turn.arena.clone() }),
            }
        }
        batches
    }

    /// The extent at `base` was looked at, and did what was foretold or something `odd`. Whether it was known before.
    pub(super) fn settle(&mut self, base: usize, known: bool, odd: bool, now: u64) -> bool {
        let random = self.random();
        let Some(turn) = self.find(base) else { return false };
        let before = turn.interval > 0;
        turn.interval = if odd || !known { 0 } else { (turn.interval * 2).clamp(SHORT, LONG) };
        turn.due = now + turn.interval / 2 + ((u128::from(turn.interval) * u128::from(random)) >> 64) as u64;
        before
    }

    /// The extents in `range` cannot be looked at now, or it would be in vain.
    pub(super) fn put_off(&mut self, range: &Range<usize>, now: u64) {
        for turn in self.turns.iter_mut().filter(|t| range.contains(&t.base)) {
            turn.due = now + turn.interval.max(LATER);
        }
    }

    /// All is to be looked at anew.
    pub(super) fn start_over(&mut self, now: u64) {
        self.turns.iter_mut().for_each(|t| (t.due, t.interval) = (now, 0));
    }

    fn find(&mut self, base: usize) -> Option<&mut Turn> {
        let at = self.turns.binary_search_by_key(&base, |t| t.base).ok()?;
        Some(&mut self.turns[at])
    }

    /// xorshift64*
    fn random(&mut self) -> u64 {
        self.seed ^= self.seed >> 12;
        self.seed ^= self.seed << 25;
        self.seed ^= self.seed >> 27;
        self.seed.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arena::Pool;
    use crate::heat::played;

    const S: u64 = 1_000_000_000;

    fn arena(from: usize, extents: usize) -> ArenaView {
        let (base, used) = (from << 21, extents << 21);
        ArenaView { base, bytes: 2 * used, used, pool: Pool::Default, bound: true, policy: None }
    }

    fn of(extents: Range<usize>) -> Schedule {
        let mut schedule = Schedule::default();
        let arenas = [arena(extents.start, extents.len())];
        assert_eq!(schedule.sync(&played::map_of(extents.clone()), &arenas, S), extents.len());
        schedule
    }

    fn picked(batches: &[Batch]) -> usize {
        batches.iter().map(|b| b.range.len() / EXTENT).sum()
    }

    #[test]
    fn what_is_due_is_looked_at_in_parts_that_end_with_their_arena() {
        let mut schedule = Schedule::default();
        // An arena of which 20 extents are in use, one of 4 next to it, and extents that lie in none.
        let arenas = [arena(10, 20), arena(30, 4)];
        assert_eq!(schedule.sync(&played::map_of(8..40), &arenas, S), 24);
        let batches = schedule.pick(S, 100);
        let ranges: Vec<_> = batches.iter().map(|b| (b.range.start >> 21, b.range.end >> 21)).collect();
        assert_eq!(ranges, [(10, 26), (26, 30), (30, 34)]);
        assert_eq!(batches[1].arena, 10 << 21..30 << 21);
        assert_eq!(picked(&schedule.pick(S, 5)), 5);
        assert_eq!(schedule.pick(S - 1, 5), []);
    }

    #[test]
    fn an_extent_that_does_what_was_foretold_comes_up_less_and_less_and_one_that_does_not_at_once() {
        let mut schedule = of(1..3);
        let mut now = S;
        for rounds in 0..9 {
            let interval = (SHORT << rounds).min(LONG);
            assert_eq!(schedule.settle(1 << 21, true, false, now), rounds > 0);
            let wait = schedule.find(1 << 21).unwrap().due - now;
            assert!((interval / 2..=interval * 3 / 2).contains(&wait), "{wait} for {interval}");
            now += wait;
        }
        assert_eq!(schedule.next(), S, "the other one is still due");
        assert!(schedule.settle(1 << 21, true, true, now));
        assert_eq!(schedule.find(1 << 21).unwrap().due, now);
        assert!(!schedule.settle(2 << 21, false, false, now));
        assert_eq!(schedule.find(2 << 21).unwrap().due, now);
    }

    #[test]
    fn at_rest_each_second_sees_some_extents_and_no_second_most() {
        let mut schedule = of(1..513);
        let mut most = 0;
        for second in 1..200 {
            let now = second * S;
            let batches = schedule.pick(now, 1000);
            if second > 100 {
                most = most.max(picked(&batches));
                assert!(picked(&batches) > 0, "none in second {second}");
            }
            for base in batches.iter().flat_map(|b| b.range.clone().step_by(EXTENT)) {
                schedule.settle(base, true, false, now);
            }
        }
        assert!(most < 512 / 8, "{most} at once");
        assert!(!schedule.is_fresh());
        schedule.start_over(200 * S);
        assert!(schedule.is_fresh() && picked(&schedule.pick(200 * S, 1000)) == 512);
    }

    #[test]
    fn an_extent_with_a_new_owner_is_new() {
        let mut schedule = of(1..4);
        (1..4).for_each(|i| assert!(!schedule.settle(i << 21, true, false, S)));
        let mut map = played::map_of(1..4);
        map.extents_mut()[1].view.birth = 2;
        assert_eq!(schedule.sync(&map, &[arena(1, 3)], 2 * S - 1), 1);
        let due: Vec<u64> = schedule.turns.iter().map(|t| t.interval).collect();
        assert_eq!(due, [SHORT, 0, SHORT]);
        assert_eq!(schedule.sync(&map, &[], 3 * S), 0);
        assert_eq!(schedule.len(), 0, "its arena is gone");
    }

    #[test]
    fn what_cannot_be_looked_at_does_not_come_first_again() {
        let mut schedule = of(1..9);
        schedule.put_off(&(1 << 21..5 << 21), 2 * S);
        let batches = schedule.pick(2 * S, 4);
        assert_eq!(batches[0].range, 5 << 21..9 << 21);
    }
}
