//! The heap under everything at once, its own structures checked meanwhile: needs `--features invariants`.
//!
//! Threads of random operations come and go, pass blocks to each other, fork, and trim, while signals interrupt them, DRAM is tight or not and, half of
//! the time, the system refuses some of what is asked of it. Another thread walks all heaps and arenas; at times all stand still and everything
//! is checked, down to the zeros of free memory. `TERRACE_TEST_STRESS_SECONDS` says how long, two minutes if it does not;
//! `TERRACE_TEST_ANYWHERE` leaves it to the kernel where the heap lies.

#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "each block below is live and owned by the test that touches it"
)]

#[path = "support/blocks.rs"]
mod blocks;
#[path = "support/signals.rs"]
mod signals;
#[path = "support/steps.rs"]
mod steps;

use blocks::{Block, Random};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, RwLock};
use std::time::{Duration, Instant};
use steps::step;
use terrace::arena::{for_each_extent, pressure, set_in_dram};
use terrace::sys::{Call, fault};
use terrace::{check_invariants, raw};

/// What fails at times. Not what would leave more behind the longer the test runs: a thread whose end is not noticed keeps its heap for good,
/// and a range that cannot be unmapped its addresses.
const REFUSED: u32 = fault::ALL & !(Call::KeyValue.bit() | Call::Unmap.bit());

/// Whether the present round is one of refusals. Changes only while all stand still.
static SHORT: AtomicBool = AtomicBool::new(false);

/// How much has happened.
static LIVES: AtomicU64 = AtomicU64::new(0);
static STEPS: AtomicU64 = AtomicU64::new(0);
static NULLS: AtomicU64 = AtomicU64::new(0);

/// What threads leave for others to free.
static EXCHANGE: Mutex<Vec<Block>> = Mutex::new(Vec::new());

/// A short life of a thread.
fn life(seed: u64, end: Instant) {
    let _hit = signals::Target::new();
    let short = SHORT.load(Ordering::Relaxed);
    let mut random = Random::new(seed);
    let mut live = Vec::new();
    for i in 0..4000 {
        if i % 64 == 0 && Instant::now() > end {
            break;
        }
        let refused = step(&mut random, &mut live, short);
        NULLS.fetch_add(refused as u64, Ordering::Relaxed);
        match random.next() % 512 {
            0..=15 => {
                let mut exchange = EXCHANGE.lock().unwrap();
                let give = live.len() / 8;
                exchange.extend(live.drain(..give));
                let take = exchange.len() / 4;
                let mut taken: Vec<Block> = exchange.drain(..take).collect();
                drop(exchange);
                taken.drain(..).for_each(Block::free);
            }
            16 => drop(raw::trim()),
            17 => pairs(random.next() as usize % 1024),
            // What the control plane says, whether it is so or not.
            18 => pressure::set_tight(random.next().is_multiple_of(2)),
            19 => for_each_extent(&mut |view| set_in_dram(view.index, random.next() as u32)),
            _ => {}
        }
        if live.len() > 3000 {
            live.drain(..1500).for_each(Block::free);
        }
        STEPS.fetch_add(1, Ordering::Relaxed);
    }
    // Half is left to others, so that heaps are abandoned with live blocks.
    let keep = live.len() / 2;
    EXCHANGE.lock().unwrap().extend(live.drain(keep..));
    live.into_iter().for_each(Block::free);
    LIVES.fetch_add(1, Ordering::Relaxed);
}

/// Blocks that are freed as soon as they are allocated, so often that the same few are chosen ahead.
fn pairs(size: usize) {
    for _ in 0..5000 {
        unsafe { raw::free(std::hint::black_box(raw::malloc(size))) };
    }
}

/// In a child of fork: its heap is whole, and its copies of all blocks are what they were.
fn in_child(blocks: &[Block]) -> ! {
    // A panic in a child must not unwind into the harness's copy of the other threads.
    let fine = std::panic::catch_unwind(|| {
        check_invariants(false);
        blocks.iter().for_each(|block| block.free());
        let mut random = Random::new(u64::from(std::process::id()));
        let mut live = Vec::with_capacity(4096);
        let short = SHORT.load(Ordering::Relaxed);
        for _ in 0..500 {
            step(&mut random, &mut live, short);
        }
        live.into_iter().for_each(Block::free);
        check_invariants(false);
    });
    unsafe { libc::_exit(i32::from(fine.is_err())) }
}

/// Forks; whether the child found everything in order.
fn fork_and_check() -> bool {
    let blocks = EXCHANGE.lock().unwrap();
    match unsafe { libc::fork() } {
        0 => in_child(&blocks),
        pid => {
            drop(blocks);
            let mut status = 0;
            assert!(pid > 0 && unsafe { libc::waitpid(pid, &raw mut status, 0) } == pid);
            status == 0
        }
    }
}

/// How long to run.
fn length() -> Duration {
    let seconds = match std::env::var("TERRACE_TEST_STRESS_SECONDS") {
        Ok(text) => text.parse().expect("TERRACE_TEST_STRESS_SECONDS is a number of seconds"),
        Err(_) => 120,
    };
    Duration::from_secs(seconds)
}

#[test]
fn heaps_stay_whole_while_threads_come_go_exchange_fork_and_trim() {
    if std::env::var_os("TERRACE_TEST_ANYWHERE").is_some() {
        // No place of our own choosing for the heap: what a sanitizer needs, which owns most of the address space.
        fault::arm(1, 1, Call::Place.bit());
        unsafe { raw::free(raw::malloc(1)) };
        fault::arm(0, 0, 0);
    }
    signals::handle();
    let before = raw::heap_stats().live_blocks;
    let (start, length) = (Instant::now(), length());
    let end = start + length;
    let done = AtomicBool::new(false);
    let seeds = AtomicU64::new(1);
    let rounds = AtomicU64::new(0);
    // Read-locked by whoever is inside the allocator, written to stand still.
    let world = RwLock::new(());
    std::thread::scope(|s| {
        let lives: Vec<_> = (0..4)
            .map(|_| {
                s.spawn(|| {
                    while Instant::now() < end {
                        let seed = seeds.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                        let _inside = world.read().unwrap();
                        // A thread of its own, so that its heap is abandoned and adopted.
                        std::thread::scope(|life_of| {
                            life_of.spawn(move || life(seed, end));
                        });
                    }
                })
            })
            .collect();
        s.spawn(|| signals::storm(&done));
        s.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                check_invariants(false);
                assert!(fork_and_check(), "a forked child found its heap broken");
                let _still = world.write().unwrap();
                // A scope may end before its thread has given up its heap.
                std::thread::sleep(Duration::from_millis(2));
                check_invariants(true);
                let round = rounds.fetch_add(1, Ordering::Relaxed);
                let short = round % 2 == 1;
                SHORT.store(short, Ordering::Relaxed);
                // Sites are kept apart in three rounds, and in three they are not, with and without memory.
                terrace::arena::sites::set_apart((round / 3).is_multiple_of(2));
                fault::arm(round, if short { [7, 20, 100][round as usize / 2 % 3] } else { 0 }, REFUSED);
            }
        });
        let broken = lives.into_iter().filter_map(|life| life.join().err()).count();
        done.store(true, Ordering::Relaxed);
        assert_eq!(broken, 0, "threads that failed");
    });
    fault::arm(0, 0, 0);
    std::mem::take(&mut *EXCHANGE.lock().unwrap()).into_iter().for_each(Block::free);
    std::thread::sleep(Duration::from_millis(2));
    check_invariants(true);
    assert_eq!(raw::heap_stats().live_blocks, before);
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let (rounds, injected) = (count(&rounds), fault::injected().iter().sum::<usize>());
    println!(
        "{} s: {} threads, {} operations, {rounds} rounds with a fork and three walks each, {} signals, {injected} injected failures, {} null",
        start.elapsed().as_secs(),
        count(&LIVES),
        count(&STEPS),
        signals::seen(),
        count(&NULLS),
    );
    // What did not happen was not tested.
    assert!(rounds > 3 && signals::seen() > 10 && injected > 10, "too little happened in {length:?}");
    signals::check();
}
