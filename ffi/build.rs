//! Compiles the one C file of the library and passes the link options of libterrace.so.

use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=src/cxx/failed.c");
    // -fexceptions: std::bad_alloc and whatever a new-handler throws pass through these frames.
    let mut build = cc::Build::new();
    build
        .file("src/cxx/failed.c")
        .flag("-std=c11")
        .flag("-fexceptions")
        .flag("-fvisibility=hidden")
        .warnings(true)
        .extra_warnings(true)
        .compile("terrace_cxx_failed");

    // std wants an unwinder for its backtraces and names libgcc_s.so, which the loader would then have to find, open
    // and map in every process that is preloaded. The compiler's static copy serves as well: it is searched first.
    if let Some(directory) = static_unwinder(&build) {
        println!("cargo::rustc-link-search=native={}", directory.display());
        println!("cargo::rustc-link-lib=static:-bundle=gcc_eh");
    }

    // now + relro: every address the allocator calls through is resolved once and then read-only, and no lazy
    // binding can run inside malloc. nodelete: threads keep a destructor in this library until they end. initfirst: the
    // fork handlers of every other library are registered after ours, so that their `prepare` still finds the heap
    // unlocked. (It also means that the constructor runs before libc's own, and must not rely on `environ` or stdio.)
    // separate-loadable-segments: what the loader writes, which are pages copied in every process, begins with a page.
    for option in [
        "-z,now",
        "-z,relro",
        "-z,nodelete",
        "-z,initfirst",
        "-z,separate-loadable-segments",
        "-soname,libterrace.so",
    ] {
        println!("cargo::rustc-cdylib-link-arg=-Wl,{option}");
    }

    println!("cargo::rerun-if-changed=order.ld");
    let order = Path::new(env!("CARGO_MANIFEST_DIR")).join("order.ld");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-T,{}", order.display());
}

/// The directory of `libgcc_eh.a`; none with a compiler that has no such file (clang's own runtime).
fn static_unwinder(build: &cc::Build) -> Option<PathBuf> {
    let output =
        Command::new(build.get_compiler().path()).arg("-print-file-name=libgcc_eh.a").output().ok()?;
    let path = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim());
    // A file that is not found is printed as it was asked for, without a directory.
    path.parent().filter(|directory| directory.is_absolute()).map(PathBuf::from)
}
