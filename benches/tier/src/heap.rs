//! The heap of a workload, by page: how often each was accessed and where it is; what DRAM serves of that, and could.

use std::collections::HashMap;

use terrace_demo::placement::{for_each_page, largest_share};

/// Seconds within which a page that moves back is ping-pong.
pub const PING_PONG: f64 = 30.0;

/// One page.
#[derive(Clone, Debug)]
struct Page {
    /// Accesses since the last look, and since the phase began.
    window: f64,
    phase: f64,
    /// Whether it was in DRAM at the last look; `None` = not present.
    dram: Option<bool>,
    /// Whether it moved in this phase or an earlier one, and when last.
    moved: Option<f64>,
}

/// All pages that have held an object.
#[derive(Debug, Default)]
pub struct Heap {
    index: HashMap<usize, u32>,
    addresses: Vec<usize>,
    pages: Vec<Page>,
}

/// What happened between two looks.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Window {
    /// Share of the accesses that DRAM served, if pages that moved did so halfway.
    pub share: f64,
    /// The largest share that the budget could have served: of this window's accesses, and of all the phase's.
    pub oracle: f64,
    /// As `oracle`, by the accesses of the whole phase so far.
    pub phase_oracle: f64,
    /// Pages in DRAM and on the device.
    pub dram: usize,
    /// See `dram`.
    pub device: usize,
    /// Pages that came to DRAM and that went to the device.
    pub up: usize,
    /// See `up`.
    pub down: usize,
    /// Those of them that had moved the other way less than [`PING_PONG`] seconds before.
    pub returned: usize,
}

impl Heap {
    /// Adds `accesses` of an object to the window, spread evenly over its bytes.
    pub fn add(&mut self, address: usize, bytes: usize, accesses: u64) {
        for_each_page(address, bytes, |page, share| {
            let page = self.page(page);
            self.pages[page].window += accesses as f64 * share;
        });
    }

    fn page(&mut self, address: usize) -> usize {
        let next = self.pages.len() as u32;
        let index = *self.index.entry(address).or_insert(next);
        if index == next {
            self.addresses.push(address);
            self.pages.push(Page { window: 0.0, phase: 0.0, dram: None, moved: None });
        }
        index as usize
    }

    /// Addresses of all pages, in the order in which [`Heap::look`] wants to hear of them.
    pub fn addresses(&self) -> &[usize] {
        &self.addresses
    }

    /// Ends a window at time `seconds`, with the pages where `placed` says that they are (`true` = in DRAM, `None` = not present), and
    /// room for `budget` pages in DRAM.
    pub fn look(&mut self, placed: &[Option<bool>], budget: usize, seconds: f64) -> Window {
        let mut window = Window::default();
        let (mut served, mut all) = (0.0, 0.0);
        for (page, now) in self.pages.iter_mut().zip(placed) {
            let before = page.dram.or(*now);
            let after = now.or(before);
            let fraction = |in_dram: Option<bool>| f64::from(u8::from(in_dram == Some(true)));
            served += page.window * (fraction(before) + fraction(after)) / 2.0;
            all += page.window;
            match now {
                Some(true) => window.dram += 1,
                Some(false) => window.device += 1,
                None => {}
            }
            if let (Some(before), Some(after)) = (page.dram, *now)
                && before != after
            {
                *(if after { &mut window.up } else { &mut window.down }) += 1;
                window.returned += usize::from(page.moved.is_some_and(|t| seconds - t < PING_PONG));
                page.moved = Some(seconds);
            }
            if now.is_some() {
                page.dram = *now;
            }
            page.phase += page.window;
        }
        window.share = if all > 0.0 { served / all } else { 0.0 };
        let best = |weight: fn(&Page) -> f64| largest_share(self.pages.iter().map(weight).collect(), budget);
        (window.oracle, window.phase_oracle) = (best(|page| page.window), best(|page| page.phase));
        self.pages.iter_mut().for_each(|page| page.window = 0.0);
        window
    }

    /// From now on, another phase.
    pub fn begin_phase(&mut self) {
        self.pages.iter_mut().for_each(|page| page.phase = 0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accesses_are_spread_over_an_objects_bytes() {
        let mut heap = Heap::default();
        heap.add(6144, 4096, 30);
        heap.add(8192, 100, 10);
        assert_eq!(heap.addresses(), [4096, 8192]);
        let window = heap.look(&[Some(true), Some(false)], 1, 0.0);
        assert!((window.share - 15.0 / 40.0).abs() < 1e-12);
        assert!((window.oracle - 25.0 / 40.0).abs() < 1e-12);
        assert_eq!((window.dram, window.device), (1, 1));
    }

    #[test]
    fn the_oracle_of_a_phase_knows_all_its_windows_and_nothing_before() {
        let mut heap = Heap::default();
        heap.add(4096, 4096, 3);
        heap.add(8192, 4096, 1);
        let window = heap.look(&[None, None], 1, 0.0);
        assert_eq!((window.oracle, window.phase_oracle, window.share), (0.75, 0.75, 0.0));
        heap.add(8192, 4096, 6);
        let window = heap.look(&[None, None], 1, 2.0);
        assert_eq!((window.oracle, window.phase_oracle), (1.0, 0.7));
        heap.begin_phase();
        heap.add(4096, 4096, 1);
        assert_eq!(heap.look(&[None, None], 1, 4.0).phase_oracle, 1.0);
    }

    #[test]
    fn a_page_that_moves_back_soon_is_ping_pong() {
        let mut heap = Heap::default();
        heap.add(4096, 4096, 1);
        heap.look(&[Some(true)], 1, 0.0);
        let mut moves = |placed: bool, seconds: f64| {
            let window = heap.look(&[Some(placed)], 1, seconds);
            (window.up, window.down, window.returned)
        };
        assert_eq!(moves(false, 2.0), (0, 1, 0));
        assert_eq!(moves(false, 4.0), (0, 0, 0));
        assert_eq!(moves(true, 6.0), (1, 0, 1));
        assert_eq!(moves(false, 40.0), (0, 1, 0));
    }

    #[test]
    fn a_page_that_moved_within_a_window_counts_half() {
        let mut heap = Heap::default();
        heap.add(4096, 4096, 1);
        heap.look(&[Some(true)], 1, 0.0);
        heap.add(4096, 4096, 4);
        assert_eq!(heap.look(&[Some(false)], 1, 2.0).share, 0.5);
        heap.add(4096, 4096, 4);
        assert_eq!(heap.look(&[None], 1, 4.0).share, 0.0, "a page that is gone counts where it was");
    }

    #[test]
    fn with_room_for_everything_the_oracle_serves_everything() {
        let mut heap = Heap::default();
        heap.add(4096, 8 * 4096, 8);
        assert_eq!(heap.look(&[None; 8], 100, 0.0).oracle, 1.0);
        assert_eq!(Heap::default().look(&[], 100, 0.0).oracle, 0.0);
    }
}
