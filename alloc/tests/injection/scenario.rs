//! What is refused in a process with two memory nodes, one of which exists, and what must hold all the same.

use super::blocks::{Block, Random};
use super::steps::step;
use std::time::{Duration, Instant};
use terrace::arena::Pool;
use terrace::sys::{Call, fault};
use terrace::{Hint, check_invariants, raw};

/// What is refused from the start.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    one_in: u64,
    kinds: u32,
    /// Whether there is a control thread in the end; `None`: it depends.
    control: Option<bool>,
}

const fn always(name: &'static str, kinds: u32, control: bool) -> Scenario {
    Scenario { name, one_in: 1, kinds, control: Some(control) }
}

const fn sometimes(name: &'static str, one_in: u64) -> Scenario {
    Scenario { name, one_in, kinds: fault::ALL, control: None }
}

pub(crate) const ALL: [Scenario; 14] = [
    always("nothing", 0, true),
    always("no thread", Call::Thread.bit(), false),
    always("no key", Call::Key.bit(), true),
    always("no key value", Call::KeyValue.bit(), true),
    always("no nodes", Call::Policy.bit(), false),
    always("no placement", Call::Bind.bit(), true),
    always("no say in huge pages", Call::HugePages.bit(), true),
    always("no place", Call::Place.bit(), true),
    always("no moves", Call::MovePages.bit(), true),
    always("no files", Call::Open.bit() | Call::Userfault.bit(), true),
    sometimes("one in two", 2),
    sometimes("one in three", 3),
    sometimes("one in seven", 7),
    sometimes("one in fifty", 50),
];

/// Before the counts in what [`Scenario::run`] prints.
pub(crate) const COUNTS: &str = "injected: ";

/// The counts that are not 0, with their names.
pub(crate) fn by_kind(injected: &[usize; fault::CALLS]) -> String {
    let kinds = injected.iter().zip(CALLS).filter(|(count, _)| **count > 0);
    kinds.map(|(count, call)| format!("{call:?} {count}")).collect::<Vec<_>>().join(", ")
}

/// The counts in what [`by_kind`] wrote.
pub(crate) fn parse(text: &str) -> [usize; fault::CALLS] {
    let mut counts = [0; fault::CALLS];
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (name, count) = part.split_once(' ').expect("a name and a count");
        let call = CALLS.into_iter().find(|call| format!("{call:?}") == name).expect("a kind of call");
        counts[call as usize] = count.parse().expect("a count");
    }
    counts
}

/// In the order of their numbers.
const CALLS: [Call; fault::CALLS] = [
    Call::Map,
    Call::Place,
    Call::Unmap,
    Call::Protect,
    Call::Discard,
    Call::HugePages,
    Call::Remap,
    Call::Bind,
    Call::MovePages,
    Call::Policy,
    Call::Wait,
    Call::Open,
    Call::Userfault,
    Call::Thread,
    Call::Key,
    Call::KeyValue,
];

impl Scenario {
    pub(crate) fn named(name: &str) -> &'static Scenario {
        static ALL: [Scenario; self::ALL.len()] = self::ALL;
        ALL.iter().find(|scenario| scenario.name == name).expect("a scenario of that name")
    }

    pub(crate) fn run(&self) {
        fault::pretend_nodes(2);
        fault::arm(self.name.len() as u64, self.one_in, self.kinds);
        let start = Instant::now();
        for round in 0..4 {
            let threads: Vec<_> =
                (0..3).map(|thread| std::thread::spawn(move || live(round * 3 + thread + 1))).collect();
            // Held over many ticks, so that it is looked at, and moves of it are tried.
            let held: Vec<Block> = (0..12).filter_map(|i| hold(Pool::ALL[i % 5], 4 << 20)).collect();
            while start.elapsed() < Duration::from_millis(250 * (round + 1)) {
                held.iter().for_each(Block::check);
                for block in &held {
                    let hint = [Hint::COLD, Hint::DEVICE, Hint::DRAM, Hint::HOT][round as usize];
                    // Refused or not: contents and addresses stay.
                    let _ = terrace::advise(block.ptr(), block.size(), hint);
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            held.into_iter().for_each(Block::free);
        }
        let control = has_control_thread();
        fault::arm(0, 0, 0);
        // The control thread never allocates from the heap, so it does not disturb.
        check_invariants(true);
        assert_eq!(raw::heap_stats().live_blocks, 0);
        assert!(self.control.is_none_or(|expected| expected == control), "control thread: {control}");
        println!("{COUNTS}{}", by_kind(&fault::injected()));
    }
}

fn hold(pool: Pool, size: usize) -> Option<Block> {
    let at = raw::malloc_in(pool, size, 16, false);
    (!at.is_null()).then(|| Block::new(at, size, 3))
}

/// A thread of random operations.
fn live(seed: u64) {
    let mut random = Random::new(seed);
    let mut live = Vec::new();
    for _ in 0..3000 {
        step(&mut random, &mut live, true);
    }
    live.into_iter().for_each(Block::free);
}

fn has_control_thread() -> bool {
    let tasks = std::fs::read_dir("/proc/self/task").expect("this process has threads");
    let name = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("comm"));
    tasks.flatten().filter_map(|task| name(task).ok()).any(|name| name.trim() == "terrace")
}
