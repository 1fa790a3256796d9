//! What hardened mode promises beyond the normal one, seen from outside.

#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "each block below is live and owned by the test that touches it"
)]

#[path = "support/hardened.rs"]
mod hardened;

use std::collections::BTreeSet;
use terrace::raw;

fn in_window(block: *mut u8) -> bool {
    let (base, bytes) = (terrace::pagemap::window_base(), terrace::pagemap::window_bytes());
    block.addr().wrapping_sub(base) < bytes
}

#[test]
fn places_are_not_in_order_and_not_the_same_twice() {
    // Blocks of a size nothing else here uses.
    let take =
        || -> Vec<*mut u8> { (0..64).map(|_| raw::malloc(1700)).filter(|&at| in_window(at)).collect() };
    let (first, second) = (take(), take());
    for blocks in [&first, &second] {
        let steps: BTreeSet<isize> =
            blocks.windows(2).map(|pair| pair[1].addr().wrapping_sub(pair[0].addr()).cast_signed()).collect();
        assert!(steps.len() > 8, "{steps:?}");
    }
    first.into_iter().chain(second).for_each(|block| unsafe { raw::free(block) });
}

#[test]
fn what_was_freed_is_not_handed_out_again_soon() {
    let block = raw::malloc(1300);
    unsafe { raw::free(block) };
    for _ in 0..500 {
        let other = raw::malloc(1300);
        assert_ne!(other, block);
        unsafe { raw::free(other) };
    }
}

#[test]
fn the_quarantine_is_bounded() {
    // 1 MiB in quarantine, and what the slabs of the class have beyond that.
    let before = raw::heap_stats().slab_bytes;
    for _ in 0..20_000 {
        unsafe { raw::free(raw::malloc(9000)) };
    }
    let grown = raw::heap_stats().slab_bytes.saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes for one live block of 9000");
}

#[test]
fn usable_is_what_was_asked_for() {
    for size in
        [0, 1, 15, 16, 17, 100, 128, 200, 255, 256, 257, 1000, 4096, 5000, 40_000, (256 << 10) - 1, 256 << 10]
    {
        for _ in 0..100 {
            let block = raw::malloc(size);
            assert_eq!(unsafe { raw::usable_size(block) }, size);
            unsafe {
                block.write_bytes(0xff, size);
                raw::free(block);
            }
        }
    }
}

#[test]
fn blocks_are_zero_or_fresh_and_resized_in_place_within_their_class() {
    for round in 0..200 {
        let block = raw::malloc(900);
        assert!((0..900).all(|i| unsafe { block.add(i).read() } == 0) || !in_window(block));
        unsafe { block.write_bytes(round as u8 | 1, 900) };
        let resized = unsafe { raw::realloc(block, 800) };
        assert!(resized == block || !in_window(block));
        let resized = unsafe { raw::realloc(resized, 890) };
        assert!((0..800).all(|i| unsafe { resized.add(i).read() } == round as u8 | 1));
        unsafe { raw::free(resized) };
    }
}

#[test]
fn guarded_blocks_are_memory_of_the_heap_like_any_other() {
    let mut guarded = 0;
    for _ in 0..5000 {
        let block = raw::malloc(100);
        if !in_window(block) {
            guarded += 1;
            assert!(raw::owns(block) && raw::owns(block.wrapping_add(99)));
            unsafe { block.write_bytes(1, 100) };
            terrace::advise(block, 100, terrace::Hint::HOT).unwrap();
            let larger = unsafe { raw::realloc(block, 5000) };
            assert!((0..100).all(|i| unsafe { larger.add(i).read() } == 1));
            assert!(!raw::owns(block), "freed, and no longer the heap's");
            unsafe { raw::free(larger) };
        } else {
            unsafe { raw::free(block) };
        }
    }
    assert!(guarded > 20 && guarded < 500, "{guarded} of 5000 guarded, 100 on average");
}

#[test]
fn a_forked_child_makes_choices_of_its_own() {
    let mut ends = [0; 2];
    assert_eq!(unsafe { libc::pipe(ends.as_mut_ptr()) }, 0);
    let places = || -> [usize; 16] {
        core::array::from_fn(|_| {
            let block = raw::malloc(2300);
            block.addr()
        })
    };
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let mine = places();
        let bytes = size_of_val(&mine);
        let written = unsafe { libc::write(ends[1], mine.as_ptr().cast(), bytes) };
        unsafe { libc::_exit(i32::from(written != bytes as isize)) };
    }
    let mine = places();
    let (mut theirs, mut status) = ([0usize; 16], 0);
    let bytes = size_of_val(&theirs);
    assert_eq!(unsafe { libc::read(ends[0], theirs.as_mut_ptr().cast(), bytes) }, bytes as isize);
    assert!(unsafe { libc::waitpid(pid, &raw mut status, 0) } == pid && status == 0);
    assert_ne!(mine, theirs);
    mine.into_iter().for_each(|at| unsafe { raw::free(std::ptr::with_exposed_provenance_mut(at)) });
}
