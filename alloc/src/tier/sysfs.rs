//! Topology from sysfs, for machines where the hwloc plug-in is not installed.
//!
//! Zone: control. Facts only; [`super::topology`] judges them. Kernel: admin-guide/mm/numaperf.

use super::topology::{Figure, Node, Source};
use crate::sys::numa::NodeMask;
use std::fs;
use std::path::Path;

/// Every online node below `root` (`/sys`, or a copy of it); empty if there is no such tree.
#[must_use]
pub fn read(root: &Path) -> Vec<Node> {
    let base = root.join("devices/system/node");
    let Some(online) = text(&base.join("online")).and_then(|t| NodeMask::parse(t.as_bytes())) else {
        return Vec::new();
    };
    let with_cpu: NodeMask =
        text(&base.join("has_cpu")).and_then(|t| NodeMask::parse(t.as_bytes())).unwrap_or(NodeMask::EMPTY);
    let near = with_cpu.first().unwrap_or(0);
    let position = online.iter().position(|n| n == near).unwrap_or(0);
    online
        .iter()
        .map(|id| {
            let dir = base.join(format!("node{id}"));
            // access1 counts processors only as initiators, access0 any.
            let figure = |name: &str| {
                [1, 0].iter().find_map(|class| {
                    let value: u32 =
                        text(&dir.join(format!("access{class}/initiators/{name}")))?.parse().ok()?;
                    (value > 0).then_some(Figure { value, source: Source::Hmat })
                })
            };
            Node {
                id,
                has_cpu: with_cpu.has(id),
                capacity: capacity(&dir.join("meminfo")),
                latency_ns: figure("read_latency"),
                bandwidth_mbps: figure("read_bandwidth"),
                distance: text(&dir.join("distance"))
                    .and_then(|t| t.split_whitespace().nth(position)?.parse().ok()),
                subtype: String::new(),
            }
        })
        .collect()
}

fn capacity(meminfo: &Path) -> u64 {
    let text = text(meminfo).unwrap_or_default();
    let line = text.lines().find(|line| line.contains("MemTotal:"));
    let kib = line.and_then(|line| line.split_whitespace().rev().nth(1)?.parse::<u64>().ok());
    kib.unwrap_or(0) << 10
}

fn text(path: &Path) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_own_node_is_found() {
        let nodes = read(Path::new("/sys"));
        assert!(!nodes.is_empty() && nodes.iter().any(|n| n.has_cpu && n.capacity > 0));
    }

    #[test]
    fn figures_come_from_the_firmware_table_or_are_unknown() {
        let root = std::env::temp_dir().join(format!("terrace-sysfs-test-{}", std::process::id()));
        let base = root.join("devices/system/node");
        let put = |name: &str, text: &str| {
            let path = base.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        put("online", "0-1\n");
        put("has_cpu", "0\n");
        put("node0/meminfo", "Node 0 MemTotal:       1024 kB\nNode 0 MemFree: 5 kB\n");
        put("node0/distance", "10 40\n");
        put("node1/meminfo", "Node 1 MemTotal:       2048 kB\n");
        put("node1/distance", "40 10\n");
        put("node1/access0/initiators/read_latency", "600\n");
        put("node1/access0/initiators/read_bandwidth", "0\n");
        let nodes = read(&root);
        fs::remove_dir_all(root).unwrap();
        assert_eq!((nodes[0].capacity, nodes[0].has_cpu, nodes[0].latency_ns), (1 << 20, true, None));
        assert_eq!((nodes[1].capacity, nodes[1].has_cpu, nodes[1].distance), (2 << 20, false, Some(40)));
        assert_eq!(nodes[1].latency_ns, Some(Figure { value: 600, source: Source::Hmat }));
        assert_eq!(nodes[1].bandwidth_mbps, None);
    }

    #[test]
    fn no_sysfs_is_no_topology() {
        assert!(read(Path::new("/nonexistent")).is_empty());
    }
}
