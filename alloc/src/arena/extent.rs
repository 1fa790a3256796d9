//! Extents: the 2 MiB units an arena hands out, and what is published about each.
//!
//! Owns the table of extent records, one per extent of the window, zero-filled until used. Zone: cold. Invariants:
//! * `kind` is `Free` exactly while the arena may hand the extent out; it changes under the arena lock only.
//! * `live` has a bit for every slice that holds application data; it changes under the lock of the heap that owns the
//!   extent (slabs) or before the block is returned to the application (large).
//! * `birth` changes every time the extent is handed out, so that a reader who looks at it before and after ([`Extent::is_still`]) knows
//!   whether what it learnt is about the same data.

use super::pool::Pool;
use crate::pagemap::{self, SLICE_BYTES};
use crate::sync::atomic::{AtomicPtr, AtomicU8, AtomicU16, AtomicU32, AtomicUsize, Ordering, fence};
use core::ptr;

/// Bytes of an extent.
pub const EXTENT_BYTES: usize = 1 << EXTENT_SHIFT;
pub(crate) const EXTENT_SHIFT: usize = 21;
/// Slices in an extent.
pub(crate) const SLICES: usize = EXTENT_BYTES / SLICE_BYTES;

/// What an extent is in use for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Kind {
    /// Nothing, or not even reserved.
    Free = 0,
    /// Slabs of a thread heap.
    Slabs = 1,
    /// The first extent of a large span.
    LargeHead = 2,
    /// A further extent of a large span.
    LargeBody = 3,
}

/// The record of one extent.
#[repr(C, align(64))]
pub(crate) struct Extent {
    kind: AtomicU8,
    /// The pool its data belongs to, which need not be the arena's (spill).
    pool: AtomicU8,
    birth: AtomicU32,
    /// Bit i: slice i holds live data.
    live: AtomicU32,
    /// Large head: how many extents the span has.
    pub(crate) span: AtomicU32,
    /// Large head: bytes usable by the application.
    pub(crate) bytes: AtomicUsize,
    /// Slabs: the heap that owns it, null until it has entered itself. Under that heap's lock.
    pub(crate) owner: AtomicPtr<core::ffi::c_void>,
    /// Slabs: neighbours in the owner's list of extents with free slices, as extent index + 1. Under the heap's lock.
    pub(crate) next: AtomicU32,
    pub(crate) prev: AtomicU32,
    /// Slabs: slices freed since they were last discarded, in this and in the last purge period. Under the heap's lock. While the extent is
    /// free, and dirty in its arena: those whose pages may still be there.
    pub(crate) dirty_new: AtomicU32,
    pub(crate) dirty_old: AtomicU32,
    /// Large head: the span's pages came by mremap(2), so the range is a VMA of its own until it is mapped afresh.
    pub(crate) remapped: AtomicU8,
    /// How often, modulo 2^16, pages of live slices were given back to the system.
    emptied: AtomicU16,
    /// Slabs: bit i: most pages of slice i are in DRAM, as far as the control plane has said.
    in_dram: AtomicU32,
    born: Births,
}

/// Slabs: by slice, how often its pages were used by allocation alone, modulo 2^32; counted while memory is tight. By the owner, or under the lock of a
/// heap without one. Lines of their own: what all threads read of the record changes less often.
#[repr(align(64))]
struct Births([AtomicU32; SLICES]);

static TABLE: AtomicPtr<Extent> = AtomicPtr::new(ptr::null_mut());
/// How many extents were handed out, by pool.
static BIRTHS: [AtomicU32; Pool::COUNT] = [const { AtomicU32::new(0) }; Pool::COUNT];

/// Bits of a birth that name the pool; the others count. So births differ whatever pools an extent passes through.
const POOL_BITS: u32 = 4;
const _: () = assert!(Pool::COUNT <= 1 << POOL_BITS);

/// Publishes the table: zero-filled, one record per extent of the window.
pub(crate) fn open(table: *mut Extent) {
    TABLE.store(table, Ordering::Release);
}

/// The record of extent `index`.
#[inline]
pub(crate) fn at(index: usize) -> &'static Extent {
    debug_assert!(index < pagemap::window_bytes() >> EXTENT_SHIFT);
    // SAFETY: the table has a record for every extent of the window.
    unsafe { &*TABLE.load(Ordering::Relaxed).add(index) }
}

/// The number of the pool that an extent of this birth was handed out for, and which of that pool's it was; the first is 1.
#[must_use]
pub fn parts_of_birth(birth: u32) -> (u8, u32) {
    ((birth & ((1 << POOL_BITS) - 1)) as u8, birth >> POOL_BITS)
}

/// The index of the extent that holds `addr`, an address in the window.
#[inline]
pub(crate) fn index_of(addr: usize) -> usize {
    (addr - pagemap::window_base()) >> EXTENT_SHIFT
}

/// The first address of extent `index`.
#[inline]
pub(crate) fn base_of(index: usize) -> usize {
    pagemap::window_base() + (index << EXTENT_SHIFT)
}

impl Extent {
    /// What the extent is in use for.
    #[inline]
    pub(crate) fn kind(&self) -> Kind {
        match self.kind.load(Ordering::Acquire) {
            1 => Kind::Slabs,
            2 => Kind::LargeHead,
            3 => Kind::LargeBody,
            _ => Kind::Free,
        }
    }

    /// The number of the pool its data belongs to.
    #[inline]
    pub(crate) fn pool(&self) -> u8 {
        self.pool.load(Ordering::Relaxed)
    }

    /// Which hand-out this is.
    #[inline]
    pub(crate) fn birth(&self) -> u32 {
        self.birth.load(Ordering::Acquire)
    }

    /// Whether everything that was read of the record since [`Extent::birth`] said `birth` is of that life.
    ///
    /// Whatever of the next life was read, [`Extent::hand_out`]'s fence was before it and the end of this one before that: then `kind` is
    /// `Free`, or that of the next life, whose `birth` was stored before it.
    pub(crate) fn is_still(&self, birth: u32) -> bool {
        fence(Ordering::Acquire);
        self.kind() != Kind::Free && self.birth() == birth
    }

    /// Notes that pages of live slices were given back to the system: who counts them must ask again. Under the owner's lock.
    pub(crate) fn note_emptied(&self) {
        self.emptied.store(self.emptied().wrapping_add(1), Ordering::Relaxed);
    }

    /// Changes whenever that happens.
    #[inline]
    pub(crate) fn emptied(&self) -> u16 {
        self.emptied.load(Ordering::Relaxed)
    }

    /// Notes that the pages of a slice are used so often because blocks are allocated there. By the owner, or as [`Births`].
    pub(crate) fn note_births(&self, slice: usize, uses: u32) {
        let born = &self.born.0[slice];
        born.store(born.load(Ordering::Relaxed).wrapping_add(uses), Ordering::Relaxed);
    }

    /// Says which slices have most of their pages in DRAM. By the control plane; a hint.
    pub(crate) fn set_in_dram(&self, slices: u32) {
        self.in_dram.store(slices, Ordering::Relaxed);
    }

    /// Whether most pages of the slice are in DRAM, as far as is known.
    pub(crate) fn is_in_dram(&self, slice: usize) -> bool {
        self.in_dram.load(Ordering::Relaxed) >> slice & 1 == 1
    }

    /// How often they were, by slice.
    pub(crate) fn births(&self) -> [u32; SLICES] {
        core::array::from_fn(|slice| self.born.0[slice].load(Ordering::Relaxed))
    }

    /// The slices that hold live data.
    #[inline]
    pub(crate) fn live(&self) -> u32 {
        self.live.load(Ordering::Relaxed)
    }

    /// Publishes the slices that hold live data.
    #[inline]
    pub(crate) fn set_live(&self, live: u32) {
        self.live.store(live, Ordering::Relaxed);
    }

    /// Hands the extent out. Under the arena lock.
    pub(super) fn hand_out(&self, kind: Kind, pool: u8) {
        debug_assert_eq!(self.kind(), Kind::Free);
        // The last life ends before anything of this one can be seen.
        fence(Ordering::Release);
        self.pool.store(pool, Ordering::Relaxed);
        self.live.store(0, Ordering::Relaxed);
        self.in_dram.store(0, Ordering::Relaxed);
        self.next.store(0, Ordering::Relaxed);
        self.prev.store(0, Ordering::Relaxed);
        // The last owner must not take the extent for its own before the next one has entered itself.
        self.owner.store(ptr::null_mut(), Ordering::Relaxed);
        let number = BIRTHS[pool as usize].fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        self.birth.store(number << POOL_BITS | u32::from(pool), Ordering::Release);
        self.kind.store(kind as u8, Ordering::Release);
    }

    /// Makes the extent free, whatever it was in use for.
    #[cfg(feature = "model")]
    pub(super) fn end(&self) {
        self.live.store(0, Ordering::Relaxed);
        self.kind.store(Kind::Free as u8, Ordering::Release);
    }

    /// Takes the extent back. Under the arena lock.
    pub(super) fn take_back(&self) {
        debug_assert_ne!(self.kind(), Kind::Free);
        if self.kind() != Kind::Slabs {
            self.dirty_new.store(u32::MAX, Ordering::Relaxed);
        }
        self.live.store(0, Ordering::Relaxed);
        self.kind.store(Kind::Free as u8, Ordering::Release);
    }
}

/// Marks `extents` extents of a large span as lost: handed out for good, with nothing in them.
pub(crate) fn lose(index: usize, extents: usize) {
    for record in (index..index + extents).map(at) {
        record.live.store(0, Ordering::Relaxed);
        record.kind.store(Kind::LargeBody as u8, Ordering::Release);
    }
}

/// Changes the pool of every large span that lies wholly in `[start, end)`.
pub(crate) fn set_pool_of_spans(start: usize, end: usize, pool: Pool) {
    for index in index_of(start)..=index_of(end - 1) {
        let head = at(index);
        let (first, bytes) = (base_of(index), head.bytes.load(Ordering::Relaxed));
        if head.kind() == Kind::LargeHead && start <= first && first + bytes <= end {
            let span = head.span.load(Ordering::Relaxed) as usize;
            (index..index + span).for_each(|index| at(index).pool.store(pool as u8, Ordering::Relaxed));
        }
    }
}
