//! Who called: return addresses up the calling thread's stack (`_Unwind_Backtrace` of the Itanium C++ ABI).
//!
//! For guarded allocations only, and never with a lock of the heap held: an unwinder may take the loader's lock, and one of an
//! older libgcc may allocate. Programs are not built with frame pointers, so following those would end at the first caller.

use core::ffi::{c_int, c_void};
use core::sync::atomic::{AtomicUsize, Ordering};

/// Most addresses kept of a stack.
pub const DEPTH: usize = 24;

/// The innermost addresses of a stack, each inside the instruction that called.
#[derive(Clone, Copy)]
pub struct Stack {
    frames: [usize; DEPTH],
    len: usize,
}

type Step = extern "C" fn(*mut c_void, *mut c_void) -> c_int;
type Walk = unsafe extern "C" fn(Step, *mut c_void) -> c_int;

unsafe extern "C" {
    fn _Unwind_Backtrace(step: Step, argument: *mut c_void) -> c_int;
    fn _Unwind_GetIPInfo(context: *mut c_void, before: *mut c_int) -> usize;
}

/// `_Unwind_Backtrace` once [`prepare`] has been called. Malloc reaches the unwinder through this word alone, so that it can be shown of
/// the code that without guards it is never reached.
static WALK: AtomicUsize = AtomicUsize::new(0);

const CONTINUE: c_int = 0;
const END: c_int = 5;

/// Lets [`Stack::here`] walk from now on.
pub fn prepare() {
    let walk: Walk = _Unwind_Backtrace;
    WALK.store(walk as usize, Ordering::Release);
}

extern "C" fn step(context: *mut c_void, stack: *mut c_void) -> c_int {
    // SAFETY: `here` passes its own, exclusive stack record.
    let stack = unsafe { &mut *stack.cast::<Stack>() };
    let mut before = 0;
    // SAFETY: the context is the unwinder's, valid in this call.
    let ip = unsafe { _Unwind_GetIPInfo(context, &raw mut before) };
    if ip == 0 || stack.len == DEPTH {
        return END;
    }
    // A return address may be the first of the next line, or of the next function.
    stack.frames[stack.len] = if before == 0 { ip - 1 } else { ip };
    stack.len += 1;
    CONTINUE
}

impl Stack {
    /// No stack.
    pub const EMPTY: Stack = Stack { frames: [0; DEPTH], len: 0 };

    /// The calling thread's, from this function outwards; empty before [`prepare`].
    #[must_use]
    #[inline(never)]
    pub fn here() -> Stack {
        let mut stack = Stack::EMPTY;
        let walk = WALK.load(Ordering::Acquire);
        if walk != 0 {
            // SAFETY: the only value stored beside 0 is `_Unwind_Backtrace`.
            let walk: Walk = unsafe { core::mem::transmute::<usize, Walk>(walk) };
            // SAFETY: `step` has the signature the unwinder wants and gets the record it expects.
            unsafe { walk(step, (&raw mut stack).cast()) };
        }
        stack
    }

    /// The addresses, innermost first.
    #[must_use]
    pub fn frames(&self) -> &[usize] {
        &self.frames[..self.len]
    }
}
