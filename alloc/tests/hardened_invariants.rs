//! The stress tests once more, in hardened mode: threads, forks, exchanged blocks, and memory that is refused. Needs `--features
//! invariants`.

#[path = "support/hardened.rs"]
mod hardened;
#[path = "invariants.rs"]
mod invariants;
