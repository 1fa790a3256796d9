//! Counted memory accesses: the ground truth a tiering allocator is judged by.

use crate::error::LabError;
use crate::layout::Layout;
use crate::setup::{self, Source};
use std::ops::Range;
use std::path::Path;

/// Accesses to the memory of one node, made by user-mode instructions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accesses {
    /// Loads.
    pub reads: u64,
    /// Stores.
    pub writes: u64,
}

impl Accesses {
    /// Loads and stores.
    pub fn total(self) -> u64 {
        self.reads + self.writes
    }
}

/// The accesses counted up to one mark, since the mark before it (or the start of the machine).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The number the program gave, or [`Mark::END`].
    pub id: u32,
    /// By node.
    pub nodes: Vec<Accesses>,
    /// Accesses in the watched range to memory of no node, such as a mapped device.
    pub elsewhere: Accesses,
}

impl Mark {
    /// The [`id`](Mark::id) of what was counted after the last mark, when the machine ended.
    pub const END: u32 = u32::MAX;

    /// The share of all accesses that went to this node, 0 to 1; 0 when nothing was counted.
    pub fn share(&self, node: usize) -> f64 {
        let all: u64 = self.nodes.iter().map(|n| n.total()).sum::<u64>() + self.elsewhere.total();
        let here = self.nodes.get(node).map_or(0, |n| n.total());
        if all == 0 { 0.0 } else { here as f64 / all as f64 }
    }
}

/// The emulator's arguments that load the counter.
pub(crate) fn plugin_args(
    layout: Layout,
    dram_mib: u64,
    device_mib: u64,
    range: &Range<u64>,
    to: &Path,
    qemu: (u32, u32),
) -> Result<Vec<String>, LabError> {
    if range.is_empty() {
        return Err(LabError::Usage(format!("count range {:#x}-{:#x} is empty", range.start, range.end)));
    }
    let api = match qemu {
        (0..9, _) => "-DAPI=1",
        (9, 0) => "-DAPI=2",
        _ => "-DAPI=3",
    };
    let plugin = setup::compile(&Source {
        name: "memcount",
        text: include_str!("../plugin/memcount.c"),
        headers: &[
            ("qemu.h", include_str!("../plugin/qemu.h")),
            ("marks.h", include_str!("../guest/marks.h")),
        ],
        flags: &["-shared", "-fPIC", "-fvisibility=hidden", api],
    })?;
    let mut arg = format!("{},out={},va={:#x}-{:#x}", plugin.display(), to.display(), range.start, range.end);
    for node in physical_ranges(layout, dram_mib, device_mib, qemu) {
        arg.push_str(&format!(",node={:#x}-{:#x}", node.start, node.end));
    }
    Ok(vec!["-plugin".into(), arg])
}

/// The "physical addresses" by which the emulator's plugin interface names each node's memory.
///
/// Since QEMU 8.2 they are guest-physical. Before, they are the offset of the memory block in the emulator's
/// list of blocks *plus* the block's place in the machine's RAM; blocks are listed in the order of the command
/// line, so both are the same sum of the sizes before it. (Not documented anywhere: the exact counts of
/// `tests/counts.rs` are the proof.)
fn physical_ranges(layout: Layout, dram_mib: u64, device_mib: u64, qemu: (u32, u32)) -> Vec<Range<u64>> {
    let above_4g = 4096 + dram_mib - Layout::low_mib(dram_mib);
    let nodes = layout.nodes(dram_mib, device_mib).into_iter().enumerate();
    nodes
        .map(|(n, node)| {
            let (start, size) = match n {
                _ if qemu < (8, 2) => (2 * node.start_mib, node.size_mib),
                // Node 0 may lie on both sides of the hole below 4 GiB; nothing else is RAM there.
                0 => (0, above_4g),
                _ => (above_4g + node.start_mib - dram_mib, node.size_mib),
            };
            start << 20..(start + size) << 20
        })
        .collect()
}

/// Reads the plugin's file: a line a mark, `ID r w r w ... r w`, the last pair being "elsewhere".
pub(crate) fn parse(text: &str) -> Result<Vec<Mark>, LabError> {
    let bad =
        |line: &str| LabError::Setup(format!("the access counter wrote a line that makes no sense: {line}"));
    text.lines()
        .map(|line| {
            let mut words = line.split(' ');
            let id = match words.next() {
                Some("end") => Mark::END,
                Some(word) => word.parse().map_err(|_| bad(line))?,
                None => return Err(bad(line)),
            };
            let numbers: Vec<u64> =
                words.map(|w| w.parse().map_err(|_| bad(line))).collect::<Result<_, _>>()?;
            let mut nodes: Vec<Accesses> =
                numbers.chunks_exact(2).map(|rw| Accesses { reads: rw[0], writes: rw[1] }).collect();
            let elsewhere =
                nodes.pop().filter(|_| numbers.len().is_multiple_of(2)).ok_or_else(|| bad(line))?;
            Ok(Mark { id, nodes, elsewhere })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_mark() {
        let marks = parse("7 1 2 3 4 0 5\nend 0 0 0 0 0 0\n").unwrap();
        assert_eq!(marks[0].id, 7);
        assert_eq!(marks[0].nodes, [Accesses { reads: 1, writes: 2 }, Accesses { reads: 3, writes: 4 }]);
        assert_eq!(marks[0].elsewhere.total(), 5);
        assert_eq!(marks[0].share(1), 7.0 / 15.0);
        assert_eq!((marks[1].id, marks[1].share(0)), (Mark::END, 0.0));
    }

    #[test]
    fn a_torn_line_is_an_error() {
        assert!(parse("7 1 2 3").is_err());
        assert!(parse("7").is_err());
        assert!(parse("x 1 2").is_err());
    }
}
