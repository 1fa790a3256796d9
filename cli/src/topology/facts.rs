//! What the kernel says about the machine's memory, unjudged: sysfs as it is.

use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use terrace::sys::numa::NodeMask;
use terrace::tier::hwloc;
use terrace::tier::topology::{Figure, Source};

/// Everything read, one entry a node that is online.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) nodes: Vec<Node>,
    /// The kernel's own tiers (`memory_tierN`): number and nodes, as numbered: a lower number is faster.
    pub(super) kernel_tiers: Vec<(u32, NodeMask)>,
}

/// One NUMA node.
#[derive(Debug, Default, Clone)]
pub(super) struct Node {
    pub(super) id: u32,
    /// The kernel's list form; empty = no CPU.
    pub(super) cpus: String,
    pub(super) total_bytes: u64,
    pub(super) free_bytes: u64,
    pub(super) access: Option<Access>,
    /// What hwloc knows that `access` does not, through the topology plug-in.
    pub(super) hwloc: Hwloc,
    /// SLIT distances to every online node, in the order of `Facts::nodes`.
    pub(super) distances: Vec<u32>,
}

/// hwloc's word for the kind of memory, and its figures where the kernel gives none.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Hwloc {
    pub(super) subtype: String,
    pub(super) latency_ns: Option<u32>,
    pub(super) bandwidth_mbps: Option<u32>,
}

/// What the firmware's HMAT says about access from the best CPUs to a node, through the kernel's access class.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Access {
    /// `access1` counts CPUs only, `access0` any initiator; the former is taken where it exists.
    pub(super) class: u32,
    /// The nodes the figures are seen from.
    pub(super) initiators: Vec<u32>,
    pub(super) read_latency_ns: Option<u32>,
    pub(super) write_latency_ns: Option<u32>,
    pub(super) read_bandwidth_mbps: Option<u32>,
    pub(super) write_bandwidth_mbps: Option<u32>,
}

/// Reads the tree below `sys` (`/sys`, or a copy of one). A file that is missing is a fact that is not known.
pub(super) fn read(sys: &Path) -> Facts {
    let base = sys.join("devices/system/node");
    let online = list(&base.join("online")).unwrap_or_else(|| NodeMask::of(0));
    let nodes = online.iter().map(|id| node(&base.join(format!("node{id}")), id)).collect();
    Facts { nodes, kernel_tiers: kernel_tiers(&sys.join("devices/virtual/memory_tiering")) }
}

impl Facts {
    /// Adds what the plug-in knows of this machine, if it is installed; returns where it contradicts the kernel.
    pub(super) fn ask_hwloc(&mut self) -> Vec<String> {
        let figure = |value: Option<u32>| value.map(|value| Figure { value, source: Source::Hmat });
        let known = self.nodes.iter().map(|node| terrace::tier::topology::Node {
            id: node.id,
            has_cpu: !node.cpus.is_empty(),
            capacity: node.total_bytes,
            latency_ns: figure(node.access.as_ref().and_then(|a| a.read_latency_ns)),
            bandwidth_mbps: figure(node.access.as_ref().and_then(|a| a.read_bandwidth_mbps)),
            distance: None,
            subtype: String::new(),
        });
        let mut known: Vec<_> = known.collect();
        let doubts = hwloc::complete(&mut known);
        for (node, known) in self.nodes.iter_mut().zip(known) {
            let added =
                |figure: Option<Figure>| figure.filter(|f| f.source == Source::Hwloc).map(|f| f.value);
            node.hwloc = Hwloc {
                subtype: known.subtype,
                latency_ns: added(known.latency_ns),
                bandwidth_mbps: added(known.bandwidth_mbps),
            };
        }
        doubts
    }
}

fn node(dir: &Path, id: u32) -> Node {
    let (total_bytes, free_bytes) = meminfo(&dir.join("meminfo"));
    let distances = text(&dir.join("distance")).unwrap_or_default();
    Node {
        id,
        cpus: text(&dir.join("cpulist")).unwrap_or_default(),
        total_bytes,
        free_bytes,
        access: [1, 0].into_iter().find_map(|class| access(dir, class)),
        hwloc: Hwloc::default(),
        distances: distances.split_whitespace().filter_map(|d| d.parse().ok()).collect(),
    }
}

/// `Node 1 MemTotal:  1048576 kB` and MemFree, in bytes.
fn meminfo(path: &Path) -> (u64, u64) {
    let text = text(path).unwrap_or_default();
    let field = |name: &str| {
        let line = text.lines().find(|line| line.contains(name))?;
        line.split_whitespace().rev().nth(1)?.parse::<u64>().ok().map(|kib| kib << 10)
    };
    (field("MemTotal:").unwrap_or(0), field("MemFree:").unwrap_or(0))
}

fn access(dir: &Path, class: u32) -> Option<Access> {
    let dir = dir.join(format!("access{class}/initiators"));
    // The kernel writes 0 for "the table does not say".
    let figure = |name: &str| parsed::<u32>(&dir.join(name)).filter(|&value| value > 0);
    let found = Access {
        class,
        initiators: numbered(&dir, "node").into_iter().map(|(id, _)| id).collect(),
        read_latency_ns: figure("read_latency"),
        write_latency_ns: figure("write_latency"),
        read_bandwidth_mbps: figure("read_bandwidth"),
        write_bandwidth_mbps: figure("write_bandwidth"),
    };
    let says_something = found.read_latency_ns.is_some() || found.read_bandwidth_mbps.is_some();
    says_something.then_some(found)
}

fn kernel_tiers(dir: &Path) -> Vec<(u32, NodeMask)> {
    let tiers = numbered(dir, "memory_tier").into_iter();
    tiers.filter_map(|(number, path)| Some((number, list(&path.join("nodelist"))?))).collect()
}

/// The entries of `dir` named `prefix` and a number, ascending.
fn numbered(dir: &Path, prefix: &str) -> Vec<(u32, PathBuf)> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut found: Vec<_> = entries
        .filter_map(|e| Some((e.file_name().to_str()?.strip_prefix(prefix)?.parse().ok()?, e.path())))
        .collect();
    found.sort();
    found
}

fn text(path: &Path) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

fn parsed<T: FromStr>(path: &Path) -> Option<T> {
    text(path)?.parse().ok()
}

fn list(path: &Path) -> Option<NodeMask> {
    NodeMask::parse(text(path)?.as_bytes())
}
