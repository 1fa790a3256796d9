//! The heap under everything at once, its own structures checked meanwhile: needs `--features invariants`.
//!
//! Threads of random operations come and go, pass blocks to each other, fork, and trim, while another walks all heaps and arenas; at times
//! all stand still and everything is checked, down to the zeros of free memory.

#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "each block below is live and owned by the test that touches it"
)]

#[path = "support/blocks.rs"]
mod blocks;

use blocks::{Block, Random};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, RwLock};
use std::time::{Duration, Instant};
use terrace::sys::fault;
use terrace::{check_invariants, raw};

/// Faults and stillness concern the whole process, so the tests take turns.
static TURN: Mutex<()> = Mutex::new(());

/// One step of a program: allocate, resize, free, in any pool. With `short`, memory may be refused.
fn step(random: &mut Random, live: &mut Vec<Block>, short: bool) {
    let got = |at: *mut u8, size: usize, seed: u64| {
        assert!(short || !at.is_null(), "{size} bytes refused");
        (!at.is_null()).then(|| Block::new(at, size, seed as u8))
    };
    let seed = random.next();
    match random.next() % 16 {
        0..=5 => {
            let size = random.size();
            live.extend(got(raw::malloc(size), size, seed));
        }
        6 => {
            let size = random.size();
            let at = raw::calloc(1, size);
            let zero = at.is_null() || (0..size).step_by(61).all(|i| unsafe { at.add(i).read() } == 0);
            assert!(zero, "calloc of {size} is zero");
            live.extend(got(at, size, seed));
        }
        7 => {
            let (size, align) = (random.size(), 1usize << (random.next() % 23));
            let at = raw::memalign(align, size);
            assert!(at.addr().is_multiple_of(align));
            live.extend(got(at, size, seed));
        }
        8 => {
            let (size, pool) = (random.size(), terrace::arena::Pool::ALL[random.next() as usize % 5]);
            live.extend(got(raw::malloc_in(pool, size, 16, false), size, seed));
        }
        9 | 10 if !live.is_empty() => {
            let i = random.next() as usize % live.len();
            let (old, size) = (live[i], random.size().max(1));
            let usable = unsafe { raw::usable_size(old.ptr()) };
            assert!(usable >= old.size());
            old.check();
            let at = unsafe { raw::realloc(old.ptr(), size) };
            if at.is_null() {
                assert!(short && size > usable, "{usable} bytes not shrunk to {size}");
                old.check();
            } else {
                old.check_prefix_at(at, size);
                live[i] = Block::new(at, size, seed as u8);
            }
        }
        _ if !live.is_empty() => {
            let i = random.next() as usize % live.len();
            live.swap_remove(i).free();
        }
        _ => {}
    }
}

/// What threads leave for others to free.
static EXCHANGE: Mutex<Vec<Block>> = Mutex::new(Vec::new());

/// A short life of a thread.
fn life(seed: u64, end: Instant) {
    let mut random = Random::new(seed);
    let mut live = Vec::new();
    for i in 0..4000 {
        if i % 64 == 0 && Instant::now() > end {
            break;
        }
        step(&mut random, &mut live, false);
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
            _ => {}
        }
        if live.len() > 3000 {
            live.drain(..1500).for_each(Block::free);
        }
    }
    // Half is left to others, so that heaps are abandoned with live blocks.
    let keep = live.len() / 2;
    EXCHANGE.lock().unwrap().extend(live.drain(keep..));
    live.into_iter().for_each(Block::free);
}

/// In a child of fork: its heap is whole, and its copies of all blocks are what they were.
fn in_child(blocks: &[Block]) -> ! {
    // A panic in a child must not unwind into the harness's copy of the other threads.
    let fine = std::panic::catch_unwind(|| {
        check_invariants(false);
        blocks.iter().for_each(|block| block.free());
        let mut random = Random::new(u64::from(std::process::id()));
        let mut live = Vec::with_capacity(4096);
        (0..500).for_each(|_| step(&mut random, &mut live, false));
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

#[test]
fn heaps_stay_whole_while_threads_come_go_exchange_fork_and_trim() {
    let _turn = TURN.lock().unwrap();
    let before = raw::heap_stats().live_blocks;
    let end = Instant::now() + Duration::from_secs(3);
    let done = AtomicBool::new(false);
    let seeds = AtomicU64::new(1);
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
        s.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                check_invariants(false);
                assert!(fork_and_check(), "a forked child found its heap broken");
                let _still = world.write().unwrap();
                // A scope may end before its thread has given up its heap.
                std::thread::sleep(Duration::from_millis(2));
                check_invariants(true);
            }
        });
        let broken = lives.into_iter().filter_map(|life| life.join().err()).count();
        done.store(true, Ordering::Relaxed);
        assert_eq!(broken, 0, "threads that failed");
    });
    std::mem::take(&mut *EXCHANGE.lock().unwrap()).into_iter().for_each(Block::free);
    std::thread::sleep(Duration::from_millis(2));
    check_invariants(true);
    assert_eq!(raw::heap_stats().live_blocks, before);
}

#[test]
fn failed_reservations_use_nothing_up() {
    let _turn = TURN.lock().unwrap();
    // The window is chosen with the first allocation, once.
    unsafe { raw::free(raw::malloc(1)) };
    let before = raw::heap_stats().arenas;
    fault::arm(7, 3);
    let giants: Vec<*mut u8> = (0..150).map(|_| raw::malloc(1 << 30)).filter(|at| !at.is_null()).collect();
    fault::arm(0, 0);
    let arenas = raw::heap_stats().arenas - before;
    assert!(giants.len() > 50 && giants.len() < 150, "{}", giants.len());
    // 64 GiB an arena, or less where a larger reservation was refused.
    assert!(arenas <= 3, "{arenas} arenas for {} blocks", giants.len());
    giants.into_iter().for_each(|giant| unsafe { raw::free(giant) });
    check_invariants(true);
}

#[test]
fn refused_memory_is_null_and_breaks_nothing() {
    let _turn = TURN.lock().unwrap();
    let before = raw::heap_stats().live_blocks;
    let first = fault::injected();
    let (mut refused, mut random) = (0, Random::new(0x5eed));
    for round in 0..16 {
        let (mut live, mut giants) = (Vec::new(), Vec::new());
        fault::arm(round + 1, [2, 3, 5, 20][round as usize % 4]);
        for _ in 0..200 {
            let count = live.len();
            step(&mut random, &mut live, true);
            // Gigabytes nobody touches, held for the round, make arenas full and new ones needed.
            if random.next().is_multiple_of(16) {
                let giant = raw::malloc((4 << 30) + (random.next() % (12 << 30)) as usize);
                if giant.is_null() { refused += 1 } else { giants.push(giant) }
            }
            // Large blocks ask the system most.
            let size = (random.next() % (1 << (19 + random.next() % 6))) as usize;
            let at = if random.next().is_multiple_of(2) { raw::malloc(size) } else { raw::calloc(1, size) };
            if at.is_null() {
                refused += 1;
            } else {
                live.push(Block::new(at, size, round as u8));
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
        live.iter().for_each(Block::check);
        // Half the rounds free in plenty, half while the system still refuses.
        if round.is_multiple_of(2) {
            fault::arm(0, 0);
        }
        giants.into_iter().for_each(|giant| unsafe { raw::free(giant) });
        fault::arm(0, 0);
        if round.is_multiple_of(4) {
            check_invariants(true);
        }
        live.into_iter().for_each(Block::free);
    }
    let injected = fault::injected() - first;
    assert!(injected > 300 && refused >= 1, "{injected} faults, {refused} null");
    // Nothing was used up for good: what was refused then is there now.
    let large = raw::malloc(1 << 30);
    assert!(!large.is_null());
    unsafe { raw::free(large) };
    check_invariants(true);
    assert_eq!(raw::heap_stats().live_blocks, before);
}
