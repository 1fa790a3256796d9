//! Writes `include/terrace.h`. Run it after a change of the C API: `cargo run -p terrace-ffi --example header`.

#[path = "../tests/support/header.rs"]
mod header;

fn main() -> std::io::Result<()> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../include/terrace.h");
    std::fs::write(&path, header::generate())?;
    println!("wrote {}", path.display());
    Ok(())
}
