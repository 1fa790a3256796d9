//! The tiering benchmark: how much of what a program accesses DRAM serves, under Terrace and under its rivals.
//!
//! ```text
//! terrace-bench-tier (this computer)             a virtual machine a contender and a ratio
//!   plan ── machine ──────────────────────────►  terrace-tier-observer (root)
//!                                                  contenders/NAME.sh setup, hog
//!                                                  contenders/NAME.sh run ─► workloads/tier (nobody)
//!   results ◄── a record of JSON lines ─────────   asks the kernel where the pages are, once in two seconds
//!   report, charts
//! ```
//!
//! `docs/bench-tier.md` says what the figures do and do not say.
//!
//! Zone: control (programs of their own).

pub mod accesses;
pub mod charts;
pub mod heap;
pub mod machine;
pub mod observe;
pub mod plan;
pub mod report;
pub mod results;
pub mod table;
