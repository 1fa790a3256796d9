//! The inside view: what Terrace says of itself, read from its statistics page.
//!
//! Zone: control (a program of its own).

use std::io;

use terrace::control::stats::{StatsPage, StatsSnapshot};

use crate::json::{Line, Value};

/// Terrace's own account of one process.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Inside {
    /// Bytes in DRAM.
    pub dram: u64,
    /// Bytes on the device.
    pub device: u64,
    /// The DRAM budget in bytes.
    pub budget: u64,
    /// Pages promoted, demoted and evicted since the start.
    pub promoted: u64,
    /// See `promoted`.
    pub demoted: u64,
    /// See `promoted`.
    pub evicted: u64,
    /// Pages that could not be moved.
    pub failed: u64,
    /// Pages moved back within 30 s of their last move.
    pub returned: u64,
    /// Ticks of the control thread.
    pub ticks: u64,
    /// The tracker in use.
    pub tracker: String,
}

impl Inside {
    /// Pages moved, all kinds.
    pub fn moved(&self) -> u64 {
        self.promoted + self.demoted + self.evicted
    }

    /// Adds this view to a line of the record.
    pub fn write(&self, line: Line) -> Line {
        line.count("in_dram", self.dram)
            .count("in_device", self.device)
            .count("budget", self.budget)
            .count("promoted", self.promoted)
            .count("demoted", self.demoted)
            .count("evicted", self.evicted)
            .count("failed", self.failed)
            .count("returned", self.returned)
            .count("ticks", self.ticks)
            .text("tracker", &self.tracker)
    }

    /// Reads what [`Inside::write`] wrote.
    pub fn of(line: &Value) -> Inside {
        let count = |name| line.number(name) as u64;
        Inside {
            dram: count("in_dram"),
            device: count("in_device"),
            budget: count("budget"),
            promoted: count("promoted"),
            demoted: count("demoted"),
            evicted: count("evicted"),
            failed: count("failed"),
            returned: count("returned"),
            ticks: count("ticks"),
            tracker: line.text("tracker").to_owned(),
        }
    }
}

/// What process `pid` says of itself; `None` while it publishes nothing, as before its heap passes the threshold.
///
/// # Errors
/// When there is a page but it is not ours to read.
pub fn read(pid: i32) -> io::Result<Option<Inside>> {
    match StatsPage::read_pid(pid.unsigned_abs()) {
        Ok(snapshot) => Ok(Some(Inside::from(&snapshot))),
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Err(e),
        // No page, or one that is just being made. A view that stays away fails `checks::views_agree`.
        Err(_) => Ok(None),
    }
}

impl From<&StatsSnapshot> for Inside {
    fn from(snapshot: &StatsSnapshot) -> Inside {
        let bytes =
            |device: u64| snapshot.tiers().iter().filter(|t| t.device == device).map(|t| t.bytes).sum();
        Inside {
            dram: bytes(0),
            device: bytes(1),
            budget: snapshot.tiers().iter().filter(|t| t.device == 0).map(|t| t.budget).sum(),
            promoted: snapshot.promoted,
            demoted: snapshot.demoted,
            evicted: snapshot.evicted,
            failed: snapshot.failed.iter().sum(),
            returned: snapshot.ping_pong,
            ticks: snapshot.ticks,
            tracker: snapshot.tracker(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json;
    use terrace::control::stats::TierStats;

    #[test]
    fn tiers_are_added_up_by_kind() {
        let mut snapshot =
            StatsSnapshot { tier_count: 3, promoted: 5, failed: [1; 6], ..StatsSnapshot::default() };
        snapshot.tiers[0] =
            TierStats { device: 0, bytes: 10, budget: 20, high: 0, low: 0, ..TierStats::default() };
        snapshot.tiers[1] =
            TierStats { device: 1, bytes: 3, budget: 9, high: 0, low: 0, ..TierStats::default() };
        snapshot.tiers[2] =
            TierStats { device: 1, bytes: 4, budget: 9, high: 0, low: 0, ..TierStats::default() };
        snapshot.set_tracker("refs");
        let inside = Inside::from(&snapshot);
        assert_eq!((inside.dram, inside.device, inside.budget), (10, 7, 20));
        assert_eq!((inside.moved(), inside.failed, inside.tracker.as_str()), (5, 6, "refs"));
        let line = inside.write(Line::new("sample", 1.0)).finish();
        assert_eq!(Inside::of(&json::parse(&line).expect("valid JSON")), inside);
    }

    #[test]
    fn a_process_without_a_page_has_no_inside_view() {
        assert_eq!(read(std::process::id() as i32).expect("not an error"), None);
    }
}
