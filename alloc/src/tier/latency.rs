//! How long a load from a tier takes, measured: a few lines on each tier's node that lead from one to the next, out of the caches.
//!
//! Zone: control. What the firmware says (HMAT) is about an idle machine; a node whose bandwidth is used up answers several times
//! later, and then memory that is farther away can be the faster (Vuppalapati and Agarwal, Colloid, SOSP 2024). Each load waits for the one before it,
//! so neither overlap nor prefetching hides what it takes. A measurement is some 100 loads of each tier: 10 to 100 µs.

use crate::arch::cache;
use crate::sys::mm::{self, Access};
use crate::sys::numa::{self, MPOL_PREFERRED, NodeMask};
use core::ptr;
use std::time::Instant;

/// Bytes of a chain: enough for many loads, few enough for one entry of the TLB each page.
const BYTES: usize = 16 << 10;
/// From one link to the next: two lines, as processors fetch a line's neighbour with it.
const STEP: usize = 128;
const LINKS: usize = BYTES / STEP;
/// An odd number, so that all links are visited; about the golden section of them, so that no two in a row are near each other.
const STRIDE: usize = 79;
/// The best of so many passes counts: what interrupted the others is not the memory's.
const PASSES: usize = 3;

/// Lines on a node.
struct Chain {
    base: usize,
    node: u32,
}

impl Chain {
    /// Makes one; `None` if the node has no room, or there is no memory. It is preferred, not demanded: where a bound page does not
    /// fit the kernel kills.
    fn on(node: u32) -> Option<Chain> {
        let base = mm::map(BYTES, Access::ReadWrite).ok()?;
        let chain = Chain { base, node };
        numa::mbind(base, BYTES, MPOL_PREFERRED, &NodeMask::of(node), 0).ok()?;
        for i in 0..LINKS {
            let (at, to) = (chain.link(i), chain.link((i + STRIDE) % LINKS));
            // SAFETY: the link lies in the mapping, which is this chain's alone.
            unsafe { at.write(to.expose_provenance()) };
        }
        chain.is_in_place().then_some(chain)
    }

    /// Link `i`, which holds the address of another one.
    fn link(&self, i: usize) -> *mut usize {
        ptr::with_exposed_provenance_mut(self.base + i * STEP)
    }

    /// Whether all of it is where it should be.
    fn is_in_place(&self) -> bool {
        (0..BYTES).step_by(mm::page_bytes()).all(|at| numa::node_of(self.base + at) == Some(self.node))
    }

    /// Nanoseconds of one load, now.
    fn measure(&self) -> f64 {
        (0..PASSES).map(|_| self.pass()).fold(f64::INFINITY, f64::min)
    }

    fn pass(&self) -> f64 {
        for i in 0..LINKS {
            // SAFETY: the line lies in the mapping.
            unsafe { cache::flush(self.link(i).cast()) };
        }
        cache::settle();
        let begin = Instant::now();
        let mut at = self.link(0);
        for _ in 0..LINKS {
            // SAFETY: each link holds the address of another one. Volatile: nobody uses what is read.
            at = ptr::with_exposed_provenance_mut(unsafe { at.read_volatile() });
        }
        cache::settle();
        begin.elapsed().as_nanos() as f64 / LINKS as f64
    }
}

impl Drop for Chain {
    fn drop(&mut self) {
        // SAFETY: the mapping is this chain's alone, and no address in it was given away.
        unsafe { mm::unmap(self.base, BYTES) };
    }
}

/// The chains of the running process.
#[derive(Default)]
pub struct Probe {
    chains: Vec<Chain>,
    /// When the node in question could not be had, so many calls are to pass before it is tried again.
    tired: u8,
}

impl Probe {
    /// Nanoseconds of one load from `node` as things are now; `None` if that cannot be told.
    pub fn measure(&mut self, node: u32) -> Option<u64> {
        if !self.chains.iter().any(|c| c.node == node) {
            self.tired = self.tired.saturating_sub(1);
            if self.tired > 0 {
                return None;
            }
            match Chain::on(node) {
                Some(chain) => self.chains.push(chain),
                None => self.tired = 60,
            }
        }
        // The kernel may have moved it: its own tiering, or the node went offline.
        self.chains.retain(|c| c.is_in_place());
        self.chains.iter().find(|c| c.node == node).map(|c| c.measure() as u64)
    }
}

/// What is known of the two sides' latencies.
#[derive(Clone, Copy, Debug, Default)]
pub struct Latencies {
    /// DRAM and device.
    sides: [Side; 2],
    /// Measurements in a row in which DRAM was the slower one.
    slower: u8,
}

/// One side. In ns; 0 = not known.
#[derive(Clone, Copy, Debug, Default)]
struct Side {
    now: f64,
    least: f64,
}

impl Side {
    fn take(&mut self, ns: Option<u64>) {
        let Some(ns) = ns.filter(|&ns| ns > 0).map(|ns| ns as f64) else {
            self.now = 0.0;
            return;
        };
        self.now = if self.now == 0.0 { ns } else { self.now + (ns - self.now) / 4.0 };
        self.least = if self.least == 0.0 { ns } else { self.least.min(ns) };
    }
}

/// So many times slower than the device, and by so many ns, so many measurements running, DRAM is no better place. (Where all memory is the same, as in
/// an emulator, a load takes some ns, and they differ by chance.)
const SLOWER: f64 = 1.25;
const BY: f64 = 30.0;
const RUNNING: u8 = 8;

impl Latencies {
    /// Takes in a measurement of DRAM and of the device.
    pub fn take(&mut self, dram: Option<u64>, device: Option<u64>) {
        for (side, ns) in self.sides.iter_mut().zip([dram, device]) {
            side.take(ns);
        }
        let [dram, device] = self.sides.map(|side| side.now);
        let is_slower = dram > 0.0 && device > 0.0 && dram > SLOWER * device && dram > device + BY;
        self.slower = if is_slower { self.slower.saturating_add(1) } else { 0 };
    }

    /// Whether DRAM has been the slower side for a while: nothing is gained by bringing more there.
    pub fn dram_is_slower(&self) -> bool {
        self.slower >= RUNNING
    }

    /// Of a side (0 DRAM, 1 device): a load lately, a mean over some seconds, and the least ever measured, in ns; 0 = not known.
    pub fn of(&self, side: usize) -> (u64, u64) {
        (self.sides[side].now as u64, self.sides[side].least as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_visits_every_link_and_returns_and_a_load_takes_a_plausible_time() {
        let mut probe = Probe::default();
        let ns = probe.measure(0).expect("node 0 has room for four pages");
        assert!((1..100_000).contains(&ns), "{ns} ns");
        let chain = &probe.chains[0];
        let (mut at, mut seen) = (chain.link(0), std::collections::BTreeSet::new());
        for _ in 0..LINKS {
            assert!(seen.insert(at.addr()));
            // SAFETY: each link holds the address of another one.
            at = ptr::with_exposed_provenance_mut(unsafe { at.read() });
        }
        assert_eq!((at, seen.len()), (chain.link(0), LINKS));
    }

    #[test]
    fn a_node_that_cannot_be_had_has_no_latency_and_is_not_tried_again_at_once() {
        let mut probe = Probe::default();
        assert_eq!(probe.measure(numa::MAX_NODES - 1), None);
        assert_eq!((probe.chains.len(), probe.tired), (0, 60));
        assert_eq!(probe.measure(numa::MAX_NODES - 1), None);
        assert_eq!(probe.tired, 59);
    }

    #[test]
    fn dram_is_the_slower_side_once_it_was_for_a_while_and_only_as_long() {
        let mut l = Latencies::default();
        let slow_after = (1..100).find(|_| {
            l.take(Some(400), Some(250));
            l.dram_is_slower()
        });
        assert_eq!(slow_after, Some(u32::from(RUNNING)));
        assert_eq!(l.of(0), (400, 400));
        (0..4).for_each(|_| l.take(Some(100), Some(250)));
        assert!(!l.dram_is_slower());
        assert_eq!((l.of(0).1, l.of(1)), (100, (250, 250)));
        for little in [(260, 250), (9, 6)] {
            (0..100).for_each(|_| l.take(Some(little.0), Some(little.1)));
            assert!(!l.dram_is_slower(), "a little slower is within the error: {little:?}");
        }
        (0..100).for_each(|_| l.take(Some(400), None));
        assert!(!l.dram_is_slower() && l.of(1).0 == 0, "nothing to compare with");
    }
}
