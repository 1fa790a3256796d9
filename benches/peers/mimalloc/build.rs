//! Exports what the C code defines: rustc exports from a shared library only what Rust defines.

fn main() {
    println!("cargo::rerun-if-changed=exports.map");
    let directory = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it");
    // Added to rustc's own script; the linker that rustc uses here (lld) takes the union.
    println!("cargo::rustc-cdylib-link-arg=-Wl,--version-script={directory}/exports.map");
    // Takes the definitions out of the static library, although no Rust code calls them.
    println!("cargo::rustc-cdylib-link-arg=-Wl,--undefined=mi_malloc");
    // What the C code needs: without std, rustc adds no library.
    println!("cargo::rustc-cdylib-link-arg=-lc");
}
