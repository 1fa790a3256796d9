//! A system that refuses: calls into it fail at random points, and each failure is a null (ENOMEM) or a slower path, never a crash,
//! and never a byte lost. Needs `--features invariants`. (Little address space is in `faults.rs`.)

#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "each block below is live and owned by the test that touches it"
)]

#[path = "support/blocks.rs"]
mod blocks;
#[path = "injection/scenario.rs"]
mod scenario;
#[path = "support/steps.rs"]
mod steps;

use blocks::{Block, Random};
use scenario::Scenario;
use std::alloc::{GlobalAlloc, Layout};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use steps::step;
use terrace::meta::MetaAlloc;
use terrace::sys::{Call, fault};
use terrace::{check_invariants, raw};

/// Faults concern the whole process, so the tests take turns.
static TURN: Mutex<()> = Mutex::new(());

/// The figure.
const ENOUGH: usize = 10_000;

fn total() -> usize {
    fault::injected().iter().sum()
}

#[test]
fn failed_reservations_use_nothing_up() {
    let _turn = TURN.lock().unwrap();
    // The window is chosen with the first allocation, once.
    unsafe { raw::free(raw::malloc(1)) };
    let before = raw::heap_stats().arenas;
    fault::arm(7, 3, Call::Map.bit() | Call::Place.bit() | Call::Protect.bit());
    let (mut giants, mut failed) = (Vec::new(), 0);
    // What tests before this one have reserved is used first.
    while failed < 20 && giants.len() < 1000 {
        let giant = raw::malloc(1 << 30);
        if giant.is_null() { failed += 1 } else { giants.push(giant) }
    }
    fault::arm(0, 0, 0);
    let arenas = raw::heap_stats().arenas - before;
    assert!(giants.len() > 50 && failed > 0, "{} and {failed} failed", giants.len());
    // 64 GiB an arena, or less where a larger reservation was refused.
    assert!(arenas <= 2 + giants.len() / 50, "{arenas} arenas for {} blocks", giants.len());
    giants.into_iter().for_each(|giant| unsafe { raw::free(giant) });
    check_invariants(true);
}

#[test]
fn what_the_library_s_own_code_needs_in_a_call_is_there_when_memory_is_not() {
    let _turn = TURN.lock().unwrap();
    // A copy of the table of tiers, a record of the collector's: Rust code ends the process where it does not get them.
    let layouts = [(2304, 128), (500, 8), (8000, 16), (64, 128)];
    let layouts = layouts.map(|(size, align)| Layout::from_size_align(size, align).unwrap());
    fault::arm(1, 1, Call::Map.bit());
    for _ in 0..10_000 {
        let blocks = layouts.map(|layout| unsafe { MetaAlloc.alloc(layout) });
        assert!(
            blocks
                .iter()
                .zip(layouts)
                .all(|(block, layout)| !block.is_null() && block.addr() % layout.align() == 0)
        );
        for (block, layout) in blocks.into_iter().zip(layouts) {
            unsafe { block.write_bytes(0xa5, layout.size()) };
            unsafe { MetaAlloc.dealloc(block, layout) };
        }
    }
    fault::arm(0, 0, 0);
}

/// A thread's life while the system refuses: how many allocations were null. Every block is whole at its end.
fn hungry(seed: u64) -> u64 {
    let (mut refused, mut random) = (0, Random::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
    let (mut live, mut giants) = (Vec::new(), Vec::new());
    for _ in 0..200 {
        let count = live.len();
        refused += step(&mut random, &mut live, true);
        // Gigabytes nobody touches, held for the round, make arenas full and new ones needed.
        if random.next().is_multiple_of(32) {
            let giant = raw::malloc((4 << 30) + (random.next() % (12 << 30)) as usize);
            if giant.is_null() { refused += 1 } else { giants.push(giant) }
        }
        // Large blocks ask the system most.
        let size = (random.next() % (1 << (19 + random.next() % 6))) as usize;
        let zero = random.next().is_multiple_of(2);
        let at = if zero { raw::calloc(1, size) } else { raw::malloc(size) };
        if at.is_null() {
            refused += 1;
        } else {
            assert!(!zero || (0..size).step_by(509).all(|i| unsafe { at.add(i).read() } == 0));
            live.push(Block::new(at, size, seed as u8));
        }
        // So do blocks that grow past what is behind them.
        if let Some(i) = live.iter().position(|block| block.size() > 1 << 20) {
            let (old, size) = (live[i], live[i].size() + (3 << 20));
            let at = unsafe { raw::realloc(old.ptr(), size) };
            if at.is_null() {
                refused += 1;
                old.check();
            } else {
                old.check_prefix_at(at, old.size());
                unsafe { raw::free(at) };
                live.swap_remove(i);
            }
        }
        if live.len() > 40 && count > 40 {
            live.drain(..live.len() / 2).for_each(Block::free);
        }
        if random.next().is_multiple_of(4) {
            raw::trim();
        }
    }
    giants.into_iter().for_each(|giant| unsafe { raw::free(giant) });
    live.into_iter().for_each(Block::free);
    refused as u64
}

#[test]
fn ten_thousand_refusals_are_nulls_or_slower_paths() {
    let _turn = TURN.lock().unwrap();
    let (before, first) = (raw::heap_stats().live_blocks, total());
    let (start, nulls) = (Instant::now(), AtomicU64::new(0));
    let mut round = 0;
    while total() - first < ENOUGH {
        round += 1;
        assert!(round < 5000, "{} failures in {round} rounds", total() - first);
        fault::arm(round, [2, 3, 5, 20][round as usize % 4], fault::ALL);
        let threads: Vec<_> =
            (0..2).map(|thread| std::thread::spawn(move || hungry(round * 2 + thread))).collect();
        // Some of the threads' ends are not noticed, and their heaps stay as they are: so be it, but whole.
        for thread in threads {
            nulls.fetch_add(thread.join().unwrap(), Ordering::Relaxed);
        }
        if round % 8 == 0 {
            check_invariants(true);
        }
    }
    fault::arm(0, 0, 0);
    let injected = fault::injected();
    println!(
        "{} failures injected in {round} rounds and {} s, {} null: {}",
        total() - first,
        start.elapsed().as_secs(),
        nulls.load(Ordering::Relaxed),
        scenario::by_kind(&injected)
    );
    for call in
        [Call::Map, Call::Unmap, Call::Protect, Call::Discard, Call::Remap, Call::Wait, Call::KeyValue]
    {
        assert!(injected[call as usize] > 0, "{call:?} was never refused");
    }
    assert!(nulls.load(Ordering::Relaxed) > 0, "nobody noticed");
    // Nothing was used up for good: what was refused then is there now.
    let large = raw::malloc(1 << 30);
    assert!(!large.is_null());
    unsafe { raw::free(large) };
    check_invariants(true);
    assert_eq!(raw::heap_stats().live_blocks, before);
}

/// Set in the processes that this test starts, to the scenario.
const SCENARIO: &str = "TERRACE_TEST_SCENARIO";

/// Tiers, keys and threads are had once in a process, so each way of not having them is one of its own.
#[test]
fn with_tiers_that_refuse_and_without_threads_and_keys_it_stays_a_good_malloc() {
    if let Ok(name) = std::env::var(SCENARIO) {
        return Scenario::named(&name).run();
    }
    let _turn = TURN.lock().unwrap();
    let mut injected = [0; fault::CALLS];
    for scenario in scenario::ALL {
        let mut again = Command::new(std::env::current_exe().unwrap());
        again.args(["--exact", "with_tiers_that_refuse_and_without_threads_and_keys_it_stays_a_good_malloc"]);
        again.arg("--nocapture").env(SCENARIO, scenario.name);
        // A device node that does not exist: all placement on it is refused, and all moves there. Little DRAM, so that moves are tried.
        again.envs([("TERRACE_DEVICE_NODES", "1"), ("TERRACE_DRAM", "32M"), ("TERRACE_VERBOSE", "1")]);
        again.envs([("TERRACE_START", "0"), ("TERRACE_TICK_MS", "10"), ("TERRACE_STATS", "on")]);
        let out = again.output().unwrap();
        let (told, said) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        assert!(out.status.success(), "{}: {}\n{told}\n{said}", scenario.name, out.status);
        let counts = told.lines().find_map(|line| line.strip_prefix(scenario::COUNTS)).expect("counts");
        println!("{}: {}", scenario.name, counts.trim());
        for (sum, count) in injected.iter_mut().zip(scenario::parse(counts)) {
            *sum += count;
        }
    }
    println!("in all: {}", scenario::by_kind(&injected));
    for call in [
        Call::Place,
        Call::Bind,
        Call::MovePages,
        Call::HugePages,
        Call::Policy,
        Call::Open,
        Call::Userfault,
        Call::Thread,
        Call::Key,
    ] {
        assert!(injected[call as usize] > 0, "{call:?} was never refused");
    }
}
