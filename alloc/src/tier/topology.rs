//! The tiers of the machine as this process may use them, fastest first.
//!
//! Zone: control. The table is published through an epoch-based collector of our own, so readers in any thread never
//! wait for the control thread, which replaces the table. Nothing here waits for another thread, so a forked child finds it usable
//! whatever the threads it left behind were doing. Figures keep their source, and
//! figures that contradict each other are kept and reported, never smoothed over.

use super::{hwloc, sysfs};
use crate::arena::placement;
use crate::sys::numa::{self, NodeMask};
use crossbeam_epoch::{Atomic, Collector, LocalHandle, Owned, Shared};
use once_cell::race::OnceBox;
use std::path::Path;
use std::sync::atomic::Ordering;

/// Where a figure comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// The firmware's HMAT, through the kernel.
    Hmat,
    /// hwloc's memory attributes (which take them from the same table, or from drivers).
    Hwloc,
    /// The ACPI distance table: an order at best, never a time.
    Distance,
    /// The user said so.
    Config,
    /// Nobody knows: nodes without CPUs are assumed to be slower.
    Assumed,
}

/// A number and where it comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Figure {
    /// ns or MB/s.
    pub value: u32,
    /// Its source.
    pub source: Source,
}

/// One node, as found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Node {
    /// Its number.
    pub id: u32,
    /// Whether it has processors.
    pub has_cpu: bool,
    /// Bytes.
    pub capacity: u64,
    /// Read latency from the nearest processors.
    pub latency_ns: Option<Figure>,
    /// Read bandwidth from there.
    pub bandwidth_mbps: Option<Figure>,
    /// ACPI distance from there; 10 = local.
    pub distance: Option<u32>,
    /// What hwloc calls it (`CXL`, `HBM`…), if anything.
    pub subtype: String,
}

/// DRAM or device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TierKind {
    /// Memory beside processors.
    Dram,
    /// Memory of nodes without processors, or named by configuration.
    Device,
}

/// Nodes of one kind and one speed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tier {
    /// What it is.
    pub kind: TierKind,
    /// Its nodes.
    pub nodes: NodeMask,
    /// Bytes.
    pub capacity: u64,
    /// Read latency in ns, if anyone says.
    pub latency_ns: Option<Figure>,
    /// Read bandwidth in MB/s, if anyone says.
    pub bandwidth_mbps: Option<Figure>,
    /// What the order of this tier rests on.
    pub order: Source,
}

/// All tiers, fastest first, and what is doubtful about them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TierTable {
    /// The tiers.
    pub tiers: Vec<Tier>,
    /// Contradictions between sources, one sentence each.
    pub doubts: Vec<String>,
}

impl TierTable {
    /// Device nodes, nearest tier first.
    pub fn device_nodes(&self) -> impl Iterator<Item = u32> + '_ {
        self.tiers.iter().filter(|t| t.kind == TierKind::Device).flat_map(|t| t.nodes.iter())
    }
}

/// Makes tiers of nodes. `dram` and `device` are the nodes this process may use as either.
#[must_use]
pub fn judge(nodes: &[Node], dram: &NodeMask, device: &NodeMask, configured: bool) -> TierTable {
    let mut tiers: Vec<Tier> = Vec::new();
    let mut doubts = Vec::new();
    for node in nodes {
        let kind = match (dram.has(node.id), device.has(node.id)) {
            (_, true) => TierKind::Device,
            (true, _) => TierKind::Dram,
            _ => continue,
        };
        let order = match (node.latency_ns, node.distance) {
            (Some(figure), _) => figure.source,
            (None, Some(_)) => Source::Distance,
            (None, None) if configured => Source::Config,
            (None, None) => Source::Assumed,
        };
        let same = tiers.iter_mut().find(|t| {
            t.kind == kind
                && t.latency_ns == node.latency_ns
                && (kind == TierKind::Dram || t.latency_ns.is_some())
        });
        match same {
            Some(tier) => {
                tier.nodes.set(node.id);
                tier.capacity += node.capacity;
            }
            None => tiers.push(Tier {
                kind,
                nodes: NodeMask::of(node.id),
                capacity: node.capacity,
                latency_ns: node.latency_ns,
                bandwidth_mbps: node.bandwidth_mbps,
                order,
            }),
        }
    }
    let distance = |t: &Tier| {
        nodes.iter().filter(|n| t.nodes.has(n.id)).filter_map(|n| n.distance).min().unwrap_or(u32::MAX)
    };
    // Latencies order tiers if all tiers have one; otherwise the distances do, within each kind.
    let timed = tiers.iter().all(|t| t.latency_ns.is_some());
    tiers.sort_by_key(|t| {
        let device = t.kind == TierKind::Device;
        if timed {
            (false, t.latency_ns.map_or(0, |f| f.value), device)
        } else {
            (device, distance(t), device)
        }
    });
    for pair in tiers.windows(2) {
        if let ([a, b], true) = (pair, timed)
            && distance(a) > distance(b)
        {
            doubts.push(format!(
                "nodes {} are faster than nodes {} by latency ({} against {} ns) but farther by ACPI distance ({} against {}); latency decides",
                a.nodes, b.nodes,
                a.latency_ns.map_or(0, |f| f.value), b.latency_ns.map_or(0, |f| f.value),
                distance(a), distance(b)
            ));
        }
    }
    if let Some(first) = tiers.first()
        && first.kind == TierKind::Device
    {
        doubts.push(format!("device nodes {} are reported as faster than DRAM", first.nodes));
    }
    TierTable { tiers, doubts }
}

static COLLECTOR: OnceBox<Collector> = OnceBox::new();
static TABLE: Atomic<TierTable> = Atomic::null();

fn register() -> LocalHandle {
    COLLECTOR.get_or_init(Box::default).register()
}

/// The present tiers, fastest first. Any thread; reads sysfs if nobody has yet.
#[must_use]
pub fn tiers() -> TierTable {
    let handle = register();
    let guard = handle.pin();
    let table = TABLE.load(Ordering::Acquire, &guard);
    // SAFETY: a published table is freed only after every guard pinned before its replacement is gone.
    match unsafe { table.as_ref() } {
        Some(table) => table.clone(),
        // No control thread has looked: the kernel's own files answer, without loading anything into this thread.
        None => {
            let configured = crate::config::get().device_nodes.is_some();
            let place = placement();
            let table = judge(&sysfs::read(Path::new("/sys")), &place.dram, &place.device, configured);
            // Kept for the next caller, unless somebody was faster.
            let own = Owned::new(table.clone());
            let _ = TABLE.compare_exchange(Shared::null(), own, Ordering::AcqRel, Ordering::Acquire, &guard);
            table
        }
    }
}

/// Replaces the published table.
pub fn publish(table: TierTable) {
    let handle = register();
    let guard = handle.pin();
    let old = TABLE.swap(Owned::new(table), Ordering::AcqRel, &guard);
    if !old.is_null() {
        // SAFETY: the old table was just unlinked; readers that still have it are pinned.
        unsafe { guard.defer_destroy(old) };
    }
}

/// Looks at the machine: at sysfs, and through hwloc where its plug-in is installed.
#[must_use]
pub fn discover(dram: &NodeMask, device: &NodeMask) -> TierTable {
    let configured = crate::config::get().device_nodes.is_some();
    let mut nodes = sysfs::read(Path::new("/sys"));
    let mut doubts = hwloc::complete(&mut nodes);
    let mut table = judge(&nodes, dram, device, configured);
    table.doubts.append(&mut doubts);
    table
}

/// Which of the nodes this process started with it may still use.
#[must_use]
pub fn usable_nodes() -> (NodeMask, NodeMask) {
    let start = placement();
    let allowed = numa::mems_allowed().unwrap_or(start.dram.union(&start.device));
    let online = |mask: &NodeMask| {
        let mut there = NodeMask::EMPTY;
        mask.intersect(&allowed)
            .iter()
            .filter(|&n| numa::node_free_bytes(n).is_some_and(|(_, total)| total > 0))
            .for_each(|n| there.set(n));
        there
    };
    (online(&start.dram), online(&start.device))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: u32, has_cpu: bool, latency: Option<u32>, distance: u32) -> Node {
        Node {
            id,
            has_cpu,
            capacity: 1 << 30,
            latency_ns: latency.map(|value| Figure { value, source: Source::Hmat }),
            bandwidth_mbps: None,
            distance: Some(distance),
            subtype: String::new(),
        }
    }

    fn mask(ids: &[u32]) -> NodeMask {
        let mut m = NodeMask::EMPTY;
        ids.iter().for_each(|&i| m.set(i));
        m
    }

    #[test]
    fn tiers_are_ordered_by_latency() {
        let nodes =
            [node(0, true, Some(100), 10), node(1, false, Some(900), 20), node(2, false, Some(300), 40)];
        let t = judge(&nodes, &mask(&[0]), &mask(&[1, 2]), false);
        let order: Vec<_> = t.tiers.iter().map(|t| t.nodes.first().unwrap()).collect();
        assert_eq!(order, [0, 2, 1]);
        assert_eq!(t.device_nodes().collect::<Vec<_>>(), [2, 1]);
    }

    #[test]
    fn a_contradiction_between_latency_and_distance_is_reported() {
        let nodes =
            [node(0, true, Some(100), 10), node(1, false, Some(900), 20), node(2, false, Some(300), 40)];
        let t = judge(&nodes, &mask(&[0]), &mask(&[1, 2]), false);
        assert_eq!(t.doubts.len(), 1);
        assert!(t.doubts[0].contains("300 against 900 ns"));
    }

    #[test]
    fn distance_is_the_last_resort_and_says_so() {
        let nodes = [node(0, true, None, 10), node(1, false, None, 60), node(2, false, None, 20)];
        let t = judge(&nodes, &mask(&[0]), &mask(&[1, 2]), false);
        assert_eq!(t.device_nodes().collect::<Vec<_>>(), [2, 1]);
        assert!(t.tiers.iter().all(|t| t.order == Source::Distance));
    }

    #[test]
    fn a_node_the_cpuset_forbids_is_in_no_tier() {
        let nodes = [node(0, true, Some(100), 10), node(1, false, Some(900), 20)];
        let t = judge(&nodes, &mask(&[0]), &NodeMask::EMPTY, false);
        assert_eq!(t.tiers.len(), 1);
    }

    #[test]
    fn a_device_faster_than_dram_is_kept_in_its_place_and_doubted() {
        let nodes = [node(0, true, Some(100), 10), node(1, false, Some(40), 20)];
        let t = judge(&nodes, &mask(&[0]), &mask(&[1]), false);
        assert_eq!(t.tiers[0].kind, TierKind::Device);
        assert!(t.doubts.iter().any(|d| d.contains("faster than DRAM")));
    }

    #[test]
    fn a_published_table_is_what_readers_get() {
        let table = TierTable { tiers: Vec::new(), doubts: vec!["x".into()] };
        publish(table.clone());
        assert_eq!(tiers(), table);
        publish(TierTable::default());
        assert_eq!(tiers(), TierTable::default());
    }
}
