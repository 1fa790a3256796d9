//! Tests of the pools of metadata blocks.

use super::*;
use std::collections::BTreeMap;

type Headers = Pool<64>;
type Rust = Pool<128>;

fn addr_of(block: Option<Block>) -> usize {
    block.expect("memory").at.addr().get()
}

/// Gives a block back by its address.
fn give<const GRAIN: usize>(pool: &mut Pool<GRAIN>, at: usize, bytes: usize) {
    // SAFETY: each test gives back what it took, with the same size, and uses it no more.
    unsafe { pool.give(NonNull::new(ptr::with_exposed_provenance_mut(at)).unwrap(), bytes, 0) };
}

fn fill(at: usize, bytes: usize, byte: u8) {
    // SAFETY: the block is the test's and that long.
    unsafe { ptr::with_exposed_provenance_mut::<u8>(at).write_bytes(byte, bytes) };
}

fn holds(at: usize, bytes: usize, byte: u8) -> bool {
    // SAFETY: as for `fill`; it was written, or is fresh.
    let block = unsafe { core::slice::from_raw_parts(ptr::with_exposed_provenance::<u8>(at), bytes) };
    block.iter().all(|&found| found == byte)
}

/// How many of the pages that `[at, at + bytes)` lies on are in memory.
fn resident(at: usize, bytes: usize) -> usize {
    let page = mm::page_bytes();
    let first = at & !(page - 1);
    let mut pages = vec![0u8; (at + bytes - first).div_ceil(page)];
    // SAFETY: mincore only reports on mappings; the vector has a byte for each page asked about.
    let answer = unsafe {
        let start = ptr::with_exposed_provenance_mut(first);
        libc::mincore(start, pages.len() * page, pages.as_mut_ptr())
    };
    assert_eq!(answer, 0);
    pages.iter().filter(|&&page| page & 1 == 1).count()
}

#[test]
fn a_block_given_back_is_taken_again_by_what_fits() {
    let mut pool = Headers::new(None);
    let (first, second) = (addr_of(pool.take(700, 0)), addr_of(pool.take(64, 0)));
    give(&mut pool, first, 700);
    assert_eq!(addr_of(pool.take(704, 0)), first);
    give(&mut pool, first, 704);
    // In parts, too, lowest first.
    assert_eq!(addr_of(pool.take(64, 0)), first);
    assert_eq!(addr_of(pool.take(640, 0)), first + 64);
    give(&mut pool, first, 64);
    give(&mut pool, second, 64);
    assert_eq!(addr_of(pool.take(128, 0)), second, "where two are free side by side");
}

#[test]
fn stripes_share_no_page_while_there_is_room_and_then_leave_none_unused() {
    let mut pool = Headers::new(None);
    // 4 KiB, a word of grains.
    let page = |at: usize| at / Headers::WORD_BYTES;
    let mut own = [0, 1, STRIPES - 1].map(|stripe| (stripe, Vec::new()));
    for _ in 0..100 {
        own.iter_mut().for_each(|(stripe, blocks)| blocks.push(addr_of(pool.take(448, *stripe))));
    }
    for (stripe, blocks) in &own {
        let others = own.iter().filter(|other| other.0 != *stripe).flat_map(|other| &other.1);
        assert!(
            others.clone().count() == 200
                && others.clone().all(|&at| blocks.iter().all(|&b| page(b) != page(at)))
        );
        assert_eq!(page(blocks[99]) - page(blocks[0]), 99 / (64 / 7), "side by side");
    }
    let again = own[1].1[40];
    // SAFETY: it was taken with this size and stripe.
    unsafe { pool.give(NonNull::new(ptr::with_exposed_provenance_mut(again)).unwrap(), 448, 1) };
    assert_eq!(addr_of(pool.take(448, 1)), again);
    while pool.first == pool.last {
        pool.take(448, 5).expect("memory");
    }
    assert_eq!(chunk_at(pool.first).unwrap().fit(0, 7), None, "all of a chunk, before another is opened");
}

#[test]
fn runs_of_bits_are_found_lowest_first() {
    assert_eq!(run_of(0b0111_0110, 2), Some(1));
    assert_eq!(run_of(0b0111_0110, 3), Some(4));
    assert_eq!(run_of(0b0111_0110, 4), None);
    assert_eq!(run_of(u64::MAX, 64), Some(0));
    assert_eq!(run_of(u64::MAX - 1, 64), None);
    assert_eq!(run_of(u64::MAX - 1, 63), Some(1));
    assert_eq!(run_around(0b0111_0110, 5), 3);
    assert_eq!(run_around(u64::MAX, 7), 64);
    assert_eq!(run_around(1 << 63, 63), 1);
    assert_eq!(mask(3, 2), 0b11000);
    assert_eq!(mask(0, 64), u64::MAX);
}

/// Takes and gives at random beside a plain map of what is taken.
fn at_random<const GRAIN: usize>(seed: u64, steps: usize, sizes: &[usize]) {
    let mut pool = Pool::<GRAIN>::new(None);
    let mut taken = BTreeMap::<usize, (usize, u8)>::new();
    let mut state = seed;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    for step in 0..steps {
        // Grows, shrinks, and grows again.
        let grows = (step * 5 / steps).is_multiple_of(2);
        if taken.is_empty() || random(10) < if grows { 6 } else { 4 } {
            let most = sizes[random(sizes.len())];
            let bytes = 1 + random(most);
            let block = pool.take(bytes, 0).expect("memory");
            let at = addr_of(Some(block));
            assert!(at.is_multiple_of(GRAIN));
            let before = taken.range(..at + bytes).next_back();
            assert!(before.is_none_or(|(start, (len, _))| start + len <= at), "two blocks overlap");
            assert!(!block.fresh || holds(at, bytes, 0), "a fresh block is zero");
            fill(at, bytes, step as u8 | 1);
            taken.insert(at, (bytes, step as u8 | 1));
        } else {
            let (&at, &(bytes, byte)) = taken.iter().nth(random(taken.len())).unwrap();
            assert!(holds(at, bytes, byte), "somebody else wrote to a block");
            taken.remove(&at);
            give(&mut pool, at, bytes);
        }
        if random(steps / 20) == 0 {
            pool.purge(random(2) == 0);
        }
    }
    for (at, (bytes, byte)) in core::mem::take(&mut taken) {
        assert!(holds(at, bytes, byte));
        give(&mut pool, at, bytes);
    }
    // Everything is free again: what fits at the very start goes there.
    let first = chunk_at(pool.first).unwrap();
    assert_eq!(first.used[0], mask(0, Pool::<GRAIN>::HEAD));
    assert!(first.used[1..].iter().all(|&word| word == 0));
    assert_eq!(addr_of(pool.take(GRAIN, 0)), pool.first + Pool::<GRAIN>::HEAD * GRAIN);
}

#[test]
fn blocks_of_random_sizes_never_overlap_and_all_come_back() {
    at_random::<64>(1, 40_000, &[64, 256, 1200]);
    at_random::<64>(2, 20_000, &[64, 700, 4096, 6000, 20_000]);
    at_random::<64>(3, 2000, &[64, LARGEST]);
    at_random::<128>(4, 20_000, &[128, 3000, 12_000]);
}

#[test]
fn a_search_begins_no_later_than_where_something_fits() {
    let mut pool = Headers::new(None);
    let blocks: Vec<usize> = (0..20_000).map(|_| addr_of(pool.take(64, 0))).collect();
    assert!(chunk_at(pool.first).unwrap().next != 0, "more than one chunk");
    for count in [1, 2, 40, 64] {
        // A hole of so many, early on, after the search for it has gone to the end.
        addr_of(pool.take(count * 64, 0));
        let start = blocks.iter().position(|at| at.is_multiple_of(4096)).unwrap();
        blocks[start..start + count].iter().for_each(|&at| give(&mut pool, at, 64));
        assert_eq!(addr_of(pool.take(count * 64, 0)), blocks[start], "{count} grains");
        give(&mut pool, blocks[start], count * 64);
        blocks[start..start + count].iter().for_each(|&at| assert_eq!(addr_of(pool.take(64, 0)), at));
    }
}

#[test]
fn long_blocks_lie_across_words() {
    let mut pool = Headers::new(None);
    let long: Vec<usize> = (0..10).map(|_| addr_of(pool.take(5700, 0))).collect();
    assert!(long.windows(2).all(|pair| pair[1] - pair[0] >= 5700));
    assert!(long.iter().all(|at| at.is_multiple_of(4096)));
    let between = addr_of(pool.take(300, 0));
    give(&mut pool, long[4], 5700);
    give(&mut pool, long[5], 5700);
    assert_eq!(addr_of(pool.take(14_000, 0)), long[4], "where two were, and what was left behind them");
    assert_eq!(between & !(CHUNK - 1), long[0] & !(CHUNK - 1));
    // To the end of the chunk, and no further.
    let whole: Vec<usize> = (0..5).map(|_| addr_of(pool.take(LARGEST, 0))).collect();
    assert!(whole.iter().all(|at| at % CHUNK + LARGEST <= CHUNK));
}

#[test]
fn pages_without_a_block_leave_memory_and_come_back_empty() {
    let mut pool = Headers::new(None);
    let bytes = 600;
    let blocks: Vec<usize> = (0..900).map(|_| addr_of(pool.take(bytes, 0))).collect();
    blocks.iter().for_each(|&at| fill(at, bytes, 0xa5));
    let (first, last) = (blocks[0], blocks[899]);
    let before = resident(first, last - first);
    assert_eq!(pool.purge(true), 0, "every page has a block");
    // All but the first hundred, and one that stays among the others.
    let kept = blocks[600];
    blocks[100..].iter().filter(|&&at| at != kept).for_each(|&at| give(&mut pool, at, bytes));
    assert_eq!(pool.purge(false), 0, "they may be wanted again at once");
    assert_eq!(resident(first, last - first), before);
    let again = addr_of(pool.take(bytes, 0));
    assert_eq!(again, blocks[100]);
    let gone = pool.purge(false);
    let page = mm::page_bytes();
    let expected = resident(first, last - first) + gone / page;
    // The last page of the range was only counted if it is still there.
    assert!((before..=before + 1).contains(&expected), "{before} pages, {expected} gone and left");
    assert!(resident(first, last - first) < before / 5 + 4);
    assert!(holds(kept, bytes, 0xa5) && holds(first, bytes, 0xa5));
    assert_eq!((pool.purge(true), pool.purge(false)), (0, 0), "once is enough");
    let back = pool.take(bytes, 0).unwrap();
    assert!(!back.fresh, "a stale pointer to it may exist");
    // In a page that went: nothing stands there.
    let far = blocks[300];
    assert!(holds(far & !(page - 1), page, 0));
}

#[test]
fn larger_pages_go_when_all_of_their_words_are_free() {
    for page in [16 << 10, 64 << 10].into_iter().filter(|&page| page >= mm::page_bytes()) {
        let mut pool = Headers::new(None);
        let blocks: Vec<usize> = (0..1000).map(|_| addr_of(pool.take(600, 0))).collect();
        blocks.iter().for_each(|&at| fill(at, 600, 0xa5));
        let first = pool.first;
        let kept = |at: usize| at - first < 2 * page || (at - first) / page == 5;
        blocks.iter().filter(|&&at| !kept(at) || at % 7 == 0).for_each(|&at| give(&mut pool, at, 600));
        let chunk = chunk_at(first).unwrap();
        assert_eq!(chunk.purge::<64>(first, page, false), (0, true));
        let (gone, _) = chunk.purge::<64>(first, page, false);
        let whole = |at: &usize| (0..page / 4096).all(|i| chunk.used[(at - first) / 4096 + i] == 0);
        let end = blocks[999] / page * page + page;
        let free: Vec<usize> = (first..end).step_by(page).filter(whole).collect();
        assert!(free.len() > 3 && gone == free.len() * page, "{gone} of {} pages of {page}", free.len());
        assert!(free.iter().all(|&at| holds(at, page, 0)));
        assert!(blocks.iter().filter(|&&at| kept(at) && at % 7 != 0).all(|&at| holds(at, 600, 0xa5)));
    }
}

#[test]
fn rust_blocks_leave_memory_too() {
    let mut pool = Rust::new(None);
    let blocks: Vec<usize> = (0..200).map(|_| addr_of(pool.take(3000, 0))).collect();
    blocks.iter().for_each(|&at| fill(at, 3000, 1));
    blocks.iter().for_each(|&at| give(&mut pool, at, 3000));
    assert!(pool.purge(true) > 200 * 3000 * 9 / 10);
    assert!(resident(blocks[0], blocks[199] - blocks[0]) <= 3 * 8192 / mm::page_bytes().min(8192));
}

#[test]
fn small_chunks_and_the_reserve_serve_where_chunks_cannot_be_had() {
    static STATIC: Reserve = Reserve(UnsafeCell::new([0; RESERVE]));
    let mut pool = Rust::new(None);
    pool.open_small(STATIC.0.get().expose_provenance(), RESERVE);
    let map = mm::map(16 * mm::page_bytes(), Access::ReadWrite).unwrap();
    pool.open_small(map, 16 * mm::page_bytes());
    let inside = |at: usize| {
        [(map, 16 * mm::page_bytes()), (STATIC.0.get().addr(), RESERVE)]
            .iter()
            .position(|&(base, bytes)| at.wrapping_sub(base) < bytes)
    };
    let mut taken = Vec::new();
    while let Some(block) = pool.take_small(18) {
        let at = addr_of(Some(block));
        fill(at, 18 * 128, 7);
        taken.push(at);
    }
    assert!(taken.len() > 40 && taken.iter().all(|&at| inside(at).is_some()));
    assert_eq!(taken.iter().filter(|&&at| inside(at) == Some(1)).count(), 2 + 7 * 3);
    taken.iter().for_each(|&at| give(&mut pool, at, 18 * 128));
    let mut again = Vec::new();
    while let Some(block) = pool.take_small(18) {
        again.push(addr_of(Some(block)));
    }
    assert_eq!(taken, again);
    // A block that they have no room for is elsewhere, and theirs come first again once there is room.
    let other = addr_of(pool.take(18 * 128, 0));
    assert_eq!(inside(other), None);
    give(&mut pool, taken[3], 18 * 128);
    assert_eq!(addr_of(pool.take(18 * 128, 0)), taken[3]);
    assert_eq!(pool.purge(true), 0, "their pages stay");
}

/// First address, end and access of the mappings of this process.
fn mappings() -> Vec<(usize, usize, String)> {
    let hex = |text: &str| usize::from_str_radix(text, 16).unwrap();
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines()
        .map(|line| {
            let (range, rest) = line.split_once(' ').unwrap();
            let (start, end) = range.split_once('-').unwrap();
            (hex(start), hex(end), rest[..4].to_owned())
        })
        .collect()
}

#[test]
fn metadata_lies_between_inaccessible_pages() {
    let mut pool = Headers::new(None);
    // Through several chunks, and into a second area; and mappings of their own.
    let mut blocks: Vec<usize> = (0..30).map(|_| addr_of(pool.take(LARGEST, 0))).collect();
    blocks.extend((0..3).map(|_| addr_of(pool.take(LARGEST + 1, 0))));
    let maps = mappings();
    for block in blocks {
        let at = maps.iter().position(|(start, end, _)| (*start..*end).contains(&block)).unwrap();
        let (start, end, access) = &maps[at];
        assert_eq!(access, "rw-p");
        assert!(maps[at - 1].1 == *start && maps[at - 1].2 == "---p", "before {block:#x}");
        assert!(maps[at + 1].0 == *end && maps[at + 1].2 == "---p", "behind {block:#x}");
    }
}
