//! How good a placement is: the share of accesses that DRAM serves, and the best share possible.
//!
//! The accesses are known exactly: a program tells each object's address, size and weight. An access hits every byte
//! of its object with the same probability, so a page's weight is the sum of its objects' weights by bytes.
//!
//! Zone: control (a program of its own).

use std::collections::HashMap;
use std::io;

use crate::nodes::Nodes;
use crate::outside::{self, PAGE};

/// Pages asked for in one system call.
const BATCH: usize = 4096;

/// The accesses of a program by page; all weights together are 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Accesses {
    pages: Vec<usize>,
    weights: Vec<f64>,
}

/// Calls `f` for each page that an object of `bytes` bytes, at least 1, at `address` touches, with the share of its bytes that lie there.
pub fn for_each_page(address: usize, bytes: usize, mut f: impl FnMut(usize, f64)) {
    let (mut at, end) = (address, address + bytes);
    while at < end {
        let next = (at / PAGE + 1) * PAGE;
        f(at / PAGE * PAGE, (next.min(end) - at) as f64 / bytes as f64);
        at = next;
    }
}

/// The largest share of all `weights` that `count` of them can have; 0 where there is no weight.
pub fn largest_share(mut weights: Vec<f64>, count: usize) -> f64 {
    let all: f64 = weights.iter().sum();
    if count == 0 || all == 0.0 {
        return 0.0;
    }
    if count < weights.len() {
        weights.select_nth_unstable_by(count - 1, |a, b| b.total_cmp(a));
        weights.truncate(count);
    }
    weights.iter().sum::<f64>() / all
}

impl Accesses {
    /// Reads lines of an object's address, bytes and weight, all decimal.
    ///
    /// # Errors
    /// `InvalidData` for a line that is none, or when nothing is ever accessed.
    pub fn parse(text: &str) -> io::Result<Accesses> {
        let bad = |line: &str| io::Error::new(io::ErrorKind::InvalidData, format!("not a map: {line:?}"));
        let mut by_page: HashMap<usize, f64> = HashMap::new();
        let mut total = 0.0;
        for line in text.lines() {
            let numbers: Vec<u64> = line.split(' ').map_while(|w| w.parse().ok()).collect();
            let &[address, bytes, weight] = numbers.as_slice() else { return Err(bad(line)) };
            let (first, end) = (address as usize, (address + bytes) as usize);
            if end <= first {
                return Err(bad(line));
            }
            total += weight as f64;
            for_each_page(first, bytes as usize, |page, share| {
                *by_page.entry(page).or_default() += weight as f64 * share;
            });
        }
        if total == 0.0 {
            return Err(bad(text));
        }
        let (pages, weights) = by_page.into_iter().map(|(page, weight)| (page, weight / total)).unzip();
        Ok(Accesses { pages, weights })
    }

    /// Number of pages with objects.
    pub fn pages(&self) -> usize {
        self.pages.len()
    }

    /// The largest share of accesses that `bytes` of DRAM can serve: that of the hottest pages.
    pub fn oracle(&self, bytes: u64) -> f64 {
        largest_share(self.weights.clone(), bytes as usize / PAGE)
    }

    /// The pages that get more than twice the accesses of an average page.
    pub fn hot_pages(&self) -> Vec<usize> {
        let twice = 2.0 / self.pages.len() as f64;
        self.pages.iter().zip(&self.weights).filter(|(_, w)| **w > twice).map(|(p, _)| *p).collect()
    }

    /// The share of accesses that DRAM serves with the pages of process `pid` where they are now.
    ///
    /// # Errors
    /// As [`outside::nodes_of`].
    pub fn served_by_dram(&self, pid: i32, nodes: &Nodes) -> io::Result<f64> {
        let mut share = 0.0;
        for (pages, weights) in self.pages.chunks(BATCH).zip(self.weights.chunks(BATCH)) {
            let placed = outside::nodes_of(pid, pages)?;
            let in_dram = |node: &Option<u32>| node.is_some_and(|n| !nodes.device.contains(&n));
            share += placed.iter().zip(weights).filter(|(n, _)| in_dram(n)).map(|(_, w)| w).sum::<f64>();
        }
        Ok(share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_follow_bytes_into_pages() {
        // Half of the first object lies in page 1, half in page 2; the second lies in page 2.
        let accesses = Accesses::parse("6144 4096 30\n8192 100 10\n").expect("a map");
        let weight = |page: usize| accesses.weights[accesses.pages.iter().position(|p| *p == page).unwrap()];
        assert_eq!(accesses.pages(), 2);
        assert!((weight(4096) - 15.0 / 40.0).abs() < 1e-12);
        assert!((weight(8192) - 25.0 / 40.0).abs() < 1e-12);
    }

    #[test]
    fn the_oracle_takes_the_hottest_pages() {
        let accesses = Accesses::parse("4096 4096 1\n8192 4096 7\n12288 4096 2\n").expect("a map");
        assert_eq!(accesses.oracle(0), 0.0);
        assert!((accesses.oracle(4096) - 0.7).abs() < 1e-12);
        assert!((accesses.oracle(2 * 4096 + 100) - 0.9).abs() < 1e-12);
        assert!((accesses.oracle(1 << 30) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn hot_pages_stand_out() {
        let accesses = Accesses::parse("4096 4096 1\n8192 4096 7\n12288 4096 1\n").expect("a map");
        assert_eq!(accesses.hot_pages(), [8192]);
    }

    #[test]
    fn on_a_machine_without_device_dram_serves_what_is_present() {
        let objects: Vec<Vec<u8>> = (0..8).map(|_| vec![1u8; 1 << 16]).collect();
        let lines: String =
            objects.iter().map(|o| format!("{} {} 1\n", o.as_ptr() as usize, o.len())).collect();
        let accesses = Accesses::parse(&lines).expect("a map");
        let nodes = Nodes { dram: vec![0], device: vec![] };
        let share = accesses.served_by_dram(std::process::id() as i32, &nodes).expect("our own process");
        assert!((share - 1.0).abs() < 1e-9, "{share}");
    }

    #[test]
    fn a_map_that_is_none_is_refused() {
        for text in ["", "1 2\n", "4096 0 1\n", "4096 8 0\n", "a b c\n"] {
            assert!(Accesses::parse(text).is_err(), "{text:?}");
        }
    }
}
