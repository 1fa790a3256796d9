//! One reading of a statistics page, with the names of the JSON output.

use std::collections::BTreeMap;
use std::io;

use serde::Serialize;
use terrace::control::stats::{FAILURES, StatsPage};

use super::why::name_of;

/// What a process says about itself. Counters run from its start.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Snapshot {
    pub(super) pid: u32,
    /// The program's name, from /proc; empty if that is out of reach.
    pub(super) name: String,
    pub(super) mode: String,
    pub(super) tracker: String,
    pub(super) ticks: u64,
    pub(super) tick_ms: u64,
    pub(super) page_bytes: u64,
    /// Fastest first.
    pub(super) tiers: Vec<TierUse>,
    pub(super) moves: Moves,
    pub(super) extents: u64,
    pub(super) arenas: u64,
    pub(super) vmas: u64,
    /// What the tracker took of the last tick.
    pub(super) tracker_ns: u64,
    /// What the last tick took.
    pub(super) tick_ns: u64,
}

/// A tier as this process uses it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct TierUse {
    pub(super) kind: String,
    pub(super) bytes: u64,
    pub(super) budget_bytes: u64,
    pub(super) high_bytes: u64,
    /// What a load takes: lately, and at least; `null` if it was not measured.
    pub(super) latency_ns: Option<u64>,
    pub(super) idle_latency_ns: Option<u64>,
    pub(super) low_bytes: u64,
}

/// Pages (of `page_bytes`) moved, and not moved.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Moves {
    pub(super) promoted: u64,
    pub(super) demoted: u64,
    pub(super) evicted: u64,
    /// By errno.
    pub(super) failed: BTreeMap<String, u64>,
    pub(super) ping_pong: u64,
    pub(super) dropped: u64,
    pub(super) bytes: u64,
}

/// What process `pid` published last; errors as [`StatsPage::read_pid`] gives them.
pub(super) fn read(pid: u32) -> io::Result<Snapshot> {
    let page = StatsPage::read_pid(pid)?;
    let known = |ns: u64| (ns > 0).then_some(ns);
    let tier = |tier: &terrace::control::stats::TierStats| TierUse {
        kind: if tier.device == 0 { "dram" } else { "device" }.to_owned(),
        bytes: tier.bytes,
        budget_bytes: tier.budget,
        high_bytes: tier.high,
        latency_ns: known(tier.latency),
        idle_latency_ns: known(tier.idle_latency),
        low_bytes: tier.low,
    };
    Ok(Snapshot {
        pid,
        name: name_of(pid),
        mode: page.mode_name().to_owned(),
        tracker: page.tracker(),
        ticks: page.ticks,
        tick_ms: page.tick_ms,
        page_bytes: page.page_bytes,
        tiers: page.tiers().iter().map(tier).collect(),
        moves: Moves {
            promoted: page.promoted,
            demoted: page.demoted,
            evicted: page.evicted,
            failed: FAILURES.iter().map(|&errno| errno.to_owned()).zip(page.failed).collect(),
            ping_pong: page.ping_pong,
            dropped: page.dropped,
            bytes: page.bytes_moved,
        },
        extents: page.extents,
        arenas: page.arenas,
        vmas: page.vmas,
        tracker_ns: page.tracker_ns,
        tick_ns: page.tick_ns,
    })
}
