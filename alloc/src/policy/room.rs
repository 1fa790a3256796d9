//! In `assist` mode: the room in DRAM that the kernel's promotions need.
//!
//! Zone: control. Pure.
//!
//! The kernel promotes only while a DRAM node has free memory beyond its own watermarks, of which a process that keeps a budget knows nothing. But
//! it counts what it would promote (`pgpromote_candidate`, Linux 5.18) and what it did (`pgpromote_success`): while it does not get to promote
//! most of what it would, as much more is demoted.

use crate::heat::map::PAGE_BYTES;
use crate::sys::numa::Promotions;

/// Of the budget, the most that is kept free: one in so many.
const MOST: u64 = 4;
/// Of the room, what is taken back in a look at which the kernel had enough of it: one in so many.
const TAKEN: u64 = 16;

/// What is kept free below the budget.
#[derive(Clone, Copy, Debug, Default)]
pub struct Room {
    bytes: u64,
    seen: Option<Promotions>,
}

impl Room {
    /// A look, once a second or so, at what the kernel has promoted until now (`None`: it does not say): how many bytes of a budget of so many to
    /// keep free.
    pub fn look(&mut self, now: Option<Promotions>, budget: u64) -> u64 {
        let Some(now) = now else { return 0 };
        if let Some(before) = self.seen.replace(now) {
            let wanted = now.wanted.saturating_sub(before.wanted);
            let failed = wanted.saturating_sub(now.done.saturating_sub(before.done));
            if failed > wanted / 2 {
                self.bytes = (self.bytes + failed * PAGE_BYTES as u64).min(budget / MOST);
            } else {
                self.bytes -= self.bytes.div_ceil(TAKEN);
            }
        }
        self.bytes
    }

    /// What is to be kept free as of the last look.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const M: u64 = 1 << 20;

    #[test]
    fn room_is_made_for_what_the_kernel_could_not_promote_and_taken_back_when_it_can() {
        let (mut room, mut total) = (Room::default(), Promotions { wanted: 900, done: 800 });
        let mut look = |wanted, done| {
            total = Promotions { wanted: total.wanted + wanted, done: total.done + done };
            room.look(Some(total), 64 * M) / M
        };
        assert_eq!(look(256, 0), 0, "what was before the first look says nothing");
        assert_eq!(look(512, 0), 2);
        assert_eq!(look(1024, 256), 5);
        assert_eq!(look(1 << 20, 0), 16, "a quarter at most");
        assert_eq!(look(1000, 900), 15);
        assert_eq!((0..100).map(|_| look(0, 0)).last(), Some(0));
        assert_eq!(room.look(None, 64 * M), 0);
    }
}
