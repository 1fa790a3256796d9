//! Hardened mode: random places, a quarantine, zero on free, checks at both ends of a block's life; and guarded samples ([`guard`]).
//!
//! Zone: cold. It costs the normal mode nothing on the fast path, because it has none of its own: in hardened mode no bin
//! ever gets a current slab, so every `malloc` comes to [`allocate`], and every slab bears a tag in its owner field, so
//! every `free` of a small block comes to [`free`].
//!
//! Invariants of a hardened slab's blocks, beside those of [`Slab`]:
//! * A free block, or one in quarantine, that was ever handed out is all zero.
//! * Behind a live block's bytes stand canaries, as far as the block and [`random::CANARY_BYTES`] reach.
//! * A thread takes its quarantine with it: what it has freed is free when the thread has ended.

pub(crate) mod guard;
mod pool;
mod quarantine;
mod random;
mod report;

pub(crate) use quarantine::Quarantine;

use super::extents::Pages;
use super::{Heap, abandon, boot, refill, thread};
use crate::arena::{self, Pool};
use crate::class::{MAX_SMALL, class_of};
use crate::config;
use crate::pagemap;
use crate::slab::{FreeFault, Slab, Taken};
use crate::sync::Lock;
use crate::sync::atomic::{AtomicU8, Ordering};
use crate::sys::mm;
use crate::sys::proc::die;
use core::ptr;
use core::slice;

const UNKNOWN: u8 = 0;
const NORMAL: u8 = 1;
const SAMPLING: u8 = 2;
const HARDENED: u8 = 3;

static MODE: AtomicU8 = AtomicU8::new(UNKNOWN);
/// Held while the mode is found out, so that the keys are drawn once.
static FINDING_OUT: Lock<()> = Lock::new(());

#[inline]
fn mode() -> u8 {
    match MODE.load(Ordering::Acquire) {
        UNKNOWN => find_out(),
        known => known,
    }
}

/// Whether the process runs in hardened mode.
#[inline]
pub(crate) fn is_on() -> bool {
    mode() == HARDENED
}

#[cold]
#[inline(never)]
fn find_out() -> u8 {
    let _guard = FINDING_OUT.lock();
    let config = config::get();
    let mode = match (config.hardened, config.guard_sample) {
        (true, _) => HARDENED,
        (false, 0) => NORMAL,
        _ => SAMPLING,
    };
    // Before the C library has set `environ` up, nothing is known yet, and what is allocated is allocated normally.
    if config::is_known() && MODE.load(Ordering::Relaxed) == UNKNOWN {
        if mode != NORMAL {
            random::seed();
        }
        MODE.store(mode, Ordering::Release);
    }
    mode
}

/// Allocates `size` bytes at a multiple of `align` in a block of `class`, which serves both, where the fast path has none; null if there is
/// no memory. `site` is who asks: a return address, or 0 if nobody knows.
#[cold]
#[inline(never)]
pub(crate) fn allocate(pool: Pool, class: usize, size: usize, align: usize, site: usize) -> *mut u8 {
    let mode = mode();
    if mode == NORMAL {
        return refill::allocate_slow(pool, class, site);
    }
    if pool == Pool::Default
        && let Some(block) = guard::sample(size, align)
    {
        return block;
    }
    if mode == SAMPLING {
        refill::allocate_slow(pool, class, site)
    } else {
        allocate_hardened(pool, class, size, align)
    }
}

fn allocate_hardened(pool: Pool, class: usize, size: usize, align: usize) -> *mut u8 {
    // One byte more, so that there is a canary behind every block; but not at the price of the next multiple of an alignment.
    let class = if align <= 16 && size < MAX_SMALL { class_of(size + 1) } else { class };
    let taken = match thread::attach() {
        // SAFETY: a thread's heap is never freed.
        Some(heap) => unsafe { &*heap }.take(pool, class),
        None if boot::ready() => abandon::with_shared(|heap| heap.take(pool, class)).flatten(),
        None => None,
    };
    // With no lock held: the hook may start a thread, which allocates.
    arena::call_growth_hook();
    let Some((slab, taken)) = taken else { return ptr::null_mut() };
    let block: *mut u8 = ptr::with_exposed_provenance_mut(taken.addr);
    if !taken.fresh
        // SAFETY: the block was taken for this caller alone.
        && let Some(at) = unsafe { first_nonzero(taken.addr, slab.block_bytes as usize) }
    {
        die(format_args!(
            "write after free of {:#x}: byte {} of a block of {} is not what it was",
            taken.addr,
            at - taken.addr,
            slab.block_bytes
        ));
    }
    let (size, block_bytes) = (slab.set_size(taken.index, size), slab.block_bytes as usize);
    // SAFETY: as above.
    unsafe {
        write_canary(taken.addr, size, block_bytes);
        if taken.fresh {
            // What is behind the canaries is not touched again, and is to be zero from now on.
            let end = canary_range(size, block_bytes).end;
            block.add(end).write_bytes(0, block_bytes - end);
        }
    }
    block
}

/// The address of the first byte that is not zero, if there is one.
///
/// # Safety
/// * `[addr, addr + bytes)` is a block, so a multiple of 16 bytes, that nobody writes to.
unsafe fn first_nonzero(addr: usize, bytes: usize) -> Option<usize> {
    // SAFETY: blocks are aligned to 16 bytes, and this one is readable and the caller's.
    let words = unsafe { slice::from_raw_parts(ptr::with_exposed_provenance::<u64>(addr), bytes / 8) };
    // In pieces, each of which the compiler folds without a branch.
    let piece = words.chunks(32).position(|piece| piece.iter().fold(0, |all, word| all | word) != 0)?;
    let word = words[piece * 32..].iter().position(|&word| word != 0)? + piece * 32;
    let byte = words[word].to_ne_bytes().iter().position(|&byte| byte != 0)?;
    Some(addr + word * 8 + byte)
}

/// Where the canaries of a block of `size` bytes stand.
fn canary_range(size: usize, block_bytes: usize) -> core::ops::Range<usize> {
    size..block_bytes.min(size + random::CANARY_BYTES)
}

/// # Safety
/// * The block at `addr` is the caller's.
unsafe fn write_canary(addr: usize, size: usize, block_bytes: usize) {
    let canary = random::canary(addr);
    let len = canary_range(size, block_bytes).len();
    // SAFETY: the range is inside the block, and no longer than a canary.
    unsafe {
        ptr::copy_nonoverlapping(canary.as_ptr(), ptr::with_exposed_provenance_mut(addr + size), len);
    }
}

/// Ends the process if something was written behind the block's `size` bytes.
///
/// # Safety
/// * The block at `addr` is the caller's.
unsafe fn check_canary(addr: usize, size: usize, block_bytes: usize) {
    let canary = random::canary(addr);
    let len = canary_range(size, block_bytes).len();
    // SAFETY: the range is inside the block.
    let found = unsafe { slice::from_raw_parts(ptr::with_exposed_provenance::<u8>(addr + size), len) };
    if *found != canary[..len] {
        let at = found.iter().zip(&canary).position(|(found, canary)| found != canary).unwrap_or(0);
        die(format_args!(
            "heap overflow past {addr:#x}: byte {} of a block of {size} was written",
            size + at
        ));
    }
}

/// Frees the block at `addr` of a hardened slab.
pub(super) fn free(slab: &Slab, addr: usize) -> Result<(), FreeFault> {
    let index = slab.index_of(addr)?;
    slab.bury(index)?;
    if !slab.is_hardened() {
        // A header of zeros: the slab went since the index was found, and then the page that the header stood on. So a free came first.
        return Err(FreeFault::Double);
    }
    let (size, block_bytes) = (slab.size_of(index), slab.block_bytes as usize);
    // SAFETY: of all frees of the block only this one buried it, so it is ours until it is released.
    unsafe {
        check_canary(addr, size, block_bytes);
        let used = canary_range(size, block_bytes).end;
        ptr::with_exposed_provenance_mut::<u8>(addr).write_bytes(0, used);
    }
    // SAFETY: a thread's heap is never freed.
    match thread::attach().map(|heap| unsafe { &*heap }) {
        Some(heap) => {
            let _guard = heap.lock.lock();
            heap.put_in_quarantine(slab, addr);
            Ok(())
        }
        None => abandon::without_heap(|| slab.push_remote_block(index)),
    }
}

/// Gives a live block of a hardened slab `size` bytes where it is, if its class is right for so many.
///
/// # Safety
/// * `block` is a live block; what is past `size` is not used any more.
pub(crate) unsafe fn resize(block: *mut u8, size: usize) -> bool {
    let Some(off) = pagemap::offset(block.addr()).filter(|_| is_on()) else { return false };
    let slab = pagemap::slab_at(off);
    // SAFETY: the page map holds null or headers that stay readable.
    let Some(slab) = unsafe { slab.as_ref() }.filter(|slab| slab.is_hardened()) else {
        return false;
    };
    let block_bytes = slab.block_bytes as usize;
    let Ok(index) = slab.index_of(block.addr()) else { return false };
    let (addr, old) = (block.addr(), slab.size_of(index));
    // Room for a canary stays. What is less than half the size it has moves, as in every mode.
    if size >= block_bytes || (size < block_bytes / 2 && size < old / 2) {
        return false;
    }
    // SAFETY: the block is live, and the caller's.
    unsafe {
        check_canary(addr, old, block_bytes);
        // What was neither the application's nor canary is zero; so are canaries that are so no longer, and what shrinking cuts off.
        let old_end = canary_range(old, block_bytes).end;
        let from = old.min(size);
        block.add(from).write_bytes(0, old_end - from);
        let size = slab.set_size(index, size);
        write_canary(addr, size, block_bytes);
    }
    true
}

/// Removes what is in a large span that was freed.
///
/// # Safety
/// * The span at `addr` of `bytes` usable bytes is no longer the application's and not anybody else's yet.
pub(super) unsafe fn scrub(addr: usize, bytes: usize) {
    if !is_on() {
        return;
    }
    // SAFETY: passed on from the caller.
    let refused = unsafe { mm::discard(addr, bytes) }.is_err_and(|errno| errno.0 != libc::ENOMEM);
    if refused {
        // Locked in memory (mlockall(2)), so in memory; or a sandbox without madvise(2).
        // SAFETY: as above.
        unsafe { ptr::with_exposed_provenance_mut::<u8>(addr).write_bytes(0, bytes) };
    }
}

impl Heap {
    /// Takes a random free block of `class`, by the heap's owner.
    fn take(&self, pool: Pool, class: usize) -> Option<(&'static Slab, Taken)> {
        let _guard = self.lock.lock();
        self.drain_remote();
        self.purge_if_due();
        let bins = self.bins(pool)?;
        let random = self.random()?;
        loop {
            // SAFETY: listed slabs are alive, and a slab with a block taken stays so.
            let Some(slab) = (unsafe { bins.partial[class].get().as_ref() }) else {
                match bins.fresh_slab(self, class, Pages::Any) {
                    // SAFETY: a slab just made is alive.
                    Some(slab) => bins.push_partial(unsafe { &*slab }),
                    None if self.empty_quarantine() || !bins.partial[class].get().is_null() => {}
                    None => return None,
                }
                continue;
            };
            // A slab from before the mode was known is left to its blocks.
            if slab.is_hardened() {
                let taken = slab.take_random(random);
                if taken.is_some() || slab.collect() {
                    slab.forget_purged();
                    match taken {
                        Some(taken) => return Some((slab, taken)),
                        None => continue,
                    }
                }
            }
            bins.unlist(slab);
            slab.set_full(true);
        }
    }
}

/// Takes the locks of this module for fork. Before the heaps'.
pub(super) fn lock_for_fork() {
    FINDING_OUT.acquire();
    guard::lock_for_fork();
}

/// Releases them in the parent.
///
/// # Safety
/// * This thread called [`lock_for_fork`].
pub(super) unsafe fn unlock_after_fork() {
    // SAFETY: this thread holds them.
    unsafe {
        guard::unlock_after_fork();
        FINDING_OUT.release();
    }
}

/// Frees them in the child, and has it make choices of its own.
///
/// # Safety
/// * This is the only thread of the process.
pub(super) unsafe fn reset_after_fork() {
    // SAFETY: no other thread exists.
    unsafe {
        guard::reset_after_fork();
        FINDING_OUT.reset();
    }
    if matches!(MODE.load(Ordering::Relaxed), SAMPLING | HARDENED) {
        random::reseed();
    }
}
