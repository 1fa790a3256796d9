//! What the control thread sees of the world, as one trait, so that tests can play heap, nodes and time.
//!
//! Zone: control.

use crate::arena::{self, ArenaView, ExtentView, pressure};
use crate::heat::clock::now_ns;
use crate::heat::map::SLICES;
use crate::mover::batch::{self, PageMover};
use crate::sys::{Errno, numa, proc};
use crate::tier::budget::{Measured, available_bytes, cgroup_limit, node_bytes};
use crate::tier::latency::Probe;
use crate::tier::stall::stalled_us;
use crate::tier::topology::usable_nodes;
use numa::NodeMask;

/// The world.
pub(crate) trait System: PageMover {
    /// Nanoseconds of a monotonic clock.
    fn now(&self) -> u64;
    /// Calls `f` for every live extent.
    fn extents(&self, f: &mut dyn FnMut(ExtentView));
    /// The live extent with this index, as it is now.
    fn extent(&self, index: u32) -> Option<ExtentView>;
    /// How often the pages of each slice of this extent were used by allocation alone, from any beginning, modulo 2^32.
    fn births(&self, index: u32) -> [u32; SLICES];
    /// Says which slices of this extent have most of their pages in DRAM.
    fn set_in_dram(&self, index: u32, slices: u32);
    /// Calls `f` for every arena.
    fn arenas(&self, f: &mut dyn FnMut(ArenaView));
    /// Bytes of live extents.
    fn heap_bytes(&self) -> u64;
    /// Bytes of this process in memory.
    fn resident_bytes(&self) -> u64;
    /// DRAM and device nodes that may be used now.
    fn nodes(&self) -> (NodeMask, NodeMask);
    /// Free and total bytes of a set of nodes.
    fn node_bytes(&self, nodes: &NodeMask) -> (u64, u64);
    /// Bytes of a set of nodes that are free or that the kernel gives up when they are needed, and all of them.
    fn available_bytes(&self, nodes: &NodeMask) -> (u64, u64) {
        self.node_bytes(nodes)
    }
    /// Nanoseconds of a load from this node as things are now, if that can be told.
    fn latency(&mut self, node: u32) -> Option<u64>;
    /// Microseconds in which tasks have waited for memory, if that can be told.
    fn stalled_us(&self) -> Option<u64> {
        None
    }
    /// The control group's limit.
    fn cgroup_limit(&self) -> Option<u64>;
    /// Tells the heap how full the tiers are.
    fn press(&self, dram_full: bool, device_full: bool);
    /// One line for the user.
    fn say(&self, line: &str);

    /// Everything a budget rests on but the process's own bytes.
    fn measure(&self, own: (u64, u64), dram: &NodeMask, device: &NodeMask) -> Measured {
        Measured {
            own,
            dram: self.available_bytes(dram),
            device: self.node_bytes(device),
            cgroup: self.cgroup_limit(),
            squeezed: 0,
        }
    }
}

/// The running process.
pub(crate) struct Process {
    mover: batch::Linux,
    probe: Probe,
}

impl Process {
    /// This one.
    pub(crate) fn new() -> Process {
        Process { mover: batch::Linux, probe: Probe::default() }
    }
}

impl PageMover for Process {
    fn move_pages(
        &mut self,
        pages: &[usize],
        nodes: Option<&[i32]>,
        status: &mut [i32],
    ) -> Result<usize, Errno> {
        self.mover.move_pages(pages, nodes, status)
    }

    fn touch(&mut self, page: usize) -> Result<(), Errno> {
        self.mover.touch(page)
    }

    fn pagemap(&mut self, page: usize) -> Option<u64> {
        self.mover.pagemap(page)
    }
}

impl System for Process {
    fn now(&self) -> u64 {
        now_ns()
    }

    fn extents(&self, f: &mut dyn FnMut(ExtentView)) {
        arena::for_each_extent(f);
    }

    fn extent(&self, index: u32) -> Option<ExtentView> {
        arena::extent_view(index)
    }

    fn births(&self, index: u32) -> [u32; SLICES] {
        arena::births(index)
    }

    fn set_in_dram(&self, index: u32, slices: u32) {
        arena::set_in_dram(index, slices);
    }

    fn arenas(&self, f: &mut dyn FnMut(ArenaView)) {
        arena::for_each_arena(f);
    }

    fn heap_bytes(&self) -> u64 {
        arena::live_extent_bytes() as u64
    }

    fn resident_bytes(&self) -> u64 {
        let mut buf = [0; 128];
        let pages = proc::read_file(c"/proc/self/statm", &mut buf)
            .ok()
            .and_then(|n| std::str::from_utf8(&buf[..n]).ok()?.split(' ').nth(1)?.parse::<u64>().ok());
        pages.unwrap_or(0) * crate::sys::mm::page_bytes() as u64
    }

    fn nodes(&self) -> (NodeMask, NodeMask) {
        usable_nodes()
    }

    fn node_bytes(&self, nodes: &NodeMask) -> (u64, u64) {
        node_bytes(nodes)
    }

    fn available_bytes(&self, nodes: &NodeMask) -> (u64, u64) {
        available_bytes(nodes)
    }

    fn latency(&mut self, node: u32) -> Option<u64> {
        self.probe.measure(node)
    }

    fn stalled_us(&self) -> Option<u64> {
        stalled_us()
    }

    fn cgroup_limit(&self) -> Option<u64> {
        cgroup_limit()
    }

    fn press(&self, dram_full: bool, device_full: bool) {
        pressure::set_dram_full(dram_full);
        pressure::set_device_full(device_full);
    }

    fn say(&self, line: &str) {
        proc::say(format_args!("{line}"));
    }
}
