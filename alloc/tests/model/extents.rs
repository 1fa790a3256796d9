//! Extents that pass from one life to the next while the tiering side looks at them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use crate::explore::explore;
use crate::world::{Thread, free, join, malloc, malloc_in, quietly, realloc, spawn};
use terrace::arena::{self, EXTENT_BYTES, ExtentView, Pool};

const BIG: usize = 8192;
const LARGE: usize = 300 << 10;

/// What is true of each life of an extent, by its birth: its pool, and every slice that was ever live in it.
#[derive(Clone, Default)]
struct Lives(Arc<Mutex<BTreeMap<u32, (Pool, u32)>>>);

impl Lives {
    /// Notes the extents of a live block of the present thread's, which cannot change meanwhile.
    fn note(&self, pool: Pool, block: usize, bytes: usize) {
        quietly(|| {
            for addr in (block..block + bytes).step_by(EXTENT_BYTES / 32) {
                let index = (addr - terrace::pagemap::window_base()) / EXTENT_BYTES;
                let view = arena::extent_view(index as u32).expect("a live block has extents");
                assert_eq!(view.pool, pool);
                assert_ne!(view.live >> (addr % EXTENT_BYTES / (EXTENT_BYTES / 32)) & 1, 0, "a live slice");
                let mut lives = self.0.lock().unwrap();
                let (known, live) = lives.entry(view.birth).or_insert((pool, 0));
                assert_eq!(*known, pool, "one birth, two pools");
                *live |= view.live;
            }
        });
    }

    /// Checks what somebody saw who looked without a lock: all of it belongs to the life whose birth it bears.
    fn check(&self, seen: &[ExtentView]) {
        let lives = self.0.lock().unwrap();
        for view in seen {
            let &(pool, live) = lives.get(&view.birth).expect("a life that nobody lived");
            assert_eq!(view.pool, pool, "the pool of another life");
            assert_eq!(view.live & !live, 0, "live slices of another life");
        }
    }
}

/// A thread that looks at every extent twice, and what it has seen.
fn look() -> (Thread, Arc<Mutex<Vec<ExtentView>>>) {
    let seen: Arc<Mutex<Vec<ExtentView>>> = Arc::default();
    let looked = seen.clone();
    let looks = spawn(move || {
        (0..2).for_each(|_| arena::for_each_extent(&mut |view| looked.lock().unwrap().push(view)));
    });
    (looks, seen)
}

/// Spans of two pools in turn, with few and with many live slices, at the same addresses.
#[test]
fn what_is_seen_of_an_extent_is_of_one_life() {
    explore(|| {
        let lives = Lives::default();
        let life = |pool: Pool, size: usize| {
            let lives = lives.clone();
            move || {
                let block = malloc_in(pool, size);
                lives.note(pool, block, size);
                free(block);
            }
        };
        let (first, second) = (life(Pool::Default, LARGE), life(Pool::Dram, 3 * LARGE));
        let (looks, seen) = look();
        let other = spawn(second);
        first();
        first();
        join([looks, other]);
        lives.check(&seen.lock().unwrap());
    });
}

/// Slabs and large spans in turn.
#[test]
fn an_extent_of_slabs_is_handed_on_whole() {
    explore(|| {
        let lives = Lives::default();
        let (looks, seen) = look();
        let span = {
            let lives = lives.clone();
            spawn(move || {
                let block = malloc_in(Pool::Cold, LARGE);
                lives.note(Pool::Cold, block, LARGE);
                free(block);
            })
        };
        let block = malloc(BIG);
        lives.note(Pool::Default, block, BIG);
        free(block);
        terrace::raw::trim();
        crate::world::end_thread();
        join([looks, span]);
        lives.check(&seen.lock().unwrap());
    });
}

/// A span that grows in place and shrinks again, with another thread after the extents it leaves.
#[test]
fn a_span_that_grows_and_shrinks_takes_nobodys_extents() {
    explore(|| {
        let lives = Lives::default();
        let (looks, seen) = look();
        let other = {
            let lives = lives.clone();
            spawn(move || {
                let block = malloc_in(Pool::Cold, LARGE);
                lives.note(Pool::Cold, block, LARGE);
                free(block);
            })
        };
        let block = malloc(LARGE);
        lives.note(Pool::Default, block, LARGE);
        let grown = realloc(block, EXTENT_BYTES + LARGE);
        lives.note(Pool::Default, grown, EXTENT_BYTES + LARGE);
        let shrunk = realloc(grown, LARGE);
        lives.note(Pool::Default, shrunk, LARGE);
        free(shrunk);
        join([looks, other]);
        lives.check(&seen.lock().unwrap());
    });
}
