//! Frees by other threads, while the owner allocates, drains, and destroys the slab.

use crate::explore::explore;
use crate::world::{free, join, malloc, quietly, spawn};

/// Eight blocks a slab, one word of bits.
const BIG: usize = 8192;
/// 128 blocks a slab, two words of bits.
const SMALL: usize = 512;

/// A full slab: the owner looks for free blocks while others free them, so that it is found full, drained, listed and allocated from.
#[test]
fn blocks_freed_by_others_are_found_by_an_owner_who_needs_them() {
    explore(|| {
        let blocks: Vec<usize> = quietly(|| (0..8).map(|_| malloc(BIG)).collect());
        let threads = [[0, 1], [2, 3]].map(|mine| mine.map(|i| blocks[i]));
        let threads = threads.map(|mine| spawn(move || mine.into_iter().for_each(free)));
        let first = malloc(BIG);
        free(blocks[4]);
        let second = malloc(BIG);
        let third = malloc(BIG);
        free(second);
        join(threads);
        let fourth = malloc(BIG);
        [first, third, fourth].into_iter().chain(blocks[5..].iter().copied()).for_each(free);
    });
}

/// The slab in use, from which the owner fetches what others have freed without draining the stack that it is on. What they announced
/// meanwhile counts later, and until then the slab stays, empty or not.
#[test]
fn what_the_owner_fetches_is_announced_afterwards() {
    explore(|| {
        let blocks: Vec<usize> = quietly(|| (0..8).map(|_| malloc(BIG)).collect());
        let threads = [[0, 1], [2, 3]].map(|mine| mine.map(|i| blocks[i]));
        let threads = threads.map(|mine| spawn(move || mine.into_iter().for_each(free)));
        quietly(|| blocks[4..].iter().copied().for_each(free));
        // More than the owner has: some are the others', or of another slab.
        let again: Vec<usize> = (0..6).map(|_| malloc(BIG)).collect();
        again.into_iter().for_each(free);
        terrace::raw::trim();
        let block = malloc(BIG);
        join(threads);
        free(block);
    });
}

/// A slab with few live blocks in two words: it becomes empty under the hands of those who free, and the owner destroys it.
#[test]
fn a_header_outlives_everybody_who_frees_into_it() {
    explore(|| {
        let blocks: Vec<usize> = quietly(|| (0..128).map(|_| malloc(SMALL)).collect());
        let kept = [0, 1, 64].map(|i| blocks[i]);
        quietly(|| blocks.into_iter().filter(|block| !kept.contains(block)).for_each(free));
        let threads = kept.map(|block| spawn(move || free(block)));
        terrace::raw::trim();
        let block = malloc(SMALL);
        free(block);
        terrace::raw::trim();
        join(threads);
    });
}

/// As above in a full slab, whose owner frees, too: what makes it empty may be anybody's free.
#[test]
fn the_last_free_may_be_anybodys() {
    explore(|| {
        let blocks: Vec<usize> = quietly(|| (0..8).map(|_| malloc(BIG)).collect());
        // Found full, and a second slab in use.
        let other = quietly(|| malloc(BIG));
        let threads = [0..3, 3..6].map(|mine| blocks[mine].to_vec());
        let threads = threads.map(|mine| spawn(move || mine.into_iter().for_each(free)));
        free(blocks[6]);
        terrace::raw::trim();
        free(blocks[7]);
        let block = malloc(BIG);
        terrace::raw::trim();
        free(block);
        free(other);
        join(threads);
    });
}

/// Two slabs wait to be drained, and the first is pushed again meanwhile.
#[test]
fn a_drain_loses_none_of_the_slabs_it_has_taken() {
    explore(|| {
        let small: Vec<usize> = quietly(|| (0..128).map(|_| malloc(SMALL)).collect());
        let (first, second, big) = (small[0], small[64], quietly(|| malloc(BIG)));
        quietly(|| small.into_iter().filter(|block| ![first, second].contains(block)).for_each(free));
        // The stack: the slab of small blocks above that of big ones.
        join([spawn(move || quietly(|| [big, first].into_iter().for_each(free)))]);
        let again = spawn(move || free(second));
        // A class without a slab: its refill drains.
        let block = malloc(64);
        free(block);
        join([again]);
    });
}

/// Two slabs, both found full, and nobody but strangers to free their blocks: what they push at once the owner must find, and list.
#[test]
fn slabs_that_only_others_free_into_are_found_by_their_owner() {
    explore(|| {
        let fill =
            |size: usize, blocks: usize| quietly(|| (0..blocks).map(|_| malloc(size)).collect::<Vec<_>>());
        // One block more than a slab has.
        let (big, half) = (fill(BIG, 9), fill(BIG / 2, 17));
        let threads = [&big, &half].map(|blocks| {
            let mine = [blocks[0], blocks[1]];
            spawn(move || mine.into_iter().for_each(free))
        });
        // Classes without a slab: their refill drains.
        let blocks = [64, 80, 96].map(malloc);
        join(threads);
        let rest: Vec<usize> = big[2..8].iter().chain(&half[2..16]).copied().collect();
        join([spawn(move || quietly(|| rest.into_iter().for_each(free)))]);
        blocks.into_iter().chain([big[8], half[16]]).for_each(free);
    });
}
