//! Which allocators there are to compare, where their libraries lie, and what version each is.

use std::path::{Path, PathBuf};
use std::process::Command;

/// One column of the report.
#[derive(Clone, Debug)]
pub(crate) struct Allocator {
    pub(crate) name: String,
    /// What `LD_PRELOAD` is set to; `None` is the C library's own malloc.
    pub(crate) preload: Option<PathBuf>,
    pub(crate) version: String,
}

/// The column that everything is relative to.
pub(crate) const BASELINE: &str = "glibc";
/// The baseline measured a second time (`--null`): how far it is from 1.00 is noise, and it never counts as the best.
pub(crate) const NULL_ARM: &str = "glibc again";
/// The column whose wins and losses the report spells out.
pub(crate) const SUBJECT: &str = "terrace";

/// Peers that are measured when the distribution has installed them: name, library.
const PEERS: &[(&str, &str)] = &[
    ("jemalloc", "libjemalloc.so.2"),
    ("mimalloc", "libmimalloc.so.2"),
    ("tcmalloc", "libtcmalloc_minimal.so.4"),
];

const LIBRARY_DIRS: &[&str] =
    &["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/local/lib", "/usr/lib"];

/// Everything found on this machine, the baseline first and our own library last, plus what was looked for in vain.
pub(crate) fn discover(target: &Path) -> (Vec<Allocator>, Vec<String>) {
    let mut found = vec![baseline(BASELINE)];
    let mut absent = Vec::new();
    for (name, library) in PEERS {
        match LIBRARY_DIRS.iter().map(|dir| Path::new(dir).join(library)).find(|path| path.exists()) {
            Some(path) => found.push(Allocator {
                name: (*name).to_owned(),
                version: packaged_version(&path),
                preload: Some(path),
            }),
            None => absent.push(format!("{name}: no {library} in the usual directories")),
        }
    }
    let ours = target.join("release/libterrace.so");
    if ours.exists() {
        found.push(Allocator { name: SUBJECT.to_owned(), version: own_version(), preload: Some(ours) });
    } else {
        absent.push(format!(
            "{SUBJECT}: no {}; build it with `cargo build --release -p terrace-ffi`",
            ours.display()
        ));
    }
    (found, absent)
}

/// The C library's malloc under the given column name (a second such column shows the noise).
pub(crate) fn baseline(name: &str) -> Allocator {
    // SAFETY: returns a pointer to a constant string of the C library.
    let version = unsafe { std::ffi::CStr::from_ptr(libc::gnu_get_libc_version()) };
    Allocator { name: name.to_owned(), preload: None, version: version.to_string_lossy().into_owned() }
}

/// A library named on the command line as `NAME=PATH`.
pub(crate) fn from_argument(argument: &str) -> Result<Allocator, String> {
    let (name, path) = argument.split_once('=').ok_or("--library wants NAME=PATH")?;
    let path = std::fs::canonicalize(path).map_err(|e| format!("{path}: {e}"))?;
    let version = packaged_version(&path);
    Ok(Allocator { name: name.to_owned(), preload: Some(path), version })
}

fn packaged_version(library: &Path) -> String {
    let real = std::fs::canonicalize(library).unwrap_or_else(|_| library.to_owned());
    let file = real.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let Some(owner) = first_line("dpkg", &["-S", &real.to_string_lossy()]) else { return file };
    let package = owner.split(": ").next().unwrap_or_default();
    first_line("dpkg-query", &["-W", "-f=${Version}", package]).unwrap_or(file)
}

fn own_version() -> String {
    let version = env!("CARGO_PKG_VERSION");
    match first_line("git", &["-C", env!("CARGO_MANIFEST_DIR"), "rev-parse", "--short", "HEAD"]) {
        Some(commit) => format!("{version} ({commit})"),
        None => version.to_owned(),
    }
}

/// First line of a program's output, if it is there and succeeds.
pub(crate) fn first_line(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).output().ok().filter(|o| o.status.success())?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().next().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned)
}
