//! Budgets: the bytes this process may hold in each tier, from configuration, control group and what is free.
//!
//! Zone: control. [`Budget::new`] is pure; [`cgroup_limit`], [`node_bytes`] and [`available_bytes`] read the system.

use crate::config::{Amount, Config};
use crate::sys::numa::{self, NodeMask};
use std::fs;
use std::path::Path;

/// Least head-room on the device when it is derived, in bytes.
const LEAST_HEADROOM: u64 = 16 << 20;

/// What the machine and the process hold, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Measured {
    /// This process in DRAM and on device nodes.
    pub own: (u64, u64),
    /// Available on the DRAM nodes, and their size: pages of files that nobody used lately make room for the heap.
    pub dram: (u64, u64),
    /// Free on the device nodes, and their size.
    pub device: (u64, u64),
    /// The tightest limit of the control groups this process is in.
    pub cgroup: Option<u64>,
    /// DRAM to be left to others, who wait for it ([`Squeeze`](super::stall::Squeeze)).
    pub squeezed: u64,
}

impl Measured {
    /// Bytes of DRAM that could be this process's: a fiftieth of it all is the system's.
    #[must_use]
    pub fn dram_here(&self) -> u64 {
        (self.own.0 + self.dram.0).saturating_sub(self.dram.1 / 50)
    }
}

/// What follows: budgets, watermarks and head-room in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    /// Bytes in DRAM.
    pub dram: u64,
    /// Demotion starts above this.
    pub high: u64,
    /// Demotion stops here.
    pub low: u64,
    /// Bytes on device nodes.
    pub device: u64,
    /// Bytes to be left free on the device nodes.
    pub headroom: u64,
}

impl Budget {
    /// Derives the budgets.
    #[must_use]
    pub fn new(config: &Config, m: &Measured) -> Budget {
        let dram = match config.dram {
            Amount::Bytes(bytes) => bytes,
            Amount::Auto => {
                let here = m.dram_here().saturating_sub(m.squeezed);
                m.cgroup.map_or(here, |limit| here.min(limit))
            }
        };
        let headroom = match config.headroom {
            Amount::Bytes(bytes) => bytes,
            Amount::Auto => (m.device.1 / 50).max(LEAST_HEADROOM),
        };
        let device = match config.device {
            Amount::Bytes(bytes) => bytes,
            Amount::Auto => m.device.1.saturating_sub(headroom),
        };
        let percent = |p: u8| (u128::from(dram) * u128::from(p) / 100) as u64;
        Budget {
            dram,
            high: percent(config.high_percent),
            low: percent(config.low_percent),
            device,
            headroom,
        }
    }
}

/// Free and total bytes of a set of nodes.
#[must_use]
pub fn node_bytes(nodes: &NodeMask) -> (u64, u64) {
    nodes
        .iter()
        .filter_map(numa::node_free_bytes)
        .fold((0, 0), |(free, total), node| (free + node.0, total + node.1))
}

/// As [`node_bytes`], with what the kernel gives up when it is needed.
#[must_use]
pub fn available_bytes(nodes: &NodeMask) -> (u64, u64) {
    nodes
        .iter()
        .filter_map(numa::node_memory)
        .fold((0, 0), |(available, total), node| (available + node.available, total + node.total))
}

/// The smallest of `memory.high` and `memory.max` from this process's control group (version 2) up to the root.
#[must_use]
pub fn cgroup_limit() -> Option<u64> {
    limit_below(Path::new("/sys/fs/cgroup"), &fs::read_to_string("/proc/self/cgroup").ok()?)
}

fn limit_below(root: &Path, membership: &str) -> Option<u64> {
    let path = membership.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let mut dir = root.join(path);
    let mut least = None;
    while dir.starts_with(root) {
        for file in ["memory.high", "memory.max"] {
            let limit =
                fs::read_to_string(dir.join(file)).ok().and_then(|text| text.trim().parse::<u64>().ok());
            least = least.into_iter().chain(limit).min();
        }
        if !dir.pop() {
            break;
        }
    }
    least
}

#[cfg(test)]
mod tests {
    use super::*;

    const M: u64 = 1 << 20;

    fn measured() -> Measured {
        Measured {
            own: (100 * M, 50 * M),
            dram: (400 * M, 1000 * M),
            device: (900 * M, 2000 * M),
            cgroup: None,
            squeezed: 0,
        }
    }

    #[test]
    fn configured_bytes_are_the_budget_and_watermarks_are_its_percentages() {
        let config = Config { dram: Amount::Bytes(100 * M), ..Config::DEFAULT };
        let b = Budget::new(&config, &measured());
        assert_eq!((b.dram, b.high, b.low), (100 * M, 98 * M, 95 * M));
    }

    #[test]
    fn without_configuration_the_free_memory_and_the_control_group_decide() {
        let b = Budget::new(&Config::DEFAULT, &measured());
        assert_eq!(b.dram, 480 * M);
        let b = Budget::new(&Config::DEFAULT, &Measured { cgroup: Some(300 * M), ..measured() });
        assert_eq!(b.dram, 300 * M);
    }

    #[test]
    fn what_others_wait_for_is_theirs_unless_the_user_has_said_how_much_is_ours() {
        let squeezed = Measured { squeezed: 80 * M, ..measured() };
        assert_eq!(Budget::new(&Config::DEFAULT, &squeezed).dram, 400 * M);
        let config = Config { dram: Amount::Bytes(100 * M), ..Config::DEFAULT };
        assert_eq!(Budget::new(&config, &squeezed).dram, 100 * M);
    }

    #[test]
    fn head_room_is_a_fiftieth_of_the_device_but_at_least_16_mib() {
        assert_eq!(Budget::new(&Config::DEFAULT, &measured()).headroom, 40 * M);
        let small = Measured { device: (90 * M, 100 * M), ..measured() };
        let b = Budget::new(&Config::DEFAULT, &small);
        assert_eq!((b.headroom, b.device), (16 * M, 84 * M));
    }

    #[test]
    fn the_tightest_limit_on_the_way_to_the_root_counts() {
        let root = std::env::temp_dir().join(format!("terrace-cgroup-test-{}", std::process::id()));
        let dir = root.join("a/b");
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("memory.max"), "max\n").unwrap();
        fs::write(root.join("a/memory.high"), "12345\n").unwrap();
        fs::write(root.join("a/memory.max"), "99999\n").unwrap();
        assert_eq!(limit_below(&root, "1:name=x:/old\n0::/a/b\n"), Some(12345));
        assert_eq!(limit_below(&root, "1:name=x:/old\n"), None);
        fs::remove_dir_all(root).unwrap();
    }
}
