//! The heap through its plain functions: blocks are disjoint, aligned, keep their contents, and come back.

#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "each block below is live and owned by the test that touches it"
)]

#[path = "support/blocks.rs"]
mod blocks;

use blocks::{Block, Random};
use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::mpsc::sync_channel;
use terrace::arena::Pool;
use terrace::{AdviseError, Hint, raw};

fn churn(seed: u64, operations: usize) {
    let mut random = Random::new(seed);
    let mut live: Vec<Block> = Vec::new();
    for _ in 0..operations {
        let pick = |random: &mut Random, live: &mut Vec<Block>| {
            let i = random.next() as usize % live.len();
            live.swap_remove(i)
        };
        match random.next() % 16 {
            0..=6 => {
                let size = random.size();
                live.push(Block::new(raw::malloc(size), size, seed as u8));
            }
            7 => {
                let size = random.size();
                let at = raw::calloc(1, size);
                assert!(
                    (0..size).step_by(61).all(|i| unsafe { at.add(i).read() } == 0),
                    "calloc of {size} is zero"
                );
                live.push(Block::new(at, size, seed as u8));
            }
            8 => {
                let (size, align) = (random.size(), 16usize << (random.next() % 10));
                let at = raw::memalign(align, size);
                assert!(at.addr().is_multiple_of(align));
                live.push(Block::new(at, size, seed as u8));
            }
            9 if !live.is_empty() => {
                let old = pick(&mut random, &mut live);
                old.check();
                let size = random.size().max(1);
                let at = unsafe { raw::realloc(old.ptr(), size) };
                old.check_prefix_at(at, size);
                live.push(Block::new(at, size, seed as u8));
            }
            10 => {
                let (size, pool) = (random.size(), Pool::ALL[random.next() as usize % 5]);
                let at = raw::malloc_in(pool, size, 16, false);
                live.push(Block::new(at, size, seed as u8));
            }
            _ if !live.is_empty() => pick(&mut random, &mut live).free(),
            _ => {}
        }
        if live.len() > 4000 {
            live.drain(..2000).for_each(Block::free);
        }
    }
    live.into_iter().for_each(Block::free);
}

/// The tests count what is live in the process, so they take turns.
static TURN: Mutex<()> = Mutex::new(());

/// Waits for this test's turn, also after one that failed.
fn turn() -> std::sync::MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn live_blocks() -> usize {
    raw::heap_stats().live_blocks
}

#[test]
fn one_thread_of_everything_leaves_nothing() {
    let _turn = turn();
    let before = live_blocks();
    churn(0x9e37_79b9_7f4a_7c15, 60_000);
    assert_eq!(live_blocks(), before);
}

#[test]
fn four_threads_of_everything_leave_nothing() {
    let _turn = turn();
    let before = live_blocks();
    std::thread::scope(|s| {
        (1..=4u64).for_each(|i| drop(s.spawn(move || churn(i * 0x1234_5678_9abc_def1, 25_000))));
    });
    assert_eq!(live_blocks(), before);
}

#[test]
fn blocks_of_every_size_lie_at_multiples_of_every_alignment() {
    let _turn = turn();
    for align in (0..19).map(|shift| 1usize << shift) {
        for size in [1, 24, align + align / 2, 3 * align, 5 * align] {
            // The second time from slabs that are in use already.
            for _ in 0..2 {
                let blocks: Vec<*mut u8> = (0..5).map(|_| raw::memalign(align, size)).collect();
                assert!(
                    blocks.iter().all(|at| at.addr().is_multiple_of(align)),
                    "{size} at {align}: {blocks:?}"
                );
                // SAFETY: live blocks of this heap, freed once.
                blocks.into_iter().for_each(|at| unsafe { raw::free(at) });
            }
        }
    }
}

#[test]
fn blocks_freed_by_another_thread_come_back() {
    let _turn = turn();
    let before = live_blocks();
    std::thread::scope(|s| {
        let (send, receive) = sync_channel::<Block>(1000);
        s.spawn(move || {
            let mut random = Random::new(7);
            for _ in 0..300_000 {
                let size = random.size() % 2000;
                send.send(Block::new(raw::malloc(size), size, 3)).unwrap();
            }
        });
        let consumer = s.spawn(move || {
            let mut held = VecDeque::new();
            for block in receive {
                held.push_back(block);
                if held.len() > 500 {
                    held.pop_front().unwrap().free();
                }
            }
            held.into_iter().for_each(Block::free);
        });
        // A scope may end before a thread has given up its heap, and with it what it has gathered of others' blocks.
        consumer.join().unwrap();
    });
    assert_eq!(live_blocks(), before);
}

#[test]
fn threads_that_end_hand_their_heaps_on() {
    let _turn = turn();
    std::thread::spawn(|| churn(99, 1000)).join().unwrap();
    let before = raw::heap_stats();
    let mut left = Vec::new();
    for i in 0..2000u64 {
        left.push(
            std::thread::spawn(move || Block::new(raw::malloc(40 + i as usize % 100), 40, i as u8))
                .join()
                .unwrap(),
        );
    }
    left.into_iter().for_each(Block::free);
    let after = raw::heap_stats();
    assert_eq!(after.live_blocks, before.live_blocks);
    assert!(after.heaps <= before.heaps + 1, "{before:?} {after:?}");
    assert!(after.extent_bytes <= before.extent_bytes + (8 << 20), "{before:?} {after:?}");
}

#[test]
fn trim_returns_what_nobody_uses() {
    let _turn = turn();
    let blocks: Vec<Block> = (0..100_000).map(|_| Block::new(raw::malloc(1000), 1000, 1)).collect();
    let large: Vec<Block> = (0..20).map(|_| Block::new(raw::malloc(5 << 20), 5 << 20, 1)).collect();
    let full = raw::heap_stats().extent_bytes;
    blocks.into_iter().chain(large).for_each(Block::free);
    assert!(raw::trim());
    let rest = raw::heap_stats().extent_bytes;
    assert!(full - rest > 150 << 20, "{full} {rest}");
}

#[test]
fn impossible_sizes_are_refused() {
    let _turn = turn();
    for size in [usize::MAX, isize::MAX as usize, isize::MAX as usize - 4096, 1 << 62] {
        assert!(raw::malloc(size).is_null());
        assert!(raw::memalign(1 << 21, size).is_null());
    }
    assert!(raw::calloc(1 << 33, 1 << 33).is_null());
    let block = raw::malloc(100);
    assert!(unsafe { raw::realloc(block, usize::MAX) }.is_null());
    unsafe { raw::free(block) };
}

#[test]
fn a_growing_block_keeps_its_contents() {
    let _turn = turn();
    let mut at = raw::malloc(1);
    unsafe { at.write(0) };
    let mut size = 1;
    let mut fence = Vec::new();
    while size < 64 << 20 {
        let grown = size * 3 / 2 + 1;
        at = unsafe { raw::realloc(at, grown) };
        (size..grown).step_by(101).for_each(|i| unsafe { at.add(i).write(i as u8) });
        // Something behind it, so that not every growth is in place.
        fence.push(raw::malloc(300_000));
        size = grown;
    }
    unsafe { raw::free(at) };
    fence.into_iter().for_each(|block| unsafe { raw::free(block) });
}

#[test]
fn advice_is_taken_for_live_memory_only() {
    let _turn = turn();
    let block = raw::malloc(3 << 20);
    unsafe { block.write_bytes(7, 3 << 20) };
    assert_eq!(terrace::advise(block, 3 << 20, Hint::HOT), Ok(()));
    assert_eq!(raw::pool_of(block), Some(Pool::Hot));
    assert_eq!(terrace::advise(block, 3 << 20, Hint::COLD), Ok(()));
    assert_eq!(raw::pool_of(block), Some(Pool::Cold));
    assert!(terrace::node_of(block).is_some());
    if terrace::arena::placement().device.is_empty() {
        assert_eq!(terrace::advise(block, 4096, Hint::DEVICE.strict()), Err(AdviseError::NoRoom));
        assert!(raw::malloc_in(Hint::DEVICE.strict().pool(), 100, 16, false).is_null());
    }
    assert!((0..3 << 20).step_by(4096).all(|i| unsafe { block.add(i).read() } == 7));
    unsafe { raw::free(block) };
    assert_eq!(terrace::advise(block, 4096, Hint::HOT), Err(AdviseError::NotOurs));
    let local = 5u8;
    assert_eq!(terrace::advise(&raw const local, 1, Hint::HOT), Err(AdviseError::NotOurs));
    assert_eq!(terrace::node_of(&raw const local), None);
}

#[test]
fn threads_that_leave_nothing_live_keep_no_memory() {
    let _turn = turn();
    raw::trim();
    let before = raw::heap_stats().extent_bytes;
    let barrier = std::sync::Barrier::new(100);
    std::thread::scope(|s| {
        for i in 0..100u8 {
            let barrier = &barrier;
            s.spawn(move || {
                let block = Block::new(raw::malloc(100), 100, i);
                // All at once, so that none adopts another's heap.
                barrier.wait();
                block.free();
            });
        }
    });
    // A thread's heap is given up after the scope has seen its closure end.
    let done = || raw::heap_stats().extent_bytes <= before + (8 << 20);
    let patience = (0..200).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        done()
    });
    assert!(patience, "{before} {:?}", raw::heap_stats());
}

/// How many pages of `[at, at + len)` are in memory.
fn resident(at: *const u8, len: usize) -> usize {
    let mut pages = vec![0u8; len.div_ceil(4096)];
    assert_eq!(unsafe { libc::mincore(at.cast_mut().cast(), len, pages.as_mut_ptr()) }, 0);
    pages.iter().filter(|&&page| page & 1 == 1).count()
}

#[test]
fn shrinking_a_large_block_returns_its_pages_wherever_it_has_been() {
    let _turn = turn();
    const MIB: usize = 1 << 20;
    for moved in [false, true] {
        let mut at = raw::malloc(8 * MIB);
        unsafe { at.write_bytes(5, 8 * MIB) };
        // Free extents are taken lowest first: once one above the block is, the one behind it is taken too.
        let mut fences = vec![raw::malloc(MIB)];
        while *fences.last().unwrap() < at {
            fences.push(raw::malloc(MIB));
        }
        if moved {
            let before = at;
            at = unsafe { raw::realloc(at, 20 * MIB) };
            assert_ne!(at, before, "a fence is in the way");
        }
        at = unsafe { raw::realloc(at, 5 * MIB) };
        assert_eq!(unsafe { raw::usable_size(at) }, 5 * MIB);
        assert_eq!(resident(at.wrapping_add(5 * MIB), MIB), 0);
        assert!((0..5 * MIB).step_by(4096).all(|i| unsafe { at.add(i).read() } == 5));
        unsafe { raw::free(at) };
        fences.into_iter().for_each(|block| unsafe { raw::free(block) });
    }
}

#[test]
fn a_block_that_moves_grows_in_place_and_moves_again_keeps_its_contents_and_one_mapping() {
    let _turn = turn();
    const MIB: usize = 1 << 20;
    // Heaps lie from 16 TiB to 80 TiB, where nothing else does; the rest of the process has threads that come and go.
    let is_ours = |line: &&str| {
        let start = usize::from_str_radix(line.split_once('-').unwrap().0, 16).unwrap();
        (16 << 40..80 << 40).contains(&start)
    };
    let maps = || std::fs::read_to_string("/proc/self/maps").unwrap().lines().filter(is_ours).count();
    let fill = |at: *mut u8, from: usize, to: usize| {
        (from..to).step_by(512).for_each(|i| unsafe { at.add(i).cast::<usize>().write(i) });
    };
    let check = |at: *mut u8, to: usize| {
        assert!((0..to).step_by(512).all(|i| unsafe { at.add(i).cast::<usize>().read() } == i));
    };
    let mut at = raw::malloc(3 * MIB);
    let mut fences = Vec::new();
    let before = maps();
    fill(at, 0, 3 * MIB);
    let mut size = 3 * MIB;
    for round in 0..6 {
        fences.push(raw::malloc(MIB));
        for _in_place in 0..2 {
            let grown = size + (5 << round) * MIB / 4 + 4096;
            at = unsafe { raw::realloc(at, grown) };
            check(at, size);
            fill(at, size, grown);
            size = grown;
        }
    }
    check(at, size);
    // The moved span is a mapping or two of its own, the fences' neighbours are not.
    assert!(maps() <= before + 4, "{} mappings, {before} before", maps());
    unsafe { raw::free(at) };
    fences.into_iter().for_each(|block| unsafe { raw::free(block) });
    assert!(maps() <= before + 4, "{} mappings, {before} before", maps());
}

#[test]
fn replacing_blocks_at_random_takes_no_further_slabs() {
    let _turn = turn();
    let mut random = Random::new(0x2545_f491_4f6c_dd1d);
    // One size, so that every block freed fits the next request: it must be found, wherever in its slab it lies.
    let mut live: Vec<Block> = (0..10_000).map(|i| Block::new(raw::malloc(112), 112, i as u8)).collect();
    let before = raw::heap_stats().slab_bytes;
    for i in 0..200_000 {
        let at = (random.next() % live.len() as u64) as usize;
        live[at].free();
        live[at] = Block::new(raw::malloc(112), 112, i as u8);
    }
    // In hardened mode (tests/hardened_heap.rs) as many blocks as its quarantine holds are out of use besides.
    let apart = if terrace::config::get().hardened { 2 << 20 } else { 0 };
    assert!(raw::heap_stats().slab_bytes <= before + apart, "{before}");
    live.into_iter().for_each(Block::free);
}

#[test]
fn pages_that_ended_threads_left_free_go_back_in_time() {
    let _turn = turn();
    // Extents that were used before, and given back with their pages, are what the heaps below begin with.
    let used: Vec<Block> = (0..8).map(|_| Block::new(raw::malloc(4 << 20), 4 << 20, 1)).collect();
    used.iter().for_each(|block| unsafe { block.ptr().write_bytes(1, 4 << 20) });
    used.iter().for_each(|block| unsafe { raw::free(block.ptr()) });
    // This thread has a heap of its own and adopts none.
    unsafe { raw::free(raw::malloc(1)) };
    // Of a megabyte of blocks one stays live, which keeps the heap and its extent.
    let kept = std::thread::spawn(|| {
        let blocks: Vec<Block> = (0..1000).map(|_| Block::new(raw::malloc(1000), 1000, 1)).collect();
        let mut blocks = blocks.into_iter();
        let kept = blocks.next_back().unwrap();
        blocks.for_each(Block::free);
        kept
    })
    .join()
    .unwrap();
    const EXTENT: usize = terrace::arena::EXTENT_BYTES;
    let extent = kept.ptr().map_addr(|addr| addr & !(EXTENT - 1));
    let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
    // Two periods of a second, noticed by a thread that allocates.
    while resident(extent, EXTENT) > 64 {
        assert!(std::time::Instant::now() < end, "{} pages", resident(extent, EXTENT));
        let blocks: Vec<Block> = (0..200).map(|_| Block::new(raw::malloc(200_000), 200_000, 1)).collect();
        blocks.into_iter().for_each(Block::free);
    }
    kept.free();
}

#[test]
fn pages_of_free_blocks_go_back_though_their_slab_has_live_ones_and_come_again() {
    let _turn = turn();
    raw::trim();
    // One block in ten stays live, so that hardly a slab runs empty; the others cover most pages.
    let size = 6000;
    let blocks: Vec<Block> = (0..4000).map(|i| Block::new(raw::malloc(size), size, i as u8)).collect();
    let addresses: Vec<usize> = blocks.iter().map(|block| block.ptr().addr()).collect();
    let in_memory = || -> usize {
        let mut pages: Vec<usize> = addresses.iter().flat_map(|&a| [a, a + size / 2, a + size - 1]).collect();
        pages.iter_mut().for_each(|page| *page &= !4095);
        pages.sort_unstable();
        pages.dedup();
        pages.iter().filter(|&&page| resident(std::ptr::with_exposed_provenance(page), 1) == 1).count()
    };
    let full = in_memory();
    let (mut kept, mut freed) = (Vec::new(), Vec::new());
    blocks.into_iter().enumerate().for_each(|(i, b)| if i % 10 == 0 { kept.push(b) } else { freed.push(b) });
    freed.into_iter().for_each(Block::free);
    raw::trim();
    let rest = in_memory();
    // A live block of 6000 bytes touches two pages or three.
    assert!(rest <= kept.len() * 3 && rest * 3 < full, "{rest} of {full} pages");
    // What is allocated there again is whole, and so is what was live all along.
    let again: Vec<Block> = (0..4000).map(|i| Block::new(raw::malloc(size), size, !(i as u8))).collect();
    kept.into_iter().chain(again).for_each(Block::free);
}

#[test]
fn pages_of_free_blocks_go_back_in_time() {
    let _turn = turn();
    raw::trim();
    let size = 60_000;
    let blocks: Vec<Block> = (0..400).map(|_| Block::new(raw::malloc(size), size, 1)).collect();
    blocks.iter().for_each(|block| unsafe { block.ptr().write_bytes(1, size) });
    let addresses: Vec<*mut u8> = blocks.iter().map(Block::ptr).collect();
    // Whole pages in the middle of each block.
    let in_memory = || -> usize {
        addresses.iter().map(|at| resident(at.map_addr(|a| a.next_multiple_of(4096)), 48 << 10)).sum()
    };
    let full = in_memory();
    let mut kept = Vec::new();
    for (i, block) in blocks.into_iter().enumerate() {
        if i % 8 == 0 { kept.push(block) } else { unsafe { raw::free(block.ptr()) } }
    }
    let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
    // Two periods of a second, noticed when something else is allocated.
    while in_memory() > full / 3 {
        assert!(std::time::Instant::now() < end, "{} of {full} pages", in_memory());
        let others: Vec<Block> = (0..2000).map(|_| Block::new(raw::malloc(1000), 1000, 1)).collect();
        others.into_iter().for_each(Block::free);
    }
    kept.iter().for_each(|block| unsafe { raw::free(block.ptr()) });
}
