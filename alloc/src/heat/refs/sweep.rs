//! A round that goes through the heap part by part: clear one, wait one window, read it, while the next is cleared.
//!
//! Zone: control. To clear all and then to read all takes time in proportion to the heap, and for that long every page is watched at least:
//! in a large heap, or on a slow kernel, all that matter have been touched by then and look alike. Of a part, pages are watched for the
//! window and little more, whatever the size of the heap; and no lock of the address space is held for longer than a part takes.
//!
//! The kernel hands out a few mappings more than were asked for, and their pages were looked at then. So the next part is cleared before one
//! is read.

use super::Cut;
use super::kernel::Kernel;
use super::smaps::Mapping;
use crate::heat::map::PAGE_BYTES;
use crate::sys::Errno;

/// Fewest mappings of a part but the last of an arena: more than the kernel hands out at once.
const FEWEST: usize = 12;
/// Shortest time that a part is to take to read, in ns: below that, waiting in between is most of a round.
const LEAST: u64 = 2_000_000;
/// After so long the control thread finishes what was cleared and looks after other things; nor does it wait for longer than that.
const BURST: u64 = 60_000_000;

/// What reading costs, in ns.
#[derive(Clone, Copy, Debug)]
pub(super) struct Price {
    pub(super) mapping: u64,
    pub(super) page: u64,
}

/// A stretch of the heap, and when it was cleared.
#[derive(Clone, Copy, Debug)]
struct Part {
    from: usize,
    to: usize,
    cleared: u64,
}

/// A round under way.
#[derive(Debug)]
pub(super) struct Sweep {
    parts: Vec<Part>,
    window: u64,
    /// Parts that were cleared, and parts that were read.
    cleared: usize,
    read: usize,
    /// When the first was cleared.
    pub(super) began: u64,
    /// Time for clearing and for reading so far, ns.
    pub(super) clearing: u64,
    pub(super) reading: u64,
    /// For how long mappings were watched, all together, and how many there were.
    watched: u64,
    mappings: u64,
}

impl Sweep {
    /// A round through `cuts` with pages watched for `window`.
    pub(super) fn new(cuts: &[Cut], window: u64, price: Price) -> Sweep {
        let enough = LEAST.max(window / 2);
        let mut parts = Vec::new();
        for cut in cuts {
            let used = cut.used / PAGE_BYTES;
            let address = |page: usize| cut.base + page * PAGE_BYTES;
            let (mut from, mut mappings, mut cost) = (0, 0, 0);
            let bounds = cut.layout.bounds().iter().map(|&page| page as usize).filter(|&page| page < used);
            for (page, next) in bounds.clone().zip(bounds.skip(1).chain([used])) {
                mappings += 1;
                cost += price.mapping + price.page * (next - page) as u64;
                if next == used || (mappings >= FEWEST && cost >= enough) {
                    parts.push(Part { from: address(from), to: address(next), cleared: 0 });
                    (from, mappings, cost) = (next, 0, 0);
                }
            }
        }
        Sweep {
            parts,
            window,
            cleared: 0,
            read: 0,
            began: 0,
            clearing: 0,
            reading: 0,
            watched: 0,
            mappings: 0,
        }
    }

    /// Goes on until all parts were read (`None`) or the next step is to be taken at the time that is answered. What was seen is added to
    /// `seen`, each mapping with the time at which it would have been read if all had been cleared when the first was.
    pub(super) fn go_on(
        &mut self,
        kernel: &mut impl Kernel,
        seen: &mut Vec<(Mapping, u64)>,
    ) -> Result<Option<u64>, Errno> {
        let until = kernel.clock().0 + BURST;
        while self.read < self.parts.len() {
            let now = kernel.clock().0;
            let is_late = now > until;
            if is_late && self.read == self.cleared {
                return Ok(Some(now));
            }
            // What is cleared when the time is up would be watched for as long as other things take.
            while !is_late && self.cleared < self.parts.len().min(self.read + 2) {
                self.clear_next(kernel)?;
            }
            let (now, due) = (kernel.clock().0, self.parts[self.read].cleared + self.window);
            if due > now + BURST {
                return Ok(Some(due));
            }
            if due > now {
                kernel.pause(due - now);
            }
            self.read_next(kernel, seen)?;
        }
        Ok(None)
    }

    fn clear_next(&mut self, kernel: &mut impl Kernel) -> Result<(), Errno> {
        let begin = kernel.clock().0;
        let part = &mut self.parts[self.cleared];
        kernel.clear_part(part.from, part.to)?;
        part.cleared = kernel.clock().0;
        self.clearing += part.cleared - begin;
        if self.cleared == 0 {
            self.began = part.cleared;
        }
        self.cleared += 1;
        Ok(())
    }

    fn read_next(&mut self, kernel: &mut impl Kernel, seen: &mut Vec<(Mapping, u64)>) -> Result<(), Errno> {
        let begin = kernel.clock().0;
        let (cleared, mut at) = (&self.parts[..self.cleared], self.read);
        let (mut watched, mut mappings) = (0, 0);
        kernel.mappings_on(self.read == 0, self.parts[self.read].to, &mut |mapping, now| {
            while at < cleared.len() && cleared[at].to <= mapping.start {
                at += 1;
            }
            // What lies between arenas, or was read too early, tells nothing.
            if let Some(part) =
                cleared.get(at).filter(|part| part.from <= mapping.start && part.cleared < now)
            {
                watched += now - part.cleared;
                mappings += 1;
                seen.push((*mapping, self.began + (now - part.cleared)));
            }
            true
        })?;
        self.watched += watched;
        self.mappings += mappings;
        self.reading += kernel.clock().0.saturating_sub(begin);
        self.read += 1;
        Ok(())
    }

    /// For how much longer than the window pages were watched on average.
    pub(super) fn excess(&self) -> u64 {
        (self.watched / self.mappings.max(1)).saturating_sub(self.window)
    }
}
