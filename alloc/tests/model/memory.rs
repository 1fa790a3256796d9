//! Weakly ordered memory: what a load may give under the C11 memory model, by views.
//!
//! Every word keeps the values it has had, in the order of their stores; a thread's *view* says which of them it must have seen of each word.
//! A load gives any value from there on. A release store takes its thread's view along, and an acquire load that reads it merges that into its own;
//! fences do the same for relaxed operations around them, locks and the start and end of threads for everything. An operation that reads and
//! writes at once reads the last value, and carries on the view of the store it replaces (a release sequence).
//!
//! Weaker than the model allows: a store always comes last in a word's order, no load sees a store that comes later in time (no load
//! buffering), and what is no atomic (cells, memory made anew) is always up to date.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use shuttle::rand::{Rng, thread_rng};

/// Of each word, by its number, how many of its values were overwritten by what has been seen.
#[derive(Clone, Default)]
pub(crate) struct View(Vec<u32>);

impl View {
    fn at(&self, word: usize) -> u32 {
        self.0.get(word).copied().unwrap_or(0)
    }

    fn see(&mut self, word: usize, time: u32) {
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        self.0[word] = self.0[word].max(time);
    }

    fn merge(&mut self, other: &View) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        self.0.iter_mut().zip(&other.0).for_each(|(mine, its)| *mine = (*mine).max(*its));
    }
}

/// A value that was stored, and the view that comes with it.
struct Value {
    word: u64,
    view: View,
}

/// What a thread has seen.
#[derive(Clone, Default)]
struct Seen {
    now: View,
    /// What an acquire fence would add.
    loaded: View,
    /// What a relaxed store takes along: the view at the last release fence.
    released: View,
}

/// All words and threads.
#[derive(Default)]
pub(crate) struct Memory {
    numbers: BTreeMap<usize, usize>,
    words: Vec<Vec<Value>>,
    locks: BTreeMap<usize, View>,
    threads: BTreeMap<usize, Seen>,
}

fn acquires(order: Ordering) -> bool {
    matches!(order, Ordering::Acquire | Ordering::AcqRel | Ordering::SeqCst)
}

fn releases(order: Ordering) -> bool {
    matches!(order, Ordering::Release | Ordering::AcqRel | Ordering::SeqCst)
}

impl Memory {
    /// The number of the word at `addr`, which holds `word` now. If that is not what was stored last, the memory was made anew since.
    fn number(&mut self, addr: usize, word: u64) -> usize {
        let next = self.words.len();
        let number = *self.numbers.entry(addr).or_insert(next);
        if number == next {
            self.words.push(Vec::new());
        }
        let values = &mut self.words[number];
        if values.last().is_none_or(|last| last.word != word) {
            // All count as overwritten: nobody sees what was there before.
            values.push(Value { word, view: View::default() });
            let time = values.len() as u32 - 1;
            self.threads.values_mut().for_each(|seen| seen.now.see(number, time));
        }
        number
    }

    /// What `thread` loads; the last value if `latest`.
    pub(crate) fn load(
        &mut self,
        thread: usize,
        addr: usize,
        word: u64,
        order: Ordering,
        latest: bool,
    ) -> u64 {
        let number = self.number(addr, word);
        let seen = self.threads.entry(thread).or_default();
        let (first, last) = (seen.now.at(number), self.words[number].len() as u32 - 1);
        let old = !latest && first < last && thread_rng().gen_range(0..3u32) == 0;
        let time = if old { thread_rng().gen_range(first..last) } else { last };
        let value = &self.words[number][time as usize];
        seen.now.see(number, time);
        let into = if acquires(order) { &mut seen.now } else { &mut seen.loaded };
        into.merge(&value.view);
        value.word
    }

    pub(crate) fn store(&mut self, thread: usize, addr: usize, old: u64, new: u64, order: Ordering) {
        let number = self.number(addr, old);
        self.append(thread, number, new, order, View::default());
    }

    pub(crate) fn update(&mut self, thread: usize, addr: usize, old: u64, new: u64, order: Ordering) {
        self.load(thread, addr, old, order, true);
        let number = self.number(addr, old);
        let carried = self.words[number].last().map(|value| value.view.clone()).unwrap_or_default();
        self.append(thread, number, new, order, carried);
    }

    fn append(&mut self, thread: usize, number: usize, word: u64, order: Ordering, mut view: View) {
        let time = self.words[number].len() as u32;
        let seen = self.threads.entry(thread).or_default();
        seen.now.see(number, time);
        view.merge(if releases(order) { &seen.now } else { &seen.released });
        view.see(number, time);
        self.words[number].push(Value { word, view });
    }

    pub(crate) fn fence(&mut self, thread: usize, order: Ordering) {
        let seen = self.threads.entry(thread).or_default();
        if acquires(order) {
            seen.now.merge(&seen.loaded);
        }
        if releases(order) {
            seen.released = seen.now.clone();
        }
    }

    pub(crate) fn locked(&mut self, thread: usize, lock: usize) {
        if let Some(view) = self.locks.get(&lock) {
            self.threads.entry(thread).or_default().now.merge(view);
        }
    }

    pub(crate) fn unlocking(&mut self, thread: usize, lock: usize) {
        let view = self.threads.entry(thread).or_default().now.clone();
        self.locks.entry(lock).or_default().merge(&view);
    }

    /// `thread` uses the block at `addr`; whether it has seen everything that others did with it before.
    #[must_use]
    pub(crate) fn use_block(&mut self, thread: usize, addr: usize) -> bool {
        // No word of the heap has an odd address.
        let number = self.number(addr | 1, 0);
        let last = self.words[number].len() as u32 - 1;
        let seen = self.threads.entry(thread).or_default().now.at(number) == last;
        self.append(thread, number, 0, Ordering::Relaxed, View::default());
        seen
    }

    /// What `thread` has seen so far.
    pub(crate) fn view_of(&self, thread: usize) -> View {
        self.threads.get(&thread).map(|seen| seen.now.clone()).unwrap_or_default()
    }

    /// `thread` has learnt of everything in `view`.
    pub(crate) fn learn(&mut self, thread: usize, view: &View) {
        self.threads.entry(thread).or_default().now.merge(view);
    }

    /// `thread` sees everything as it is.
    pub(crate) fn see_all(&mut self, thread: usize) {
        let times: Vec<u32> = self.words.iter().map(|values| values.len() as u32 - 1).collect();
        self.threads.entry(thread).or_default().now.merge(&View(times));
    }
}
