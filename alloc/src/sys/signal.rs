//! One handler for SIGSEGV that passes on what is not its own (sigaction(2)).

use core::cell::UnsafeCell;
use core::ffi::{c_int, c_void};
use core::mem::MaybeUninit;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// An access that the memory's protection refused.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// The address.
    pub addr: usize,
    /// The instruction, where the architecture's context is known here; else 0.
    pub pc: usize,
    /// Whether it was a write, where the processor tells.
    pub write: Option<bool>,
}

struct Previous(UnsafeCell<MaybeUninit<libc::sigaction>>);

// SAFETY: written once, by the one caller of `on_fault` that `TAKEN` lets through, before `READY`; only read after that.
unsafe impl Sync for Previous {}

static PREVIOUS: Previous = Previous(UnsafeCell::new(MaybeUninit::uninit()));
static TAKEN: AtomicBool = AtomicBool::new(false);
static READY: AtomicBool = AtomicBool::new(false);
static OWN: AtomicUsize = AtomicUsize::new(0);

/// From now on calls `own` for each refused access of this process. `own` says whether the access is its affair; then, and when the previous
/// disposition of the signal was the default, the access is made once more under that disposition, which ends the process
/// unless the program had a handler. Other faults go to the handler that there was. Once per process; a refusal changes
/// nothing. A handler that the program installs later replaces this one.
pub fn on_fault(own: fn(Fault) -> bool) {
    if TAKEN.swap(true, Ordering::AcqRel) {
        return;
    }
    OWN.store(own as usize, Ordering::Release);
    // SAFETY: zero is a valid sigaction: no flags, empty mask.
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    let entry: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) = handler;
    action.sa_sigaction = entry as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    // SAFETY: the previous action is written before anybody reads it: the new handler waits for READY; both records live.
    unsafe {
        // First asked for, then replaced: a fault between the two calls of this thread's is not possible, one of another's finds READY.
        if libc::sigaction(libc::SIGSEGV, ptr::null(), PREVIOUS.0.get().cast()) == 0 {
            READY.store(true, Ordering::Release);
            libc::sigaction(libc::SIGSEGV, &raw const action, ptr::null_mut());
        }
    }
}

extern "C" fn handler(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel passes a valid siginfo; for SIGSEGV it has an address.
    let (code, addr) = unsafe { ((*info).si_code, (*info).si_addr().addr()) };
    const SEGV_ACCERR: c_int = 2;
    let mut ours = false;
    if code == SEGV_ACCERR {
        // SAFETY: `on_fault` stored a function of this type before it installed the handler.
        let own: fn(Fault) -> bool = unsafe { core::mem::transmute(OWN.load(Ordering::Acquire)) };
        let (pc, write) = circumstances(context);
        ours = own(Fault { addr, pc, write });
    }
    if !READY.load(Ordering::Acquire) {
        return;
    }
    // SAFETY: written before READY.
    let previous = unsafe { (*PREVIOUS.0.get()).assume_init_ref() };
    let default = previous.sa_sigaction == libc::SIG_DFL || previous.sa_sigaction == libc::SIG_IGN;
    if ours || default {
        // The access is repeated when this returns, and meets the previous disposition. (A fault that is ignored kills all the same.)
        // SAFETY: the record is a whole sigaction that the kernel gave us.
        unsafe { libc::sigaction(libc::SIGSEGV, previous, ptr::null_mut()) };
        if code <= 0 {
            // Sent, not a fault: nothing would be repeated.
            // SAFETY: sends a signal to this thread; blocked until the handler returns.
            unsafe { libc::raise(signal) };
        }
        return;
    }
    // SAFETY: the program installed a handler of the type that its flags say; it gets what the kernel passed us.
    unsafe {
        if previous.sa_flags & libc::SA_SIGINFO != 0 {
            let next: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) =
                core::mem::transmute(previous.sa_sigaction);
            next(signal, info, context);
        } else {
            let next: extern "C" fn(c_int) = core::mem::transmute(previous.sa_sigaction);
            next(signal);
        }
    }
}

/// The instruction, and whether the access was a write, by the page fault's error code.
#[cfg(target_arch = "x86_64")]
fn circumstances(context: *mut c_void) -> (usize, Option<bool>) {
    // SAFETY: the third argument of an SA_SIGINFO handler is the interrupted thread's ucontext.
    let registers = unsafe { &(*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs };
    (registers[libc::REG_RIP as usize] as usize, Some(registers[libc::REG_ERR as usize] & 2 != 0))
}

/// Not told without parsing the context's extra records.
#[cfg(not(target_arch = "x86_64"))]
fn circumstances(_context: *mut c_void) -> (usize, Option<bool>) {
    (0, None)
}
