//! Pointers that are not ours: other heaps in the same process, and mistakes.
//!
//! Zone: cold, and rare. In a Rust program blocks of the control thread's may come here too; they bear a seal ([`meta::take_own`]). A library loaded with `RTLD_DEEPBIND`, or linked statically against libc, allocates from libc's own heap and
//! may hand us the block to free. Such a block is recognised by libc's chunk header and passed on; anything else ends the
//! process with one line rather than corrupt either heap.

use crate::meta;
use crate::sys::mm;
use crate::sys::proc::die;
use core::ffi::{CStr, c_void};
use core::ptr;
use core::sync::atomic::{AtomicUsize, Ordering};

/// A function of libc's own, found past every interposition.
struct Libc {
    name: &'static CStr,
    at: AtomicUsize,
}

static FREE: Libc = Libc { name: c"free", at: AtomicUsize::new(0) };
static USABLE: Libc = Libc { name: c"malloc_usable_size", at: AtomicUsize::new(0) };

impl Libc {
    fn find(&self) -> Option<usize> {
        let at = self.at.load(Ordering::Acquire);
        if at != 0 {
            return Some(at);
        }
        // SAFETY: names are NUL-terminated; RTLD_NOLOAD only finds what is loaded, and libc always is. Both calls may allocate, which
        // is why no lock of the heap is held here.
        let found = unsafe {
            let libc = libc::dlopen(c"libc.so.6".as_ptr(), libc::RTLD_NOLOAD | libc::RTLD_LAZY);
            if libc.is_null() {
                return None;
            }
            libc::dlsym(libc, self.name.as_ptr())
        };
        self.at.store(found.expose_provenance(), Ordering::Release);
        (!found.is_null()).then(|| found.expose_provenance())
    }
}

/// Whether `addr` lies on this thread's stack, above the present frame. A thread's descriptor lies at the top of its stack, the
/// main thread's random bytes at the top of the main stack. On a stack of the program's own making the answer is no: next to
/// a stack there may well be blocks of libc's heap.
fn is_on_this_stack(addr: usize) -> bool {
    const LARGEST: usize = 64 << 20;
    let here = (&raw const addr).addr();
    // SAFETY: pthread_self only reads the thread pointer, getauxval the auxiliary vector.
    let tops = unsafe { [libc::pthread_self() as usize, libc::getauxval(libc::AT_RANDOM) as usize] };
    tops.into_iter().any(|top| (here..top).contains(&addr) && top - here < LARGEST)
}

/// Whether `addr` looks like a block of libc's heap: aligned, readable, with a chunk header that makes sense, and not on this
/// thread's stack.
fn is_libc_block(addr: usize) -> bool {
    if !addr.is_multiple_of(16) || addr < 4096 || is_on_this_stack(addr) {
        return false;
    }
    if !mm::is_mapped(addr - 16, 16) || !mm::is_readable(addr - 16) {
        return false;
    }
    // SAFETY: the page is mapped and readable. The word before a block is its chunk's size and flags.
    let size = unsafe { ptr::with_exposed_provenance::<usize>(addr - 8).read_volatile() };
    let (bytes, mapped) = (size & !7, size & 2 != 0);
    bytes >= 32 && bytes.is_multiple_of(16) && bytes < 1 << 46 && (!mapped || (addr - 16).is_multiple_of(16))
}

/// Passes a free on to libc's heap, or ends the process.
///
/// # Safety
/// * `ptr` is not in an arena.
pub(super) unsafe fn free(ptr: *mut u8) {
    // SAFETY: passed on from the caller.
    if unsafe { meta::give_own(ptr) } {
        return;
    }
    if is_libc_block(ptr.addr())
        && let Some(at) = FREE.find()
    {
        // SAFETY: `at` is libc's free.
        let free: unsafe extern "C" fn(*mut c_void) = unsafe { core::mem::transmute(at) };
        // SAFETY: the pointer has the shape of a block of libc's heap, and the application frees it.
        return unsafe { free(ptr.cast()) };
    }
    die(format_args!("free of {:#x}: not memory of this heap", ptr.addr()));
}

/// Usable bytes of a block that is not ours, as libc sees it; ends the process if it is not libc's either.
///
/// # Safety
/// * `ptr` is not in an arena.
pub(crate) unsafe fn usable_size(ptr: *mut u8) -> usize {
    if let Some(bytes) = super::hardened::guard::usable(ptr.addr()).or_else(|| meta::own_bytes(ptr)) {
        return bytes;
    }
    if is_libc_block(ptr.addr())
        && let Some(at) = USABLE.find()
    {
        // SAFETY: `at` is libc's malloc_usable_size.
        let usable: unsafe extern "C" fn(*mut c_void) -> usize = unsafe { core::mem::transmute(at) };
        // SAFETY: the pointer has the shape of a block of libc's heap.
        return unsafe { usable(ptr.cast()) };
    }
    die(format_args!("{:#x} is not memory of this heap", ptr.addr()));
}
