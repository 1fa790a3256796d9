//! Exports snmalloc's functions under the names that programs call: rustc exports from a shared library only what Rust
//! defines, and the crate prefixes what C++ defines with `sn_`.

/// The name that programs call, and snmalloc's. The operators of C++ without alignment are the same functions (in these
/// benchmarks memory never runs out, so none has to throw); those with it reach `aligned_alloc` through libstdc++.
const ALIASES: &[(&str, &str)] = &[
    ("malloc", "sn_malloc"),
    ("free", "sn_free"),
    ("calloc", "sn_calloc"),
    ("realloc", "sn_realloc"),
    ("cfree", "sn_cfree"),
    ("memalign", "sn_memalign"),
    ("aligned_alloc", "sn_aligned_alloc"),
    ("posix_memalign", "sn_posix_memalign"),
    ("valloc", "sn_valloc"),
    ("pvalloc", "sn_pvalloc"),
    ("malloc_usable_size", "sn_malloc_usable_size"),
    ("_Znwm", "sn_malloc"),
    ("_Znam", "sn_malloc"),
    ("_ZdlPv", "sn_free"),
    ("_ZdaPv", "sn_free"),
    ("_ZdlPvm", "sn_free_sized"),
    ("_ZdaPvm", "sn_free_sized"),
];

fn main() {
    let names: Vec<&str> = ALIASES.iter().map(|(name, _)| *name).collect();
    let map = std::path::Path::new(&std::env::var("OUT_DIR").expect("cargo sets it")).join("exports.map");
    std::fs::write(&map, format!("{{ global: {}; }};\n", names.join("; "))).expect("OUT_DIR can be written");
    // Added to rustc's own script; the linker that rustc uses here (lld) takes the union.
    println!("cargo::rustc-cdylib-link-arg=-Wl,--version-script={}", map.display());
    for (name, target) in ALIASES {
        println!("cargo::rustc-cdylib-link-arg=-Wl,--undefined={target}");
        println!("cargo::rustc-cdylib-link-arg=-Wl,--defsym={name}={target}");
    }
    // What the C code needs: without std, rustc adds no library.
    println!("cargo::rustc-cdylib-link-arg=-lc");
}
