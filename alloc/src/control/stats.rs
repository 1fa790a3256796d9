//! The statistics page: what the tiers of a process do, for whoever may look at the process.
//!
//! Zone: control. Owned by the control thread, which fills a [`StatsSnapshot`] a tick and [publishes](StatsPage::publish)
//! it; `terrace stat` and anything else with the right to open the file reads it. Publishing is a few hundred bytes of
//! stores into memory that is already mapped: it costs the same whether nobody or everybody reads.
//!
//! The file is `/dev/shm/terrace-PID.stats`, mode 0600, one page:
//!
//! ```text
//! word 0   magic "TERRACE\0"
//! word 1   version of the layout (low half), words of the snapshot (high half)
//! word 2   sequence: odd while the writer is at work (a seqlock with one writer)
//! word 3…  the snapshot, field by field in the order below, each a little-endian u64
//! ```

mod page;

pub use page::{StatsPage, remove_at_exit};

use crate::config::Mode;

/// The most tiers a snapshot has room for.
pub const MAX_TIERS: usize = 4;

/// What a tier holds of this process. Bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TierStats {
    /// Whether this is a device; otherwise DRAM.
    pub device: u64,
    /// Heap bytes resident there, as last counted.
    pub bytes: u64,
    /// What it may hold.
    pub budget: u64,
    /// Where demotion starts (DRAM) or eviction does (device).
    pub high: u64,
    /// Where it stops.
    pub low: u64,
    /// What a load takes there, ns: lately, and at least. 0 = not measured.
    pub latency: u64,
    /// See `latency`.
    pub idle_latency: u64,
}

/// Everything that is published. Counters run from the start of the control thread; pages are of `page_bytes`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatsSnapshot {
    /// The process.
    pub pid: u64,
    /// [`Mode`], as [`mode_code`].
    pub mode: u64,
    /// The name of the tracker in use, padded with zeros: [`StatsSnapshot::tracker`].
    pub tracker_name: [u64; 2],
    /// Ticks since the start.
    pub ticks: u64,
    /// The period of a tick, ms.
    pub tick_ms: u64,
    /// Bytes of a page.
    pub page_bytes: u64,
    /// How many of `tiers` are in use.
    pub tier_count: u64,
    /// Fastest first.
    pub tiers: [TierStats; MAX_TIERS],
    /// Pages moved device to DRAM because they are hot.
    pub promoted: u64,
    /// Pages moved DRAM to device because they are cold.
    pub demoted: u64,
    /// Pages moved device to DRAM because the device is over-full.
    pub evicted: u64,
    /// Pages that could not be moved, in the order of [`FAILURES`].
    pub failed: [u64; FAILURES.len()],
    /// Pages moved back within 30 s of their last move.
    pub ping_pong: u64,
    /// Free pages given back to the system where a move would have copied them.
    pub dropped: u64,
    /// Bytes copied, both directions.
    pub bytes_moved: u64,
    /// Extents with live data.
    pub extents: u64,
    /// Arenas reserved.
    pub arenas: u64,
    /// Kernel mappings in the heap's window of addresses.
    pub vmas: u64,
    /// What the tracker took of the last tick, ns.
    pub tracker_ns: u64,
    /// What the last tick took, ns.
    pub tick_ns: u64,
}

/// The errno of each counter of [`StatsSnapshot::failed`].
pub const FAILURES: [&str; 6] = ["EBUSY", "EAGAIN", "EACCES", "ENOMEM", "ENOENT", "other"];

/// Words of a snapshot.
const WORDS: usize = size_of::<StatsSnapshot>() / 8;

/// How a mode is written into a page.
#[must_use]
pub fn mode_code(mode: Mode) -> u64 {
    match mode {
        Mode::Isolate => 1,
        Mode::Spill => 2,
        Mode::Auto => 3,
        Mode::Assist => 4,
    }
}

impl StatsSnapshot {
    /// The mode's name; `unknown` for a code of another version.
    #[must_use]
    pub fn mode_name(&self) -> &'static str {
        ["unknown", "isolate", "spill", "auto", "assist"]
            .get(self.mode as usize)
            .copied()
            .unwrap_or("unknown")
    }

    /// The tracker's name.
    #[must_use]
    pub fn tracker(&self) -> String {
        let bytes: Vec<u8> = self.tracker_name.iter().flat_map(|word| word.to_le_bytes()).collect();
        let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
        String::from_utf8_lossy(&bytes[..end]).into_owned()
    }

    /// Stores the tracker's name, cut to 16 bytes.
    pub fn set_tracker(&mut self, name: &str) {
        let mut bytes = [0u8; 16];
        let length = name.len().min(bytes.len());
        bytes[..length].copy_from_slice(&name.as_bytes()[..length]);
        let (low, high) = bytes.split_at(8);
        self.tracker_name = [low, high].map(|half| u64::from_le_bytes(half.try_into().unwrap_or_default()));
    }

    /// The tiers in use, fastest first.
    #[must_use]
    pub fn tiers(&self) -> &[TierStats] {
        &self.tiers[..(self.tier_count as usize).min(MAX_TIERS)]
    }

    fn as_words(&self) -> &[u64; WORDS] {
        // SAFETY: the structure is #[repr(C)] and made of u64 only, so it is WORDS words without padding.
        unsafe { &*core::ptr::from_ref(self).cast() }
    }

    fn from_words(words: &[u64; WORDS]) -> Self {
        // SAFETY: as in `as_words`; every bit pattern is a u64.
        unsafe { core::ptr::from_ref(words).cast::<Self>().read() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_survives_its_words() {
        let mut snapshot =
            StatsSnapshot { pid: 7, tick_ns: u64::MAX, tier_count: 2, ..StatsSnapshot::default() };
        snapshot.tiers[1] =
            TierStats { device: 1, bytes: 2, budget: 3, high: 4, low: 5, latency: 6, idle_latency: 7 };
        snapshot.set_tracker("writes");
        assert_eq!(StatsSnapshot::from_words(snapshot.as_words()), snapshot);
        assert_eq!((snapshot.tracker().as_str(), snapshot.tiers().len()), ("writes", 2));
        assert_eq!(snapshot.as_words()[0], 7);
        assert_eq!(snapshot.as_words()[WORDS - 1], u64::MAX);
    }

    #[test]
    fn names_of_other_versions_are_no_trouble() {
        let mut snapshot = StatsSnapshot { mode: 99, tier_count: 99, ..StatsSnapshot::default() };
        snapshot.set_tracker("a tracker with a very long name");
        assert_eq!(snapshot.mode_name(), "unknown");
        assert_eq!(snapshot.tracker(), "a tracker with a");
        assert_eq!(snapshot.tiers().len(), MAX_TIERS);
        let name = |mode| StatsSnapshot { mode: mode_code(mode), ..StatsSnapshot::default() }.mode_name();
        assert_eq!([Mode::Spill, Mode::Assist, Mode::Auto].map(name), ["spill", "assist", "auto"]);
    }
}
