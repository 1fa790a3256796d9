//! Fork: the other threads are gone in the middle of a step, and what they had begun must be finished or undone.

use crate::explore::explore;
use crate::world::{self, free, join, malloc, quietly, spawn};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use terrace::model_driver::is_live;

const BIG: usize = 8192;

/// Two threads free blocks of the forking thread's and of each other's; in the child every block is live or free, and a slab whose blocks are
/// all free goes, though its last free was never announced.
#[test]
fn a_child_finishes_what_threads_that_are_gone_had_begun() {
    explore(|| {
        let blocks: Vec<usize> = quietly(|| (0..8).map(|_| malloc(BIG)).collect());
        // The next block that each thread has begun to free.
        let begun: Vec<Arc<AtomicUsize>> = (0..2).map(|_| Arc::new(AtomicUsize::new(0))).collect();
        for (thread, begun) in begun.iter().enumerate() {
            let (mine, begun) = (blocks[thread * 3..][..3].to_vec(), begun.clone());
            spawn(move || {
                for block in mine {
                    begun.fetch_add(1, Ordering::Relaxed);
                    free(block);
                }
            });
        }
        free(blocks[6]);
        world::fork();
        // What the others did not come to is live, and so are at most the two blocks that they had in hand.
        for (thread, begun) in begun.iter().enumerate() {
            let begun = begun.load(Ordering::Relaxed);
            for (i, &block) in blocks[thread * 3..][..3].iter().enumerate() {
                let live = quietly(|| is_live(world::at(block)));
                assert!(live || i < begun, "a block was freed that nobody freed");
                assert!(!live || i + 1 >= begun, "a block is lost that was freed before the fork");
                if i >= begun {
                    free(block);
                } else if live {
                    // Its thread was about to free it; so does the child.
                    world::wild_free(block);
                }
            }
        }
        // What the child's own threads do goes on from there.
        let last = blocks[7];
        join([spawn(move || free(last))]);
        let block = malloc(BIG);
        free(block);
    });
}

/// A slab found full, all of whose blocks strangers free, the last of them perhaps between announcing and pushing.
#[test]
fn a_child_lists_a_full_slab_whose_push_was_cut_short() {
    explore(|| {
        let blocks: Vec<usize> = quietly(|| (0..9).map(|_| malloc(BIG)).collect());
        for mine in [blocks[..1].to_vec(), blocks[1..8].to_vec()] {
            spawn(move || mine.into_iter().for_each(free));
        }
        shuttle::thread::yield_now();
        world::fork();
        for &block in &blocks[..8] {
            if quietly(|| is_live(world::at(block))) {
                // Whoever had it in hand or not: it is the child's to free.
                world::forget_if_known(block);
                world::wild_free(block);
            }
        }
        free(blocks[8]);
    });
}

/// The slab that a thread was freeing into is gone when the fork comes, and only its note of it is left.
#[test]
fn a_child_touches_no_slab_that_was_gone_before() {
    explore(|| {
        let block = quietly(|| malloc(BIG));
        spawn(move || free(block));
        terrace::raw::trim();
        world::fork();
        if quietly(|| is_live(world::at(block))) {
            world::forget_if_known(block);
            world::wild_free(block);
        }
    });
}
