//! glibc's extensions: mallinfo(3), malloc_info(3), malloc_stats(3), malloc_trim(3), mallopt(3).
//!
//! Zone: cold. All figures come from [`raw::heap_stats`]; they are sums over running threads, exact only when the
//! process is quiet. Terrace has no brk heap and no per-block mmap, so glibc's fields are filled by nearest meaning.

use crate::malloc::set_errno;
use core::ffi::{c_int, c_void};
use core::fmt::Write;
use terrace_core::raw;
use terrace_core::sys::proc::{Line, say};

/// `mallinfo2(3)`: `arena` and `hblkhd` are the bytes of slabs and of large blocks, `hblks` counts the latter, `uordblks` the bytes in live
/// blocks, `fordblks` the slab and large bytes not in live blocks. Fields without a counterpart are 0.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn mallinfo2() -> libc::mallinfo2 {
    let stats = raw::heap_stats();
    let (slabs, large, live) = (stats.slab_bytes, stats.large_bytes, stats.live_bytes);
    libc::mallinfo2 {
        arena: slabs,
        ordblks: 0,
        smblks: 0,
        hblks: stats.large_blocks,
        hblkhd: large,
        usmblks: 0,
        fsmblks: 0,
        uordblks: live,
        fordblks: (slabs + large).saturating_sub(live),
        keepcost: 0,
    }
}

/// `mallinfo(3)`: as [`mallinfo2`], each figure saturated to what an `int` holds.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn mallinfo() -> libc::mallinfo {
    let int = |value: usize| c_int::try_from(value).unwrap_or(c_int::MAX);
    let info = mallinfo2();
    libc::mallinfo {
        arena: int(info.arena),
        ordblks: int(info.ordblks),
        smblks: int(info.smblks),
        hblks: int(info.hblks),
        hblkhd: int(info.hblkhd),
        usmblks: int(info.usmblks),
        fsmblks: int(info.fsmblks),
        uordblks: int(info.uordblks),
        fordblks: int(info.fordblks),
        keepcost: int(info.keepcost),
    }
}

/// `malloc_info(3)`: writes an XML document to `stream`; -1 with errno `EINVAL` unless `options` is 0.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn malloc_info(options: c_int, stream: *mut libc::FILE) -> c_int {
    if options != 0 {
        set_errno(libc::EINVAL);
        return -1;
    }
    let stats = raw::heap_stats();
    let mut written = true;
    let mut element = |text: core::fmt::Arguments<'_>| {
        let mut line = Line::new();
        // A line that does not fit is cut; none of these is that long.
        let _ = line.write_fmt(text);
        let bytes = line.as_bytes();
        // SAFETY: the buffer is live and of the given length; the caller gives an open stream. No lock of ours is held,
        // so the stream may allocate its buffer.
        written &=
            unsafe { libc::fwrite(bytes.as_ptr().cast::<c_void>(), 1, bytes.len(), stream) } == bytes.len();
    };
    element(format_args!("<malloc version=\"terrace-1\">\n"));
    element(format_args!(
        "<total type=\"live\" count=\"{}\" size=\"{}\"/>\n",
        stats.live_blocks, stats.live_bytes
    ));
    element(format_args!(
        "<total type=\"large\" count=\"{}\" size=\"{}\"/>\n",
        stats.large_blocks, stats.large_bytes
    ));
    element(format_args!("<system type=\"slabs\" size=\"{}\"/>\n", stats.slab_bytes));
    element(format_args!("<system type=\"extents\" size=\"{}\"/>\n", stats.extent_bytes));
    element(format_args!("<system type=\"metadata\" size=\"{}\"/>\n", stats.metadata_bytes));
    element(format_args!("<aspace type=\"total\" size=\"{}\"/>\n</malloc>\n", stats.reserved_bytes));
    if written { 0 } else { -1 }
}

/// `malloc_stats(3)`: a summary on standard error.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn malloc_stats() {
    let stats = raw::heap_stats();
    say(format_args!(
        "{} live blocks, {} bytes; slabs {} bytes, large {} bytes, metadata {} bytes; \
         {} arenas, {} bytes reserved; {} threads",
        stats.live_blocks,
        stats.live_bytes,
        stats.slab_bytes,
        stats.large_bytes,
        stats.metadata_bytes,
        stats.arenas,
        stats.reserved_bytes,
        stats.threads,
    ));
}

/// `malloc_trim(3)`: returns free memory to the system; 1 if any was, else 0. `pad` (bytes to keep at the top of the
/// brk heap) has no meaning here.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn malloc_trim(_pad: usize) -> c_int {
    raw::trim().into()
}

/// `mallopt(3)`: 1 for glibc's tuning parameters, which are accepted and change nothing; 0 (refused) for those that
/// ask for a behaviour Terrace does not have (`M_PERTURB`, `M_CHECK_ACTION`) and for unknown ones.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn mallopt(parameter: c_int, _value: c_int) -> c_int {
    const M_TRIM_THRESHOLD: c_int = -1;
    const M_TOP_PAD: c_int = -2;
    const M_MMAP_THRESHOLD: c_int = -3;
    const M_MMAP_MAX: c_int = -4;
    const M_ARENA_TEST: c_int = -7;
    const M_ARENA_MAX: c_int = -8;
    const M_MXFAST: c_int = 1;
    let tuning = matches!(
        parameter,
        M_TRIM_THRESHOLD | M_TOP_PAD | M_MMAP_THRESHOLD | M_MMAP_MAX | M_ARENA_TEST | M_ARENA_MAX | M_MXFAST
    );
    tuning.into()
}

/// glibc's other name for [`mallinfo`].
#[unsafe(no_mangle)]
pub(crate) extern "C" fn __libc_mallinfo() -> libc::mallinfo {
    mallinfo()
}

/// glibc's other name for [`mallopt`].
#[unsafe(no_mangle)]
pub(crate) extern "C" fn __libc_mallopt(parameter: c_int, value: c_int) -> c_int {
    mallopt(parameter, value)
}
