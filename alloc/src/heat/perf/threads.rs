//! Which threads are watched.
//!
//! Zone: control. An event follows one thread. The kernel offers two other ways, and neither will do: events that threads inherit are not
//! inherited by those that run already, and the tracker starts late; and they must be opened for every processor, as a ring that several
//! threads write is one processor's. Events of whole processors see other processes and need privilege. So threads are listed, and each
//! gets an event of its own, up to a bound; where there are more, they take turns: the share of them that is watched counts as a share of
//! the accesses. A thread that lives for less than [`LISTED`] may not be seen; one that has ended is forgotten at the next listing.
//!
//! What can be refused, and what then: a thread has ended meanwhile (`ESRCH`): nothing. No memory may be locked any more (`EPERM`,
//! `ENOMEM`), or no descriptor is free for a moment (`EMFILE`): as many as are watched now are enough, one more is tried at each listing.
//! If none at all can be watched for [`PATIENCE`] listings, the tracker is at its end.

use super::kernel::Sampler;
use crate::sys::Errno;

/// Threads are listed this often, in ns.
const LISTED: u64 = 1_000_000_000;
/// For how long a thread is watched at least while others wait.
const TURN: u64 = 4_000_000_000;
/// Listings without a thread that could be watched.
const PATIENCE: u32 = 5;

struct Watched {
    thread: u32,
    since: u64,
}

/// The threads that are watched, and those there are.
pub(super) struct Threads {
    watched: Vec<Watched>,
    /// By number.
    all: Vec<u32>,
    listed: Option<u64>,
    /// The last one whose turn began.
    last: u32,
    refused: u32,
}

impl Threads {
    /// None yet.
    pub(super) fn new() -> Threads {
        Threads { watched: Vec::new(), all: Vec::new(), listed: None, last: 0, refused: 0 }
    }

    /// How many are watched.
    pub(super) fn count(&self) -> usize {
        self.watched.len()
    }

    /// The share of the threads that is watched.
    pub(super) fn share(&self) -> f64 {
        if self.all.is_empty() { 0.0 } else { self.watched.len() as f64 / self.all.len() as f64 }
    }

    /// Whether they are to be listed at `now`, if there is to be a pause of so many ns after the last time.
    pub(super) fn is_due(&self, now: u64, pause: u64) -> bool {
        self.listed.is_none_or(|at| now >= at + LISTED.max(pause))
    }

    /// Lists the threads and watches those that have come, with this period.
    pub(super) fn list(&mut self, sampler: &mut impl Sampler, now: u64, period: u64) -> Result<(), Errno> {
        self.listed = Some(now);
        sampler.threads(&mut self.all)?;
        self.all.sort_unstable();
        let all = &self.all;
        self.watched.retain(|w| {
            let there = all.binary_search(&w.thread).is_ok();
            if !there {
                sampler.forget(w.thread);
            }
            there
        });
        let bound = sampler.limits().threads;
        if self.all.len() > self.watched.len() && self.watched.len() >= bound {
            self.end_turns(sampler, now, bound / 4);
        }
        self.watch_more(sampler, now, period)
    }

    /// Ends the turns of up to `most` threads, of those that have had theirs for longest.
    fn end_turns(&mut self, sampler: &mut impl Sampler, now: u64, most: usize) {
        self.watched.sort_unstable_by_key(|w| w.since);
        let over = self.watched.iter().take(most.max(1)).take_while(|w| now >= w.since + TURN).count();
        self.watched.drain(..over).for_each(|w| sampler.forget(w.thread));
    }

    /// Watches threads from the one on whose turn comes next, as far as there is room.
    fn watch_more(&mut self, sampler: &mut impl Sampler, now: u64, period: u64) -> Result<(), Errno> {
        let from = self.all.partition_point(|&t| t <= self.last);
        let mut refusal = None;
        for i in 0..self.all.len() {
            let thread = self.all[(from + i) % self.all.len()];
            if self.watched.len() >= sampler.limits().threads {
                break;
            }
            if self.watched.iter().any(|w| w.thread == thread) {
                continue;
            }
            match sampler.watch(thread, period) {
                Ok(()) => {
                    self.watched.push(Watched { thread, since: now });
                    self.last = thread;
                }
                Err(Errno(libc::ESRCH)) => {}
                Err(e) => {
                    refusal = Some(e);
                    break;
                }
            }
        }
        self.refused = if self.watched.is_empty() && refusal.is_some() { self.refused + 1 } else { 0 };
        match refusal {
            Some(e) if self.refused >= PATIENCE => Err(e),
            _ => Ok(()),
        }
    }

    /// Gives every watched thread a new period. What was not read of its samples is lost.
    pub(super) fn set_period(&mut self, sampler: &mut impl Sampler, period: u64) {
        self.watched.retain(|w| {
            sampler.forget(w.thread);
            // One that is refused now is tried at the next listing.
            sampler.watch(w.thread, period).is_ok()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::kernel::Limits;
    use super::super::record::Record;
    use super::*;

    const S: u64 = 1_000_000_000;

    #[derive(Default)]
    struct Played {
        threads: Vec<u32>,
        watched: Vec<(u32, u64)>,
        /// Watching more than this is refused so.
        refuse: Option<(usize, i32)>,
    }

    impl Sampler for Played {
        fn clock(&self) -> (u64, u64) {
            (0, 0)
        }
        fn limits(&self) -> Limits {
            Limits { threads: 8, first: 100, least: 10, multiple: 1, mappings: 1 }
        }
        fn threads(&mut self, into: &mut Vec<u32>) -> Result<(), Errno> {
            into.clone_from(&self.threads);
            Ok(())
        }
        fn watch(&mut self, thread: u32, period: u64) -> Result<(), Errno> {
            if !self.threads.contains(&thread) {
                return Err(Errno(libc::ESRCH));
            }
            if let Some((most, e)) = self.refuse
                && self.watched.len() >= most
            {
                return Err(Errno(e));
            }
            assert!(self.watched.iter().all(|(t, _)| *t != thread), "{thread} is watched already");
            self.watched.push((thread, period));
            Ok(())
        }
        fn forget(&mut self, thread: u32) {
            self.watched.retain(|(t, _)| *t != thread);
        }
        fn drain(&mut self, _: &mut dyn FnMut(Record)) {}
    }

    #[test]
    fn threads_are_watched_as_they_come_and_forgotten_as_they_go() {
        let (mut sampler, mut threads) =
            (Played { threads: vec![5, 3, 4], ..Played::default() }, Threads::new());
        assert!(threads.is_due(0, 0) && threads.share() == 0.0);
        threads.list(&mut sampler, 0, 100).unwrap();
        assert_eq!((threads.count(), threads.share()), (3, 1.0));
        assert!(!threads.is_due(S - 1, 0) && threads.is_due(S, 0) && !threads.is_due(S, 2 * S));
        sampler.threads = vec![4, 9];
        threads.list(&mut sampler, S, 100).unwrap();
        let mut now: Vec<_> = sampler.watched.iter().map(|w| w.0).collect();
        now.sort_unstable();
        assert_eq!((now, threads.count()), (vec![4, 9], 2));
    }

    #[test]
    fn where_there_are_too_many_threads_all_have_their_turn() {
        let (mut sampler, mut threads) =
            (Played { threads: (1..31).collect(), ..Played::default() }, Threads::new());
        let mut seen = std::collections::BTreeMap::<u32, u32>::new();
        for s in 0..400 {
            threads.list(&mut sampler, s * S, 100).unwrap();
            assert_eq!((sampler.watched.len(), threads.count()), (8, 8));
            sampler.watched.iter().for_each(|w| *seen.entry(w.0).or_default() += 1);
        }
        assert!((threads.share() - 8.0 / 30.0).abs() < 1e-9);
        let (least, most) = (seen.values().min().unwrap(), seen.values().max().unwrap());
        assert!(seen.len() == 30 && most - least < 40, "{seen:?}");
    }

    #[test]
    fn a_refusal_leaves_what_is_watched_and_what_is_free_again_is_used() {
        for e in [libc::EPERM, libc::ENOMEM, libc::EMFILE] {
            let mut sampler = Played { threads: (1..7).collect(), refuse: Some((2, e)), ..Played::default() };
            let mut threads = Threads::new();
            (0..20).for_each(|s| threads.list(&mut sampler, s * S, 100).unwrap());
            assert_eq!(threads.count(), 2);
            sampler.refuse = None;
            threads.list(&mut sampler, 20 * S, 100).unwrap();
            assert_eq!(threads.count(), 6);
        }
    }

    #[test]
    fn if_no_thread_can_be_watched_for_a_while_that_is_the_end() {
        let mut sampler =
            Played { threads: vec![1, 2], refuse: Some((0, libc::EACCES)), ..Played::default() };
        let mut threads = Threads::new();
        let results: Vec<_> = (0..5).map(|s| threads.list(&mut sampler, s * S, 100)).collect();
        assert!(results[..4].iter().all(Result::is_ok));
        assert_eq!(results[4], Err(Errno(libc::EACCES)));
        let mut ending = Played { threads: vec![], ..Played::default() };
        assert!(
            (0..20).all(|s| Threads::new().list(&mut ending, s * S, 100).is_ok()),
            "no thread is no refusal"
        );
    }

    #[test]
    fn a_new_period_is_every_threads_and_one_that_has_ended_is_left_out() {
        let (mut sampler, mut threads) =
            (Played { threads: vec![1, 2, 3], ..Played::default() }, Threads::new());
        threads.list(&mut sampler, 0, 100).unwrap();
        sampler.threads = vec![1, 3];
        threads.set_period(&mut sampler, 700);
        assert_eq!(sampler.watched, [(1, 700), (3, 700)]);
        assert_eq!(threads.count(), 2);
    }
}
