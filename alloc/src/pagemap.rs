//! The window of addresses all heap memory lies in, and the map from a slice to the slab that owns it.
//!
//! Zone: fast (look-ups), cold (set-up and entries). Ownership of any pointer is one subtraction and one load:
//!
//! ```text
//! window base                                                            window base + bytes
//! |<---------------------------- sparse address space --------------------------------->|
//!    | arena (pool A) |        | arena (pool B) |       arenas are reserved on demand
//!    | extent 2 MiB | extent | …                        EXTENTS[off >> 21]: one record each
//!    | slice 64 KiB | …                                 MAP[off >> 16]: the slab the slice belongs to, or null
//! ```
//!
//! Invariant: `MAP[i]` is null, [`LARGE`](crate::slab::LARGE), or a slab header that stays readable for ever: metadata is never
//! unmapped. That of a slab which is gone may read as zeros after a while, in which no address is a block's ([`Slab::index_of`]).
//! Entries change only while the heap or arena that owns the slice holds its lock; they are read at any time by anyone.

use crate::slab::Slab;
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

/// An entry of the map.
type Entry = crate::sync::atomic::AtomicPtr<Slab>;

/// Bytes of a slice, the smallest run of addresses a slab takes.
pub const SLICE_BYTES: usize = 1 << SLICE_SHIFT;
pub(crate) const SLICE_SHIFT: usize = 16;

static BASE: AtomicUsize = AtomicUsize::new(0);
/// Zero until the window is open, so that every pointer is foreign before.
static BYTES: AtomicUsize = AtomicUsize::new(0);
static MAP: AtomicPtr<Entry> = AtomicPtr::new(ptr::null_mut());

/// Opens the window. Called once, by initialisation.
///
/// `map` is zero-filled and has one entry for each slice of the window.
pub(crate) fn open(base: usize, bytes: usize, map: *mut Entry) {
    BASE.store(base, Ordering::Relaxed);
    MAP.store(map, Ordering::Relaxed);
    BYTES.store(bytes, Ordering::Release);
}

/// Moves the window, before anything is in it, to where it could be had. The map has entries enough for `bytes`.
pub(crate) fn rebase(base: usize, bytes: usize) {
    BYTES.store(0, Ordering::Relaxed);
    BASE.store(base, Ordering::Release);
    BYTES.store(bytes, Ordering::Release);
}

/// The window's first address; 0 before it is open.
#[inline(always)]
pub fn window_base() -> usize {
    BASE.load(Ordering::Relaxed)
}

/// The window's size in bytes; 0 before it is open.
#[inline(always)]
pub fn window_bytes() -> usize {
    BYTES.load(Ordering::Relaxed)
}

/// The offset of `addr` in the window, if it is inside.
///
/// Two words, so a thread that asks about another heap's block while the first allocation of the process opens or moves the window may
/// see one old and one new. Then too the map has an entry for the offset, and it is null: the acquire makes the map visible with any size
/// but 0, and no size is ever larger than the map.
#[inline(always)]
pub(crate) fn offset(addr: usize) -> Option<usize> {
    let off = addr.wrapping_sub(BASE.load(Ordering::Relaxed));
    (off < BYTES.load(Ordering::Acquire)).then_some(off)
}

/// The entry for the slice at `off`, an offset inside the window.
#[inline(always)]
fn entry(off: usize) -> &'static Entry {
    debug_assert!(off < window_bytes());
    // SAFETY: the map has an entry for every slice of the window and `off` is inside it.
    unsafe { &*MAP.load(Ordering::Relaxed).add(off >> SLICE_SHIFT) }
}

/// The slab the slice at `off` belongs to; null if none. `off` is an offset inside the window.
#[inline(always)]
pub(crate) fn slab_at(off: usize) -> *mut Slab {
    entry(off).load(Ordering::Acquire)
}

/// Makes `slices` slices from `addr` on belong to `slab` (null: to none).
pub(crate) fn set(addr: usize, slices: usize, slab: *mut Slab) {
    let off = addr - window_base();
    for i in 0..slices {
        entry(off + i * SLICE_BYTES).store(slab, Ordering::Release);
    }
}

/// Clears the entry of the slice at `addr` if it is `slab`; whether it was.
pub(crate) fn take_entry(addr: usize, slab: *mut Slab) -> bool {
    let entry = entry(addr - window_base());
    entry.compare_exchange(slab, ptr::null_mut(), Ordering::AcqRel, Ordering::Relaxed).is_ok()
}
