//! Other threads: they are handed blocks that the program's thread allocated, and free, resize or return them.

use super::block::Block;
use super::library::library;
use super::release::{self, Resized};
use std::sync::mpsc;
use std::thread::JoinHandle;

/// Blocks on their way to another thread, and what is to be done with them.
pub(crate) struct Load {
    pub(crate) blocks: Vec<Block>,
    pub(crate) seed: u64,
    /// Whether memory may be refused.
    pub(crate) short: bool,
}

impl Load {
    /// Does something with each block; what is still live.
    fn work(self) -> Vec<Block> {
        let mut random = self.seed | 1;
        let mut next = || {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            (random >> 16) as usize
        };
        let mut left = Vec::new();
        for block in self.blocks {
            match next() % 8 {
                0 => left.push(block),
                1 | 2 => {
                    let size = next() % [100, 3000, 60_000, 1 << 20][next() % 4];
                    // SAFETY: the block is live, and what it becomes is used instead.
                    let call = |at| unsafe { (library().realloc)(at, size) };
                    match release::resize(block, size, next() as u64, true, self.short, call) {
                        Resized::To(block) | Resized::Refused(block) => left.push(block),
                        Resized::Freed => {}
                    }
                }
                3 => {
                    let size = next() % 5000;
                    // SAFETY: no precondition.
                    let at = unsafe { (library().malloc)(size) };
                    assert!(self.short || !at.is_null());
                    if !at.is_null() {
                        left.push(Block::stamp(at, size, 1, next() as u64));
                    }
                    release::free(block, next());
                }
                _ => release::free(block, next()),
            }
        }
        // A thread gathers others' blocks that it frees, and they count as live until they go back. Counting gives this thread's back.
        // SAFETY: no precondition.
        unsafe { (library().terrace_test_live_blocks)() };
        left
    }
}

/// Loads under way.
#[derive(Default)]
pub(crate) struct Pending {
    threads: Vec<JoinHandle<Vec<Block>>>,
    /// Answers that the workers which outlive the program owe.
    owed: usize,
}

impl Pending {
    /// Gives the load to a thread that is made for it and ends with it.
    pub(crate) fn give_to_new_thread(&mut self, load: Load) {
        self.threads.push(std::thread::spawn(|| load.work()));
    }

    /// Gives the load to one of the threads that outlive the program.
    pub(crate) fn give_to_worker(&mut self, crew: &Crew, worker: usize, load: Load) {
        crew.loads[worker % crew.loads.len()].send(load).expect("the worker is there");
        self.owed += 1;
    }

    /// Waits for all of them; what is still live.
    pub(crate) fn wait(&mut self, crew: &Crew) -> Vec<Block> {
        let mut left = Vec::new();
        for thread in self.threads.drain(..) {
            left.extend(thread.join().expect("the thread's blocks were whole"));
        }
        for _ in 0..std::mem::take(&mut self.owed) {
            left.extend(crew.done.recv().expect("a worker answers").expect("the worker's blocks were whole"));
        }
        left
    }
}

/// Two threads that outlive programs, so that blocks go to heaps that have a past.
pub(crate) struct Crew {
    loads: Vec<mpsc::Sender<Load>>,
    done: mpsc::Receiver<Option<Vec<Block>>>,
}

impl Crew {
    pub(crate) fn new() -> Crew {
        let (answer, done) = mpsc::channel();
        let worker = || {
            let (load, loads) = mpsc::channel::<Load>();
            let answer = answer.clone();
            std::thread::spawn(move || {
                for load in loads {
                    let left = std::panic::catch_unwind(|| load.work()).ok();
                    if answer.send(left).is_err() {
                        break;
                    }
                }
            });
            load
        };
        Crew { loads: vec![worker(), worker()], done }
    }
}
