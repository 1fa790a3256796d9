//! One block freed twice at once: a bug of the program, that must end it, and once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::explore::explore;
use crate::world::{dies, end_thread, forget, free, join, malloc, quietly, spawn, wild_free, write_off};

const BIG: usize = 8192;
/// What a stranger frees of such blocks goes back with its neighbours, here when the thread ends.
const SMALL: usize = 512;
const LARGE: usize = 300 << 10;

/// Frees `block` in two threads at once; how often that was found out.
fn twice(block: usize) -> usize {
    forget(block);
    let deaths = Arc::new(AtomicUsize::new(0));
    let threads = [(); 2].map(|()| {
        let deaths = deaths.clone();
        spawn(move || {
            deaths.fetch_add(usize::from(dies(|| wild_free(block))), Ordering::Relaxed);
        })
    });
    join(threads);
    deaths.load(Ordering::Relaxed)
}

fn trim() {
    terrace::raw::trim();
}

/// Neither of the two owns the slab, which another block keeps.
#[test]
fn of_two_strangers_who_free_one_block_one_dies() {
    explore(|| {
        let (kept, block) = quietly(|| (malloc(BIG), malloc(BIG)));
        assert_eq!(twice(block), 1);
        free(kept);
    });
}

/// One of the two is the owner. If neither saw the other's bit, the owner finds both when it collects.
#[test]
fn of_owner_and_stranger_who_free_one_block_one_dies_or_the_owner_does_later() {
    explore(|| {
        let (kept, block) = quietly(|| (malloc(BIG), malloc(BIG)));
        forget(block);
        let deaths = Arc::new(AtomicUsize::new(0));
        let strange = deaths.clone();
        let stranger = spawn(move || {
            strange.fetch_add(usize::from(dies(|| wild_free(block))), Ordering::Relaxed);
        });
        let own = usize::from(dies(|| wild_free(block)));
        let mut late = usize::from(dies(trim));
        join([stranger]);
        late += usize::from(dies(trim));
        assert_eq!(own + late + deaths.load(Ordering::Relaxed), 1);
        if late > 0 {
            write_off();
        }
        free(kept);
    });
}

/// Neither stranger knows what the other has gathered: of two that free one block, each after a neighbour, the later to give back dies.
#[test]
fn of_two_strangers_who_gather_one_block_one_dies() {
    explore(|| {
        let [kept, first, second, block] = quietly(|| [(); 4].map(|()| malloc(SMALL)));
        forget(block);
        let deaths = Arc::new(AtomicUsize::new(0));
        let threads = [first, second].map(|neighbour| {
            let deaths = deaths.clone();
            spawn(move || {
                let died = dies(|| {
                    free(neighbour);
                    wild_free(block);
                    end_thread();
                });
                deaths.fetch_add(usize::from(died), Ordering::Relaxed);
            })
        });
        join(threads);
        assert_eq!(deaths.load(Ordering::Relaxed), 1);
        // The one that died has a heap.
        write_off();
        free(kept);
    });
}

/// The owner frees a block while a stranger has one of the same word in hand, and therefore does not look at each: it looks when these go back.
#[test]
fn of_owner_and_stranger_who_gathers_one_dies_or_the_owner_does_later() {
    explore(|| {
        let [kept, neighbour, block] = quietly(|| [(); 3].map(|()| malloc(SMALL)));
        forget(block);
        let deaths = Arc::new(AtomicUsize::new(0));
        let strange = deaths.clone();
        let stranger = spawn(move || {
            let died = dies(|| {
                free(neighbour);
                wild_free(block);
                end_thread();
            });
            strange.fetch_add(usize::from(died), Ordering::Relaxed);
        });
        let own = usize::from(dies(|| wild_free(block)));
        let mut late = usize::from(dies(trim));
        join([stranger]);
        late += usize::from(dies(trim));
        assert_eq!(own + late + deaths.load(Ordering::Relaxed), 1);
        write_off();
        free(kept);
    });
}

/// A large span: its page map entry is what only one can take.
#[test]
fn of_two_who_free_one_large_span_one_dies() {
    explore(|| {
        let (kept, block) = quietly(|| (malloc(LARGE), malloc(LARGE)));
        assert_eq!(twice(block), 1);
        free(kept);
    });
}
