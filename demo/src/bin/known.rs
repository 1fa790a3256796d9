//! `terrace-demo-known`: a Rust program on [`Terrace`] as its global allocator whose accesses are known exactly.
//!
//! The Rust twin of `demo/workloads/known.c`, which documents the protocol; here all objects have one size, a page,
//! and half of the accesses write. Usage: `terrace-demo-known MIB MAPFILE`.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, BufRead};
use std::sync::mpsc::{self, TryRecvError};

use parking_lot::Mutex;
use terrace::Terrace;
use terrace_demo::keyspace::mix;

#[global_allocator]
static GLOBAL: Terrace = Terrace;

/// Words of an object: a page.
const WORDS: usize = 512;

/// Objects at most.
const MOST: usize = 1 << 17;

/// Entries that an access picks from, uniformly.
const TABLE: usize = 1 << 20;

/// Neighbours that are hot or cold together.
const BLOCK: usize = 256;

/// Share of the objects that is hot, and of the accesses that go there.
const HOT: f64 = 0.2;
const HOT_ACCESSES: f64 = 0.9;

type Object = Box<[u64; WORDS]>;

/// The program's own tables lie outside the heap, so that the heap holds the objects and nothing else.
struct Program {
    objects: [Option<Object>; MOST],
    /// Increments made to each object.
    added: [u64; MOST],
    table: [u32; TABLE],
    count: usize,
    random: u64,
    kept: u64,
}

static PROGRAM: Mutex<Program> = Mutex::new(Program {
    objects: [const { None }; MOST],
    added: [0; MOST],
    table: [0; TABLE],
    count: 0,
    random: 1,
    kept: 0,
});

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, mib, map] = arguments.as_slice() else {
        return Err(io::Error::other("usage: terrace-demo-known MIB MAPFILE"));
    };
    let count = mib.parse::<usize>().map_err(io::Error::other)? * 256 / BLOCK * BLOCK;
    if !(BLOCK..=MOST).contains(&count) {
        return Err(io::Error::other("between 1 and 512 MiB"));
    }
    let mut program = PROGRAM.lock();
    program.count = count;
    program.objects.iter_mut().take(count).enumerate().for_each(|(i, place)| *place = Some(object(i)));
    program.table.iter_mut().enumerate().for_each(|(entry, i)| *i = (entry % count) as u32);
    println!("ready");

    let (sender, commands) = mpsc::channel();
    std::thread::spawn(move || {
        io::stdin().lock().lines().map_while(Result::ok).all(|l| sender.send(l).is_ok())
    });
    loop {
        program.go(10_000);
        let command = match commands.try_recv() {
            Ok(command) => command,
            Err(TryRecvError::Empty) => continue,
            Err(TryRecvError::Disconnected) => return Err(io::Error::other("the judge is gone")),
        };
        match command.split_once(' ') {
            Some(("next", distribution)) => {
                fs::write(map, program.distribute(distribution == "zipf"))?;
                println!("map");
            }
            Some(("measure", accesses)) => {
                let accesses = accesses.parse().map_err(io::Error::other)?;
                lab::marks::mark::<1>();
                program.go(accesses);
                lab::marks::mark::<2>();
                println!("measured");
            }
            _ => {
                program.verify();
                return Ok(());
            }
        }
    }
}

/// Object number `i`, freshly filled.
fn object(i: usize) -> Object {
    let mut object = Box::new([0; WORDS]);
    object.iter_mut().enumerate().for_each(|(w, word)| *word = pattern(i, w));
    object
}

fn pattern(i: usize, w: usize) -> u64 {
    mix((i * WORDS + w) as u64)
}

impl Program {
    fn object(&self, i: usize) -> &Object {
        self.objects[i].as_ref().expect("every object below `count` is made at the start")
    }

    fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.random)
    }

    /// Begins a new distribution over blocks in a new order; returns its map.
    fn distribute(&mut self, zipf: bool) -> String {
        let count = self.count;
        let mut blocks: Vec<usize> = (0..count / BLOCK).collect();
        for last in (1..blocks.len()).rev() {
            blocks.swap(last, (self.draw() % (last as u64 + 1)) as usize);
        }
        let ranked = blocks.iter().flat_map(|b| b * BLOCK..(b + 1) * BLOCK);
        let hot = (count as f64 * HOT) as usize;
        let weight = |rank: usize| match zipf {
            true => ((rank + 1) as f64).powf(-0.99),
            false if rank < hot => HOT_ACCESSES / hot as f64 + (1.0 - HOT_ACCESSES) / count as f64,
            false => (1.0 - HOT_ACCESSES) / count as f64,
        };
        let sum: f64 = (0..count).map(weight).sum();
        let (mut so_far, mut filled) = (0.0, 0);
        let mut map = String::new();
        for (rank, i) in ranked.enumerate() {
            so_far += weight(rank);
            let end = if rank + 1 == count { TABLE } else { (so_far / sum * TABLE as f64) as usize };
            self.table[filled..end].fill(i as u32);
            let address = self.object(i).as_ptr() as usize;
            writeln!(map, "{address} {} {}", WORDS * 8, end - filled).expect("writing to a String");
            filled = end;
        }
        map
    }

    fn go(&mut self, accesses: u64) {
        for _ in 0..accesses {
            let random = self.draw();
            let i = self.table[random as usize % TABLE] as usize;
            let Some(object) = &mut self.objects[i] else { continue };
            let word = &mut object[(random >> 20) as usize % WORDS];
            if random >> 63 == 0 {
                *word = word.wrapping_add(1);
                self.added[i] += 1;
            } else {
                self.kept = self.kept.wrapping_add(*word);
            }
        }
        std::hint::black_box(self.kept);
    }

    fn verify(&self) {
        let good = |i: &usize| {
            let sum = self.object(*i).iter().fold(0u64, |sum, word| sum.wrapping_add(*word));
            let expected = (0..WORDS).fold(self.added[*i], |sum, w| sum.wrapping_add(pattern(*i, w)));
            sum == expected
        };
        let good = (0..self.count).filter(good).count();
        println!("verified {good} {}", self.count - good);
    }
}
