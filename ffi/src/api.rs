//! The `terrace_*` C API: allocation with hints, advice for live memory, and where things are.
//!
//! Zone: cold, but for the allocation functions. `include/terrace.h` is generated from this file: its comments are the manual
//! of C programmers. Every function here is the function of `terrace` of the same meaning plus errno.

use crate::malloc::{no_memory, or_no_memory, set_errno};
use crate::stats;
use core::ffi::{CStr, c_char, c_int, c_uint, c_void};
use core::ptr::null_mut;
use terrace_core::arena::{Pool, placement};
use terrace_core::sys::numa::{self, NodeMask};
use terrace_core::tier::topology::{self, Tier, TierKind};
use terrace_core::{Hint, raw};

/// DRAM first, then moved by heat. What malloc() does.
pub const TERRACE_DEFAULT: c_uint = 0;
/// Expected to be used all the time: DRAM first, the last to be demoted.
pub const TERRACE_HOT: c_uint = 1;
/// Expected to be used seldom: DRAM first, the first to be demoted.
pub const TERRACE_COLD: c_uint = 2;
/// In DRAM, and never moved; on another tier only when DRAM is exhausted.
pub const TERRACE_DRAM: c_uint = 4;
/// In device memory from its first touch; in DRAM when the device is full or this machine has none.
pub const TERRACE_DEVICE: c_uint = 8;
/// Or'ed to TERRACE_HOT, _COLD, _DRAM or _DEVICE: fail with ENOMEM rather than use another tier. Hot then means DRAM, and
/// cold device memory. Where a machine has no device memory, strict cold and strict device allocations fail.
pub const TERRACE_STRICT: c_uint = 256;

/// The kind of a tier: memory beside the CPUs.
pub const TERRACE_TIER_DRAM: u32 = 0;
/// The kind of a tier: memory without CPUs (a device, an expander).
pub const TERRACE_TIER_DEVICE: u32 = 1;

/// A tier of memory: NUMA nodes of one kind, as this process may use them.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct TerraceTier {
    /// Its number, from 0, fastest first: what terrace_tier_of() returns.
    pub index: u32,
    /// TERRACE_TIER_DRAM or TERRACE_TIER_DEVICE.
    pub kind: u32,
    /// Bytes of memory of its nodes; 0 if the system does not tell.
    pub capacity: u64,
    /// Bytes of it that nothing uses now; 0 if the system does not tell.
    pub free: u64,
    /// Bytes of this process's heap on it, when last counted; 0 before tiering has started, and where several device tiers are
    /// counted together.
    pub resident: u64,
    /// Bytes of this process's heap that it may hold; 0 as for `resident`.
    pub budget: u64,
    /// Its NUMA nodes: node n is bit n % 64 of nodes[n / 64].
    pub nodes: [u64; 16],
    /// Latency of a read from the nearest CPUs in nanoseconds, as firmware reports it; 0 if it does not.
    pub latency_ns: u32,
    /// Read bandwidth from the nearest CPUs in MB/s, as firmware reports it; 0 if it does not.
    pub bandwidth_mbps: u32,
    /// Zero; for later versions.
    pub reserved: [u64; 7],
}

/// What a hint's bits mean; none for unknown bits, more than one place, or strictness without a place.
fn parse(hint: c_uint) -> Option<Hint> {
    let place = match hint & !TERRACE_STRICT {
        TERRACE_DEFAULT => Hint::DEFAULT,
        TERRACE_HOT => Hint::HOT,
        TERRACE_COLD => Hint::COLD,
        TERRACE_DRAM => Hint::DRAM,
        TERRACE_DEVICE => Hint::DEVICE,
        _ => return None,
    };
    match hint & TERRACE_STRICT != 0 {
        true if place == Hint::DEFAULT => None,
        true => Some(place.strict()),
        false => Some(place),
    }
}

/// The pool of a hint; sets errno to `EINVAL` if there is none.
fn pool(hint: c_uint) -> Option<Pool> {
    let parsed = parse(hint);
    if parsed.is_none() {
        set_errno(libc::EINVAL);
    }
    parsed.map(Hint::pool)
}

/// Allocates `size` bytes where `hint` says: one of TERRACE_DEFAULT, _HOT, _COLD, _DRAM, _DEVICE, the latter four optionally
/// or'ed with TERRACE_STRICT. The block is aligned to 16 bytes; a size of 0 gives a unique block. It can be freed, resized and
/// measured by any of malloc's functions, in any thread.
///
/// Returns NULL and sets errno: ENOMEM, there is no memory (for a strict hint, none on its tier) or `size` is over PTRDIFF_MAX;
/// EINVAL, a bit of `hint` does not exist, or its bits contradict each other.
///
/// Thread-safe. Safe in the child of fork(). Not for signal handlers.
#[unsafe(no_mangle)]
pub extern "C" fn terrace_malloc(size: usize, hint: c_uint) -> *mut c_void {
    let Some(pool) = pool(hint) else { return null_mut() };
    or_no_memory(raw::malloc_in(pool, size, 16, false))
}

/// Allocates `count` times `size` bytes, all zero; otherwise as terrace_malloc(). A product that overflows is ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn terrace_calloc(count: usize, size: usize, hint: c_uint) -> *mut c_void {
    let Some(pool) = pool(hint) else { return null_mut() };
    match count.checked_mul(size) {
        Some(bytes) => or_no_memory(raw::malloc_in(pool, bytes, 16, true)),
        None => no_memory(),
    }
}

/// Allocates `size` bytes at a multiple of `alignment`, a power of two; otherwise as terrace_malloc(). Another alignment is
/// EINVAL.
#[unsafe(no_mangle)]
pub extern "C" fn terrace_aligned_alloc(alignment: usize, size: usize, hint: c_uint) -> *mut c_void {
    if !alignment.is_power_of_two() {
        set_errno(libc::EINVAL);
        return null_mut();
    }
    let Some(pool) = pool(hint) else { return null_mut() };
    or_no_memory(raw::malloc_in(pool, size, alignment, false))
}

/// Resizes a block of any of malloc's functions, as realloc() does. If the block has to move, it moves to where `hint` says, or with
/// TERRACE_DEFAULT stays with what it was allocated with. (terrace_advise() moves a block without resizing it.) A NULL `ptr`
/// allocates; a size of 0 frees and returns NULL.
///
/// Returns NULL and sets errno as terrace_malloc() does; the block is then as it was.
///
/// Thread-safe. Safe in the child of fork(). Not for signal handlers.
///
/// # Safety
/// `ptr` is NULL or a live block, and is not used again unless NULL is returned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn terrace_realloc(ptr: *mut c_void, size: usize, hint: c_uint) -> *mut c_void {
    let Some(pool) = pool(hint) else { return null_mut() };
    // SAFETY: the caller gives a live block, or null.
    let resized = unsafe {
        if pool == Pool::Default {
            raw::realloc(ptr.cast(), size)
        } else {
            raw::realloc_in(pool, ptr.cast(), size)
        }
    };
    if resized.is_null() && (size > 0 || ptr.is_null()) { no_memory() } else { resized.cast() }
}

/// Frees a block of any of malloc's functions: the same as free(). NULL is ignored, errno is preserved.
///
/// Thread-safe. Safe in the child of fork(). Not for signal handlers.
///
/// # Safety
/// `ptr` is NULL or a live block, and is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn terrace_free(ptr: *mut c_void) {
    // SAFETY: the caller gives a live block, or null.
    unsafe { raw::free(ptr.cast()) };
}

/// The number of bytes that may be used of a block: at least what was asked for. 0 for NULL. Thread-safe.
///
/// # Safety
/// `ptr` is NULL or a live block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn terrace_usable_size(ptr: *const c_void) -> usize {
    // SAFETY: the caller gives a live block, or null.
    unsafe { raw::usable_size(ptr.cast_mut().cast()) }
}

/// Gives the live memory [ptr, ptr + length), any part of one or more blocks, a new hint. Its whole pages (with what else lies on
/// them) move now: to DRAM for TERRACE_HOT and _DRAM, to the device for TERRACE_COLD and _DEVICE, as far as there is room.
/// Blocks over 256 KiB keep the hint; smaller ones move on by heat. Addresses and contents do not change, and other threads
/// may use the memory meanwhile. Without device memory it does nothing.
///
/// Returns 0, or -1 and sets errno: EINVAL, the range is not live memory of this heap, or the hint does not exist; ENOMEM, a strict
/// hint, and not all pages could be moved; EPERM or ENOSYS, the kernel or a sandbox refuses move_pages(); ENODEV, the node has been
/// taken offline; EACCES, it is not one that this process may use (cpusets).
///
/// Thread-safe. Safe in the child of fork(), where pages still shared with the parent stay where they are.
#[unsafe(no_mangle)]
pub extern "C" fn terrace_advise(ptr: *const c_void, length: usize, hint: c_uint) -> c_int {
    let Some(hint) = parse(hint) else { return fail(libc::EINVAL) };
    match terrace_core::advise(ptr.cast(), length, hint) {
        Ok(()) => 0,
        Err(error) => fail(error.errno()),
    }
}

/// The tier that holds the page at `ptr`, an address anywhere in live memory of this heap: its index in terrace_tiers().
///
/// Returns -1 and sets errno: EINVAL, not memory of this heap; ENOENT, the page has never been touched, so it is nowhere yet; ENODEV,
/// it is on a node of no tier (memory policies of the program's own); EPERM or ENOSYS, the kernel or a sandbox does not tell.
///
/// Thread-safe. The answer may be out of date when it arrives: pages move.
#[unsafe(no_mangle)]
pub extern "C" fn terrace_tier_of(ptr: *const c_void) -> c_int {
    if !raw::owns(ptr.cast()) {
        return fail(libc::EINVAL);
    }
    let mut status = [-libc::ENOENT];
    let page = ptr.addr() & !(crate::malloc::page_size() - 1);
    match numa::move_pages(&[page], None, &mut status) {
        Ok(_) => {}
        // With one tier there is nothing to ask.
        Err(_) if placement().device.is_empty() => return 0,
        Err(error) => return fail(error.0),
    }
    match u32::try_from(status[0]) {
        Ok(node) => match present_tiers().iter().position(|tier| tier.nodes.has(node)) {
            Some(index) => index as c_int,
            None => fail(libc::ENODEV),
        },
        // A page of zeros that was only read has no memory of its own either.
        Err(_) if status[0] == -libc::EFAULT => fail(libc::ENOENT),
        Err(_) => fail(-status[0]),
    }
}

/// Writes the tiers of this machine, fastest first, to `tiers`, an array of `count`, and returns how many there are, which may
/// be more than `count`; terrace_tiers(NULL, 0) only counts. 1 means: no device memory here, and nothing moves.
///
/// Returns -1 and sets errno to EINVAL if `tiers` is NULL and `count` is not 0. Thread-safe. Reads files of /sys.
///
/// # Safety
/// `tiers` has room for `count` entries.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn terrace_tiers(tiers: *mut TerraceTier, count: usize) -> c_int {
    if tiers.is_null() && count > 0 {
        return fail(libc::EINVAL);
    }
    let (table, tiering) = (present_tiers(), stats::tiering());
    let devices = table.iter().filter(|tier| tier.kind == TierKind::Device).count();
    for (index, found) in table.iter().enumerate().take(count) {
        let free = found.nodes.iter().filter_map(numa::node_free_bytes).map(|(free, _)| free).sum();
        // What is counted by kind is known by tier only where there is one of the kind.
        let kind = if found.kind == TierKind::Dram { TERRACE_TIER_DRAM } else { TERRACE_TIER_DEVICE };
        let counted = tiering
            .as_ref()
            .filter(|_| kind == TERRACE_TIER_DRAM || devices == 1)
            .and_then(|snapshot| snapshot.tiers().get(kind as usize))
            .copied()
            .unwrap_or_default();
        let tier = TerraceTier {
            index: index as u32,
            kind,
            capacity: found.capacity,
            free,
            resident: counted.bytes,
            budget: counted.budget,
            nodes: *found.nodes.words(),
            latency_ns: found.latency_ns.map_or(0, |figure| figure.value),
            bandwidth_mbps: found.bandwidth_mbps.map_or(0, |figure| figure.value),
            reserved: [0; 7],
        };
        // SAFETY: `index` is below `count`, for which the caller has room.
        unsafe { tiers.add(index).write(tier) };
    }
    table.len() as c_int
}

/// The tiers this process may use, fastest first; at least one.
fn present_tiers() -> Vec<Tier> {
    let found = topology::tiers().tiers;
    if !found.is_empty() {
        return found;
    }
    // No sysfs, or a kernel that does not tell: all there is.
    let all = placement().dram;
    let nodes = if all.is_empty() { NodeMask::of(0) } else { all };
    let order = topology::Source::Assumed;
    vec![Tier { kind: TierKind::Dram, nodes, capacity: 0, latency_ns: None, bandwidth_mbps: None, order }]
}

/// Sets errno and returns -1.
pub(crate) fn fail(errno: c_int) -> c_int {
    set_errno(errno);
    -1
}

const VERSION: &CStr = match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
    Ok(version) => version,
    Err(_) => panic!("a version has no NUL"),
};

/// The version of the library, as "MAJOR.MINOR.PATCH". The string lives as long as the process. Thread-safe.
#[unsafe(no_mangle)]
pub extern "C" fn terrace_version() -> *const c_char {
    VERSION.as_ptr()
}
