//! The demonstration: an unmodified redis-server whose data set is three times its DRAM budget.
//!
//! Two programs. `terrace-demo-driver` runs where the memory tiers are (in the lab's virtual machine, or on a
//! host with a device node): it starts the server under Terrace, loads it, shifts its hot set, snapshots it,
//! over-commits its device, verifies every byte, and writes down once a second what Terrace says of itself and
//! what the kernel says of Terrace. `terrace-demo` runs where the person is: it starts the driver, shows progress
//! and draws the picture.
//!
//! Layers, each using only what stands above it:
//! * [`json`], [`keyspace`], [`resp`] — the record, the data set, the wire
//! * [`nodes`], [`outside`], [`locate`] — what the kernel says: nodes, placement, where a value lies
//! * [`server`], [`traffic`], [`hog`] — things that run: the server, its load, its rival for device memory
//! * [`inside`], [`record`], [`sampler`] — what Terrace says, and one line a second of both views
//! * [`present`] — the record as a person wants to see it
//! * [`checks`], [`script`] — what must be true, and the story that shows it
//! * [`placement`], [`judge`] — the same question to programs whose accesses are known exactly

pub mod checks;
pub mod goals;
pub mod hog;
pub mod inside;
pub mod json;
pub mod judge;
pub mod keyspace;
pub mod locate;
pub mod nodes;
pub mod outside;
pub mod placement;
pub mod present;
pub mod record;
pub mod resp;
pub mod sampler;
pub mod script;
pub mod server;
pub mod traffic;
