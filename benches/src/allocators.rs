//! Which allocators there are to compare, where their libraries lie, and what version each is.

use std::path::{Path, PathBuf};
use std::process::Command;

/// One column of the report.
#[derive(Clone, Debug)]
pub(crate) struct Allocator {
    pub(crate) name: String,
    /// What `LD_PRELOAD` is set to; `None` is the C library's own malloc.
    pub(crate) preload: Option<PathBuf>,
    /// What else its environment needs.
    pub(crate) env: &'static [(&'static str, &'static str)],
    pub(crate) version: String,
}

/// The column that everything is relative to.
pub(crate) const BASELINE: &str = "glibc";
/// The baseline measured a second time (`--null`): how far it is from 1.00 is noise, and it never counts as the best.
pub(crate) const NULL_ARM: &str = "glibc again";
/// The column whose wins and losses the report spells out.
pub(crate) const SUBJECT: &str = "terrace";

/// A peer that is measured when the distribution has installed it.
struct Packaged {
    name: &'static str,
    library: &'static str,
    env: &'static [(&'static str, &'static str)],
}

const PACKAGED: &[Packaged] = &[
    Packaged { name: "jemalloc", library: "libjemalloc.so.2", env: &[] },
    Packaged { name: "mimalloc", library: "libmimalloc.so.2", env: &[] },
    Packaged { name: "tcmalloc", library: "libtcmalloc_minimal.so.4", env: &[] },
    // It aborts without being told its tiers; one of plain memory costs it the least.
    Packaged {
        name: "memtier",
        library: "libmemtier.so.0",
        env: &[("MEMKIND_MEM_TIERS", "KIND:DRAM,RATIO:1;POLICY:STATIC_RATIO")],
    },
];

/// Peers that `benches/peers` builds from their crates: name, library, crate.
const FROM_CRATES: &[(&str, &str, &str)] = &[
    ("mimalloc3", "libpeer_mimalloc.so", "libmimalloc-sys"),
    ("snmalloc", "libpeer_snmalloc.so", "snmalloc-sys"),
    ("rusty_alloc", "libpeer_rusty_alloc.so", "rusty_alloc"),
];
const CRATES: &str = include_str!("../peers/Cargo.lock");

const LIBRARY_DIRS: &[&str] =
    &["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/local/lib", "/usr/lib"];

/// Everything found on this machine, the baseline first and our own library last, plus what was looked for in vain.
pub(crate) fn discover(target: &Path) -> (Vec<Allocator>, Vec<String>) {
    let mut found = vec![baseline(BASELINE)];
    let mut absent = Vec::new();
    for Packaged { name, library, env } in PACKAGED {
        match LIBRARY_DIRS.iter().map(|dir| Path::new(dir).join(library)).find(|path| path.exists()) {
            Some(path) => found.push(Allocator {
                name: (*name).to_owned(),
                version: packaged_version(&path),
                preload: Some(path),
                env,
            }),
            None => absent.push(format!("{name}: no {library} in the usual directories")),
        }
    }
    for (name, library, from) in FROM_CRATES {
        let path = target.join("peers/release").join(library);
        if path.exists() {
            let version = crate_version(from);
            found.push(Allocator { name: (*name).to_owned(), version, preload: Some(path), env: &[] });
        } else {
            absent
                .push(format!("{name}: no {}; `make bench` and `make bench-quick` build it", path.display()));
        }
    }
    let ours = target.join("release/libterrace.so");
    if ours.exists() {
        found.push(Allocator {
            name: SUBJECT.to_owned(),
            version: own_version(),
            preload: Some(ours),
            env: &[],
        });
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
    Allocator {
        name: name.to_owned(),
        preload: None,
        env: &[],
        version: version.to_string_lossy().into_owned(),
    }
}

/// A library named on the command line as `NAME=PATH`.
pub(crate) fn from_argument(argument: &str) -> Result<Allocator, String> {
    let (name, path) = argument.split_once('=').ok_or("--library wants NAME=PATH")?;
    let path = std::fs::canonicalize(path).map_err(|e| format!("{path}: {e}"))?;
    let version = packaged_version(&path);
    Ok(Allocator { name: name.to_owned(), preload: Some(path), env: &[], version })
}

fn packaged_version(library: &Path) -> String {
    let real = std::fs::canonicalize(library).unwrap_or_else(|_| library.to_owned());
    let file = real.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let Some(owner) = first_line("dpkg", &["-S", &real.to_string_lossy()]) else { return file };
    let package = owner.split(": ").next().unwrap_or_default();
    first_line("dpkg-query", &["-W", "-f=${Version}", package]).unwrap_or(file)
}

/// What the peers' lock file says of a crate: that version is what was built.
fn crate_version(name: &str) -> String {
    let version = CRATES
        .split("[[package]]")
        .find(|package| package.lines().any(|line| line == format!("name = \"{name}\"")))
        .and_then(|package| package.lines().find_map(|line| line.strip_prefix("version = ")));
    format!("crate {name} {}", version.unwrap_or("of unknown version").trim_matches('"'))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crates_are_known_by_their_locked_version() {
        for (name, _, from) in FROM_CRATES {
            assert!(crate_version(from).ends_with(|c: char| c.is_ascii_digit()), "{name}");
        }
    }

    #[test]
    fn what_is_absent_is_said() {
        let (found, absent) = discover(Path::new("/nonexistent"));
        assert!(absent.iter().any(|reason| reason.starts_with("mimalloc3: no /nonexistent/peers")));
        assert!(absent.iter().any(|reason| reason.starts_with("terrace: no ")));
        assert_eq!(found[0].name, BASELINE);
    }
}
