//! Hints: where memory should live, said before ([`Hint`]) or after ([`advise`]) it is allocated, and asked ([`node_of`]).
//!
//! Zone: cold. Thread-safe; fork-safe through the library's fork handlers.

use super::raw;
use crate::arena::{self, Pool, extent, placement};
use crate::control;
use crate::sys::{Errno, mm, numa};
use core::fmt;
use core::ptr;

/// Where an allocation should live.
///
/// | hint | at first touch | later |
/// | --- | --- | --- |
/// | [`DEFAULT`](Hint::DEFAULT) | DRAM first | moved by heat |
/// | [`HOT`](Hint::HOT) | DRAM first | the last to be demoted |
/// | [`COLD`](Hint::COLD) | DRAM first | the first to be demoted |
/// | [`DRAM`](Hint::DRAM) | DRAM, elsewhere when it is exhausted | stays |
/// | [`DEVICE`](Hint::DEVICE) | device, DRAM when it is full | evicted only |
///
/// [`strict`](Hint::strict) makes an allocation fail instead of falling back.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Hint {
    temper: Temper,
    strict: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Temper {
    #[default]
    Default,
    Hot,
    Cold,
    Dram,
    Device,
}

impl Hint {
    /// An ordinary allocation.
    pub const DEFAULT: Hint = Hint::of(Temper::Default);
    /// Expected to be used all the time.
    pub const HOT: Hint = Hint::of(Temper::Hot);
    /// Expected to be used seldom.
    pub const COLD: Hint = Hint::of(Temper::Cold);
    /// In DRAM.
    pub const DRAM: Hint = Hint::of(Temper::Dram);
    /// In device memory.
    pub const DEVICE: Hint = Hint::of(Temper::Device);

    const fn of(temper: Temper) -> Hint {
        Hint { temper, strict: false }
    }

    /// The same, but failing rather than falling back to another tier: hot means DRAM then, cold means device, default stays default.
    #[must_use]
    pub const fn strict(self) -> Hint {
        Hint { strict: true, ..self }
    }

    /// The pool that serves this hint.
    #[must_use]
    pub const fn pool(self) -> Pool {
        match (self.temper, self.strict) {
            (Temper::Default, _) => Pool::Default,
            (Temper::Hot, false) => Pool::Hot,
            (Temper::Cold, false) => Pool::Cold,
            (Temper::Dram, false) => Pool::Dram,
            (Temper::Device, false) => Pool::Device,
            (Temper::Hot | Temper::Dram, true) => Pool::DramStrict,
            (Temper::Cold | Temper::Device, true) => Pool::DeviceStrict,
        }
    }
}

/// Why advice was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AdviseError {
    /// Part of the range is not live memory of this heap (EINVAL).
    NotOurs,
    /// A strict hint names a tier this process does not have, or pages could not be moved there for lack of room (ENOMEM).
    NoRoom,
    /// The kernel refused to move pages, as in a sandbox (the error of move_pages(2)).
    Refused(Errno),
}

impl AdviseError {
    /// The errno of the C API.
    #[must_use]
    pub fn errno(self) -> i32 {
        match self {
            AdviseError::NotOurs => libc::EINVAL,
            AdviseError::NoRoom => libc::ENOMEM,
            AdviseError::Refused(errno) => errno.0,
        }
    }
}

impl fmt::Display for AdviseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AdviseError::NotOurs => f.write_str("not live memory of this heap"),
            AdviseError::NoRoom => f.write_str("no such tier, or no room on it"),
            AdviseError::Refused(errno) => write!(f, "move_pages was refused: {errno}"),
        }
    }
}

impl core::error::Error for AdviseError {}

/// Gives live memory a new hint: `[start, start + len)`, any part of one or more blocks.
///
/// Pages in the range (whole pages: what shares one comes along) move now: to DRAM for hot and DRAM hints, to the device for cold and
/// device hints, as far as there is room. Blocks over 256 KiB that the range covers also change pool, so that the policy treats them as
/// allocated with the hint; smaller blocks keep their pool and are moved on by heat. With [`Hint::DEFAULT`] nothing moves. Pages
/// touched for the first time later are placed as the block was allocated. Contents and addresses never change.
///
/// # Errors
/// [`AdviseError`]; with a strict hint, pages that did not move are [`AdviseError::NoRoom`].
pub fn advise(start: *const u8, len: usize, hint: Hint) -> Result<(), AdviseError> {
    let page = mm::page_bytes();
    let first = start.addr() & !(page - 1);
    let end = start.addr().checked_add(len).ok_or(AdviseError::NotOurs)?;
    if len == 0 {
        return Ok(());
    }
    for addr in (first..end).step_by(arena::EXTENT_BYTES).chain([end - 1]) {
        raw::pool_of(ptr::with_exposed_provenance(addr)).ok_or(AdviseError::NotOurs)?;
    }
    // A guarded block lies outside the window, and is no span.
    if raw::in_window(start) {
        extent::set_pool_of_spans(start.addr(), end, hint.pool());
    }
    let place = placement();
    let target = match hint.temper {
        Temper::Default => return Ok(()),
        Temper::Hot | Temper::Dram => &place.dram,
        Temper::Cold | Temper::Device => &place.device,
    };
    if place.device.is_empty() {
        // One tier: DRAM hints hold as it is.
        let missing = hint.strict && matches!(hint.temper, Temper::Cold | Temper::Device);
        return if missing { Err(AdviseError::NoRoom) } else { Ok(()) };
    }
    let Some(node) = target.first() else { return Err(AdviseError::NoRoom) };
    let mut stayed = false;
    let mut at = first;
    while at < end {
        let mut pages = [0; BATCH];
        let n = (end - at).div_ceil(page).min(BATCH);
        pages.iter_mut().take(n).enumerate().for_each(|(i, slot)| *slot = at + i * page);
        stayed |= move_batch(&pages[..n], node as i32, target)?;
        at += n * page;
    }
    // The pages' new places, and the pool's new hint, are for the policy to know.
    control::wake();
    if hint.strict && stayed { Err(AdviseError::NoRoom) } else { Ok(()) }
}

const BATCH: usize = 128;

/// Moves pages that are not on `target` yet to `node`; whether one that exists stayed elsewhere.
fn move_batch(pages: &[usize], node: i32, target: &numa::NodeMask) -> Result<bool, AdviseError> {
    let nodes = [node; BATCH];
    let mut status = [0; BATCH];
    let there = |status: i32| u32::try_from(status).is_ok_and(|node| target.has(node));
    numa::move_pages(pages, Some(&nodes[..pages.len()]), &mut status[..pages.len()])
        .map_err(AdviseError::Refused)?;
    // What counts is where the pages are now: the kernel leaves part of the status untouched when it stops early.
    numa::move_pages(pages, None, &mut status[..pages.len()]).map_err(AdviseError::Refused)?;
    Ok(status[..pages.len()]
        .iter()
        .any(|&status| status != -libc::ENOENT && status != -libc::EFAULT && !there(status)))
}

/// The NUMA node that holds the page at `addr`; `None` if the address is not live memory of this heap, the page has not been touched, or
/// the kernel does not tell.
#[must_use]
pub fn node_of(addr: *const u8) -> Option<u32> {
    raw::pool_of(addr)?;
    numa::node_of(addr.addr() & !(mm::page_bytes() - 1))
}
