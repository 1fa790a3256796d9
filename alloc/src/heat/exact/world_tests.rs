//! A played world for tests: pages with true rates, a kernel that arms and reads them exactly, and a clock that advances by what that costs.

use super::Kernel;
use crate::arena::{ArenaView, ExtentView, Pool};
use crate::heat::map::{HeatMap, PAGE_BYTES, PAGES, Place};
use crate::sys::Errno;
use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;

pub(super) const BASE: usize = 0x1000_0000_0000;

pub(super) struct Inner {
    pub(super) now: u64,
    pub(super) cpu: u64,
    /// True rates in Hz.
    pub(super) rate: Vec<f64>,
    /// When each page was armed, and whether it was read since.
    armed: Vec<Option<u64>>,
    seed: u64,
    /// What it costs to arm a page, to read one, and the program to use one that is armed, in ns.
    pub(super) cost: [u64; 3],
    /// Pages armed so far, and uses of armed pages.
    pub(super) looks: u64,
    pub(super) faults: u64,
    /// Answers to calls, by the first address of what is to be armed or read (`reading`).
    pub(super) refuse: Option<fn(addr: usize, reading: bool) -> Option<i32>>,
}

#[derive(Clone)]
pub(super) struct World(pub(super) Rc<RefCell<Inner>>);

impl World {
    pub(super) fn new(rate: Vec<f64>) -> World {
        assert_eq!(rate.len() % PAGES, 0);
        let armed = vec![None; rate.len()];
        World(Rc::new(RefCell::new(Inner {
            now: 1_000_000_000,
            cpu: 0,
            rate,
            armed,
            seed: 88172645463325252,
            cost: [30, 30, 0],
            looks: 0,
            faults: 0,
            refuse: None,
        })))
    }

    /// Every tenth page of `n` extents is used at 50 Hz, scattered and from `shift` on, and the others once in twenty seconds.
    pub(super) fn hot_tenth(n: usize, shift: usize) -> Vec<f64> {
        let hot = |i: usize| (i / 10 * 3 + i + shift).is_multiple_of(10);
        (0..n * PAGES).map(|i| if hot(i) { 50.0 } else { 0.05 }).collect()
    }

    /// The heap grows: all pages have these rates now.
    pub(super) fn grow(&self, rate: Vec<f64>) {
        let mut w = self.0.borrow_mut();
        w.armed.resize(rate.len(), None);
        w.rate = rate;
    }

    pub(super) fn sync(&self, map: &mut HeatMap) {
        let w = self.0.borrow();
        map.sync(w.now, |f| {
            for i in 0..w.rate.len() / PAGES {
                f(ExtentView {
                    index: i as u32,
                    base: BASE + i * PAGES * PAGE_BYTES,
                    pool: Pool::Default,
                    live: u32::MAX,
                    birth: i as u32 + 1,
                    emptied: 0,
                });
            }
        });
        map.extents_mut().iter_mut().flat_map(|e| &mut e.pages).for_each(|p| p.place = Place::Dram);
    }

    pub(super) fn arena(&self) -> ArenaView {
        let used = self.0.borrow().rate.len() * PAGE_BYTES;
        ArenaView { base: BASE, bytes: 2 * used, used, pool: Pool::Default, bound: true, policy: None }
    }

    pub(super) fn now(&self) -> u64 {
        self.0.borrow().now
    }
}

impl Inner {
    fn call(&mut self, part: &Range<usize>, reading: bool) -> Result<Range<usize>, Errno> {
        let pages = (part.start - BASE) / PAGE_BYTES..(part.end - BASE) / PAGE_BYTES;
        let spent = pages.len() as u64 * self.cost[usize::from(reading)];
        (self.now, self.cpu) = (self.now + spent, self.cpu + spent);
        // A range that contains what is refused is refused as a whole.
        let refused = |at| self.refuse.and_then(|refuse| refuse(at, reading));
        match part.clone().step_by(PAGES * PAGE_BYTES).find_map(refused) {
            Some(e) => Err(Errno(e)),
            None => Ok(pages),
        }
    }

    fn uniform(&mut self) -> f64 {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        (self.seed >> 11) as f64 / (1u64 << 53) as f64
    }
}

impl Kernel for World {
    fn name(&self) -> &'static str {
        "played"
    }

    fn clock(&self) -> (u64, u64) {
        let w = self.0.borrow();
        (w.now, w.cpu)
    }

    fn toll(&self) -> u64 {
        self.0.borrow().cost[2]
    }

    fn begin(&mut self) {
        self.0.borrow_mut().armed.fill(None);
    }

    fn arm(&mut self, part: &Range<usize>, arena: &Range<usize>) -> Result<(), Errno> {
        assert!(arena.start <= part.start && part.end <= arena.end);
        let mut w = self.0.borrow_mut();
        let pages = w.call(part, false)?;
        w.looks += pages.len() as u64;
        let now = w.now;
        w.armed[pages].fill(Some(now));
        Ok(())
    }

    fn read(&mut self, part: &Range<usize>, each: &mut dyn FnMut(usize, usize, bool)) -> Result<(), Errno> {
        let mut w = self.0.borrow_mut();
        for page in w.call(part, true)? {
            let armed = w.armed[page].take().expect("read once what was armed in this round");
            let dt = (w.now - armed) as f64 / 1e9;
            let p = 1.0 - (-w.rate[page] * dt).exp();
            let used = w.uniform() < p;
            w.faults += u64::from(used);
            let from = BASE + page * PAGE_BYTES;
            each(from, from + PAGE_BYTES, used);
        }
        Ok(())
    }
}
