//! A store whose items move: one request in forty replaces an item by another block. So what is used most never stays in one place for long,
//! and only what is known of allocation can keep it in DRAM.

use super::*;

/// Items on a page, and blocks and pages of a slab, whose bits are two words.
const ON_PAGE: usize = 8;
const SLAB: usize = 128;
const SLAB_PAGES: usize = SLAB / ON_PAGE;
/// Pages of the table that leads to the items.
const TABLE: usize = 2048;
const STEP: u64 = 50_000_000;

/// Blocks as the heap hands them out where DRAM is tight.
struct Blocks {
    free: Vec<u64>,
    full: Vec<bool>,
    listed: Vec<usize>,
    slab: usize,
    word: usize,
}

impl Blocks {
    /// `used` blocks of `all` are in use, and none of the others ever was.
    fn new(used: usize, all: usize) -> Blocks {
        let (slabs, first) = (all / SLAB, used.div_ceil(SLAB));
        let mut free = vec![0; all / 64];
        free[first * 2..].fill(u64::MAX);
        Blocks {
            free,
            full: (0..slabs).map(|slab| slab < first).collect(),
            listed: (first + 1..slabs).rev().collect(),
            slab: first,
            word: first * 2,
        }
    }

    fn take(&mut self, in_dram: &[u32]) -> usize {
        loop {
            let bits = self.free[self.word];
            if bits != 0 {
                self.free[self.word] &= bits - 1;
                return self.word * 64 + bits.trailing_zeros() as usize;
            }
            if self.free[self.word ^ 1] != 0 {
                self.word ^= 1;
                continue;
            }
            self.full[self.slab] = true;
            let last = self.listed.len() - 1;
            let looked_at = last.saturating_sub(15)..=last;
            let at = looked_at.rev().find(|&at| is_in_dram(in_dram, self.listed[at])).unwrap_or(last);
            self.slab = self.listed.remove(at);
            self.word = self.slab * 2;
        }
    }

    fn give(&mut self, block: usize, in_dram: &[u32]) {
        let (word, slab) = (block / 64, block / SLAB);
        self.free[word] |= 1 << (block % 64);
        let free = |word: usize| self.free[word].count_ones() as usize;
        let is_worth = is_in_dram(in_dram, slab) || (free(word) + free(word ^ 1)) * 16 >= SLAB * 3;
        if self.full[slab] && free(word) >= 3 && is_worth {
            self.full[slab] = false;
            self.listed.push(slab);
        }
    }
}

fn is_in_dram(in_dram: &[u32], slab: usize) -> bool {
    in_dram[slab * SLAB_PAGES / PAGES] >> (slab % SLICES) & 1 == 1
}

struct Store {
    run: Run,
    blocks: Blocks,
    /// The block of each item, how often it is asked for in Hz, and the sums of that.
    at: Vec<usize>,
    asked: Vec<f64>,
    sums: Vec<f64>,
}

impl Store {
    /// One page in `parts` may be in DRAM; `requests` a second.
    fn new(parts: usize, requests: f64) -> Store {
        let n = 128 * PAGES;
        let blocks = (n - TABLE) * ON_PAGE;
        let items = blocks * 85 / 100;
        let asked = World::zipf(items, 0.99, requests, 3);
        let sums = asked.iter().scan(0.0, |sum, hz| {
            *sum += hz;
            Some(*sum)
        });
        let mut rate = vec![0.0; n];
        for (item, hz) in asked.iter().enumerate() {
            rate[n - TABLE + item.wrapping_mul(2_654_435_761) % TABLE] += hz;
            rate[item / ON_PAGE] += 2.0 * hz;
        }
        let run = one_in(parts, rate, true);
        run.world.0.borrow_mut().born = vec![0; n];
        Store {
            run,
            blocks: Blocks::new(items, blocks),
            at: (0..items).collect(),
            sums: sums.collect(),
            asked,
        }
    }

    /// The share of the oracle's that was served from DRAM in so many seconds, on average.
    fn seconds(&mut self, seconds: u64) -> f64 {
        let steps = seconds * S / STEP;
        (0..steps).map(|_| self.step()).sum::<f64>() / steps as f64
    }

    fn step(&mut self) -> f64 {
        {
            let mut world = self.run.world.0.borrow_mut();
            let all = self.sums[self.sums.len() - 1];
            for _ in 0..(all * STEP as f64 / 1e9 / 40.0) as usize {
                let asked = world.uniform() * all;
                let item = self.sums.partition_point(|sum| *sum < asked);
                let (old, new) = (self.at[item], self.blocks.take(&world.in_dram));
                self.blocks.give(old, &world.in_dram);
                self.at[item] = new;
                world.rate[old / ON_PAGE] -= 2.0 * self.asked[item];
                world.rate[new / ON_PAGE] += 2.0 * self.asked[item];
                world.born[new / ON_PAGE] += 1;
            }
        }
        self.run.advance(STEP);
        self.run.fraction_of_oracle()
    }
}

#[test]
fn a_store_whose_items_move_is_served_from_where_it_allocates() {
    for (parts, wanted) in [(8, 0.8), (2, 0.88)] {
        let mut store = Store::new(parts, 200_000.0);
        store.seconds(10);
        let served = store.seconds(15);
        assert!(served > wanted, "{served} of the oracle, 1:{parts}");
    }
}
