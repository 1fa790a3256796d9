//! Threads that end while others free their blocks, and threads that take over what they leave.

use crate::explore::explore;
use crate::world::{channel, free, join, malloc, quietly, spawn};

const BIG: usize = 8192;
/// Sixteen blocks a slab, a slab an extent: what makes a heap grow, and sweep before it does.
const HUGE: usize = 128 << 10;

/// A thread ends while two others free its blocks; one of them then takes its heap or makes one of its own, and a third trims.
#[test]
fn a_heap_that_is_left_is_taken_over_or_emptied_whoever_frees_into_it() {
    explore(|| {
        let (send, receive) = channel();
        let owner = spawn(move || {
            let blocks: [usize; 4] = quietly(|| std::array::from_fn(|_| malloc(BIG)));
            send.send(blocks);
            free(blocks[3]);
        });
        let blocks = receive.receive();
        let first = spawn(move || free(blocks[0]));
        let second = spawn(move || {
            free(blocks[1]);
            let block = malloc(BIG);
            free(block);
        });
        terrace::raw::trim();
        free(blocks[2]);
        terrace::raw::trim();
        join([owner, first, second]);
    });
}

/// Two heaps are left; three threads come and each needs one, while a fourth thread still frees into the old ones.
#[test]
fn a_heap_has_one_thread_at_a_time() {
    explore(|| {
        let blocks: Vec<usize> = (0..2)
            .map(|_| {
                let (send, receive) = channel();
                join([spawn(move || send.send(quietly(|| malloc(BIG))))]);
                receive.receive()
            })
            .collect();
        let takers = [(); 3].map(|()| {
            spawn(|| {
                let block = malloc(BIG);
                free(block);
            })
        });
        let frees = spawn(move || blocks.into_iter().for_each(free));
        join(takers.into_iter().chain([frees]));
    });
}

/// A thread whose heap grows sweeps what others left, without waiting for anybody, while a heap is left, freed into and taken over.
#[test]
fn a_heap_that_grows_sweeps_those_that_nobody_has() {
    explore(|| {
        let held: Vec<usize> = quietly(|| (0..16).map(|_| malloc(HUGE)).collect());
        let (send, receive) = channel();
        let owner = spawn(move || {
            let blocks: [usize; 2] = quietly(|| std::array::from_fn(|_| malloc(BIG)));
            send.send(blocks);
        });
        let [first, second] = receive.receive();
        let frees = spawn(move || free(first));
        let takes = spawn(move || {
            let block = malloc(BIG);
            free(second);
            free(block);
            // Holds the registry while it waits for heaps.
            terrace::raw::trim();
        });
        let more = malloc(HUGE);
        join([owner, frees, takes]);
        free(more);
        held.into_iter().for_each(free);
    });
}
