//! hwloc's view of the machine's memory, for Terrace's control thread and for `terrace topology`.
//!
//! A shared library of its own, because libhwloc and libudev, which it needs, have constructors that would otherwise
//! run in every preloaded process. It is loaded by name from the directory of `libterrace.so`, only where there is
//! a device tier, and answers one question: which memory nodes hwloc knows, with the latency and bandwidth from the
//! nearest processors (HMAT, or what a driver told it) and the kind of memory. Zone: control.

use hwlocality::Topology;
use hwlocality::memory::attribute::MemoryAttribute;
use hwlocality::object::TopologyObject;
use hwlocality::object::attributes::ObjectAttributes;
use hwlocality::object::types::ObjectType;

/// One memory node. The layout is the interface between two libraries: a change needs a new function name.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// The kernel's number of the node.
    pub id: u32,
    /// Read latency from the nearest processors, ns; 0 = not known.
    pub latency_ns: u32,
    /// Read bandwidth from there, MB/s; 0 = not known.
    pub bandwidth_mbps: u32,
    /// Zero.
    pub reserved: u32,
    /// Bytes of memory.
    pub capacity: u64,
    /// hwloc's word for the kind of memory (`DRAM`, `HBM`, `NVM`, `CXL-DRAM`…), ended by a zero; empty = none.
    pub subtype: [u8; 24],
}

/// Writes what hwloc knows of at most `room` nodes to `nodes` and returns how many it knows, or -1 if it cannot tell.
///
/// # Safety
/// * `nodes` has room for `room` nodes, or `room` is 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn terrace_topology_v1(nodes: *mut Node, room: usize) -> isize {
    let Some(found) = discover() else { return -1 };
    for (at, node) in found.iter().enumerate().take(room) {
        // SAFETY: `at` is below `room`, for which the caller has made room.
        unsafe { nodes.add(at).write(*node) };
    }
    found.len().cast_signed()
}

/// Every memory node, by number.
#[must_use]
pub fn discover() -> Option<Vec<Node>> {
    let topology = Topology::new().ok()?;
    let latency = MemoryAttribute::read_latency(&topology);
    let bandwidth = MemoryAttribute::read_bandwidth(&topology);
    // Tables that tell reads from writes are rare; most give one figure for both.
    let latencies = [latency, MemoryAttribute::latency(&topology)];
    let bandwidths = [bandwidth, MemoryAttribute::bandwidth(&topology)];
    let nodes = topology.objects_with_type(ObjectType::NUMANode).filter_map(|object| {
        Some(Node {
            id: u32::try_from(object.os_index()?).ok()?,
            latency_ns: from_nearest(&latencies, object),
            bandwidth_mbps: from_nearest(&bandwidths, object),
            reserved: 0,
            capacity: capacity(object),
            subtype: subtype(object),
        })
    });
    let mut nodes: Vec<Node> = nodes.collect();
    nodes.sort_by_key(|node| node.id);
    Some(nodes)
}

/// The first of these attributes that has a value for the node, seen from its best initiator; 0 = none has.
fn from_nearest(attributes: &[MemoryAttribute<'_>], node: &TopologyObject) -> u32 {
    let best = |attribute: &MemoryAttribute<'_>| {
        attribute.best_initiator(node).ok().flatten().map(|(_, value)| value)
    };
    attributes.iter().find_map(best).and_then(|value| u32::try_from(value).ok()).unwrap_or(0)
}

fn capacity(node: &TopologyObject) -> u64 {
    match node.attributes() {
        Some(ObjectAttributes::NUMANode(numa)) => numa.local_memory().map_or(0, |bytes| bytes.get()),
        _ => 0,
    }
}

/// hwloc 2.9 keeps the kind of memory in an info string, later versions in the subtype.
fn subtype(node: &TopologyObject) -> [u8; 24] {
    let word = node.subtype().map_or(&[][..], |word| word.to_bytes());
    let mut bytes = [0; 24];
    let length = word.len().min(bytes.len() - 1);
    bytes[..length].copy_from_slice(&word[..length]);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machines_memory_is_found() {
        let nodes = discover().expect("hwloc reads this machine");
        assert!(nodes.iter().map(|node| node.capacity).sum::<u64>() > 64 << 20, "{nodes:?}");
        assert!(nodes.is_sorted_by_key(|node| node.id));
    }

    #[test]
    fn the_c_function_fills_no_more_than_it_may() {
        let untouched = Node { id: 77, ..Node::default() };
        let mut nodes = [untouched; 3];
        // SAFETY: room for one of three.
        let known = unsafe { terrace_topology_v1(nodes.as_mut_ptr(), 1) };
        assert!(known >= 1);
        assert_ne!(nodes[0], untouched);
        assert_eq!(nodes[1..], [untouched; 2]);
        // SAFETY: no room is asked for.
        assert_eq!(unsafe { terrace_topology_v1(std::ptr::null_mut(), 0) }, known);
    }
}
