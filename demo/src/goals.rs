//! What a run must reach where speed plays a part, and what it must reach when speed cannot be relied on.
//!
//! Data, budgets and the agreement of the two views are never negotiable. How soon a hot set is found depends on how fast the emulated
//! machine runs, which on a shared machine halves and doubles from one minute to the next. So the goals come in two sizes:
//! `full`, what is claimed and what `make demo` shows, and `loose` (`TERRACE_TEST_GOALS=loose`) for tests that run on any machine: that most of a
//! new hot set comes (a shift leaves a third of it in DRAM by chance), and far more of the oracle's share than chance placement (0.37).

use std::sync::LazyLock;

/// The goals of this process.
#[derive(Debug)]
pub struct Goals {
    /// Share of a new hot set's pages that must be in DRAM.
    pub hot_share: f64,
    /// Seconds until then.
    pub hot_seconds: f64,
    /// Share of the oracle's share of accesses that must be reached.
    pub of_oracle: f64,
    /// Of the pages moved in the steady state, the share that may have been moved back.
    pub ping_pong: f64,
}

const FULL: Goals = Goals { hot_share: 0.8, hot_seconds: 60.0, of_oracle: 0.9, ping_pong: 0.02 };
const LOOSE: Goals = Goals { hot_share: 0.5, hot_seconds: 60.0, of_oracle: 0.8, ping_pong: 0.5 };

/// The goals that the environment asks for.
pub fn goals() -> &'static Goals {
    static CHOSEN: LazyLock<&Goals> =
        LazyLock::new(|| match std::env::var("TERRACE_TEST_GOALS").as_deref() {
            Ok("loose") => &LOOSE,
            _ => &FULL,
        });
    &CHOSEN
}
