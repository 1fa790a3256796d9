//! How many bytes must, or may, change sides: budgets, watermarks and head-room.
//!
//! Zone: control. Pure arithmetic on one [`Level`].

use crate::config::Mode;
use crate::tier::mode::{migrates, promotes};

/// How full the tiers are, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Level {
    /// This process in DRAM.
    pub dram: u64,
    /// What it may hold there.
    pub dram_budget: u64,
    /// Demotion starts above this.
    pub high: u64,
    /// Demotion stops, and promotion into free room ends, here.
    pub low: u64,
    /// This process on device nodes.
    pub device: u64,
    /// What it may hold there.
    pub device_budget: u64,
    /// Free on the device nodes, for anyone.
    pub device_free: u64,
    /// What must stay free there.
    pub headroom: u64,
    /// Free on the DRAM nodes, for anyone.
    pub dram_free: u64,
    /// Whether a load from DRAM takes longer than one from the device: its bandwidth is used up.
    pub dram_is_slower: bool,
}

/// What follows from a level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Bytes to demote.
    pub demote: u64,
    /// Bytes of hot pages that DRAM has free room for.
    pub promote: u64,
    /// Bytes to bring back from an over-full device.
    pub evict: u64,
    /// Whether hot device pages may be exchanged for cold DRAM pages.
    pub swap: bool,
    /// DRAM is beyond its budget or about to be.
    pub dram_full: bool,
    /// Nothing more may go to the device.
    pub device_full: bool,
}

impl Level {
    /// Bytes that may still go to the device.
    pub fn device_room(&self) -> u64 {
        self.device_budget.saturating_sub(self.device).min(self.device_free.saturating_sub(self.headroom))
    }

    /// What must and may be done in `mode`.
    pub fn needs(&self, mode: Mode) -> Needs {
        let mut n = Needs {
            dram_full: self.dram > self.high,
            device_full: self.device_room() == 0,
            ..Needs::default()
        };
        if !migrates(mode) {
            return n;
        }
        let over_device = (self.device.saturating_sub(self.device_budget))
            .max(self.headroom.saturating_sub(self.device_free).min(self.device));
        let room = self.device_room();
        if self.dram > self.high {
            n.demote = (self.dram - self.low).min(room);
        } else {
            n.promote = self.low.saturating_sub(self.dram).min(self.dram_free / 2);
        }
        if over_device > 0 {
            // Eviction may fill DRAM up to its budget, not beyond.
            n.evict = over_device.min(self.dram_budget.saturating_sub(self.dram)).min(self.dram_free / 2);
            n.demote = 0;
            n.promote = 0;
        }
        n.swap = over_device == 0 && room > 0;
        if self.dram_is_slower || !promotes(mode) {
            // What is hot is served sooner where it is, or is the kernel's to promote. What DRAM has keeps its place: moving it out in a rush
            // would turn the tables, and back.
            (n.promote, n.swap) = (0, false);
        }
        n
    }

    /// Whether there is no room left on either side: nothing can be moved, and nothing is lost.
    pub fn both_full(&self) -> bool {
        self.dram > self.high && self.device_room() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const M: u64 = 1 << 20;

    fn level(dram: u64, device: u64) -> Level {
        Level {
            dram: dram * M,
            dram_budget: 100 * M,
            high: 98 * M,
            low: 95 * M,
            device: device * M,
            device_budget: 200 * M,
            device_free: 500 * M,
            headroom: 16 * M,
            dram_free: 1000 * M,
            dram_is_slower: false,
        }
    }

    #[test]
    fn between_the_watermarks_nothing_must_move() {
        let n = level(97, 50).needs(Mode::Auto);
        assert_eq!((n.demote, n.promote, n.evict), (0, 0, 0));
        assert!(n.swap && !n.dram_full && !n.device_full);
    }

    #[test]
    fn above_the_high_watermark_demotion_goes_down_to_the_low_one() {
        let n = level(99, 50).needs(Mode::Auto);
        assert_eq!(n.demote, 4 * M);
        assert!(n.dram_full);
    }

    #[test]
    fn below_the_low_watermark_there_is_room_for_hot_pages() {
        assert_eq!(level(90, 50).needs(Mode::Auto).promote, 5 * M);
    }

    #[test]
    fn an_over_full_device_is_relieved_within_the_dram_budget() {
        let n = level(90, 230).needs(Mode::Auto);
        assert_eq!((n.evict, n.demote, n.promote, n.swap), (10 * M, 0, 0, false));
        let mut tight = level(50, 150);
        tight.device_free = 6 * M;
        assert_eq!(tight.needs(Mode::Auto).evict, 10 * M, "head-room is restored");
    }

    #[test]
    fn both_full_moves_nothing() {
        let l = level(99, 200);
        let n = l.needs(Mode::Auto);
        assert!(l.both_full() && n.dram_full && n.device_full);
        assert_eq!((n.demote, n.promote, n.evict, n.swap), (0, 0, 0, false));
    }

    #[test]
    fn nothing_is_promoted_into_the_slower_side_but_what_must_leave_leaves() {
        let slower = |dram, device| Level { dram_is_slower: true, ..level(dram, device) }.needs(Mode::Auto);
        assert_eq!((slower(90, 50).promote, slower(90, 50).swap), (0, false));
        assert_eq!((slower(99, 50).demote, slower(90, 230).evict), (4 * M, 10 * M));
    }

    #[test]
    fn demotion_never_exceeds_what_the_device_can_take() {
        assert_eq!(level(140, 199).needs(Mode::Auto).demote, M);
    }

    #[test]
    fn without_migration_only_the_flags_are_set() {
        let n = level(120, 230).needs(Mode::Spill);
        assert_eq!(n, Needs { dram_full: true, device_full: true, ..Needs::default() });
    }

    #[test]
    fn in_assist_pages_leave_dram_and_a_device_that_is_over_full_and_nothing_else_moves() {
        assert_eq!(
            level(99, 50).needs(Mode::Assist),
            Needs { swap: false, ..level(99, 50).needs(Mode::Auto) }
        );
        assert_eq!(level(99, 50).needs(Mode::Assist).demote, 4 * M);
        let quiet = level(90, 50).needs(Mode::Assist);
        assert_eq!((quiet.promote, quiet.demote, quiet.swap), (0, 0, false));
        assert_eq!(level(90, 230).needs(Mode::Assist).evict, level(90, 230).needs(Mode::Auto).evict);
    }
}
