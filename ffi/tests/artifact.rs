//! What `cargo build --release` ships as libterrace.so: its names, its needs, its thread-local storage.

#[path = "support/disassembly.rs"]
mod disassembly;
mod support;

use disassembly::{CallGraph, tool};
use std::collections::BTreeSet;
use std::process::Command;
use support::{compile, library, run};

/// A committed list: one name a line.
fn committed(text: &str) -> BTreeSet<String> {
    text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect()
}

fn symbols() -> BTreeSet<String> {
    committed(include_str!("../symbols.txt"))
}

/// Compares two sets by what differs.
#[track_caller]
fn assert_same(found: &BTreeSet<String>, expected: &BTreeSet<String>, what: &str) {
    let new: Vec<_> = found.difference(expected).collect();
    let gone: Vec<_> = expected.difference(found).collect();
    assert!(new.is_empty() && gone.is_empty(), "{what}: not expected {new:?}, missing {gone:?}");
}

#[test]
fn exports_are_the_committed_list() {
    let listing = tool("nm", &["--dynamic", "--defined-only", "--format=posix"], library());
    let found =
        listing.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect();
    assert_same(&found, &symbols(), "exported symbols against ffi/symbols.txt");
}

#[test]
fn every_c_plus_plus_operator_has_the_name_the_compiler_gives_it() {
    let object = compile("c/operator_names.cpp", &["-c"]);
    let listing = tool("nm", &["--undefined-only", "--format=posix"], &object);
    let emitted: BTreeSet<String> = listing
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| ["_Zn", "_Zd"].iter().any(|operator| name.starts_with(operator)))
        .map(str::to_owned)
        .collect();
    assert_eq!(emitted.len(), 20, "the replaceable allocation functions of C++17: {emitted:?}");
    let exported = symbols().into_iter().filter(|name| name.starts_with("_Z")).collect();
    assert_same(&exported, &emitted, "C++ operators in ffi/symbols.txt against g++");
}

#[test]
fn needs_are_the_committed_list() {
    let dynamic = tool("readelf", &["--dynamic", "--wide"], library());
    let tagged = |tag: &str| -> BTreeSet<String> {
        let bracketed = |line: &str| Some(line.split_once('[')?.1.split_once(']')?.0.to_owned());
        dynamic.lines().filter(|line| line.contains(tag)).filter_map(bracketed).collect()
    };
    assert_same(
        &tagged("(NEEDED)"),
        &committed(include_str!("../needed.txt")),
        "DT_NEEDED against ffi/needed.txt",
    );
    assert_eq!(tagged("(SONAME)").into_iter().collect::<Vec<_>>(), ["libterrace.so"]);
    let flags = dynamic.lines().find(|line| line.contains("(FLAGS_1)")).unwrap_or_default();
    assert!(flags.contains("NODELETE") && flags.contains("NOW"), "{flags}");
    assert!(!dynamic.contains("(TEXTREL)"), "relocations in the code");
    let segments = tool("readelf", &["--program-headers", "--wide"], library());
    assert!(segments.contains("GNU_RELRO"), "no relro:\n{segments}");
    let stack = segments.lines().find(|line| line.contains("GNU_STACK")).unwrap_or_default();
    assert!(!stack.contains("RWE"), "an executable stack: {stack}");
}

/// The loader keeps a few hundred bytes of static thread-local storage for libraries that arrive by dlopen; all of
/// ours is static, and a plugin that links Terrace must still fit.
#[test]
fn thread_local_storage_is_at_most_192_bytes() {
    let segments = tool("readelf", &["--program-headers", "--wide"], library());
    let tls =
        segments.lines().find(|line| line.split_whitespace().next() == Some("TLS")).expect("a TLS segment");
    let field = tls
        .split_whitespace()
        .nth(5)
        .and_then(|hex| hex.strip_prefix("0x"))
        .expect("memsz is the sixth field");
    let bytes = u64::from_str_radix(field, 16).expect("memsz is a number");
    // Ours is one word; the rest is the control plane's (crossbeam-epoch, std), for their own thread. glibc keeps
    // 512 bytes spare for libraries that are loaded late (glibc.rtld.optional_static_tls).
    assert!(bytes <= 192, "{bytes} bytes of thread-local storage");
}

/// `__tls_get_addr` may call malloc (the first access of a thread to a library's block), and costs more than malloc's
/// whole fast path. Panics are excepted: they end the process.
#[test]
#[cfg(target_arch = "x86_64")]
fn the_malloc_path_never_calls_tls_get_addr() {
    let graph = CallGraph::of(library());
    let ends_the_process = |name: &str| name.contains("panicking");
    for root in symbols().iter().filter(|name| !name.starts_with("terrace_")) {
        assert!(graph.has(root), "{root} has no code");
        if let Some(path) = graph.path(root, "@__tls_get_addr", ends_the_process) {
            panic!("{root} reaches __tls_get_addr: {}", path.join(" -> "));
        }
    }
    assert!(graph.path("malloc_info", "@fwrite", ends_the_process).is_some(), "the walk follows nothing");
}

/// What libc does in these may allocate, lock, set errno or be interposed: the allocator makes its own system calls.
#[test]
#[cfg(target_arch = "x86_64")]
fn the_malloc_path_calls_nothing_of_libc_that_allocates_locks_or_calls_the_system() {
    const FORBIDDEN: &[&str] = &[
        "malloc",
        "calloc",
        "realloc",
        "free",
        "pthread_mutex_lock",
        "pthread_once",
        "getenv",
        "open64",
        "read",
        "mmap64",
        "munmap",
        "syscall",
        "dlsym",
        "dlopen",
    ];
    let graph = CallGraph::of(library());
    let not_on_the_path = |name: &str| name.contains("panicking") || name.starts_with("terrace_cxx_");
    for root in [
        "malloc",
        "calloc",
        "aligned_alloc",
        "posix_memalign",
        "_Znwm",
        "realloc",
        "free",
        "_ZdlPv",
        "_ZdlPvm",
    ] {
        let takes_blocks = ["realloc", "free", "_ZdlPv", "_ZdlPvm"].contains(&root);
        for forbidden in FORBIDDEN {
            // A block of libc's own heap is given to libc's own functions, which have to be found.
            if takes_blocks && forbidden.starts_with("dl") {
                continue;
            }
            if let Some(path) = graph.path(root, &format!("@{forbidden}"), not_on_the_path) {
                panic!("{root} reaches {forbidden}: {}", path.join(" -> "));
            }
        }
    }
}

/// The kernel maps the pages around one that is touched, 64 KiB at a time: what every process runs is to be one such piece (`ffi/order.ld`).
#[test]
fn what_every_process_runs_is_mapped_by_one_page_fault() {
    let sections = tool("readelf", &["--section-headers", "--wide"], library());
    let line = sections.lines().find(|line| line.contains(" .text.heap ")).expect("a section .text.heap");
    let (_, fields) = line.split_once(".text.heap").expect("it was found by this");
    let hex = |nth: usize| {
        let field = fields.split_whitespace().nth(nth).expect("type, address, offset, size");
        u64::from_str_radix(field, 16).expect("a number in hexadecimal")
    };
    let (address, bytes) = (hex(1), hex(3));
    assert!(address.is_multiple_of(65_536) && bytes <= 65_536, "{bytes} bytes at {address:#x}");
}

/// `.cargo/config.toml` says why: a tenth of the cycles of a malloc and free on some of Intel's processors.
#[test]
#[cfg(target_arch = "x86_64")]
fn no_jump_of_malloc_and_free_lies_across_32_bytes() {
    let graph = CallGraph::of(library());
    for (function, jumps_at_least) in [("malloc", 5), ("free", 5), ("calloc", 5), ("_Znwm", 2)] {
        let jumps = graph.jumps(function);
        assert!(jumps.len() >= jumps_at_least, "{function} has {} jumps", jumps.len());
        for jump in jumps {
            // To end where 32 bytes end counts, too.
            assert_eq!(
                jump.start / 32,
                jump.end / 32,
                "{function}: {jump:x?}, or is there a RUSTFLAGS in the environment, which replaces that of the configuration?"
            );
        }
    }
}

#[test]
fn loading_it_late_works() {
    // As a plugin would: by dlopen, in a program that runs on glibc's malloc.
    let program = compile("c/late_load.c", &[]);
    run(Command::new(program).arg(library()), 60).expect_success("c/late_load.c");
}
