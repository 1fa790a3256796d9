//! The table of `TERRACE_*` variables: the one place where a name, its type, range, default and meaning stand.
//!
//! Parsing, the command line's checks and `docs/configuration.md` all derive from it. Zone: cold; `core` only.

use core::fmt;

use super::FileName;

/// One environment variable.
#[derive(Clone, Copy, Debug)]
pub struct Variable {
    /// The whole name, with its prefix.
    pub name: &'static str,
    /// What values it takes.
    pub kind: Kind,
    /// The default, as one would write it in the environment; empty = not set.
    pub default: &'static str,
    /// What it does, one or two sentences of Markdown.
    pub meaning: &'static str,
}

/// The type and range of a variable's value.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// One of these words.
    Word(&'static [&'static str]),
    /// Bytes between `min` and `max`, or the word `auto` where `auto` is set.
    Size {
        /// Whether `auto` is a value.
        auto: bool,
        /// Least value, bytes.
        min: u64,
        /// Greatest value, bytes.
        max: u64,
    },
    /// A whole number.
    Number {
        /// Least value.
        min: u64,
        /// Greatest value.
        max: u64,
        /// What is counted.
        unit: &'static str,
    },
    /// NUMA nodes: `1`, `1,3`, `1-3,5`.
    Nodes,
    /// Two percentages, `high,low`, with low below high.
    Watermarks,
    /// `1`/`on`/`yes`/`true` or `0`/`off`/`no`/`false`.
    Switch,
    /// A file name. Read by the `terrace` command, not by the library.
    Path,
    /// A file name that the library keeps.
    File,
}

impl Kind {
    /// The name of the type, for tables.
    pub fn type_name(&self) -> &'static str {
        match self {
            Kind::Word(_) => "word",
            Kind::Size { .. } => "size",
            Kind::Number { .. } => "number",
            Kind::Nodes => "node list",
            Kind::Watermarks => "percent,percent",
            Kind::Switch => "switch",
            Kind::Path | Kind::File => "path",
        }
    }
}

impl fmt::Display for Kind {
    /// The range of values, for tables and messages.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Kind::Word(words) => {
                for (i, word) in words.iter().enumerate() {
                    let comma = if i == 0 { "" } else { ", " };
                    write!(f, "{comma}{word}")?;
                }
                Ok(())
            }
            Kind::Size { auto, min, max } => {
                let or_auto = if auto { ", or auto" } else { "" };
                write!(f, "{} to {}{or_auto}", Size(min), Size(max))
            }
            Kind::Number { min, max, unit } => write!(f, "{min} to {max} {unit}"),
            Kind::Nodes => f.write_str("nodes 0 to 1023, as 1 or 1,3 or 1-3"),
            Kind::Watermarks => f.write_str("high,low: 1 to 100, low below high"),
            Kind::Switch => f.write_str("on or off (1/0, yes/no, true/false)"),
            Kind::Path => f.write_str("a file name"),
            Kind::File => write!(f, "a file name of at most {} bytes", FileName::LONGEST),
        }
    }
}

/// A size as one would write it: the largest unit that divides it.
pub(super) struct Size(pub(super) u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (shift, unit) in [(40, "T"), (30, "G"), (20, "M"), (10, "K")] {
            if self.0 != 0 && self.0.trailing_zeros() >= shift {
                return write!(f, "{}{unit}", self.0 >> shift);
            }
        }
        write!(f, "{}", self.0)
    }
}

/// The window of heap addresses holds 64 TiB: no tier of a process can be larger.
const MAX_SIZE: u64 = 64 << 40;
/// Less than this is no budget: the metadata and the first arena's pages alone need it.
const MIN_BUDGET: u64 = 1 << 20;
const BUDGET: Kind = Kind::Size { auto: true, min: MIN_BUDGET, max: MAX_SIZE };

/// The words of `TERRACE_MODE`, in the order of [`super::Mode`].
const MODES: &[&str] = &["isolate", "spill", "assist", "auto"];
/// The words of `TERRACE_TRACKER`, in the order of [`super::TrackerChoice`].
const TRACKERS: &[&str] = &["auto", "rwp", "perf", "idle", "refs", "writes", "alloc"];

/// Every variable Terrace reads, in the order of the documentation.
pub const VARIABLES: &[Variable] = &[
    Variable {
        name: "TERRACE_MODE",
        kind: Kind::Word(MODES),
        default: "auto",
        meaning: "How far ordinary `malloc` spreads. `isolate`: never on a device node without a hint. `spill`: DRAM \
                  first, then the device instead of failing; nothing migrates. `assist`: Terrace demotes and the kernel \
                  promotes, which takes `kernel.numa_balancing=2`; otherwise as `auto`. `auto`: pages migrate both \
                  ways. On a machine without a device node the modes do not differ.",
    },
    Variable {
        name: "TERRACE_DRAM",
        kind: BUDGET,
        default: "auto",
        meaning: "The DRAM budget: bytes of heap this process may hold in DRAM. `auto` derives it from the control \
                  group's limit and the memory that is free.",
    },
    Variable {
        name: "TERRACE_DEVICE",
        kind: BUDGET,
        default: "auto",
        meaning: "The device budget: bytes of heap this process may hold on device nodes. `auto`: what the nodes have, \
                  less the head-room.",
    },
    Variable {
        name: "TERRACE_DEVICE_NODES",
        kind: Kind::Nodes,
        default: "",
        meaning: "The NUMA nodes to treat as devices. Not set: the nodes that have memory and no CPU.",
    },
    Variable {
        name: "TERRACE_WATERMARKS",
        kind: Kind::Watermarks,
        default: "98,95",
        meaning: "Where demotion starts (high) and stops (low), in percent of the DRAM budget.",
    },
    Variable {
        name: "TERRACE_HEADROOM",
        kind: Kind::Size { auto: true, min: 0, max: MAX_SIZE },
        default: "auto",
        meaning: "Bytes kept free on the device: beyond them its hottest pages are evicted to DRAM. Must be below \
                  `TERRACE_DEVICE`.",
    },
    Variable {
        name: "TERRACE_MOVE_RATE",
        kind: Kind::Number { min: 1, max: 1_000_000, unit: "MB/s" },
        default: "1000",
        meaning: "The most that migration copies, both directions together.",
    },
    Variable {
        name: "TERRACE_TICK_MS",
        kind: Kind::Number { min: 10, max: 60_000, unit: "ms" },
        default: "200",
        meaning: "The period of the control thread: one tick looks, decides, moves and counts.",
    },
    Variable {
        name: "TERRACE_TRACKER",
        kind: Kind::Word(TRACKERS),
        default: "auto",
        meaning: "The source of heat. `rwp`: read-write protection (reads and writes, by the page; Linux 7.3). `perf`: accesses \
                  that the processor samples. `idle`: idle page tracking (reads and writes, by the page, for the superuser). \
                  `refs`: accessed bits (reads and writes). `writes`: `PAGEMAP_SCAN` (writes only). `alloc`: the allocator's \
                  own events only. `auto`: the best of the last three that a probe finds; no real machine has run the others yet.",
    },
    Variable {
        name: "TERRACE_TRACKER_CPU",
        kind: Kind::Number { min: 1, max: 100, unit: "percent of one core" },
        default: "3",
        meaning: "What the tracker may take of one core over time. When the program's habits change it takes up to \
                  thirteen times as much, at most half a core, for as long as it has saved up: up to 400 s worth.",
    },
    Variable {
        name: "TERRACE_START",
        kind: Kind::Size { auto: false, min: 0, max: MAX_SIZE },
        default: "64M",
        meaning: "The heap size at which the control thread starts, where a device tier exists. When not set and \
                  `TERRACE_DRAM` is a size, at most half of that.",
    },
    Variable {
        name: "TERRACE_STATS",
        kind: Kind::Switch,
        default: "on",
        meaning: "Whether the control thread publishes the page that `terrace stat` reads \
                  (`/dev/shm/terrace-PID.stats`, mode 0600).",
    },
    Variable {
        name: "TERRACE_VERBOSE",
        kind: Kind::Switch,
        default: "off",
        meaning: "Say on standard error what was found at start and what had to be given up.",
    },
    Variable {
        name: "TERRACE_PURGE_MS",
        kind: Kind::Number { min: 0, max: 3_600_000, unit: "ms" },
        default: "100",
        meaning: "How long freed pages stay mapped before they return to the system, when a thread allocates then; 0 = at once. Free \
                  memory in runs of 2 MiB, up to 128 MiB a run, stays ten times as long. Looking for such pages takes at most 2 % of a \
                  thread's time: in large heaps they stay longer.",
    },
    Variable {
        name: "TERRACE_HARDENED",
        kind: Kind::Switch,
        default: "off",
        meaning: "Trade speed and memory for safety (`docs/hardening.md`): random places, a quarantine of freed blocks, zero on \
                  free, checks for writes after free and past the end.",
    },
    Variable {
        name: "TERRACE_QUARANTINE",
        kind: Kind::Size { auto: false, min: 0, max: 1 << 30 },
        default: "1M",
        meaning: "Bytes of freed blocks, at most 8192 blocks, that each thread keeps from being used again. Only with \
                  `TERRACE_HARDENED`.",
    },
    Variable {
        name: "TERRACE_GUARD_SAMPLE",
        kind: Kind::Number { min: 0, max: 1_000_000_000, unit: "allocations" },
        default: "0",
        meaning: "About one in this many allocations of at most a page gets a page of its own between inaccessible ones; 0 = \
                  none. When not set and `TERRACE_HARDENED` is on: 1000. Without `TERRACE_HARDENED` only allocations that \
                  miss the fast path are counted.",
    },
    Variable {
        name: "TERRACE_PROFILE",
        kind: Kind::File,
        default: "",
        meaning: "A file that keeps what was learnt about the heap's pages, so that the next run of the same program begins with it \
                  (`docs/tiering.md`). Read when the control thread starts, written after 10, 20, 40, 80 s and then every 160 s, \
                  mode 0600. A file of another program is neither used nor changed. A relative name is meant from where the program \
                  is when its control thread starts. Not set: nothing is kept.",
    },
    Variable {
        name: "TERRACE_LIB",
        kind: Kind::Path,
        default: "",
        meaning: "The `libterrace.so` that `terrace run` preloads. Not set: the one beside the command, or in `../lib`. \
                  The library itself ignores it.",
    },
];
