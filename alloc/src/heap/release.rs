//! The slow path of free: null, other threads' blocks, full slabs, large spans, foreign pointers, faults. Zone: cold.

use super::{Heap, abandon, foreign, hardened, large, slot_heap, thread};
use crate::arena;
use crate::pagemap;
use crate::slab::{FULL, FreeFault, LARGE, Slab};
use crate::sync::atomic::Ordering;
use crate::sys::proc::die;
use core::ptr;

/// Frees what the fast path did not: `ptr` is whatever the application passed.
///
/// # Safety
/// * As for free(3); what is not a live block is recognised as far as possible and ends the process with one line.
#[cold]
#[inline(never)]
pub(crate) unsafe fn free_slow(ptr: *mut u8) {
    let addr = ptr.addr();
    if let Some((heap, slab)) = own_full_slab(addr) {
        return heap.free_full(slab, addr).unwrap_or_else(|fault| report(addr, fault));
    }
    if ptr.is_null() {
        return;
    }
    let Some(slab) = slab_of(addr) else {
        if hardened::guard::free(addr) {
            return;
        }
        // SAFETY: the pointer is not ours; passed on from the caller.
        return unsafe { foreign::free(ptr) };
    };
    if ptr::eq(slab, &raw const LARGE) {
        // SAFETY: passed on from the caller; the page map says a large span starts in this slice.
        return unsafe { large::free_large(addr) };
    }
    // SAFETY: the page map holds headers that stay readable; a live block keeps its slab.
    let slab = unsafe { &*slab };
    if slab.is_hardened() {
        return hardened::free(slab, addr).unwrap_or_else(|fault| report(addr, fault));
    }
    // SAFETY: a thread's heap is never freed.
    let result = match thread::attach().map(|heap| unsafe { &*heap }) {
        Some(heap) if ptr::eq(heap, slab.heap()) => heap.free_full(slab, addr),
        Some(heap) => heap.free_remote(slab, addr),
        None => abandon::without_heap(|| slab.push_remote_block(slab.index_of(addr)?)),
    };
    if let Err(fault) = result {
        report(addr, fault);
    }
}

/// The slab that the page map has for `addr`, if it is one of this thread's heap that was found full, with that heap: of what is freed here, most is.
fn own_full_slab(addr: usize) -> Option<(&'static Heap, &'static Slab)> {
    let slab = pagemap::slab_at(pagemap::offset(addr)?);
    // SAFETY: the page map holds null or headers that stay readable.
    let slab = unsafe { slab.as_ref() }?;
    let heap = slot_heap();
    let own = ptr::eq(slab.owner.load(Ordering::Relaxed), heap.map_addr(|addr| addr | FULL));
    // SAFETY: no slab is a sentinel's, so the slot holds this thread's heap, which is never freed.
    own.then(|| (unsafe { &*heap }, slab))
}

/// The slab, or [`LARGE`], that the page map has for `addr`; `None` if the address is not in an arena. Ends the process if it is, but
/// in memory that is not in use.
fn slab_of(addr: usize) -> Option<*mut Slab> {
    let off = pagemap::offset(addr)?;
    let slab = pagemap::slab_at(off);
    if !slab.is_null() {
        return Some(slab);
    }
    let mut ours = false;
    arena::for_each_arena(&mut |arena| ours |= addr.wrapping_sub(arena.base) < arena.bytes);
    if ours {
        die(format_args!(
            "free of {addr:#x}: not the start of a block, or freed before (memory is not in use)"
        ));
    }
    None
}

/// Says what is wrong with a free and ends the process.
#[cold]
#[inline(never)]
pub(crate) fn report(addr: usize, fault: FreeFault) -> ! {
    match fault {
        FreeFault::Double => die(format_args!("double free of {addr:#x}")),
        FreeFault::Interior => die(format_args!("free of {addr:#x}: not the start of a block")),
    }
}

/// Says what is wrong with an address that is to be a live block and ends the process.
#[cold]
pub(crate) fn report_use(addr: usize, fault: FreeFault) -> ! {
    match fault {
        FreeFault::Double => die(format_args!("use after free of {addr:#x}")),
        FreeFault::Interior => report(addr, fault),
    }
}

impl Heap {
    /// Frees a block of one of this heap's slabs that had been found full. Once that is worth the while it goes on the list.
    fn free_full(&self, slab: &Slab, addr: usize) -> Result<(), FreeFault> {
        let index = slab.push_local(addr)?;
        if slab.is_full() && slab.is_worth_listing(index) {
            let _guard = self.lock.lock();
            slab.begin_at(index);
            self.list_if_full(slab);
        }
        Ok(())
    }
}
