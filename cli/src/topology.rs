//! `terrace topology`: the tiers of this machine, what is known of each, and which source said so.

mod doubts;
mod facts;
mod view;

use std::io::{self, Write};
use std::path::PathBuf;

use terrace::config;
use terrace::sys::numa;

use crate::fail::Fail;
use crate::table::{Table, bytes};
use view::{Figure, NodeView, Topology};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// As JSON
    #[arg(long)]
    json: bool,
    /// Read this tree instead of /sys
    #[arg(long, value_name = "DIR", default_value = "/sys", hide = true)]
    sysfs: PathBuf,
}

pub(crate) fn run(args: &Args) -> Result<(), Fail> {
    // What the cpuset allows is known of this machine only, not of a copied tree.
    let here = args.sysfs.as_os_str() == "/sys";
    let allowed = numa::mems_allowed().ok().filter(|_| here);
    let mut facts = facts::read(&args.sysfs);
    // hwloc, too, knows this machine only.
    let doubts = if here { facts.ask_hwloc() } else { Vec::new() };
    let mut topology = view::assemble(&facts, config::get().device_nodes.as_ref(), allowed.as_ref());
    topology.contradictions.extend(doubts);
    let mut out = io::stdout().lock();
    if args.json {
        serde_json::to_writer_pretty(&mut out, &topology).map_err(io::Error::from)?;
        writeln!(out)?;
    } else {
        print(&mut out, &topology)?;
    }
    Ok(())
}

fn print(out: &mut impl Write, topology: &Topology) -> io::Result<()> {
    let mut tiers = Table::new(&["tier", "nodes", "capacity", "free", "latency", "bandwidth"]);
    for tier in &topology.tiers {
        let nodes = tier.nodes.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
        let (latency, bandwidth) =
            (latency(tier.latency_ns.as_ref()), bandwidth(tier.bandwidth_mbps.as_ref()));
        tiers.row([
            tier.kind.to_owned(),
            nodes,
            bytes(tier.capacity_bytes),
            bytes(tier.free_bytes),
            latency,
            bandwidth,
        ]);
    }
    tiers.print(out)?;
    writeln!(out)?;
    let mut nodes = Table::new(&[
        "node",
        "kind",
        "CPUs",
        "capacity",
        "free",
        "read",
        "write",
        "read bw",
        "write bw",
        "distance",
        "kernel tier",
        "source",
    ]);
    for node in &topology.nodes {
        nodes.row(node_row(node));
    }
    nodes.print(out)?;
    section(out, "Contradictions:", &topology.contradictions)?;
    section(out, "Notes:", &topology.notes)
}

fn node_row(node: &NodeView) -> [String; 12] {
    let or_dash = |value: Option<u32>| value.map_or_else(|| "-".to_owned(), |v| v.to_string());
    let source = node.read_latency_ns.as_ref().or(node.read_bandwidth_mbps.as_ref());
    [
        node.node.to_string(),
        if node.subtype.is_empty() {
            node.kind.to_owned()
        } else {
            format!("{} ({})", node.kind, node.subtype)
        },
        if node.cpus.is_empty() { "none".to_owned() } else { node.cpus.clone() },
        bytes(node.capacity_bytes),
        bytes(node.free_bytes),
        latency(node.read_latency_ns.as_ref()),
        latency(node.write_latency_ns.as_ref()),
        bandwidth(node.read_bandwidth_mbps.as_ref()),
        bandwidth(node.write_bandwidth_mbps.as_ref()),
        or_dash(node.distance),
        or_dash(node.kernel_tier),
        source.map_or_else(|| "no HMAT".to_owned(), |f| f.source.clone()),
    ]
}

fn latency(figure: Option<&Figure>) -> String {
    figure.map_or_else(|| "unknown".to_owned(), |f| format!("{} ns", f.value))
}

fn bandwidth(figure: Option<&Figure>) -> String {
    figure.map_or_else(|| "unknown".to_owned(), |f| format!("{:.1} GB/s", f64::from(f.value) / 1000.0))
}

fn section(out: &mut impl Write, title: &str, lines: &[String]) -> io::Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n{title}")?;
    lines.iter().try_for_each(|line| writeln!(out, "* {line}"))
}

/// Whether this machine has a device tier, with these nodes named as devices or with those that have no CPU.
pub(crate) fn has_device_tier(devices: Option<&numa::NodeMask>) -> bool {
    let facts = facts::read(std::path::Path::new("/sys"));
    view::assemble(&facts, devices, None).tiers.iter().any(|tier| tier.kind == "device")
}
