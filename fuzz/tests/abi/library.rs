//! The library under test, loaded beside the harness's own malloc: what the model keeps is never in the heap it models.

use std::ffi::{CString, c_char, c_int, c_uint, c_void};
use std::sync::OnceLock;

pub(crate) type Pointer = *mut c_void;

/// The start of `struct terrace_stats`, as a program compiled against a shorter one passes it.
#[repr(C)]
#[derive(Default)]
pub(crate) struct Stats {
    pub(crate) size: usize,
    pub(crate) live_bytes: u64,
    pub(crate) live_blocks: u64,
}

macro_rules! functions {
    ($($name:ident($($arg:ty),*) $(-> $ret:ty)?;)*) => {
        /// Its functions, under their names.
        #[allow(non_snake_case, reason = "some of C++'s names are what they are")]
        pub(crate) struct Library {
            $(pub(crate) $name: unsafe extern "C" fn($($arg),*) $(-> $ret)?,)*
        }

        fn load() -> Library {
            let handle = open();
            Library {
                // SAFETY: each name is that of a function of this type (malloc(3), terrace.h, the C++ ABI, ffi/src/walkers.rs).
                $($name: unsafe { std::mem::transmute::<Pointer, unsafe extern "C" fn($($arg),*) $(-> $ret)?>(symbol(handle, stringify!($name))) },)*
            }
        }
    };
}

functions! {
    malloc(usize) -> Pointer;
    calloc(usize, usize) -> Pointer;
    realloc(Pointer, usize) -> Pointer;
    reallocarray(Pointer, usize, usize) -> Pointer;
    aligned_alloc(usize, usize) -> Pointer;
    memalign(usize, usize) -> Pointer;
    posix_memalign(*mut Pointer, usize, usize) -> c_int;
    valloc(usize) -> Pointer;
    pvalloc(usize) -> Pointer;
    free(Pointer);
    cfree(Pointer);
    free_sized(Pointer, usize);
    free_aligned_sized(Pointer, usize, usize);
    malloc_usable_size(Pointer) -> usize;
    malloc_trim(usize) -> c_int;
    mallopt(c_int, c_int) -> c_int;
    mallinfo() -> libc::mallinfo;
    mallinfo2() -> libc::mallinfo2;
    __libc_malloc(usize) -> Pointer;
    __libc_calloc(usize, usize) -> Pointer;
    __libc_realloc(Pointer, usize) -> Pointer;
    __libc_memalign(usize, usize) -> Pointer;
    __libc_valloc(usize) -> Pointer;
    __libc_pvalloc(usize) -> Pointer;
    __libc_free(Pointer);
    __libc_cfree(Pointer);
    __posix_memalign(*mut Pointer, usize, usize) -> c_int;
    terrace_malloc(usize, c_uint) -> Pointer;
    terrace_calloc(usize, usize, c_uint) -> Pointer;
    terrace_aligned_alloc(usize, usize, c_uint) -> Pointer;
    terrace_realloc(Pointer, usize, c_uint) -> Pointer;
    terrace_free(Pointer);
    terrace_usable_size(Pointer) -> usize;
    terrace_advise(Pointer, usize, c_uint) -> c_int;
    terrace_tier_of(Pointer) -> c_int;
    terrace_tiers(Pointer, usize) -> c_int;
    terrace_version() -> *const c_char;
    terrace_stats_get(*mut Stats) -> c_int;
    terrace_stats_json(Option<extern "C" fn(Pointer, *const c_char, usize)>, Pointer) -> c_int;
    // operator new and new[]: size, alignment, std::nothrow.
    _Znwm(usize) -> Pointer;
    _Znam(usize) -> Pointer;
    _ZnwmSt11align_val_t(usize, usize) -> Pointer;
    _ZnamSt11align_val_t(usize, usize) -> Pointer;
    _ZnwmRKSt9nothrow_t(usize, Pointer) -> Pointer;
    _ZnamRKSt9nothrow_t(usize, Pointer) -> Pointer;
    _ZnwmSt11align_val_tRKSt9nothrow_t(usize, usize, Pointer) -> Pointer;
    _ZnamSt11align_val_tRKSt9nothrow_t(usize, usize, Pointer) -> Pointer;
    // operator delete and delete[]: pointer, size, alignment, std::nothrow.
    _ZdlPv(Pointer);
    _ZdaPv(Pointer);
    _ZdlPvm(Pointer, usize);
    _ZdaPvm(Pointer, usize);
    _ZdlPvSt11align_val_t(Pointer, usize);
    _ZdaPvSt11align_val_t(Pointer, usize);
    _ZdlPvmSt11align_val_t(Pointer, usize, usize);
    _ZdaPvmSt11align_val_t(Pointer, usize, usize);
    _ZdlPvRKSt9nothrow_t(Pointer, Pointer);
    _ZdaPvRKSt9nothrow_t(Pointer, Pointer);
    _ZdlPvSt11align_val_tRKSt9nothrow_t(Pointer, usize, Pointer);
    _ZdaPvSt11align_val_tRKSt9nothrow_t(Pointer, usize, Pointer);
    terrace_test_check(c_int) -> c_int;
    terrace_test_faults(u64, u64);
    terrace_test_injected() -> usize;
    terrace_test_live_blocks() -> usize;
    terrace_test_nodes(u32);
}

fn open() -> Pointer {
    let exe = std::env::current_exe().expect("this program has a path");
    let path = exe.with_file_name("libterrace_fuzzed.so");
    let name = CString::new(path.to_str().expect("a path in UTF-8")).expect("no NUL in a path");
    // SAFETY: the library's constructor registers fork handlers and nothing else.
    let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
    assert!(!handle.is_null(), "{} cannot be loaded", path.display());
    handle
}

fn symbol(handle: Pointer, name: &str) -> Pointer {
    let symbol = CString::new(name).expect("no NUL in a name");
    // SAFETY: the handle is open for good.
    let at = unsafe { libc::dlsym(handle, symbol.as_ptr()) };
    assert!(!at.is_null(), "{name} is not exported");
    let mut info = libc::Dl_info {
        dli_fname: std::ptr::null(),
        dli_fbase: std::ptr::null_mut(),
        dli_sname: std::ptr::null(),
        dli_saddr: std::ptr::null_mut(),
    };
    // SAFETY: the structure is live; the address is a function's.
    assert!(unsafe { libc::dladdr(at, &raw mut info) } != 0 && !info.dli_fname.is_null());
    // SAFETY: the loader's name of a loaded object, NUL-terminated.
    let from = unsafe { std::ffi::CStr::from_ptr(info.dli_fname) }.to_string_lossy();
    assert!(from.contains("terrace_fuzzed"), "{name} is {from}'s");
    at
}

/// Whether the library is to believe that there is a node 1.
pub(crate) fn pretends() -> bool {
    std::env::var("TERRACE_DEVICE_NODES").is_ok_and(|nodes| nodes == "1")
}

/// The library, loaded once. With `TERRACE_DEVICE_NODES=1` it believes that there is a node 1, so that it has a control thread and is
/// refused everything it wants of that node.
pub(crate) fn library() -> &'static Library {
    static LIBRARY: OnceLock<Library> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let library = load();
        if pretends() {
            // The control thread starts with the first allocation; the handle that std keeps of it is a block of this heap.
            // SAFETY: nothing was allocated yet.
            unsafe {
                (library.terrace_test_nodes)(2);
                (library.free)((library.malloc)(1));
            }
        }
        library
    })
}

/// Sets errno of the calling thread.
pub(crate) fn set_errno(value: i32) {
    // SAFETY: errno is this thread's own.
    unsafe { *libc::__errno_location() = value };
}

/// errno of the calling thread.
pub(crate) fn errno() -> i32 {
    // SAFETY: errno is this thread's own.
    unsafe { *libc::__errno_location() }
}
