//! The machine's NUMA nodes, as sysfs lists them: which are DRAM, which are device memory.
//!
//! On purpose not Terrace's own discovery: what checks a claim must not be built on it.
//!
//! Zone: control (a program of its own).

use std::fs;
use std::path::Path;

const SYSFS: &str = "/sys/devices/system/node";

/// The nodes with memory, by kind.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Nodes {
    /// Nodes with CPUs.
    pub dram: Vec<u32>,
    /// Nodes without CPUs: device memory.
    pub device: Vec<u32>,
}

impl Nodes {
    /// The nodes of this machine; none on a kernel without NUMA.
    pub fn here() -> Nodes {
        Nodes::under(Path::new(SYSFS))
    }

    fn under(dir: &Path) -> Nodes {
        let list = |name: &str| parse_list(&fs::read_to_string(dir.join(name)).unwrap_or_default());
        let cpus = list("has_cpu");
        let (dram, device) = list("has_memory").into_iter().partition(|n| cpus.contains(n));
        Nodes { dram, device }
    }
}

/// Bytes of node `node` that are free, and that it has.
pub fn free_and_total(node: u32) -> Option<(u64, u64)> {
    parse_meminfo(&fs::read_to_string(format!("{SYSFS}/node{node}/meminfo")).ok()?)
}

/// Reads a kernel list such as `0-2,5`.
fn parse_list(text: &str) -> Vec<u32> {
    let mut nodes = Vec::new();
    for part in text.trim().split(',').filter(|p| !p.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.parse::<u32>(), last.parse::<u32>()) {
            nodes.extend(first..=last);
        }
    }
    nodes
}

/// Reads the `MemFree` and `MemTotal` lines of a node's meminfo.
fn parse_meminfo(text: &str) -> Option<(u64, u64)> {
    let field = |name: &str| {
        let line = text.lines().find(|l| l.contains(name))?;
        let kib: u64 = line.split_whitespace().rev().nth(1)?.parse().ok()?;
        Some(kib << 10)
    };
    Some((field(" MemFree:")?, field(" MemTotal:")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_nodes_are_read() {
        assert_eq!(parse_list("0-2,5\n"), [0, 1, 2, 5]);
        assert_eq!(parse_list("0\n"), [0]);
        assert_eq!(parse_list("\n"), []);
        assert_eq!(parse_list("x,3-"), []);
    }

    #[test]
    fn meminfo_is_in_kib() {
        let text =
            "Node 1 MemTotal:       1048576 kB\nNode 1 MemFree:          2048 kB\nNode 1 MemUsed: 1 kB\n";
        assert_eq!(parse_meminfo(text), Some((2 << 20, 1 << 30)));
        assert_eq!(parse_meminfo("nothing"), None);
    }

    #[test]
    fn this_machine_has_a_node_with_cpus() {
        assert!(!Nodes::here().dram.is_empty());
    }
}
