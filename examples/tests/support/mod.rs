//! What the tests of the examples share: the shipped library, C programs built as a user would build them.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The root of the workspace.
pub(crate) fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// `libterrace.so` as it ships, brought up to date first.
pub(crate) fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--release", "--quiet", "--package", "terrace-ffi", "--target-dir"]).arg(target);
        assert!(cargo.current_dir(workspace()).status().unwrap().success(), "libterrace.so does not build");
        target.join("release/libterrace.so")
    })
}

/// Builds `examples/c/NAME.c` with every warning an error; `arguments` go to the compiler.
pub(crate) fn compile(name: &str, arguments: &[&str]) -> PathBuf {
    let source = workspace().join(format!("examples/c/{name}.c"));
    // Tests run at the same time, and a program that runs cannot be written: each call has a directory of its own.
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    let call = format!("{}-{}", std::process::id(), CALLS.fetch_add(1, Ordering::Relaxed));
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(call);
    std::fs::create_dir_all(&directory).unwrap();
    let program = directory.join(name);
    let mut cc = Command::new("cc");
    cc.args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-pedantic", "-O2", "-o"]).arg(&program).arg(&source);
    let output = cc.args(arguments).output().expect("cc is installed");
    assert!(output.status.success(), "{}", err(&output));
    program
}

/// Builds a program that includes terrace.h and is linked with the library, which it finds where it was built.
pub(crate) fn compile_with_terrace(name: &str, library: &Path) -> PathBuf {
    let directory = library.parent().unwrap().display();
    let include = workspace().join("include").display().to_string();
    let (libraries, run_path) = (format!("-L{directory}"), format!("-Wl,-rpath,{directory}"));
    compile(name, &["-I", &include, &libraries, "-lterrace", &run_path])
}

pub(crate) fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Whether an address is one where Terrace keeps its heap.
pub(crate) fn is_heap(address: u64) -> bool {
    (0x1000_0000_0000..0x5000_0000_0000).contains(&address)
}
