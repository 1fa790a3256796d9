//! A played world for tests: pages with true rates, mappings that merge as Linux merges them, two nodes, and a clock
//! that advances by what each system call costs.

use super::kernel::{Kernel, Policy};
use super::layout::Variant;
use super::smaps::Mapping;
use crate::arena::{ArenaView, ExtentView, Pool};
use crate::heat::map::{PAGE_BYTES, PAGES, SLICE_PAGES, SLICES};
use crate::mover::batch::PageMover;
use crate::sys::Errno;
use crate::sys::numa::NodeMask;
use std::cell::RefCell;
use std::rc::Rc;

pub(crate) const BASE: usize = 0x1000_0000_0000;

pub(crate) struct Inner {
    pub(crate) now: u64,
    pub(crate) cpu: u64,
    /// For how long the program has run, and how long it runs at a time and then is stopped, on average, in ns; it always runs if that is 0.
    program: u64,
    pub(crate) stalls: [u64; 2],
    /// Whether it is stopped, and for how long what it does now goes on.
    stalled: (bool, u64),
    /// True rates in Hz.
    pub(crate) rate: Vec<f64>,
    pub(crate) node: Vec<i32>,
    /// Pages that the program walks through, one after the other, and how long a walk takes in ns: touched then, and at no other time.
    pub(crate) walked: (std::ops::Range<usize>, u64),
    /// Births a second of each page; none if empty.
    pub(crate) births: Vec<f64>,
    /// Blocks born on each page so far, besides; none if empty.
    pub(crate) born: Vec<u32>,
    /// By extent, the slices that are said to be in DRAM.
    pub(crate) in_dram: Vec<u32>,
    /// Bytes of DRAM that others hold, and the share of the time that they wait for more.
    pub(crate) others: (u64, f64),
    variant: Vec<Variant>,
    /// When each page's reference was forgotten.
    cleared: Vec<u64>,
    /// The page that reading goes on from, and the mappings read so far of a round.
    reading: usize,
    mappings: usize,
    seed: u64,
    pub(crate) moves: u64,
    pub(crate) most_mappings: usize,
    pub(crate) singles: u64,
    /// What one call costs, in ns: a mapping read, a mapping cut, a page cleared or walked, a page moved.
    pub(crate) cost: [u64; 4],
}

#[derive(Clone)]
pub(crate) struct World(pub(crate) Rc<RefCell<Inner>>);

impl World {
    pub(crate) fn new(rate: Vec<f64>, node: impl Fn(usize) -> i32) -> World {
        assert_eq!(rate.len() % PAGES, 0);
        let n = rate.len();
        World(Rc::new(RefCell::new(Inner {
            now: 1_000_000_000,
            cpu: 0,
            program: 0,
            stalls: [0, 0],
            stalled: (true, 0),
            rate,
            node: (0..n).map(node).collect(),
            walked: (0..0, 1),
            births: Vec::new(),
            born: Vec::new(),
            in_dram: vec![0; n / PAGES],
            others: (0, 0.0),
            variant: vec![false; n],
            cleared: vec![0; n],
            reading: 0,
            mappings: 0,
            seed: 88172645463325252,
            moves: 0,
            most_mappings: 0,
            singles: 0,
            cost: [10_000, 6_000, 40, 2_000],
        })))
    }

    /// Rates of a Zipf law of exponent `s` over `n` pages in a scattered order, of `total` Hz together.
    pub(crate) fn zipf(n: usize, s: f64, total: f64, seed: u64) -> Vec<f64> {
        let mut order: Vec<usize> = (0..n).collect();
        let mut x = seed;
        for i in (1..n).rev() {
            x = x.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            order.swap(i, (x >> 33) as usize % (i + 1));
        }
        let sum: f64 = (1..=n).map(|r| (r as f64).powf(-s)).sum();
        let mut rate = vec![0.0; n];
        for (r, &page) in order.iter().enumerate() {
            rate[page] = total * ((r + 1) as f64).powf(-s) / sum;
        }
        rate
    }

    pub(crate) fn extents(&self, f: &mut dyn FnMut(ExtentView)) {
        for i in 0..self.0.borrow().rate.len() / PAGES {
            let base = BASE + i * PAGES * PAGE_BYTES;
            f(ExtentView {
                index: i as u32,
                base,
                pool: Pool::Default,
                live: u32::MAX,
                birth: i as u32 + 1,
                emptied: 0,
            });
        }
    }

    /// Blocks are born at the rates in `births`, a page each, since the clock began.
    pub(crate) fn births(&self, index: u32) -> [u32; SLICES] {
        let w = self.0.borrow();
        let first = index as usize * PAGES;
        std::array::from_fn(|s| {
            let pages = first + s * SLICE_PAGES..first + (s + 1) * SLICE_PAGES;
            let each_second: f64 = w.births.get(pages.clone()).map_or(0.0, |pages| pages.iter().sum());
            let born: u32 = w.born.get(pages).map_or(0, |pages| pages.iter().sum());
            born.wrapping_add((each_second * w.now as f64 / 1e9) as u32)
        })
    }

    pub(crate) fn arena(&self) -> ArenaView {
        let used = self.0.borrow().rate.len() * PAGE_BYTES;
        let policy = Some((crate::sys::numa::MPOL_BIND, NodeMask::of(0)));
        ArenaView { base: BASE, bytes: used, used, pool: Pool::Default, bound: true, policy }
    }

    /// Share of accesses that node 0 serves, and the share that the best placement of as many pages would.
    pub(crate) fn shares(&self) -> (f64, f64) {
        let w = self.0.borrow();
        let total: f64 = w.rate.iter().sum();
        let on: Vec<usize> = (0..w.rate.len()).filter(|&i| w.node[i] == 0).collect();
        let got: f64 = on.iter().map(|&i| w.rate[i]).sum();
        let mut sorted = w.rate.clone();
        sorted.sort_by(|a, b| b.total_cmp(a));
        let best: f64 = sorted[..on.len()].iter().sum();
        (got / total, best / total)
    }

    pub(crate) fn sleep_until(&self, at: u64) {
        let mut w = self.0.borrow_mut();
        let ns = at.saturating_sub(w.now);
        w.pass(ns);
    }

    pub(crate) fn now(&self) -> u64 {
        self.0.borrow().now
    }
}

impl Inner {
    fn spend(&mut self, ns: u64) {
        self.pass(ns);
        self.cpu += ns;
    }

    /// Lets time pass.
    fn pass(&mut self, ns: u64) {
        self.now += ns;
        if self.stalls[0] == 0 {
            self.program += ns;
            return;
        }
        let mut left = ns;
        while left > 0 {
            if self.stalled.1 == 0 {
                let is_stopped = !self.stalled.0;
                let mean = self.stalls[usize::from(is_stopped)] as f64;
                self.stalled = (is_stopped, 1 + (-mean * (1.0 - self.uniform()).ln()) as u64);
            }
            let step = left.min(self.stalled.1);
            self.stalled.1 -= step;
            left -= step;
            if !self.stalled.0 {
                self.program += step;
            }
        }
    }

    /// Whether the walk has come by page `i` since its reference was forgotten; `None` if it is not walked through.
    fn was_walked(&self, i: usize) -> Option<bool> {
        let (pages, time) = &self.walked;
        let at = i.checked_sub(pages.start).filter(|_| i < pages.end)? as u64 * time / pages.len() as u64;
        let walks = |now: u64| (now + time - at) / time;
        Some(walks(self.program) > walks(self.cleared[i]))
    }

    pub(crate) fn uniform(&mut self) -> f64 {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        (self.seed >> 11) as f64 / (1u64 << 53) as f64
    }
}

impl Kernel for World {
    fn clock(&self) -> (u64, u64) {
        let w = self.0.borrow();
        (w.now, w.cpu)
    }

    fn clear(&mut self) -> Result<(), Errno> {
        let mut w = self.0.borrow_mut();
        let mappings = 1 + w.variant.windows(2).filter(|v| v[0] != v[1]).count() as u64;
        let cost = w.rate.len() as u64 * w.cost[2] + mappings * w.cost[0] / 8;
        w.spend(cost);
        let now = w.program;
        w.cleared.fill(now);
        Ok(())
    }

    fn has_parts(&self) -> bool {
        true
    }

    fn clear_part(&mut self, from: usize, to: usize) -> Result<(), Errno> {
        let mut w = self.0.borrow_mut();
        let pages = (from - BASE) / PAGE_BYTES..(to - BASE) / PAGE_BYTES;
        let cost = pages.len() as u64 * w.cost[2];
        w.spend(cost);
        let now = w.program;
        w.cleared[pages].fill(now);
        Ok(())
    }

    fn pause(&mut self, ns: u64) {
        self.0.borrow_mut().pass(ns);
    }

    fn mappings(&mut self, until: usize, each: &mut dyn FnMut(&Mapping, u64) -> bool) -> Result<(), Errno> {
        self.mappings_on(true, until, each)
    }

    fn mappings_on(
        &mut self,
        again: bool,
        until: usize,
        each: &mut dyn FnMut(&Mapping, u64) -> bool,
    ) -> Result<(), Errno> {
        let n = self.0.borrow().rate.len();
        let (mut at, mut count) = (if again { 0 } else { self.0.borrow().reading }, 0);
        while at < n && BASE + at * PAGE_BYTES < until {
            let mut w = self.0.borrow_mut();
            let end = (at + 1..n).find(|&i| w.variant[i] != w.variant[at]).unwrap_or(n);
            let cost = w.cost[0] + (end - at) as u64 * w.cost[2];
            w.spend(cost);
            let mut touched = 0;
            for i in at..end {
                let dt = (w.program - w.cleared[i]) as f64 / 1e9;
                let p = 1.0 - (-w.rate[i] * dt).exp();
                let was_touched = w.uniform() < p;
                touched += u32::from(w.was_walked(i).unwrap_or(was_touched));
            }
            let m = Mapping {
                start: BASE + at * PAGE_BYTES,
                end: BASE + end * PAGE_BYTES,
                rss_kb: (end - at) as u32 * 4,
                referenced_kb: touched * 4,
            };
            let now = w.now;
            w.singles += u64::from(end - at == 1);
            drop(w);
            (at, count) = (end, count + 1);
            if !each(&m, now) {
                break;
            }
        }
        let mut w = self.0.borrow_mut();
        w.reading = at;
        w.mappings = if again { count } else { w.mappings + count };
        w.most_mappings = w.most_mappings.max(w.mappings);
        Ok(())
    }

    fn set(&mut self, _: &Policy, from: usize, to: usize, variant: Variant) -> Result<(), Errno> {
        let mut w = self.0.borrow_mut();
        let (a, b) = ((from - BASE) / PAGE_BYTES, (to - BASE) / PAGE_BYTES);
        w.variant[a..b].fill(variant);
        let cost = w.cost[1];
        w.spend(cost);
        Ok(())
    }

    fn most_segments(&self) -> usize {
        8192
    }
}

impl PageMover for World {
    fn move_pages(
        &mut self,
        pages: &[usize],
        nodes: Option<&[i32]>,
        status: &mut [i32],
    ) -> Result<usize, Errno> {
        let mut w = self.0.borrow_mut();
        let cost = pages.len() as u64 * if nodes.is_some() { w.cost[3] } else { 100 };
        w.spend(cost);
        for (i, page) in pages.iter().enumerate() {
            let at = (page - BASE) / PAGE_BYTES;
            if let Some(nodes) = nodes {
                w.moves += u64::from(w.node[at] != nodes[i]);
                w.node[at] = nodes[i];
            }
            status[i] = w.node[at];
        }
        Ok(0)
    }

    fn touch(&mut self, _: usize) -> Result<(), Errno> {
        Ok(())
    }

    fn pagemap(&mut self, _: usize) -> Option<u64> {
        Some(u64::MAX)
    }
}
