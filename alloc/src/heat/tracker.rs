//! What a source of heat is, and how one is chosen.
//!
//! Zone: control. A tracker is chosen by trying it out, never by the kernel's version; for each one not taken there is
//! a reason, which `TERRACE_VERBOSE` shows. The allocator's own events (birth, age, freed slices) are always there:
//! they are part of the heat map itself.

use super::alloc_events::AllocEvents;
use super::exact::{Exact, idle, rwp};
use super::map::HeatMap;
use super::perf::{self, Perf};
use super::refs::{self, Refs};
use super::writes::{self, Writes};
use crate::arena::ArenaView;
use crate::config::TrackerChoice;
use crate::sys::Errno;

/// What a tracker may know when it is polled.
#[derive(Clone, Copy)]
pub struct Look<'a> {
    /// Nanoseconds of a monotonic clock.
    pub now: u64,
    /// The arenas whose pages may be moved.
    pub arenas: &'a [ArenaView],
    /// The share of the heap that may be in DRAM, 0 to 1: the rates around this quantile are the ones to tell apart.
    pub dram_share: f64,
    /// The rate code that separates what should be in DRAM from what should not; 0 = not known.
    pub cut: u16,
    /// Pages were moved lately or want to be: spend more.
    pub unsettled: bool,
}

/// A tracker's account of one poll.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Polled {
    /// When it wants to be polled next, on the clock of [`Look::now`].
    pub wake: u64,
    /// Whether new answers went into the map.
    pub answered: bool,
    /// Whether the answers contradict what the map predicted: the program has changed its habits.
    pub surprised: bool,
    /// Processor time this poll took, in ns.
    pub cost: u64,
}

/// A source of heat.
pub trait Tracker {
    /// The word of `TERRACE_TRACKER` that asks for it, or `refs+writes`.
    fn name(&self) -> &'static str;
    /// Does what is due. An error means that the mechanism is gone for good; a better-than-nothing tracker replaces it.
    fn poll(&mut self, map: &mut HeatMap, look: &Look<'_>) -> Result<Polled, Errno>;
    /// Mappings that exist only because of this tracker.
    fn segments(&self) -> usize {
        0
    }
}

/// A tracker that was not taken, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// Its name.
    pub name: &'static str,
    /// One clause.
    pub why: String,
}

/// Two trackers at once: accessed bits for reads, write protection for exact writes.
struct Both {
    refs: Box<dyn Tracker>,
    writes: Box<dyn Tracker>,
    next: (u64, u64),
}

impl Tracker for Both {
    fn name(&self) -> &'static str {
        "refs+writes"
    }

    fn poll(&mut self, map: &mut HeatMap, look: &Look<'_>) -> Result<Polled, Errno> {
        let mut sum = Polled::default();
        if look.now >= self.next.0 {
            let p = self.refs.poll(map, look)?;
            self.next.0 = p.wake;
            sum = p;
        }
        if look.now >= self.next.1 {
            let p = self.writes.poll(map, look)?;
            self.next.1 = p.wake;
            sum.cost += p.cost;
        }
        sum.wake = self.next.0.min(self.next.1);
        Ok(sum)
    }

    fn segments(&self) -> usize {
        self.refs.segments()
    }
}

/// A trial of a tracker, beside a better one or alone.
type Trial<'a> = dyn FnOnce(bool) -> Result<Box<dyn Tracker>, String> + 'a;

/// A tracker that may be had.
struct Rung<'a> {
    name: &'static str,
    choice: TrackerChoice,
    /// A better one beside which it is worth having.
    beside: Option<&'static str>,
    /// Whether no real machine has run it yet: then nobody gets it unasked.
    untried: bool,
    /// Tries it out, or says in one clause why it does not work.
    probe: Box<Trial<'a>>,
}

impl<'a> Rung<'a> {
    fn new(
        name: &'static str,
        choice: TrackerChoice,
        probe: impl FnOnce(bool) -> Result<Box<dyn Tracker>, String> + 'a,
    ) -> Self {
        Rung { name, choice, beside: None, untried: false, probe: Box::new(probe) }
    }

    fn untried(self) -> Self {
        Rung { untried: true, ..self }
    }

    fn beside(self, name: &'static str) -> Self {
        Rung { beside: Some(name), ..self }
    }
}

fn boxed(tracker: impl Tracker + 'static) -> Box<dyn Tracker> {
    Box::new(tracker)
}

/// Tries the trackers, best first, and takes what works; each may take `share` of a core over time.
pub fn choose(wanted: TrackerChoice, share: f64) -> (Box<dyn Tracker>, Vec<Rejected>) {
    use TrackerChoice::{Idle, Perf as OfPerf, Refs as OfRefs, Rwp, Writes as OfWrites};
    let ladder = vec![
        Rung::new("rwp", Rwp, |_| rwp::probe().map(|kernel| boxed(Exact::new(kernel, share)))).untried(),
        Rung::new("perf", OfPerf, |_| perf::probe().map(|cpu| boxed(Perf::new(cpu, share)))).untried(),
        Rung::new("idle", Idle, |_| idle::probe().map(|kernel| boxed(Exact::new(kernel, share)))).untried(),
        Rung::new("refs", OfRefs, |_| refs::probe().map(|kernel| boxed(Refs::new(kernel, share)))),
        Rung::new("writes", OfWrites, |reads_seen| {
            writes::probe().map(|kernel| boxed(Writes::new(kernel, reads_seen, share)))
        })
        .beside("refs"),
    ];
    choose_among(wanted, ladder)
}

fn choose_among(wanted: TrackerChoice, ladder: Vec<Rung<'_>>) -> (Box<dyn Tracker>, Vec<Rejected>) {
    let mut rejected = Vec::new();
    let mut chosen: Option<Box<dyn Tracker>> = None;
    for rung in ladder {
        let found = match &chosen {
            _ if wanted != TrackerChoice::Auto && wanted != rung.choice => {
                Err("another one was asked for".to_string())
            }
            _ if rung.untried && wanted == TrackerChoice::Auto => {
                Err("no real machine has run it yet, so it must be asked for".to_string())
            }
            Some(better) if rung.beside != Some(better.name()) => {
                Err(format!("{} works, and is preferred", better.name()))
            }
            _ => (rung.probe)(chosen.is_some()),
        };
        match found {
            Ok(tracker) => {
                chosen = Some(match chosen {
                    Some(refs) => Box::new(Both { refs, writes: tracker, next: (0, 0) }),
                    None => tracker,
                });
            }
            Err(why) => rejected.push(Rejected { name: rung.name, why }),
        }
    }
    (chosen.unwrap_or_else(|| Box::new(AllocEvents)), rejected)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Named(&'static str, u64);

    impl Tracker for Named {
        fn name(&self) -> &'static str {
            self.0
        }
        fn poll(&mut self, _: &mut HeatMap, look: &Look<'_>) -> Result<Polled, Errno> {
            Ok(Polled { wake: look.now + self.1, answered: true, surprised: false, cost: 1 })
        }
    }

    /// Chooses where only the trackers in `there` work. The first two of the ladder are untried.
    fn pick(wanted: TrackerChoice, there: &[&str]) -> (&'static str, Vec<Rejected>) {
        use TrackerChoice::{Idle, Perf, Refs, Rwp, Writes};
        let rung = |name, choice| {
            Rung::new(name, choice, move |beside| match there.contains(&name) {
                true => Ok(boxed(Named(name, if beside { 11 } else { 7 }))),
                false => Err("EPERM".into()),
            })
        };
        let ladder = vec![
            rung("rwp", Rwp).untried(),
            rung("perf", Perf).untried(),
            rung("idle", Idle),
            rung("refs", Refs),
            rung("writes", Writes).beside("refs"),
        ];
        let (tracker, rejected) = choose_among(wanted, ladder);
        (tracker.name(), rejected)
    }

    #[test]
    fn the_best_that_works_is_taken_and_every_refusal_has_a_reason() {
        use TrackerChoice::{Alloc, Auto, Idle, Perf, Refs, Rwp, Writes};
        let all = ["rwp", "perf", "idle", "refs", "writes"];
        for (wanted, there, taken) in [
            (Auto, &all[..], "idle"),
            (Auto, &all[3..], "refs+writes"),
            (Auto, &["refs"], "refs"),
            (Auto, &["writes"], "writes"),
            (Auto, &["rwp", "perf", "writes"], "writes"),
            (Auto, &[], "alloc"),
            (Rwp, &all, "rwp"),
            (Perf, &all, "perf"),
            (Idle, &all, "idle"),
            (Refs, &all, "refs"),
            (Writes, &all, "writes"),
            (Alloc, &all, "alloc"),
            (Rwp, &all[1..], "alloc"),
            (Refs, &["writes"], "alloc"),
        ] {
            let (name, rejected) = pick(wanted, there);
            assert_eq!(name, taken, "{wanted:?} of {there:?}");
            let missing: Vec<_> = all.into_iter().filter(|n| !taken.split('+').any(|t| t == *n)).collect();
            let names: Vec<_> = rejected.iter().map(|r| r.name).collect();
            assert_eq!(names, missing, "{wanted:?} of {there:?}");
        }
    }

    #[test]
    fn a_tracker_is_not_taken_for_a_reason_that_fits() {
        let why = |wanted, there: &[&str]| -> Vec<String> {
            pick(wanted, there).1.into_iter().map(|r| format!("{}: {}", r.name, r.why)).collect()
        };
        let (asked, untried) =
            ("another one was asked for", "no real machine has run it yet, so it must be asked for");
        assert_eq!(
            why(TrackerChoice::Auto, &["rwp", "refs"]),
            [
                format!("rwp: {untried}"),
                format!("perf: {untried}"),
                "idle: EPERM".to_string(),
                "writes: EPERM".to_string()
            ]
        );
        assert_eq!(
            why(TrackerChoice::Auto, &["idle", "refs"])[2..],
            ["refs: idle works, and is preferred", "writes: idle works, and is preferred"]
        );
        assert_eq!(
            why(TrackerChoice::Writes, &["writes"]),
            ["rwp", "perf", "idle", "refs"].map(|name| format!("{name}: {asked}"))
        );
    }

    #[test]
    fn two_trackers_are_each_polled_at_their_own_pace() {
        let mut both = Both { refs: Box::new(Named("r", 7)), writes: Box::new(Named("w", 11)), next: (0, 0) };
        let mut map = HeatMap::new();
        let mut at = |now| {
            both.poll(&mut map, &Look { now, arenas: &[], dram_share: 0.5, cut: 0, unsettled: false })
                .unwrap()
        };
        assert_eq!(at(0), Polled { wake: 7, answered: true, surprised: false, cost: 2 });
        assert_eq!(at(7), Polled { wake: 11, answered: true, surprised: false, cost: 1 });
        assert_eq!(at(11), Polled { wake: 14, answered: false, surprised: false, cost: 1 });
    }
}
