//! Those who walk the heaps while everybody works: statistics, and the check of all invariants.

use crate::explore::explore;
use crate::world::{free, join, let_time_pass, malloc, quietly, spawn};

const BIG: usize = 8192;

#[test]
fn whoever_walks_the_heaps_finds_them_whole() {
    explore(|| {
        let blocks: Vec<usize> = quietly(|| (0..8).map(|_| malloc(BIG)).collect());
        let mine = blocks[0];
        let walker = spawn(|| {
            terrace::check_invariants(false);
            let stats = terrace::raw::heap_stats();
            assert!(stats.live_blocks <= 10, "{} blocks of at most 10", stats.live_blocks);
        });
        let frees = spawn(move || free(mine));
        let more = malloc(BIG);
        let_time_pass();
        blocks[1..].iter().copied().for_each(free);
        terrace::raw::trim();
        free(more);
        join([walker, frees]);
    });
}

/// Extents pass from heap to heap under the statistics, which must not look at one heap's slabs with another's lock.
#[test]
fn an_extent_that_changes_hands_is_counted_under_its_owners_lock() {
    explore(|| {
        let lives = [(); 2].map(|()| {
            spawn(|| {
                let block = malloc(BIG);
                free(block);
            })
        });
        let stats = terrace::raw::heap_stats();
        assert!(stats.live_blocks <= 2, "{} blocks of at most 2", stats.live_blocks);
        join(lives);
    });
}
