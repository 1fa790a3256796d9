//! Metadata for Rust code: the cdylib's global allocator, and the control thread's blocks in a program whose allocator is Terrace.
//!
//! Zone: control; [`MetaAlloc`] also in an application's thread, rarely.

use super::{RUST, TWO_LINES};
use crate::arch::slot;
use crate::sys::futex;
use crate::sys::mm::{self, Access};
use core::alloc::{GlobalAlloc, Layout};
use core::ffi::c_void;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicUsize, Ordering};

/// Past this a Rust block is a mapping of its own.
const MAX_POOLED: usize = 12 << 10;

/// The slot's value of the thread that waits for memory rather than be told that there is none; 0 = none.
static PATIENT: AtomicUsize = AtomicUsize::new(0);
/// How long it waits between two tries, in ms.
const PATIENCE_MS: u64 = 50;

/// Says that threads with this value in their slot wait for memory: the control thread, which nobody waits for, and whose Rust code
/// would end the process.
pub(crate) fn wait_in_threads_with(slot: *mut c_void) {
    PATIENT.store(slot.addr(), Ordering::Relaxed);
}

/// Whether the caller, which was refused memory, is to try again; then some time has passed.
fn may_retry() -> bool {
    let patient = slot::get().addr() == PATIENT.load(Ordering::Relaxed);
    if patient {
        futex::rest(PATIENCE_MS);
    }
    patient
}

/// The allocator for Rust code inside `libterrace.so`: control-plane allocations come from metadata memory, so they
/// neither recurse into `malloc` nor count as the application's.
///
/// Thread-safe; fork-safe through the library's fork handlers.
pub struct MetaAlloc;

// SAFETY: blocks come from the locked pool or from mappings of their own; sizes are derived from the layout the same way on
// both sides; alignment up to 128 is the pool's grain and up to a page that of a mapping.
unsafe impl GlobalAlloc for MetaAlloc {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.align() > mm::page_bytes() {
            return ptr::null_mut();
        }
        loop {
            let block = if layout.size() > MAX_POOLED || layout.align() > TWO_LINES {
                mm::map(layout.size(), Access::ReadWrite)
                    .map_or(ptr::null_mut(), ptr::with_exposed_provenance_mut)
            } else {
                RUST.lock().take(layout.size(), 0).map_or(ptr::null_mut(), |block| block.at.as_ptr())
            };
            if !block.is_null() || !may_retry() {
                return block;
            }
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if layout.size() > MAX_POOLED || layout.align() > TWO_LINES {
            // SAFETY: `alloc` mapped this block for itself, and GlobalAlloc's contract says it is unused now.
            unsafe { mm::unmap(block.expose_provenance(), layout.size()) };
            return;
        }
        if let Some(block) = NonNull::new(block) {
            // SAFETY: `alloc` took it from this pool with the same layout.
            unsafe { RUST.lock().give(block, layout.size(), 0) };
        }
    }
}

/// What stands before a block that the control thread allocated through a handle of the program's ([`take_own`]): such a block may be freed
/// by any thread and through any door, and must be told from others there.
#[repr(C)]
#[derive(Clone, Copy)]
struct Seal {
    bytes: usize,
    align: usize,
    /// The block's address, mixed.
    mark: usize,
    _pad: usize,
}

const SEAL_BYTES: usize = size_of::<Seal>();

fn mark_of(addr: usize) -> usize {
    addr.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x7e44_ace5_ea1e_d0e5
}

impl Seal {
    /// The layout of the whole block, and where in it the application's part begins.
    fn layout(bytes: usize, align: usize) -> Option<(Layout, usize)> {
        let offset = align.max(SEAL_BYTES);
        Some((
            Layout::from_size_align(bytes.checked_add(offset)?, align.max(align_of::<Seal>())).ok()?,
            offset,
        ))
    }

    /// The seal before `block`, if there is one.
    fn of(block: *mut u8) -> Option<Seal> {
        let at = block.addr().checked_sub(SEAL_BYTES)?;
        // A block under a seal is a multiple of its size, so the seal lies in one page. Others' blocks may begin right behind a guard.
        if !block.addr().is_multiple_of(SEAL_BYTES) || !mm::is_mapped(at, SEAL_BYTES) || !mm::is_readable(at)
        {
            return None;
        }
        // SAFETY: the words are mapped, aligned and readable.
        let seal = unsafe { ptr::with_exposed_provenance::<Seal>(at).read_volatile() };
        (seal.mark == mark_of(block.addr())).then_some(seal)
    }
}

/// Memory for the control thread's own data, where the program's allocator is asked for it; null if there is none.
pub(crate) fn take_own(layout: Layout, zero: bool) -> *mut u8 {
    let Some((whole, offset)) = Seal::layout(layout.size(), layout.align().max(16)) else {
        return ptr::null_mut();
    };
    // SAFETY: the layout is not empty: it has room for the seal.
    let base = unsafe { if zero { MetaAlloc.alloc_zeroed(whole) } else { MetaAlloc.alloc(whole) } };
    if base.is_null() {
        return base;
    }
    // SAFETY: `offset` is within the block, at least the seal's size, and a multiple of both alignments.
    unsafe {
        let block = base.add(offset);
        let mark = mark_of(block.expose_provenance());
        block.cast::<Seal>().sub(1).write(Seal {
            bytes: layout.size(),
            align: layout.align().max(16),
            mark,
            _pad: 0,
        });
        block
    }
}

/// Bytes of a block of [`take_own`]; `None` for any other pointer.
pub(crate) fn own_bytes(block: *mut u8) -> Option<usize> {
    Seal::of(block).map(|seal| seal.bytes)
}

/// Gives back a block of [`take_own`]; `false` if it is none.
///
/// # Safety
/// * Nobody uses the block again, if it is one.
pub(crate) unsafe fn give_own(block: *mut u8) -> bool {
    let Some(seal) = Seal::of(block) else { return false };
    let Some((whole, offset)) = Seal::layout(seal.bytes, seal.align) else { return false };
    // SAFETY: the seal says that `take_own` allocated it with this layout; broken, it is none any more.
    unsafe {
        block.cast::<Seal>().sub(1).write(Seal { bytes: 0, align: 0, mark: 0, _pad: 0 });
        MetaAlloc.dealloc(block.sub(offset), whole);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rust_allocations_of_every_size_hold_their_contents() {
        for size in [1usize, 64, 65, 4096, 4097, 1 << 20] {
            let layout = Layout::from_size_align(size, 16).unwrap();
            // SAFETY: the layout is not empty; the block is written within its size and freed with the same layout.
            unsafe {
                let block = MetaAlloc.alloc(layout);
                assert!(!block.is_null());
                block.write_bytes(0xab, size);
                assert_eq!(*block.add(size - 1), 0xab);
                MetaAlloc.dealloc(block, layout);
            }
        }
    }

    #[test]
    fn blocks_of_the_control_thread_are_told_from_all_others() {
        for (bytes, align) in [(1, 1), (100, 8), (5000, 16), (300, 256), (70_000, 4096)] {
            let layout = Layout::from_size_align(bytes, align).unwrap();
            let block = take_own(layout, true);
            assert!(block.addr().is_multiple_of(align));
            assert_eq!(own_bytes(block), Some(bytes));
            assert_eq!(own_bytes(block.wrapping_add(16)), None);
            // SAFETY: the block is ours and as long as that; it is given back once, and only looked at after that.
            unsafe {
                assert!((0..bytes).all(|i| *block.add(i) == 0));
                block.write_bytes(0xa5, bytes);
                assert!(give_own(block));
                assert!(!give_own(block), "and not twice");
            }
        }
        let other = Box::new([0usize; 64]);
        assert_eq!(own_bytes((&raw const other[8]).cast_mut().cast()), None);
        assert_eq!(own_bytes(ptr::without_provenance_mut(48)), None);
    }

    /// No system maps this much.
    const IMPOSSIBLE: usize = 1 << 47;

    #[test]
    fn the_control_thread_waits_for_memory_and_others_are_told() {
        let layout = Layout::from_size_align(IMPOSSIBLE, 16).unwrap();
        let ask = move |own: bool| {
            std::thread::spawn(move || {
                if own {
                    crate::heap::become_own();
                }
                // SAFETY: the layout is not empty.
                unsafe { MetaAlloc.alloc(layout) }.is_null()
            })
        };
        let control = ask(true);
        assert!(ask(false).join().unwrap());
        std::thread::sleep(std::time::Duration::from_millis(4 * PATIENCE_MS));
        assert!(!control.is_finished(), "it would have ended the process");
    }
}
