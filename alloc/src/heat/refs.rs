//! The tracker `refs`: the processor's accessed bits, read through `clear_refs` and `smaps`.
//!
//! Zone: control. Sees reads and writes, needs no privilege, and works on every kernel since 2.6.22; but it answers by
//! *mapping*. So the heap is cut into mappings ([`layout`]): one an extent everywhere, down to one a page where a closer
//! look is worth most ([`zoom`], [`worth`]); what a mapping of many pages says is shared out to them ([`answer`]). A round is
//!
//! ```text
//! cut -> clear -> wait one window -> read smaps -> answers into the map -> pause
//! ```
//!
//! where clearing, waiting and reading go through the heap part by part ([`sweep`]), unless the kernel cannot clear a part.
//!
//! The window is kept at the length in which the marginal page, the one that just fits in DRAM, is touched about
//! once: longer, and all pages look alike. The pause keeps the tracker within its [`Duty`]. Clearing costs 0.1 to 0.5 µs a
//! page of the whole process, and so does walking it to read; a mapping takes 4 µs to read and 2.5 µs to cut. What a round
//! teaches is judged twice before it is believed: at what [`super::pace`] the program ran, and whether its [`habits`] are the same;
//! so are extents as [`wholes`].
//!
//! Clearing holds the address space lock of the process: a page fault of the program may wait for it, on kernels that
//! have no lock per mapping (before 6.4).

mod answer;
mod filling;
mod habits;
mod kernel;
mod layout;
mod pace;
mod smaps;
mod sweep;
mod urgency;
mod wholes;
mod worth;
mod zoom;

use self::answer::Tally;
use self::habits::Habits;
use self::layout::Layout;
use self::sweep::{Price, Sweep};
use self::urgency::Urgency;
use self::zoom::ZoomSet;
use super::duty::{Duty, Haste};
use super::map::{HeatMap, PAGE_BYTES, PAGES};
use super::pace::{Pace, Slowness};
use super::rate::Window;
use super::tracker::{Look, Polled, Tracker};
use super::window::{self, FIRST_WINDOW, WINDOWS};
use crate::sys::Errno;
pub use kernel::{Kernel, Linux, Policy, probe};
pub use smaps::Mapping;

/// Rounds at rest come no more often than this, and those while there is something to be gained.
const REST: u64 = 1_000_000_000;
const KEEN: u64 = 100_000_000;
/// And those that are to tell whether the program has become slower for good: a moment's stall is no new pace.
const SETTLING: u64 = 500_000_000;
/// Fewest mappings for closer looks in a round, however slow it is to read them: an extent page by page and some to spare.
/// While nothing changes there are no more.
const LEAST_SEGMENTS: usize = 640;
/// Mappings are read one after the other: a page is watched for up to so many windows more until its turn comes.
const SPREAD: u64 = 2;
/// In a hurry some windows are so many times shorter, at first every other: of a group of pages that is touched even then, one is among the hottest.
const BRIEF: u64 = 5;
/// And later some are longer: what is still in doubt then is used less often than once in a window.
const LONG: u64 = 3;
/// More than this share of the heap in DRAM is much: so many pages are touched in the usual window.
const MUCH: f64 = 0.2;
/// More than this share of the pages that are not new is in use while others are filled.
const IN_USE: f64 = 0.02;
/// The turns of the window that has found its length, and of the long one.
const USUAL: u8 = 0;
const LONGER: u8 = 2;

enum Phase {
    Idle { until: u64 },
    Open { cleared: u64, until: u64, cost: u64 },
    Sweeping { sweep: Sweep, until: u64, cost: u64 },
}

/// A round that was read, for [`Refs::digest`].
struct Round {
    /// When what was seen had been cleared.
    cleared: u64,
    /// What reading took, and the part of that by which pages were watched for longer than the window, one with another, twice; in ns.
    took: u64,
    spread: u64,
    /// Processor time so far, and the thread's clock when the present call began.
    cost: u64,
    before: u64,
}

struct Cut {
    base: usize,
    used: usize,
    bytes: usize,
    policy: Policy,
    layout: Layout,
}

/// The tracker.
pub struct Refs<K> {
    kernel: K,
    cuts: Vec<Cut>,
    zoom: ZoomSet,
    phase: Phase,
    duty: Duty,
    window: u64,
    /// What it takes to read one mapping, and to forget all references, in ns.
    per_mapping: u64,
    per_clear: u64,
    /// For how long pages are to be watched on average, ns.
    watched: u64,
    /// Rounds in a row whose share of touched pages told nothing.
    astray: u8,
    /// Whether rounds go part by part.
    parts: bool,
    /// Most mappings; lowered when the system refuses more.
    most: usize,
    /// Whether the window has found its length.
    calibrated: bool,
    /// Whose turn it is of the windows that are used in a hurry.
    turn: u8,
    urgency: Urgency,
    /// Whether the last round was read in a hurry.
    hurried: bool,
    habits: Habits,
    slow: Slowness,
    wanted: Vec<u32>,
    /// The mappings of a round, and when each was read.
    seen: Vec<(Mapping, u64)>,
}

impl<K: Kernel> Refs<K> {
    /// A tracker on a kernel that has been tried out.
    ///
    /// `share` is what it may take of a core over time.
    pub fn new(kernel: K, share: f64) -> Self {
        let (most, parts) = (kernel.most_segments(), kernel.has_parts());
        Refs {
            duty: Duty::new(kernel.clock().0, share),
            kernel,
            cuts: Vec::new(),
            zoom: ZoomSet::default(),
            phase: Phase::Idle { until: 0 },
            window: FIRST_WINDOW,
            per_mapping: 50_000,
            per_clear: 1_000_000,
            watched: FIRST_WINDOW,
            astray: 0,
            parts,
            most,
            calibrated: false,
            turn: USUAL,
            urgency: Urgency::new(),
            hurried: false,
            habits: Habits::new(),
            slow: Slowness::default(),
            wanted: Vec::new(),
            seen: Vec::new(),
        }
    }

    fn adopt_arenas(&mut self, look: &Look<'_>) {
        for arena in look.arenas {
            if let Some(cut) = self.cuts.iter_mut().find(|c| c.base == arena.base) {
                cut.used = arena.used;
            } else if let Some(policy) = arena.policy {
                let (base, used, bytes) = (arena.base, arena.used, arena.bytes);
                self.cuts.push(Cut { base, used, bytes, policy, layout: Layout::default() });
            }
        }
        self.cuts.sort_unstable_by_key(|c| c.base);
    }

    /// What a round of so many mappings is going to cost.
    fn cost_of(&self, mappings: usize) -> u64 {
        2 * self.per_clear + mappings as u64 * self.per_mapping
    }

    /// Mappings that a visit may use. They are read one after the other, and those read last should not all have been touched by then.
    /// But walking the pages takes its time in any case.
    fn affordable(&self) -> usize {
        if self.parts {
            return self.most;
        }
        let time = (SPREAD * self.watched).max(self.per_clear);
        ((time / self.per_mapping) as usize).clamp(LEAST_SEGMENTS, self.most.max(LEAST_SEGMENTS))
    }

    /// Mappings of a round when there is something to be gained, but no hurry. Fewer than could be had: rounds that come often notice a change.
    fn unhurried(&self) -> usize {
        let time = self.duty.budget(2 * REST).saturating_sub(2 * self.per_clear);
        self.affordable().min(LEAST_SEGMENTS.max((time / self.per_mapping) as usize))
    }

    /// Pages in a segment that is not under the glass: an extent, or more if the heap has too many extents.
    fn unit(&self) -> u32 {
        let extents: usize = self.cuts.iter().map(|c| c.used / (PAGES * PAGE_BYTES)).sum();
        (extents.div_ceil((self.most / 2).max(1)).max(1).next_power_of_two() * PAGES) as u32
    }

    fn cut(&mut self) -> Result<(), Errno> {
        let unit = self.unit();
        for cut in &mut self.cuts {
            self.wanted.clear();
            let used = (cut.used / PAGE_BYTES) as u32;
            self.zoom.bounds(cut.base, 0, used.max(1), unit, &mut self.wanted);
            if used > 0 && cut.used < cut.bytes {
                self.wanted.push(used); // what was never used stays out of the last segment
            }
            let end = (cut.bytes / PAGE_BYTES) as u32;
            let (kernel, base, policy) = (&mut self.kernel, cut.base, &cut.policy);
            cut.layout.apply(&self.wanted, end, &mut |a, b, variant| {
                kernel.set(policy, base + a as usize * PAGE_BYTES, base + b as usize * PAGE_BYTES, variant)
            })?;
        }
        Ok(())
    }

    fn open(&mut self, map: &mut HeatMap, look: &Look<'_>) -> Result<Polled, Errno> {
        let before = self.kernel.clock().1;
        self.adopt_arenas(look);
        let spare = self.most.saturating_sub(2 * self.cuts.len());
        let hurry = self.urgency.is_eager() && !self.slow.is_settling();
        if !self.calibrated {
            self.zoom.clear();
        } else {
            let coarse = map.extents().len() / (self.unit() as usize / PAGES);
            let most = match () {
                () if self.slow.is_settling() => LEAST_SEGMENTS,
                () if hurry => self.affordable(),
                () if self.urgency.is_worth_it() => self.unhurried(),
                () => LEAST_SEGMENTS,
            };
            let view = worth::View { now: look.now, since: self.urgency.since(), cut: look.cut };
            let gain = self.zoom.fill(map, &view, most.min(spare.saturating_sub(coarse)));
            self.urgency.set_gain(gain);
        }
        if let Err(e) = self.cut() {
            if e != Errno(libc::ENOMEM) {
                return Err(e);
            }
            // Out of mappings: live with half as many.
            self.most = (self.segments() / 2).max(self.most / 2).max(64).min(self.most / 2 + 1);
            self.zoom.clear();
        }
        if self.parts && self.calibrated {
            let pages: usize = self.cuts.iter().map(|c| c.used / PAGE_BYTES).sum();
            let price = Price { mapping: self.per_mapping, page: self.per_clear / pages.max(1) as u64 };
            self.turn =
                if hurry { (self.turn + 1) % if self.urgency.is_early() { 2 } else { 3 } } else { USUAL };
            let window = match self.turn {
                USUAL => self.window,
                1 => self.window / BRIEF,
                _ => self.window * LONG,
            };
            let window = window.clamp(*WINDOWS.start(), *WINDOWS.end());
            let sweep = Sweep::new(&self.cuts, window, price);
            self.seen.clear();
            let (now, after) = self.kernel.clock();
            self.phase = Phase::Sweeping { sweep, until: now, cost: after.saturating_sub(before) };
            return Ok(Polled { wake: now, cost: after.saturating_sub(before), ..Polled::default() });
        }
        self.turn = USUAL;
        let begin = self.kernel.clock().0;
        self.kernel.clear()?;
        let (cleared, after) = self.kernel.clock();
        self.per_clear = self.per_clear.midpoint(cleared - begin);
        let until = cleared + self.window;
        self.phase = Phase::Open { cleared, until, cost: after.saturating_sub(before) };
        Ok(Polled { wake: until, answered: false, surprised: false, cost: after.saturating_sub(before) })
    }

    /// Takes a round that goes part by part further.
    fn sweep(
        &mut self,
        map: &mut HeatMap,
        look: &Look<'_>,
        mut sweep: Sweep,
        cost: u64,
    ) -> Result<Polled, Errno> {
        let before = self.kernel.clock().1;
        match sweep.go_on(&mut self.kernel, &mut self.seen) {
            Ok(None) => {
                self.per_clear = self.per_clear.midpoint(sweep.clearing);
                let (cleared, took, spread) = (sweep.began, sweep.reading, 2 * sweep.excess());
                self.digest(map, look, &Round { cleared, took, spread, cost, before })
            }
            Ok(Some(until)) => {
                let spent = self.kernel.clock().1.saturating_sub(before);
                self.phase = Phase::Sweeping { sweep, until, cost: cost + spent };
                Ok(Polled { wake: until, cost: spent, ..Polled::default() })
            }
            Err(e) => {
                // Locked memory, or a sandbox that does not know the call: as without it. Or the program closed the file: from the start.
                self.parts = e == Errno(libc::EBADF);
                let now = self.kernel.clock().0;
                self.phase = Phase::Idle { until: now };
                Ok(Polled { wake: now, ..Polled::default() })
            }
        }
    }

    fn read(&mut self, map: &mut HeatMap, look: &Look<'_>, cleared: u64, cost: u64) -> Result<Polled, Errno> {
        let (begin, before) = self.kernel.clock();
        let end = self.cuts.last().map_or(0, |c| c.base + c.used);
        self.seen.clear();
        let seen = &mut self.seen;
        self.kernel.mappings(end, &mut |mapping, now| {
            seen.push((*mapping, now));
            true
        })?;
        let took = self.kernel.clock().0.saturating_sub(begin);
        self.digest(map, look, &Round { cleared, took, spread: took, cost, before })
    }

    /// Takes what was seen in a round into the map, and decides when the next one is due.
    fn digest(&mut self, map: &mut HeatMap, look: &Look<'_>, round: &Round) -> Result<Polled, Errno> {
        let &Round { cleared, took, spread, cost, before } = round;
        let is_filled = filling::leave_out(map, &mut self.seen, cleared);
        let shift = if self.turn == USUAL {
            wholes::compare(map, &self.seen, cleared)
        } else {
            wholes::Shift::default()
        };
        // Where something is used more than before the program has changed, and is not slow.
        let anew = shift.matters(shift.odd + shift.changed) || self.urgency.is_anew();
        let pace = if anew || is_filled { Pace::Usual } else { pace::of(map, &self.seen, cleared) };
        let mut tally = Tally::default();
        let mut last = (0, Window::new(self.window));
        for (mapping, now) in self.seen.iter().filter(|_| pace.is_useful()) {
            if *now != last.0 {
                last = (*now, pace.apply(Window::new(now.saturating_sub(cleared))));
            }
            tally.take(map, mapping, last.1, &mut |addr, pages| {
                self.zoom.note_mixed(addr, pages);
            });
        }
        if pace.is_useful() {
            answer::note_surprises(map, &self.seen);
        }
        let (now, after) = self.kernel.clock();
        let cost = cost + after.saturating_sub(before);
        if tally.mappings > 100 {
            // Walking the pages takes as long as clearing them did; the rest is for the mappings.
            let each = took.saturating_sub(self.per_clear) / u64::from(tally.mappings);
            self.per_mapping = self.per_mapping.midpoint(each).max(100);
        }
        // While a heap is filled that is all that its program does, unless it also uses what it has.
        let tells = !is_filled || tally.share() > IN_USE;
        if pace == Pace::Usual && self.turn == USUAL && tells {
            self.adapt_window(&tally, look.dram_share, spread);
        }
        // In a long window everything is touched, at whatever pace.
        if self.turn != LONGER || pace != Pace::Usual {
            self.slow.get_used_to(pace, map);
        }
        self.urgency.spend(tally.looks);
        let shifted = shift.matters(shift.changed);
        if self.turn != USUAL {
            // What is usual, and how much may be off, is known of the usual window alone.
            tally.slices.clear();
            (tally.contradictions, tally.expected) = (0, 0.0);
        }
        if self.turn == USUAL && pace == Pace::Usual {
            answer::note_unlike(map, &tally.wholes);
        }
        let changed = self.habits.have_changed(&tally, pace, now, look.dram_share > MUCH);
        if changed {
            // What was learnt about the old habits must not outvote what is learnt about the new ones.
            let pages = map.extents_mut().iter_mut().flat_map(|e| &mut e.pages);
            pages.for_each(|p| p.heat.unsettle());
        }
        let grown = self.urgency.has_grown(tally.present);
        if changed || grown {
            self.urgency.look_at_all(now);
        } else if shift.changed > 0 {
            self.urgency.look_at(shift.changed, shifted.then_some(now));
        }
        if changed || grown || shifted {
            self.habits.restart(now);
        }
        let uncertain = self.urgency.has_grown_uncertain(now);
        let surprised = changed || shifted || uncertain;
        self.urgency.end_round(surprised, grown);
        if surprised || grown {
            self.duty.refill(now);
        }
        let in_doubt = shift.matters(shift.odd) || self.habits.are_in_doubt();
        let hurry = self.urgency.is_eager() || !self.calibrated || in_doubt;
        let settling = self.slow.is_settling();
        let haste = match () {
            () if settling || hurry => Haste::Hurry,
            () if self.urgency.is_worth_it() => Haste::Keen,
            () => Haste::Rest,
        };
        let pause = self.duty.charge(now, cost, haste);
        let hurried = std::mem::replace(&mut self.hurried, haste == Haste::Hurry);
        // When the hurry is over, what it cost must not put off the rounds that notice the next change.
        let wake = now
            + match haste {
                Haste::Hurry if settling => {
                    pause.min(self.duty.keen(self.cost_of(LEAST_SEGMENTS))).max(SETTLING)
                }
                Haste::Hurry => pause,
                Haste::Keen if hurried => pause.min(self.duty.keen(self.cost_of(self.unhurried()))).max(KEEN),
                Haste::Keen => pause.max(KEEN),
                Haste::Rest => pause.min(self.duty.rest(self.cost_of(LEAST_SEGMENTS))).max(REST),
            };
        self.phase = Phase::Idle { until: wake };
        Ok(Polled { wake, answered: tally.answers > 0, surprised, cost: after.saturating_sub(before) })
    }

    /// Finds the window in which the wanted share of pages is touched, given that pages were watched for half of `spread` longer.
    fn adapt_window(&mut self, tally: &Tally, dram_share: f64, spread: u64) {
        if tally.present == 0 {
            return;
        }
        let ratio = window::correction(tally.share(), dram_share);
        let (shortest, longest) = (*WINDOWS.start(), *WINDOWS.end());
        let wanted = ((self.window + spread / 2) as f64 * ratio) as u64;
        self.watched = self.watched.midpoint(wanted).min(longest);
        let next = self.watched.saturating_sub(spread / 2).clamp(shortest, longest);
        let found = (0.5..2.0).contains(&ratio) || next == self.window;
        self.astray = if found { 0 } else { self.astray.saturating_add(1) };
        self.calibrated = found || (self.calibrated && self.astray < 3);
        self.window = next;
    }
}

impl<K: Kernel> Tracker for Refs<K> {
    fn name(&self) -> &'static str {
        "refs"
    }

    fn poll(&mut self, map: &mut HeatMap, look: &Look<'_>) -> Result<Polled, Errno> {
        match self.phase {
            Phase::Idle { until } if look.now < until => Ok(Polled { wake: until, ..Polled::default() }),
            Phase::Idle { .. } => self.open(map, look),
            Phase::Sweeping { until, .. } if look.now < until => {
                Ok(Polled { wake: until, ..Polled::default() })
            }
            Phase::Sweeping { .. } => {
                let idle = Phase::Idle { until: 0 };
                let Phase::Sweeping { sweep, cost, .. } = std::mem::replace(&mut self.phase, idle) else {
                    unreachable!("matched above")
                };
                self.sweep(map, look, sweep, cost)
            }
            Phase::Open { until, .. } if look.now < until => Ok(Polled { wake: until, ..Polled::default() }),
            Phase::Open { cleared, cost, .. } => self.read(map, look, cleared, cost),
        }
    }

    fn segments(&self) -> usize {
        self.cuts.iter().map(|c| c.layout.segments()).sum()
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) mod world_tests;
