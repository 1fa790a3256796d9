//! The tracker `perf`: the processor samples the process's own accesses, with the addresses of their data.
//!
//! Zone: control. It sees only accesses that near caches do not answer, which are those that placement is about: Intel's processors sample
//! loads above a latency, AMD's instructions of all kinds ([`event`]). It works as an ordinary user where `kernel.perf_event_paranoid` is
//! at most 2 and there are counters to be had; in most virtual machines there are none. **It has not been run on real hardware yet**: what
//! tests play is the kernel's documented interface, so it is to be asked for, and `auto` does not take it.
//!
//! ```text
//! every 100 to 250 ms:  read the rings -> addresses to pages       [record]
//! every second:         list the threads, judge the period         [threads], [period]
//! every interval:       counts into the map -> habits -> pause     [habits]
//! ```
//!
//! One in `period` events of each watched thread is sampled, so in an interval of t seconds accesses are seen as if each page had been
//! watched for t ÷ period seconds (less while some threads wait for their turn, or samples were lost): the *exposure*. What a page's
//! samples mean is then a matter of Poisson counts ([`Window::counted`]). An interval lasts until there are as many samples as pages that
//! fit in DRAM, within bounds: shorter, and most of those pages would have none; longer, and a change would be noticed late.
//!
//! The period keeps the interruptions of the program within [`SAMPLES`]; digesting an interval is bounded by the tracker's [`Duty`].
//!
//! No signal is used. A forked child has neither the rings nor the events, and starts from the probe.

mod event;
mod habits;
mod kernel;
mod period;
mod record;
mod threads;

use self::habits::Habits;
use self::period::Period;
use self::record::Record;
use self::threads::Threads;
use super::duty::{Duty, Haste};
use super::exp;
use super::map::{Extent, HeatMap, PAGE_BYTES, PAGES, Place, SLICE_PAGES};
use super::rate::{OCTAVE, Window};
use super::tracker::{Look, Polled, Tracker};
use crate::sys::Errno;
pub use kernel::{Limits, Linux, Sampler, probe};

/// Most samples a second, which is interruptions of the program of 1 to 3 µs each: at rest, while pages move, and in a hurry.
const SAMPLES: (f64, f64, f64) = (1000.0, 2000.0, 4000.0);
/// How often rings are read: before they are full, were all samples of one thread.
const POLLS: (u64, u64) = (250_000_000, 100_000_000);
/// Shortest and longest interval, in ns; the longest in a hurry.
const INTERVALS: (u64, u64) = (500_000_000, 20_000_000_000);
const BRIEF: u64 = 4_000_000_000;
/// Fewest samples that an interval is to have, and the most that are kept: half a megabyte of addresses.
const FEWEST: usize = 500;
const MOST: usize = 1 << 16;
/// An interval of fewer tells nothing: the program waits for something, or computes without memory.
const FEW: usize = 20;
/// After a change of habits, and at first, there is a hurry for so long, in ns.
const HURRY: u64 = 20_000_000_000;
/// If nobody polled for so long, what the rings hold is out of date.
const STALE: u64 = 5_000_000_000;

/// What was seen since the last answers.
#[derive(Default)]
struct Interval {
    began: u64,
    /// For how long pages were as good as watched, in seconds; see the module.
    exposure: f64,
    /// Numbers of the pages that samples fell on.
    pages: Vec<u64>,
    /// Records, those of them that found no room in a ring, and samples of the heap that find none here.
    records: u64,
    lost: u64,
    dropped: u64,
}

impl Interval {
    fn restart(&mut self, now: u64) {
        let mut pages = std::mem::take(&mut self.pages);
        pages.clear();
        *self = Interval { began: now, pages, ..Interval::default() };
    }

    /// The share of the samples of the heap that is in `pages`.
    fn kept(&self) -> f64 {
        let read = self.records.saturating_sub(self.lost) as f64 / self.records.max(1) as f64;
        let (pages, dropped) = (self.pages.len() as f64, self.dropped as f64);
        read * pages / (pages + dropped).max(1.0)
    }
}

/// The tracker.
pub struct Perf<S> {
    sampler: S,
    duty: Duty,
    threads: Threads,
    period: Period,
    habits: Habits,
    interval: Interval,
    /// How many samples make an interval.
    enough: usize,
    /// When it was polled last, and is to be again; before which time there are no answers; until when there is a hurry.
    polled: u64,
    next: u64,
    earliest: u64,
    hurry: u64,
    /// Processor time since the last answers, and what listing threads takes.
    cost: u64,
    listing: u64,
}

impl<S: Sampler> Perf<S> {
    /// A tracker on an event that has been tried out; `share` is what it may take of a core over time.
    pub fn new(sampler: S, share: f64) -> Self {
        let now = sampler.clock().0;
        Perf {
            duty: Duty::new(now, share),
            threads: Threads::new(),
            period: Period::new(sampler.limits(), now),
            habits: Habits::default(),
            interval: Interval { began: now, ..Interval::default() },
            enough: FEWEST,
            polled: now,
            next: 0,
            earliest: now + INTERVALS.0,
            hurry: now + HURRY,
            cost: 0,
            listing: 0,
            sampler,
        }
    }

    fn haste(&self, look: &Look<'_>) -> Haste {
        match () {
            () if look.now < self.hurry => Haste::Hurry,
            () if look.unsettled => Haste::Keen,
            () => Haste::Rest,
        }
    }

    /// Reads the rings.
    fn drain(&mut self, look: &Look<'_>) {
        let interval = &mut self.interval;
        let (before, mut throttled) = (interval.records, false);
        self.sampler.drain(&mut |record| match record {
            Record::Sample(address) => {
                interval.records += 1;
                let at = address as usize;
                let ours = look.arenas.iter().any(|a| (a.base..a.base + a.used).contains(&at));
                match ours {
                    true if interval.pages.len() < MOST => interval.pages.push(address / PAGE_BYTES as u64),
                    true => interval.dropped += 1,
                    false => {}
                }
            }
            Record::Cached => interval.records += 1,
            Record::Lost(n) => {
                interval.records = interval.records.saturating_add(n);
                interval.lost = interval.lost.saturating_add(n);
            }
            Record::Throttled => throttled = true,
        });
        self.period.note(interval.records - before);
        if throttled {
            self.period.note_throttled();
        }
        let seconds = look.now.saturating_sub(self.polled) as f64 / 1e9;
        interval.exposure += seconds * self.threads.share() / self.period.get() as f64;
        self.polled = look.now;
    }

    /// Takes what was seen into the map; whether habits have changed, or `None` if it tells nothing.
    fn digest(&mut self, map: &mut HeatMap, look: &Look<'_>) -> Option<bool> {
        let Interval { began, exposure, .. } = self.interval;
        let exposure = exposure * self.interval.kept();
        let length = look.now.saturating_sub(began);
        self.interval.pages.sort_unstable();
        let samples = self.interval.pages.len();
        if samples < FEW || exposure <= 0.0 || length == 0 {
            return None;
        }
        let pace = self.habits.pace(samples as f64 / exposure);
        if pace == 0.0 {
            return None;
        }
        let (mut hot, mut all) = (0, 0);
        for group in self.interval.pages.chunk_by(|a, b| a == b).filter(|_| look.cut > 0) {
            let n = group.len() as u32;
            if let Some(page) = map.page_mut(group[0] as usize * PAGE_BYTES) {
                let believed = !page.heat.is_blank() && page.heat.rate >= look.cut;
                (hot, all) = (hot + if believed { n } else { 0 }, all + n);
            }
        }
        let changed = self.habits.have_changed(hot, all, look.now);
        let window = Window::new(length).stretched(octaves(exposure * pace / (length as f64 / 1e9)));
        let tiered =
            |e: &Extent| look.arenas.iter().any(|a| (a.base..a.base + a.bytes).contains(&e.view.base));
        let (mut there, mut left) = (0, &self.interval.pages[..]);
        for extent in map.extents_mut().iter_mut().filter(|e| tiered(e)) {
            if changed {
                // What was learnt about the old habits must not outvote what is learnt about the new ones.
                extent.pages.iter_mut().for_each(|p| p.heat.unsettle());
            }
            let first = (extent.view.base / PAGE_BYTES) as u64;
            left = &left[left.partition_point(|&p| p < first)..];
            let mut own = window;
            for i in 0..PAGES {
                if i % SLICE_PAGES == 0 {
                    let lived = extent.age(i, look.now).clamp(1, length);
                    own = window.stretched(octaves(lived as f64 / length as f64));
                }
                let n = left.iter().take_while(|&&p| p == first + i as u64).count();
                left = &left[n..];
                if extent.is_live(i) && (n > 0 || extent.pages[i].place != Place::Absent) {
                    there += 1;
                    own.counted(&mut extent.pages[i].heat, n as u32);
                }
            }
        }
        self.enough = ((f64::from(there) * look.dram_share) as usize).clamp(FEWEST, MOST);
        Some(changed)
    }
}

/// log₂ in code units.
fn octaves(ratio: f64) -> i32 {
    (exp::log2(ratio.max(1e-12)) * f64::from(OCTAVE)) as i32
}

impl<S: Sampler> Tracker for Perf<S> {
    fn name(&self) -> &'static str {
        "perf"
    }

    fn poll(&mut self, map: &mut HeatMap, look: &Look<'_>) -> Result<Polled, Errno> {
        let now = look.now;
        if now < self.next {
            return Ok(Polled { wake: self.next, ..Polled::default() });
        }
        let before = self.sampler.clock().1;
        let stale = now > self.polled + STALE;
        self.drain(look);
        if stale {
            self.interval.restart(now);
            self.period.restart(now);
        }
        let haste = self.haste(look);
        let (most, longest) = match haste {
            Haste::Rest => (SAMPLES.0, INTERVALS.1),
            Haste::Keen => (SAMPLES.1, INTERVALS.1),
            Haste::Hurry => (SAMPLES.2, BRIEF),
        };
        if self.threads.is_due(now, self.duty.rest(self.listing)) {
            let begin = self.sampler.clock().1;
            self.threads.list(&mut self.sampler, now, self.period.get())?;
            self.listing = self.sampler.clock().1.saturating_sub(begin);
        }
        if self.period.adapt(now, most) {
            self.threads.set_period(&mut self.sampler, self.period.get());
        }
        let reading = self.sampler.clock().1.saturating_sub(before);
        let enough = self.interval.pages.len() >= self.enough || now >= self.interval.began + longest;
        let found = (enough && now >= self.earliest).then(|| self.digest(map, look));
        let cost = self.sampler.clock().1.saturating_sub(before);
        self.cost += cost;
        let surprised = found == Some(Some(true));
        if surprised {
            self.hurry = now + HURRY;
            self.duty.refill(now);
        }
        if found.is_some() {
            let pause = self.duty.charge(now, std::mem::take(&mut self.cost), self.haste(look));
            self.earliest = now + pause.max(INTERVALS.0);
            self.interval.restart(now);
        }
        let pause = if haste == Haste::Hurry { POLLS.1 } else { POLLS.0 };
        self.next = now + pause.max(self.duty.rest(reading));
        Ok(Polled { wake: self.next, answered: matches!(found, Some(Some(_))), surprised, cost })
    }

    fn segments(&self) -> usize {
        self.threads.count() * self.sampler.limits().mappings
    }
}

#[cfg(test)]
mod tests;
