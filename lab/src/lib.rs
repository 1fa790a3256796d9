//! The tier laboratory: runs a command on a machine with several tiers of memory, on a machine that has one.
//!
//! A stock Debian kernel boots in QEMU's software emulation (no virtualisation needed) with the NUMA nodes,
//! distances and HMAT table of a [`Layout`], runs one shell command and hands back its output, its exit status
//! and its files:
//!
//! ```no_run
//! use lab::{Kernel, Layout, Vm};
//!
//! let outcome = Vm::layout(Layout::DramDevice)
//!     .kernel(Kernel::V6_1)
//!     .user("nobody")
//!     .program("redis-server")
//!     .env("LD_PRELOAD", "/terrace/libterrace.so")
//!     .run("redis-server --version && cp /proc/self/maps /out/")?;
//! assert_eq!(outcome.status, 0, "{}", outcome.stdout);
//! let maps = outcome.file("maps")?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The just-built `libterrace.so`, `libterrace_topology.so` and `terrace` are in `/terrace`; the command
//! starts in `/job`, where
//! [`Vm::file`] puts things. Loads and stores can be counted exactly, per node ([`Vm::count_accesses`],
//! [`marks`]).
//!
//! What it shows: placement, policy, migration, accounting, permissions, crashes, on real kernels. What it
//! cannot show: time. The emulator makes all memory equally fast, so a lab test must never judge by the clock.
//! `docs/lab.md` has the rest.
//!
//! Safe from any thread and from several processes at once; at most `LAB_JOBS` (2) machines run at a time on
//! one computer.

mod artifacts;
mod counts;
mod error;
mod image;
mod kernel;
mod layout;
mod machine;
pub mod marks;
mod outcome;
mod qemu;
pub mod setup;
mod slots;
mod vm;

pub use counts::{Accesses, Mark};
pub use error::LabError;
pub use layout::{Kernel, Layout};
pub use outcome::{Outcome, UNFINISHED};
pub use vm::{HEAP_WINDOW, Vm, shell_command};
