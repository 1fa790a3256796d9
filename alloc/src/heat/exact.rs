//! The trackers that get an exact answer for each page, used since it was armed or not: `rwp` and `idle`.
//!
//! Zone: control. They differ in how they ask the kernel ([`rwp`], [`idle`]); when, and about what, is the same for both. A round is
//!
//! ```text
//! arm -> wait one window -> read -> answers into the map -> pause
//! ```
//!
//! The window is kept at the length in which about as many pages are used as fit in DRAM: longer, and all pages look alike. A round covers
//! extents that are due ([`schedule`]): at first all, in turn; of what does what was foretold of it less and less, so that cost at rest is small.
//! It is no larger than can be armed and read in half a window. The pause keeps the tracker within its [`Duty`]; where a page's first use after it
//! was armed costs the program a fault ([`Kernel::toll`]), it also keeps that below [`BURDEN`] of one core.
//!
//! What a round teaches is judged before it is believed: at what [`super::pace`] the program ran, and how much of a [`surprise`] it is.
//! Nothing is armed by a read: an answer that nobody takes in costs nothing but a fault.
//!
//! A call that fails now and may work later (no memory, no descriptor left, a mapping that somebody replaced) puts off what it was about. One
//! that is forbidden (`EPERM`, a sandbox), or [`FAILURES`] rounds in which nothing worked, are the end of the tracker.

mod answers;
mod frames;
pub mod idle;
pub mod rwp;
mod schedule;
mod surprise;

use self::answers::{Account, Seen};
use self::schedule::{Batch, Schedule};
use self::surprise::{Surprise, Table};
use super::duty::{Duty, Haste};
use super::map::{HeatMap, PAGE_BYTES, PAGES};
use super::pace::{Pace, Slowness};
use super::rate::Window;
use super::tracker::{Look, Polled, Tracker};
use super::window::{self, FIRST_WINDOW, WINDOWS};
use crate::sys::Errno;
use std::ops::Range;

/// Rounds at rest come no more often than this, and those while there is something to be gained.
const REST: u64 = 1_000_000_000;
const KEEN: u64 = 100_000_000;
/// Arming and reading the extents of a round may take this long, or half of a window if that is longer; but never more than the second.
const LEAST: u64 = 2_000_000;
const BURST: u64 = 50_000_000;
/// Fewest extents in a round.
const FEWEST: usize = 4;
/// Largest share of one core that faults may cost the program, and while it is not known or has changed.
const BURDEN: f64 = 0.01;
const BURDEN_HURRY: f64 = 0.1;
/// So much of a window the faults of a round may take.
const FAULTING: u64 = 4;
/// For each page there is, so many answers are to be had in a hurry after the start or a change.
const LOOKS: u64 = 16;
/// So many answers show what share of all pages is used while all extents take turns; when they do not, it takes a quarter of all pages.
const SAMPLE: u64 = 8192;
/// Rounds in a row in which nothing could be armed or read, after which nothing ever will.
const FAILURES: u8 = 8;

/// What the tracker needs from the system; tests play the kernel.
pub trait Kernel {
    /// `rwp` or `idle`.
    fn name(&self) -> &'static str;
    /// Now, and the processor time this thread has used, both in ns.
    fn clock(&self) -> (u64, u64);
    /// What the first use of an armed page costs the program, in ns.
    fn toll(&self) -> u64;
    /// A new round: what was armed and not read is forgotten.
    fn begin(&mut self);
    /// From now on it is noted which pages of `part` are used. It lies in `arena`, whose pages are all accessible.
    fn arm(&mut self, part: &Range<usize>, arena: &Range<usize>) -> Result<(), Errno>;
    /// Calls `each(from, to, used)` for the pages of `part`, which was armed in this round, of which it is known.
    fn read(&mut self, part: &Range<usize>, each: &mut dyn FnMut(usize, usize, bool)) -> Result<(), Errno>;
}

/// A stretch of the heap that is armed, and since when.
struct Part {
    range: Range<usize>,
    armed: u64,
}

enum Phase {
    Idle { until: u64 },
    Open { parts: Vec<Part>, until: u64, cost: u64 },
}

/// The tracker.
pub struct Exact<K> {
    kernel: K,
    schedule: Schedule,
    phase: Phase,
    duty: Duty,
    window: u64,
    /// What it takes to arm and to read a page, ns.
    per_page: f64,
    /// The share of pages that was used in a window lately, and answers and uses since then.
    share: f64,
    sample: (u64, u64),
    /// Whether the window has found its length.
    calibrated: bool,
    /// Answers still to be had in a hurry.
    eager: u64,
    table: Table,
    surprise: Surprise,
    slow: Slowness,
    /// Rounds in a row in which nothing worked, and what failed last in this round.
    failures: u8,
    refused: Option<Errno>,
}

/// Whether a call that failed so will never work again.
fn is_final(e: Errno) -> bool {
    matches!(e.0, libc::EPERM | libc::EACCES | libc::ENOSYS | libc::ENOTTY)
}

impl<K: Kernel> Exact<K> {
    /// A tracker on a kernel that has been tried out; `share` is what it may take of a core over time.
    pub fn new(kernel: K, share: f64) -> Self {
        Exact {
            duty: Duty::new(kernel.clock().0, share),
            kernel,
            schedule: Schedule::default(),
            phase: Phase::Idle { until: 0 },
            window: FIRST_WINDOW,
            per_page: 500.0,
            share: 0.3,
            sample: (0, 0),
            calibrated: false,
            eager: 0,
            table: Table::default(),
            surprise: Surprise::default(),
            slow: Slowness::default(),
            failures: 0,
            refused: None,
        }
    }

    /// Extents that a round may cover.
    fn most(&self) -> usize {
        let time = (self.window / 2).clamp(LEAST, BURST) as f64;
        let faulting = self.window.max(LEAST * FAULTING) / FAULTING;
        let toll = (self.kernel.toll() as f64 * self.share).max(0.001);
        ((time / self.per_page).min(faulting as f64 / toll) as usize / PAGES).max(FEWEST)
    }

    fn open(&mut self, map: &HeatMap, look: &Look<'_>) -> Result<Polled, Errno> {
        let (now, before) = self.kernel.clock();
        let new = self.schedule.sync(map, look.arenas, now);
        self.eager += (new * PAGES) as u64 * LOOKS;
        let batches = self.schedule.pick(now, self.most());
        if batches.is_empty() {
            let until = self.schedule.next().clamp(now + KEEN, now + REST);
            self.phase = Phase::Idle { until };
            return Ok(Polled { wake: until, cost: self.kernel.clock().1 - before, ..Polled::default() });
        }
        self.kernel.begin();
        self.refused = None;
        let mut parts = Vec::new();
        for batch in batches {
            self.arm(batch, &mut parts)?;
        }
        let (now, after) = self.kernel.clock();
        if parts.is_empty() {
            return self.fail(now, after - before);
        }
        let (until, cost) = (now + self.window, after - before);
        self.phase = Phase::Open { parts, until, cost };
        Ok(Polled { wake: until, cost, ..Polled::default() })
    }

    /// Arms a stretch; if that does not work, extent by extent.
    fn arm(&mut self, batch: Batch, parts: &mut Vec<Part>) -> Result<(), Errno> {
        let begin = self.kernel.clock().0;
        match self.kernel.arm(&batch.range, &batch.arena) {
            Ok(()) => {
                // Each page was armed between then and now.
                parts.push(Part { armed: begin.midpoint(self.kernel.clock().0), range: batch.range });
            }
            Err(e) if is_final(e) => return Err(e),
            Err(e) if batch.range.len() <= PAGES * PAGE_BYTES => self.put_off(&batch.range, e),
            Err(_) => {
                for base in batch.range.step_by(PAGES * PAGE_BYTES) {
                    let range = base..base + PAGES * PAGE_BYTES;
                    self.arm(Batch { range, arena: batch.arena.clone() }, parts)?;
                }
            }
        }
        Ok(())
    }

    fn put_off(&mut self, range: &Range<usize>, e: Errno) {
        self.refused = Some(e);
        self.schedule.put_off(range, self.kernel.clock().0);
    }

    /// Nothing worked in this round.
    fn fail(&mut self, now: u64, cost: u64) -> Result<Polled, Errno> {
        self.failures += 1;
        match self.refused {
            Some(e) if self.failures >= FAILURES => Err(e),
            _ => {
                self.phase = Phase::Idle { until: now + REST };
                Ok(Polled { wake: now + REST, cost, ..Polled::default() })
            }
        }
    }

    fn read(&mut self, map: &HeatMap, parts: &[Part]) -> Result<Vec<Seen>, Errno> {
        let mut all = Vec::new();
        for part in parts {
            let begin = self.kernel.clock().0;
            let mut seen = answers::begin(map, &part.range);
            let read = self.kernel.read(&part.range, &mut |from, to, used| {
                answers::note(&mut seen, from, to, used);
            });
            match read {
                Ok(()) => {
                    let window = begin.midpoint(self.kernel.clock().0).saturating_sub(part.armed);
                    seen.iter_mut().for_each(|s| s.window = window);
                    all.append(&mut seen);
                }
                Err(e) if is_final(e) => return Err(e),
                Err(e) => self.put_off(&part.range, e),
            }
        }
        Ok(all)
    }

    /// Reads a round, takes it into the map, and decides when the next one is due.
    fn close(
        &mut self,
        map: &mut HeatMap,
        look: &Look<'_>,
        parts: &[Part],
        cost: u64,
    ) -> Result<Polled, Errno> {
        let before = self.kernel.clock().1;
        self.refused = None;
        let seen = self.read(map, parts)?;
        let now = self.kernel.clock().0;
        if seen.is_empty() && self.refused.is_some() {
            return self.fail(now, self.kernel.clock().1 - before);
        }
        self.failures = 0;
        let pace = answers::pace(map, &seen);
        let mut account = Account::default();
        for s in &seen {
            let Some(extent) = answers::extent_of(map, s) else { continue };
            if !pace.is_useful() {
                self.schedule.put_off(&(s.base..s.base + PAGES * PAGE_BYTES), now);
                continue;
            }
            let window = pace.apply(Window::new(s.window));
            let verdict = answers::take(extent, s, window, &self.table, &mut account);
            // While the window is still sought, answers contradict each other.
            let odd = self.calibrated && self.surprise.is_odd(&verdict.bits);
            if self.schedule.settle(s.base, verdict.known, odd, now) {
                self.surprise.note(&verdict.bits);
            }
        }
        self.slow.get_used_to(pace, map);
        if pace == Pace::Usual {
            self.adapt_window(&account, look.dram_share);
        }
        self.eager = self.eager.saturating_sub(account.answers);
        let changed = self.surprise.has_changed(pace, now);
        if changed {
            self.start_over(map, now);
        }
        let (now, after) = self.kernel.clock();
        let spent = after.saturating_sub(before);
        let pages: usize = parts.iter().map(|part| part.range.len() / PAGE_BYTES).sum();
        self.per_page += ((cost + spent) as f64 / pages as f64 - self.per_page) / 4.0;
        let hurry = !self.calibrated || (self.eager > 0 && self.schedule.is_fresh());
        let haste = match () {
            () if hurry => Haste::Hurry,
            () if look.unsettled || self.schedule.is_fresh() => Haste::Keen,
            () => Haste::Rest,
        };
        let toll = (answers::used(&seen) * self.kernel.toll()) as f64;
        let burden = (toll / if hurry { BURDEN_HURRY } else { BURDEN }) as u64;
        let pause = self.duty.charge(now, cost + spent, haste).max(burden);
        let until = now
            + match haste {
                Haste::Hurry => pause,
                Haste::Keen => pause.max(KEEN),
                Haste::Rest => pause.max(REST),
            };
        self.phase = Phase::Idle { until };
        Ok(Polled { wake: until, answered: account.answers > 0, surprised: changed, cost: spent })
    }

    /// The program has changed: what was learnt about its old habits must not outvote what is learnt about the new ones.
    fn start_over(&mut self, map: &mut HeatMap, now: u64) {
        let pages = map.extents_mut().iter_mut().flat_map(|e| &mut e.pages);
        pages.for_each(|p| p.heat.unsettle());
        self.schedule.start_over(now);
        self.eager = (self.schedule.len() * PAGES) as u64 * LOOKS;
        self.duty.refill(now);
    }

    /// Finds the window in which the wanted share of pages is used.
    fn adapt_window(&mut self, account: &Account, dram_share: f64) {
        let (answers, used) = &mut self.sample;
        *answers += account.answers;
        *used += account.used;
        let all = (self.schedule.len() * PAGES) as u64;
        let enough = if self.eager > 0 { SAMPLE.min(all / 4) } else { all / 4 };
        if *answers == 0 || (*answers < enough && self.calibrated) {
            return;
        }
        self.share = *used as f64 / *answers as f64;
        self.sample = (0, 0);
        let ratio = window::correction(self.share, dram_share);
        let next = ((self.window as f64 * ratio) as u64).clamp(*WINDOWS.start(), *WINDOWS.end());
        self.calibrated |= (0.5..2.0).contains(&ratio) || next == self.window;
        self.window = next;
    }
}

impl<K: Kernel> Tracker for Exact<K> {
    fn name(&self) -> &'static str {
        self.kernel.name()
    }

    fn poll(&mut self, map: &mut HeatMap, look: &Look<'_>) -> Result<Polled, Errno> {
        match &mut self.phase {
            Phase::Idle { until } | Phase::Open { until, .. } if look.now < *until => {
                Ok(Polled { wake: *until, ..Polled::default() })
            }
            Phase::Idle { .. } => self.open(map, look),
            Phase::Open { parts, cost, .. } => {
                let (parts, cost) = (std::mem::take(parts), *cost);
                self.close(map, look, &parts, cost)
            }
        }
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod world_tests;
