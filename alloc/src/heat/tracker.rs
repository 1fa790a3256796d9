//! What a source of heat is, and how one is chosen.
//!
//! Zone: control. A tracker is chosen by trying it out, never by the kernel's version; for each one not taken there is
//! a reason, which `TERRACE_VERBOSE` shows. The allocator's own events (birth, age, freed slices) are always there:
//! they are part of the heat map itself.

use super::alloc_events::AllocEvents;
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
    /// `perf`, `refs`, `writes`, `refs+writes` or `alloc`.
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

/// Tries the trackers, best first, and takes what works; each may take `share` of a core over time.
pub fn choose(wanted: TrackerChoice, share: f64) -> (Box<dyn Tracker>, Vec<Rejected>) {
    choose_among(
        wanted,
        || perf::probe().map(|sampler| Box::new(Perf::new(sampler, share)) as Box<dyn Tracker>),
        || refs::probe().map(|kernel| Box::new(Refs::new(kernel, share)) as Box<dyn Tracker>),
        |reads_seen| {
            writes::probe().map(|kernel| Box::new(Writes::new(kernel, reads_seen, share)) as Box<dyn Tracker>)
        },
    )
}

fn choose_among(
    wanted: TrackerChoice,
    perf: impl FnOnce() -> Result<Box<dyn Tracker>, String>,
    refs: impl FnOnce() -> Result<Box<dyn Tracker>, String>,
    writes: impl FnOnce(bool) -> Result<Box<dyn Tracker>, String>,
) -> (Box<dyn Tracker>, Vec<Rejected>) {
    let mut rejected = Vec::new();
    let mut refuse = |name, why: String| rejected.push(Rejected { name, why });
    let asked = || "another one was asked for".to_string();
    let perf = match wanted {
        TrackerChoice::Perf => perf().map_err(|why| refuse("perf", why)).ok(),
        TrackerChoice::Auto => {
            refuse("perf", "it has not been run on real hardware yet, so it must be asked for".into());
            None
        }
        _ => {
            refuse("perf", asked());
            None
        }
    };
    let refs = match wanted {
        TrackerChoice::Auto | TrackerChoice::Refs => refs().map_err(|why| refuse("refs", why)).ok(),
        _ => {
            refuse("refs", asked());
            None
        }
    };
    let writes = match wanted {
        TrackerChoice::Auto | TrackerChoice::Writes => {
            writes(refs.is_some()).map_err(|why| refuse("writes", why)).ok()
        }
        _ => {
            refuse("writes", asked());
            None
        }
    };
    let chosen: Box<dyn Tracker> = match (perf, refs, writes) {
        (Some(perf), ..) => perf,
        (None, Some(refs), Some(writes)) => Box::new(Both { refs, writes, next: (0, 0) }),
        (None, Some(one), None) | (None, None, Some(one)) => one,
        (None, None, None) => Box::new(AllocEvents),
    };
    (chosen, rejected)
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

    /// What is chosen, and what else than `perf` is not taken.
    fn pick(wanted: TrackerChoice, refs: bool, writes: bool) -> (&'static str, Vec<&'static str>) {
        let (name, mut refused) = pick_of(wanted, true, refs, writes);
        assert_eq!(refused.remove(0), "perf", "it must be asked for");
        (name, refused)
    }

    fn pick_of(
        wanted: TrackerChoice,
        perf: bool,
        refs: bool,
        writes: bool,
    ) -> (&'static str, Vec<&'static str>) {
        let give = |ok: bool, name, period| -> Result<Box<dyn Tracker>, String> {
            if ok { Ok(Box::new(Named(name, period))) } else { Err("EPERM".into()) }
        };
        let (t, r) = choose_among(
            wanted,
            || give(perf, "perf", 5),
            || give(refs, "refs", 7),
            |_| give(writes, "writes", 11),
        );
        assert!(r.iter().all(|r| !r.why.is_empty()));
        (t.name(), r.iter().map(|r| r.name).collect())
    }

    #[test]
    fn the_best_that_works_is_taken_and_every_refusal_has_a_reason() {
        use TrackerChoice::{Alloc, Auto, Perf, Refs, Writes};
        assert_eq!(pick(Auto, true, true), ("refs+writes", vec![]));
        assert_eq!(pick(Auto, true, false), ("refs", vec!["writes"]));
        assert_eq!(pick(Auto, false, true), ("writes", vec!["refs"]));
        assert_eq!(pick(Auto, false, false), ("alloc", vec!["refs", "writes"]));
        assert_eq!(pick(Refs, true, true), ("refs", vec!["writes"]));
        assert_eq!(pick(Writes, true, true), ("writes", vec!["refs"]));
        assert_eq!(pick(Alloc, true, true), ("alloc", vec!["refs", "writes"]));
        assert_eq!(pick(Refs, false, true), ("alloc", vec!["refs", "writes"]));
        assert_eq!(pick_of(Perf, true, true, true), ("perf", vec!["refs", "writes"]));
        assert_eq!(pick_of(Perf, false, true, true), ("alloc", vec!["perf", "refs", "writes"]));
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
