//! One step of a random program over the plain functions, for the tests that need `--features invariants`.

#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "each block below is live and owned by the step's caller"
)]

use super::blocks::{Block, Random};
use terrace::raw;

/// One step of a program: allocate, resize, free, in any pool. With `short`, memory may be refused; how often it was.
pub(crate) fn step(random: &mut Random, live: &mut Vec<Block>, short: bool) -> usize {
    let got = |at: *mut u8, size: usize, seed: u64| {
        assert!(short || !at.is_null(), "{size} bytes refused");
        (!at.is_null()).then(|| Block::new(at, size, seed as u8))
    };
    let seed = random.next();
    let made = match random.next() % 16 {
        0..=5 => {
            let size = random.size();
            // One of a few allocation sites, which the heap may be told to keep apart.
            let site = 16 << (random.next() % 12);
            let at = match raw::malloc_fast(size) {
                Some(block) => block.as_ptr(),
                None if size <= raw::FAST_MAX => raw::malloc_more(size, site),
                None => raw::malloc(size),
            };
            got(at, size, seed)
        }
        6 => {
            let size = random.size();
            let at = raw::calloc(1, size);
            let zero = at.is_null() || (0..size).step_by(61).all(|i| unsafe { at.add(i).read() } == 0);
            assert!(zero, "calloc of {size} is zero");
            got(at, size, seed)
        }
        7 => {
            let (size, align) = (random.size(), 1usize << (random.next() % 23));
            let at = raw::memalign(align, size);
            assert!(at.addr().is_multiple_of(align));
            got(at, size, seed)
        }
        8 => {
            let (size, pool) = (random.size(), terrace::arena::Pool::ALL[random.next() as usize % 5]);
            got(raw::malloc_in(pool, size, 16, false), size, seed)
        }
        9 | 10 if !live.is_empty() => return resize(random, live, short),
        _ if !live.is_empty() => {
            let i = random.next() as usize % live.len();
            live.swap_remove(i).free();
            return 0;
        }
        _ => return 0,
    };
    live.extend(made);
    usize::from(made.is_none())
}

fn resize(random: &mut Random, live: &mut [Block], short: bool) -> usize {
    let i = random.next() as usize % live.len();
    let (old, size) = (live[i], random.size().max(1));
    let usable = unsafe { raw::usable_size(old.ptr()) };
    assert!(usable >= old.size());
    old.check();
    let at = unsafe { raw::realloc(old.ptr(), size) };
    if at.is_null() {
        assert!(short && size > usable, "{usable} bytes not shrunk to {size}");
        old.check();
        return 1;
    }
    old.check_prefix_at(at, size);
    live[i] = Block::new(at, size, random.next() as u8);
    0
}
