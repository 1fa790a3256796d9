//! Whether a page may be moved just now: enough evidence, no recent move, no back-off.
//!
//! Zone: control.

use crate::heat::map::{Extent, Moved};
use crate::heat::rate::OCTAVE;

/// A page that comes back within this time of its last move is ping-pong, in ns.
pub const PING_PONG: u64 = 30_000_000_000;
/// For how long a page stays where it was moved while the placement is being learnt, in ns.
const LEARNING: u64 = 5_000_000_000;
/// Answers about a page before it may be promoted.
const EVIDENCE: u8 = 2;

/// The rules of one tick.
pub struct Rules<'a> {
    /// The caller's clock, in ns.
    pub now: u64,
    /// For how long a page stays where it was moved, in ns.
    pub hold: u64,
    /// The rate that a page in DRAM may be expected to have; the planner knows it.
    pub typical: u16,
    /// How much hotter, in code units, a waiting page must be than the one it replaces.
    pub hysteresis: u16,
    /// Whether the mover is backing off from a page.
    pub blocked: &'a dyn Fn(usize) -> bool,
}

impl Rules<'_> {
    /// Whether page `i`, in DRAM, may be demoted: not while its promotion may still prove right, nor while it is new and nothing at all is
    /// known of it: what was allocated lately is in use more often than not.
    pub fn may_demote(&self, extent: &Extent, i: usize) -> bool {
        let page = &extent.pages[i];
        let new = page.heat.is_blank() && extent.age(i, self.now) < PING_PONG;
        let held = matches!(page.moved, Moved::Up | Moved::Evicted)
            && page.since_move(self.now).is_some_and(|t| t < self.hold);
        !held && !new && !(self.blocked)(extent.address(i))
    }

    /// Whether page `i`, on the device, may be promoted: seen at work, and more than once; or blocks are allocated there.
    pub fn may_promote(&self, extent: &Extent, i: usize) -> bool {
        let page = &extent.pages[i];
        let held = page.moved == Moved::Down && page.since_move(self.now).is_some_and(|t| t < self.hold);
        (extent.gives_birth(i, self.now) || (page.heat.seen() >= EVIDENCE && page.heat.at_work()))
            // A page that was demoted and is now certainly as hot as pages in DRAM are, or clearly hotter than the coldest of them, was
            // demoted by mistake.
            && (!held || extent.bounds(i, self.now).0 > self.typical)
            && !(self.blocked)(extent.address(i))
    }
}

/// The hysteresis: widened by ping-pong, and when there is little left to gain; narrow when the program has changed.
pub struct Brake {
    eighths: u16,
    /// Whether little moved in the last period.
    quiet: bool,
    promoted: u64,
    returns: u64,
    since: u64,
    /// When the program last changed.
    released: u64,
}

/// Least and most hysteresis, in eighths of an octave.
const BRAKE: std::ops::RangeInclusive<u16> = 6..=32;
/// Hysteresis of a placement that has settled.
const SETTLED: u16 = 12;
/// How often it is reconsidered, in ns.
const BRAKE_PERIOD: u64 = 10_000_000_000;

impl Default for Brake {
    fn default() -> Self {
        Brake { eighths: *BRAKE.start(), quiet: false, promoted: 0, returns: 0, since: 0, released: 0 }
    }
}

impl Brake {
    /// The present hysteresis in code units.
    pub fn hysteresis(&self) -> u16 {
        self.eighths * (OCTAVE as u16 / 8)
    }

    /// For how long a page stays where it was moved: while much is still being learnt, mistakes are corrected soon; the longer ago the last
    /// change, and when moves have become a trickle, they are not. What was moved before the program changed was no mistake, and may go back.
    pub fn hold(&self, now: u64) -> u64 {
        let known_for = now.saturating_sub(self.released);
        let longest = 2 * PING_PONG;
        if self.quiet { longest } else { (known_for / 2).clamp(LEARNING, longest) }.min(known_for)
    }

    /// The program has changed: what was settled no longer is.
    pub fn release(&mut self, now: u64) {
        (self.eighths, self.quiet, self.released) = (*BRAKE.start(), false, now);
    }

    /// Takes the running totals of promotions and of moves back, and how many pages DRAM holds. Demotions that made room for new memory
    /// say nothing about what is known.
    pub fn adjust(&mut self, now: u64, promoted: u64, returns: u64, dram_pages: u64) {
        if now.saturating_sub(self.since) < BRAKE_PERIOD {
            return;
        }
        let (m, r) = (promoted - self.promoted, returns - self.returns);
        (self.promoted, self.returns, self.since) = (promoted, returns, now);
        self.quiet = m * 100 < dram_pages;
        if r > 0 && r * 50 > m {
            self.eighths = (self.eighths + 4).min(*BRAKE.end());
        } else if self.quiet && self.eighths < SETTLED {
            self.eighths += 2;
        } else if self.eighths > SETTLED {
            self.eighths -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heat::map::Place;
    use crate::heat::played;
    use crate::heat::rate::Estimate;

    const S: u64 = 1_000_000_000;

    fn check(edit: impl FnOnce(&mut crate::heat::map::Page), now: u64, blocked: bool) -> (bool, bool) {
        let mut map = played::map_of(1..2);
        let page = &mut map.extents_mut()[0].pages[0];
        page.heat = Estimate::known(30_000, true);
        edit(page);
        let rules = Rules { now, hold: PING_PONG, typical: 40_000, hysteresis: 0, blocked: &|_| blocked };
        (rules.may_demote(&map.extents()[0], 0), rules.may_promote(&map.extents()[0], 0))
    }

    #[test]
    fn a_page_stays_for_a_while_where_it_was_moved() {
        let up = |p: &mut crate::heat::map::Page| p.note_move(Place::Dram, Moved::Up, S);
        assert!(!check(up, 20 * S, false).0);
        assert!(check(up, 32 * S, false).0);
        let down = |p: &mut crate::heat::map::Page| p.note_move(Place::Device, Moved::Down, S);
        assert!(!check(down, 20 * S, false).1);
        assert!(check(down, 32 * S, false).1);
        let by_mistake = |p: &mut crate::heat::map::Page| {
            p.heat = Estimate::known(45_000, true);
            down(p);
        };
        assert!(check(by_mistake, 3 * S, false).1);
    }

    #[test]
    fn a_new_page_is_not_demoted_unless_something_is_known_of_it() {
        assert!(!check(|p| p.heat = Estimate::default(), S, false).0);
        assert!(check(|p| p.heat = Estimate::default(), 31 * S, false).0);
        assert!(check(|p| p.heat = Estimate::expected(20_000), S, false).0);
    }

    #[test]
    fn a_page_nobody_saw_at_work_is_not_promoted() {
        assert!(!check(|p| p.heat = Estimate::default(), S, false).1);
        assert!(!check(|p| p.heat = Estimate::known(30_000, false), S, false).1);
    }

    #[test]
    fn a_page_the_mover_backs_off_from_is_left_alone() {
        assert_eq!(check(|_| (), S, true), (false, false));
    }

    #[test]
    fn a_settled_placement_asks_for_more_reason_to_move_until_the_program_changes() {
        let mut brake = Brake::default();
        for i in 1..20 {
            brake.adjust(i * 10 * S, i, 0, 1000);
        }
        assert_eq!((brake.hysteresis(), brake.hold(200 * S)), (SETTLED * (OCTAVE as u16 / 8), 2 * PING_PONG));
        brake.release(200 * S);
        assert_eq!((brake.hysteresis(), brake.hold(300 * S)), (Brake::default().hysteresis(), 50 * S));
        assert_eq!(brake.hold(240 * S), 20 * S, "the longer, the more is known");
        assert_eq!(brake.hold(201 * S), S, "moves of before are held no longer");
    }

    #[test]
    fn ping_pong_widens_the_hysteresis_and_quiet_narrows_it_again() {
        let mut brake = Brake::default();
        brake.adjust(10 * S, 1000, 50, 1000);
        assert!(brake.hysteresis() > Brake::default().hysteresis());
        for i in 2..20 {
            brake.adjust(i * 10 * S, 1000, 50 * i, 1000);
        }
        let wide = brake.hysteresis();
        for i in 20..60 {
            brake.adjust(i * 10 * S, 1000 + i, 1000, 1000);
        }
        assert!(brake.hysteresis() < wide);
    }
}
