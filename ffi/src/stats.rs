//! Statistics for C programs: a structure with its size, and JSON.
//!
//! Zone: cold. Figures of the heap are counted at the call, those of tiering are the control thread's of its last tick.

use crate::api::fail;
use core::ffi::{c_char, c_int, c_void};
use core::fmt::{Arguments, Write};
use terrace_core::control::stats::{FAILURES, StatsPage, StatsSnapshot};
use terrace_core::raw;
use terrace_core::sys::proc::Line;

/// What the heap holds, and what tiering has done. Bytes, blocks and pages as each field says.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct TerraceStats {
    /// Set by the caller to sizeof(struct terrace_stats); set to the bytes filled in, which is less where the library is older.
    pub size: usize,
    /// Bytes of live blocks, as their size classes and pages count.
    pub live_bytes: u64,
    /// Live blocks.
    pub live_blocks: u64,
    /// Bytes of memory that holds or can hold small blocks.
    pub slab_bytes: u64,
    /// Bytes of live blocks over 256 KiB, which have pages of their own; in live_bytes, too.
    pub large_bytes: u64,
    /// Live blocks over 256 KiB; in live_blocks, too.
    pub large_blocks: u64,
    /// Bytes of reserved address space.
    pub reserved_bytes: u64,
    /// Bytes of the library's own data.
    pub metadata_bytes: u64,
    /// Threads that have allocated.
    pub threads: u64,
    /// 1 while the control thread runs (then there is device memory, and the rest means something), else 0.
    pub tiering: u64,
    /// Bytes of the heap in DRAM.
    pub dram_bytes: u64,
    /// Bytes it may hold there.
    pub dram_budget: u64,
    /// Bytes of the heap in device memory.
    pub device_bytes: u64,
    /// Bytes it may hold there.
    pub device_budget: u64,
    /// Pages moved from the device to DRAM because they are hot.
    pub promoted: u64,
    /// Pages moved from DRAM to the device because they are cold.
    pub demoted: u64,
    /// Pages moved from the device to DRAM because the device is over-full.
    pub evicted: u64,
    /// Pages that could not be moved.
    pub failed: u64,
    /// Pages moved back within 30 s of their last move.
    pub ping_pong: u64,
    /// Free pages given back to the system instead of being moved.
    pub dropped: u64,
    /// Bytes copied by moves.
    pub bytes_moved: u64,
    /// Ticks of the control thread.
    pub ticks: u64,
}

/// What the control thread said last; none if there is none.
pub(crate) fn tiering() -> Option<StatsSnapshot> {
    StatsPage::read_pid(std::process::id()).ok()
}

fn gather(tiering: Option<&StatsSnapshot>) -> TerraceStats {
    let heap = raw::heap_stats();
    let mut stats = TerraceStats {
        size: size_of::<TerraceStats>(),
        live_bytes: heap.live_bytes as u64,
        live_blocks: heap.live_blocks as u64,
        slab_bytes: heap.slab_bytes as u64,
        large_bytes: heap.large_bytes as u64,
        large_blocks: heap.large_blocks as u64,
        reserved_bytes: heap.reserved_bytes as u64,
        metadata_bytes: heap.metadata_bytes as u64,
        threads: heap.threads as u64,
        ..TerraceStats::default()
    };
    let Some(snapshot) = tiering else { return stats };
    stats.tiering = 1;
    for tier in snapshot.tiers() {
        let (bytes, budget) = match tier.device {
            0 => (&mut stats.dram_bytes, &mut stats.dram_budget),
            _ => (&mut stats.device_bytes, &mut stats.device_budget),
        };
        *bytes += tier.bytes;
        *budget += tier.budget;
    }
    TerraceStats {
        promoted: snapshot.promoted,
        demoted: snapshot.demoted,
        evicted: snapshot.evicted,
        failed: snapshot.failed.iter().sum(),
        ping_pong: snapshot.ping_pong,
        dropped: snapshot.dropped,
        bytes_moved: snapshot.bytes_moved,
        ticks: snapshot.ticks,
        ..stats
    }
}

/// Fills in `stats`, whose `size` the caller has set to sizeof(struct terrace_stats). Figures of the heap are counted now, at a cost in
/// proportion to its size; those of tiering are at most one tick old.
///
/// Returns 0, or -1 and sets errno to EINVAL if `stats` is NULL or its size is less than that of `size` itself. Thread-safe.
///
/// # Safety
/// `stats` is NULL or has `stats->size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn terrace_stats_get(stats: *mut TerraceStats) -> c_int {
    // SAFETY: the caller gives null or a structure that begins with its size.
    let Some(size) = (!stats.is_null()).then(|| unsafe { (&raw const (*stats).size).read() }) else {
        return fail(libc::EINVAL);
    };
    if size < size_of::<usize>() {
        return fail(libc::EINVAL);
    }
    let mut filled = gather(tiering().as_ref());
    filled.size = size.min(size_of::<TerraceStats>());
    // SAFETY: both are at least that long; a shorter one gets the fields that its author knew.
    unsafe {
        core::ptr::copy_nonoverlapping((&raw const filled).cast::<u8>(), stats.cast::<u8>(), filled.size);
    }
    0
}

/// Writes the statistics of terrace_stats_get(), and per tier and per errno what it sums up, as one JSON object: calls `write` with
/// `context` and `length` bytes of `text` (no NUL at the end), several times in order. No memory is allocated, and `write` may
/// allocate.
///
/// Returns 0, or -1 and sets errno to EINVAL if `write` is NULL. Thread-safe.
///
/// # Safety
/// `write` is NULL or a function that takes these arguments and returns.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn terrace_stats_json(
    write: Option<unsafe extern "C" fn(context: *mut c_void, text: *const c_char, length: usize)>,
    context: *mut c_void,
) -> c_int {
    let Some(write) = write else { return fail(libc::EINVAL) };
    let put = |text: Arguments<'_>| {
        let mut line = Line::new();
        // None of the pieces below is longer than a line.
        let _ = line.write_fmt(text);
        let bytes = line.as_bytes();
        // SAFETY: the caller gives a function for these arguments; the bytes live until it returns.
        unsafe { write(context, bytes.as_ptr().cast(), bytes.len()) };
    };
    let tiering = tiering();
    let s = gather(tiering.as_ref());
    put(format_args!("{{\"live_bytes\":{},\"live_blocks\":{},", s.live_bytes, s.live_blocks));
    put(format_args!("\"slab_bytes\":{},\"large_bytes\":{},", s.slab_bytes, s.large_bytes));
    put(format_args!("\"large_blocks\":{},\"reserved_bytes\":{},", s.large_blocks, s.reserved_bytes));
    put(format_args!("\"metadata_bytes\":{},\"threads\":{}", s.metadata_bytes, s.threads));
    if let Some(t) = tiering {
        put(format_args!(",\"tiering\":{{\"mode\":\"{}\",\"tracker\":\"{}\",", t.mode_name(), t.tracker()));
        put(format_args!("\"ticks\":{},\"promoted\":{},\"demoted\":{},", t.ticks, t.promoted, t.demoted));
        put(format_args!(
            "\"evicted\":{},\"ping_pong\":{},\"dropped\":{},",
            t.evicted, t.ping_pong, t.dropped
        ));
        put(format_args!("\"bytes_moved\":{},\"failed\":{{", t.bytes_moved));
        for (at, (name, count)) in FAILURES.iter().zip(t.failed).enumerate() {
            put(format_args!("{}\"{name}\":{count}", if at == 0 { "" } else { "," }));
        }
        put(format_args!("}},\"tiers\":["));
        for (at, tier) in t.tiers().iter().enumerate() {
            let kind = if tier.device == 0 { "dram" } else { "device" };
            put(format_args!("{}{{\"kind\":\"{kind}\",", if at == 0 { "" } else { "," }));
            put(format_args!("\"bytes\":{},\"budget\":{},", tier.bytes, tier.budget));
            put(format_args!("\"high\":{},\"low\":{}}}", tier.high, tier.low));
        }
        put(format_args!("]}}"));
    }
    put(format_args!("}}\n"));
    0
}
