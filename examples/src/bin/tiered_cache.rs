//! A cache with two levels on one heap: what was used lately in DRAM, the rest in device memory, explicitly.
//!
//!     cargo run --release -p terrace-examples --bin tiered_cache -- [ENTRIES [LOOKUPS]]
//!
//! Terrace is the program's allocator, so everything it allocates is tiered by heat without further ado. This program
//! knows more than heat can: an entry that leaves the recently-used set is not needed soon. It therefore puts such
//! entries on the device itself, through an allocator bound to the hint `DEVICE`, and takes them back when they are
//! asked for. On a machine without a device node the hint falls back to DRAM and all of this is a plain cache; a
//! *strict* hint fails instead, which is how a program finds out.

use std::collections::{HashMap, VecDeque};

use allocator_api2::vec::Vec as VecIn;
use terrace::{Hint, Terrace, TierAlloc, node_of};

#[global_allocator]
static GLOBAL: Terrace = Terrace;

/// A value on the device, or on what stands in for one.
type Parked = VecIn<u8, TierAlloc>;

enum Level {
    /// In the ordinary heap.
    Recent(Vec<u8>),
    /// In device memory.
    Parked(Parked),
}

/// A map that keeps its last `capacity` used values in DRAM and parks the others.
struct Cache {
    values: HashMap<u64, Level>,
    /// Keys in DRAM, in the order in which they came there.
    recent: VecDeque<u64>,
    capacity: usize,
    device: TierAlloc,
    recent_hits: u64,
    parked_hits: u64,
}

impl Cache {
    fn new(capacity: usize) -> Self {
        Self {
            values: HashMap::new(),
            recent: VecDeque::new(),
            capacity,
            device: Terrace::tier(Hint::DEVICE),
            recent_hits: 0,
            parked_hits: 0,
        }
    }

    fn insert(&mut self, key: u64, value: Vec<u8>) {
        self.values.insert(key, Level::Recent(value));
        self.came_to_dram(key);
    }

    /// The value of `key`, which is recent from now on.
    fn get(&mut self, key: u64) -> Option<&[u8]> {
        let level = self.values.get_mut(&key)?;
        if let Level::Parked(parked) = level {
            self.parked_hits += 1;
            *level = Level::Recent(parked.to_vec());
            self.came_to_dram(key);
        } else {
            self.recent_hits += 1;
        }
        match self.values.get(&key)? {
            Level::Recent(value) => Some(value),
            Level::Parked(value) => Some(value),
        }
    }

    /// Parks what has been in DRAM longest if `key` is one too many.
    fn came_to_dram(&mut self, key: u64) {
        self.recent.push_back(key);
        if self.recent.len() <= self.capacity {
            return;
        }
        let Some(oldest) = self.recent.pop_front() else { return };
        if let Some(level) = self.values.get_mut(&oldest)
            && let Level::Recent(value) = level
        {
            let mut parked = Parked::with_capacity_in(value.len(), self.device);
            parked.extend_from_slice(value);
            *level = Level::Parked(parked);
        }
    }

    /// How many parked values are on which NUMA node, by asking the kernel about each one's first page.
    fn parked_by_node(&self) -> Vec<(u32, usize)> {
        let mut nodes: HashMap<u32, usize> = HashMap::new();
        for level in self.values.values() {
            if let Level::Parked(parked) = level
                && let Some(node) = node_of(parked.as_ptr())
            {
                *nodes.entry(node).or_default() += 1;
            }
        }
        let mut nodes: Vec<_> = nodes.into_iter().collect();
        nodes.sort_unstable();
        nodes
    }
}

/// Vigna's splitmix64.
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// The one right value of a key: 1 to 8 KiB that follow from it.
fn value_of(key: u64) -> Vec<u8> {
    let words = 128 + mix(key) % 896;
    (0..words).flat_map(|at| mix(key << 16 | at).to_le_bytes()).collect()
}

fn argument(at: usize, otherwise: u64) -> u64 {
    let Some(text) = std::env::args().nth(at) else { return otherwise };
    text.parse().ok().filter(|&n| n > 0).unwrap_or_else(|| {
        eprintln!("usage: tiered_cache [ENTRIES [LOOKUPS]]");
        std::process::exit(2)
    })
}

fn main() {
    let (entries, lookups) = (argument(1, 5_000), argument(2, 20_000));
    // Whether there is a device at all, a strict allocation tells: it fails rather than fall back.
    let mut probe = VecIn::<u8, TierAlloc>::new_in(Terrace::tier(Hint::DEVICE.strict()));
    match probe.try_reserve(1 << 16) {
        Ok(()) => println!("strict device allocation: granted"),
        Err(_) => println!("strict device allocation: refused, so parked values stay in DRAM"),
    }
    let mut cache = Cache::new((entries as usize / 4).max(1));
    for key in 0..entries {
        cache.insert(key, value_of(key));
    }
    // Skewed: the square of a uniform number favours the low keys.
    let mut damaged = 0;
    for lookup in 0..lookups {
        let uniform = mix(lookup) % 1_000_000;
        let key = uniform * uniform * entries / 1_000_000_000_000;
        let right = value_of(key);
        if cache.get(key) != Some(&right[..]) {
            damaged += 1;
        }
    }
    println!("entries {entries} lookups {lookups} recent {} parked {}", cache.recent_hits, cache.parked_hits);
    for (node, values) in cache.parked_by_node() {
        println!("parked values on node {node}: {values}");
    }
    println!("damaged {damaged}");
    if damaged > 0 {
        std::process::exit(1);
    }
}
