//! The tiers made of the facts, ready to print: what `terrace topology` shows and what `--json` holds.

use serde::Serialize;
use terrace::sys::numa::NodeMask;

use super::doubts;
use super::facts::{Facts, Node};

/// The whole answer. Field names are those of the JSON output.
#[derive(Debug, Serialize)]
pub(super) struct Topology {
    /// Fastest first.
    pub(super) tiers: Vec<Tier>,
    pub(super) nodes: Vec<NodeView>,
    /// Where the sources of the figures contradict each other, one sentence each.
    pub(super) contradictions: Vec<String>,
    /// What follows for a program, one sentence each.
    pub(super) notes: Vec<String>,
}

/// Nodes of one kind and about one latency.
#[derive(Debug, Serialize)]
pub(super) struct Tier {
    pub(super) kind: &'static str,
    pub(super) nodes: Vec<u32>,
    pub(super) capacity_bytes: u64,
    pub(super) free_bytes: u64,
    pub(super) latency_ns: Option<Figure>,
    pub(super) bandwidth_mbps: Option<Figure>,
}

/// A number and where it came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Figure {
    pub(super) value: u32,
    pub(super) source: String,
}

/// One node.
#[derive(Debug, Serialize)]
pub(super) struct NodeView {
    pub(super) node: u32,
    pub(super) kind: &'static str,
    /// hwloc's word for the kind of memory, such as `HBM` or `CXL-DRAM`; empty = none, or no plug-in.
    pub(super) subtype: String,
    /// The kernel's list form; empty = none.
    pub(super) cpus: String,
    pub(super) capacity_bytes: u64,
    pub(super) free_bytes: u64,
    pub(super) read_latency_ns: Option<Figure>,
    pub(super) write_latency_ns: Option<Figure>,
    pub(super) read_bandwidth_mbps: Option<Figure>,
    pub(super) write_bandwidth_mbps: Option<Figure>,
    /// From the first node with CPUs, as the ACPI table has it; 10 = local.
    pub(super) distance: Option<u32>,
    /// The number of the kernel's own memory tier.
    pub(super) kernel_tier: Option<u32>,
    /// Whether this process's cpuset lets it allocate there.
    pub(super) allowed: bool,
}

/// Judges the facts. `devices`: the nodes named by configuration; `None` = those with memory and no CPU.
pub(super) fn assemble(facts: &Facts, devices: Option<&NodeMask>, allowed: Option<&NodeMask>) -> Topology {
    let is_device = |node: &Node| devices.map_or(node.cpus.is_empty(), |named| named.has(node.id));
    let local = facts.nodes.iter().find(|n| !n.cpus.is_empty());
    let by_hwloc = |value: Option<u32>| Some(Figure { value: value?, source: "hwloc".to_owned() });
    let mut nodes = Vec::new();
    for (at, node) in facts.nodes.iter().enumerate() {
        let figure = |pick: fn(&super::facts::Access) -> Option<u32>| {
            let access = node.access.as_ref()?;
            let from = access.initiators.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
            let seen = if from.is_empty() { String::new() } else { format!(" from node {from}") };
            Some(Figure { value: pick(access)?, source: format!("HMAT access{}{seen}", access.class) })
        };
        nodes.push(NodeView {
            node: node.id,
            kind: match (node.total_bytes, is_device(node)) {
                (0, _) => "no memory",
                (_, true) => "device",
                (_, false) => "dram",
            },
            subtype: node.hwloc.subtype.clone(),
            cpus: node.cpus.clone(),
            capacity_bytes: node.total_bytes,
            free_bytes: node.free_bytes,
            read_latency_ns: figure(|a| a.read_latency_ns).or_else(|| by_hwloc(node.hwloc.latency_ns)),
            write_latency_ns: figure(|a| a.write_latency_ns),
            read_bandwidth_mbps: figure(|a| a.read_bandwidth_mbps)
                .or_else(|| by_hwloc(node.hwloc.bandwidth_mbps)),
            write_bandwidth_mbps: figure(|a| a.write_bandwidth_mbps),
            distance: local.and_then(|l| l.distances.get(at).copied()),
            kernel_tier: facts.kernel_tiers.iter().find(|(_, mask)| mask.has(node.id)).map(|(n, _)| *n),
            allowed: allowed.is_none_or(|mask| mask.has(node.id)),
        });
    }
    let tiers = tiers(&nodes);
    let notes = notes(&tiers, &nodes, devices);
    Topology { tiers, nodes, contradictions: doubts::contradictions(facts), notes }
}

/// Groups nodes of one kind and about one latency; orders by latency, else DRAM first and then by distance.
fn tiers(nodes: &[NodeView]) -> Vec<Tier> {
    let mut ordered: Vec<&NodeView> = nodes.iter().filter(|n| n.capacity_bytes > 0).collect();
    let all_known = ordered.iter().all(|n| n.read_latency_ns.is_some());
    ordered.sort_by_key(|n| {
        let latency = n.read_latency_ns.as_ref().filter(|_| all_known).map(|f| f.value);
        (latency, n.kind == "device", n.distance, n.node)
    });
    let mut tiers: Vec<(Tier, Option<u32>)> = Vec::new();
    for node in ordered {
        let same = |(tier, distance): &(Tier, Option<u32>)| {
            let latencies = tier.latency_ns.as_ref().zip(node.read_latency_ns.as_ref());
            let near = latencies.map_or(node.kind == "dram" || *distance == node.distance, |(a, b)| {
                doubts::about_equal(a.value, b.value)
            });
            tier.kind == node.kind && near
        };
        if let Some((tier, _)) = tiers.last_mut().filter(|last| same(last)) {
            tier.nodes.push(node.node);
            tier.capacity_bytes += node.capacity_bytes;
            tier.free_bytes += node.free_bytes;
            continue;
        }
        let tier = Tier {
            kind: node.kind,
            nodes: vec![node.node],
            capacity_bytes: node.capacity_bytes,
            free_bytes: node.free_bytes,
            latency_ns: node.read_latency_ns.clone(),
            bandwidth_mbps: node.read_bandwidth_mbps.clone(),
        };
        tiers.push((tier, node.distance));
    }
    tiers.into_iter().map(|(tier, _)| tier).collect()
}

fn notes(tiers: &[Tier], nodes: &[NodeView], devices: Option<&NodeMask>) -> Vec<String> {
    let mut notes = Vec::new();
    let device = |kind: &str| kind == "device";
    if !tiers.iter().any(|t| device(t.kind)) {
        notes.push(
            "One tier only: every node with memory has CPUs. Terrace is a plain malloc here: no thread, no file, no \
             migration."
                .to_owned(),
        );
    } else if tiers.iter().any(|t| t.latency_ns.is_none()) {
        notes.push(
            "The firmware gives no latency for some tier: DRAM is taken to be faster than a device, devices are \
             ordered by distance."
                .to_owned(),
        );
    }
    for node in nodes.iter().filter(|n| !n.allowed && n.capacity_bytes > 0) {
        notes.push(format!(
            "Node {} is outside this process's cpuset: nothing will be placed there.",
            node.node
        ));
    }
    if devices.is_some() {
        notes.push("TERRACE_DEVICE_NODES names the device nodes; CPUs do not decide.".to_owned());
    }
    notes
}
