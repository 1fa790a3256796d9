//! What is left of a program that failed: its bytes up to the operation that did, in a file, also where the library ended the process.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

static BYTES: AtomicPtr<u8> = AtomicPtr::new(std::ptr::null_mut());
/// How many of the bytes were used.
static USED: AtomicUsize = AtomicUsize::new(0);
static PATH: OnceLock<CString> = OnceLock::new();

/// Where the bytes go.
fn path() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-failed-{}", std::process::id()))
}

/// Says that the operation under way has used this many bytes.
pub(crate) fn used(bytes: usize) {
    USED.store(bytes, Ordering::Relaxed);
}

/// Writes the bytes of the program under way and ends as the signal asks: only what a handler may call.
extern "C" fn on_end(signal: libc::c_int) {
    let bytes = BYTES.load(Ordering::Acquire);
    if let Some(path) = PATH.get()
        && !bytes.is_null()
    {
        const SAYING: &[u8] = b"\nthe program that ended here is in ";
        // SAFETY: open, write and signal are async-signal-safe; the bytes are those of the caller that runs below us.
        unsafe {
            let file = libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC, 0o600);
            libc::write(file, bytes.cast(), USED.load(Ordering::Relaxed));
            libc::write(2, SAYING.as_ptr().cast(), SAYING.len());
            libc::write(2, path.as_ptr().cast(), path.as_bytes().len());
            libc::write(2, b"\n".as_ptr().cast(), 1);
        }
    }
    // SAFETY: as above; the signal comes again when this handler returns, or is raised here, and then ends the process.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        libc::raise(signal);
    }
}

/// Has the bytes kept if the process ends in `f`, or `f` panics.
pub(crate) fn kept_if_it_fails<T>(bytes: &[u8], f: impl FnOnce() -> T) -> T {
    PATH.get_or_init(|| {
        for signal in [libc::SIGABRT, libc::SIGSEGV, libc::SIGBUS, libc::SIGILL] {
            // SAFETY: the handler is one.
            unsafe { libc::signal(signal, on_end as extern "C" fn(libc::c_int) as usize) };
        }
        CString::new(path().as_os_str().as_bytes()).expect("no NUL in a path")
    });
    USED.store(0, Ordering::Relaxed);
    BYTES.store(bytes.as_ptr().cast_mut(), Ordering::Release);
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f));
    BYTES.store(std::ptr::null_mut(), Ordering::Release);
    result.unwrap_or_else(|failure| {
        std::fs::write(path(), &bytes[..USED.load(Ordering::Relaxed)]).expect("what failed can be kept");
        eprintln!("the program that failed is in {}", path().display());
        std::panic::resume_unwind(failure)
    })
}
