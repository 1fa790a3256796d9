//! Compiles the C half of the library, as `ffi/build.rs` does, and passes the link options of a library that is loaded beside another malloc.

fn main() {
    let source = "../ffi/src/cxx/failed.c";
    println!("cargo::rerun-if-changed={source}");
    cc::Build::new()
        .file(source)
        .flag("-std=c11")
        .flag("-fexceptions")
        .flag("-fvisibility=hidden")
        .warnings(true)
        .extra_warnings(true)
        .compile("terrace_cxx_failed");
    // -Bsymbolic: what one exported function calls is this library's, not libc's function of that name. nodelete: as in ffi/build.rs.
    for option in ["-Bsymbolic", "-z,nodelete"] {
        println!("cargo::rustc-cdylib-link-arg=-Wl,{option}");
    }
}
