//! What goes into a guest from the host: the just-built Terrace, Debian programs, and the shared libraries all
//! of it needs.

use crate::error::LabError;
use crate::image::Image;
use std::collections::BTreeSet;
use std::env;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::SystemTime;

/// What cargo builds that a guest finds in `/terrace`.
const TERRACE: [&str; 3] = ["libterrace.so", "libterrace_topology.so", "terrace"];

/// Cargo's directory of the profile this program was built in, such as `target/debug`.
pub(crate) fn profile_dir() -> Option<PathBuf> {
    let exe = env::current_exe().ok()?;
    let mut dir = exe.parent()?;
    if dir.ends_with("deps") || dir.ends_with("examples") {
        dir = dir.parent()?;
    }
    // Cargo marks the root of every target directory with this file.
    dir.parent()?.join("CACHEDIR.TAG").exists().then(|| dir.into())
}

/// The directory whose `libterrace.so` was built last: of this program's profile, or the release or dev
/// profile beside it.
pub(crate) fn newest_build() -> Option<PathBuf> {
    let own = profile_dir()?;
    let built = |dir: &PathBuf| fs::metadata(dir.join(TERRACE[0])).and_then(|m| m.modified()).ok();
    let beside = ["debug", "release"].map(|name| own.with_file_name(name));
    let known: Vec<(SystemTime, PathBuf)> =
        beside.into_iter().chain([own]).filter_map(|dir| Some((built(&dir)?, dir))).collect();
    known.into_iter().max().map(|(_, dir)| dir)
}

/// Puts what `dir` has of Terrace into `/terrace`.
pub(crate) fn add_terrace(image: &mut Image, dir: &Path) -> Result<(), LabError> {
    for name in TERRACE {
        let host = dir.join(name);
        if host.is_file() {
            image.host(&host, &format!("/terrace/{name}"), &|_| true)?;
        }
    }
    Ok(())
}

/// Refuses a command that names a file of `/terrace` the image lacks: a preload of a library that is not there
/// is only a warning of the loader, and a test would pass without testing anything.
pub(crate) fn check_mentions(image: &Image, text: &str) -> Result<(), LabError> {
    for (at, _) in text.match_indices("/terrace/") {
        let rest = &text[at..];
        let end =
            rest.find(|c: char| !(c.is_ascii_alphanumeric() || "/._-".contains(c))).unwrap_or(rest.len());
        let name = &rest[..end];
        let file = name.rsplit('/').next().unwrap_or(name);
        if TERRACE.contains(&file) && !image.has(name) {
            return Err(LabError::Usage(format!(
                "the command uses {name}, but no build of it was found: cargo build (or give its directory)"
            )));
        }
    }
    Ok(())
}

/// Puts a program of the host into the guest at the path it has here, with what it cannot start without.
pub(crate) fn add_program(image: &mut Image, name: &str) -> Result<(), LabError> {
    let path = find(name).ok_or_else(|| {
        LabError::Usage(format!("no program {name} on this machine (install its Debian package)"))
    })?;
    // A program found through links (python3 -> python3.11) is put under every name on the way.
    let mut names = vec![path.clone()];
    while let Ok(target) = fs::read_link(&names[names.len() - 1]) {
        let next = names[names.len() - 1].parent().unwrap_or(Path::new("/")).join(target);
        if names.len() > 8 {
            break;
        }
        names.push(next);
    }
    for name in &names {
        image.host(&path, &name.to_string_lossy(), &|_| true)?;
    }
    let last = names
        .last()
        .and_then(|p| p.file_name())
        .map(|n| n.to_string_lossy().into_owned())
        .unwrap_or_default();
    if last.starts_with("python3") {
        let library = format!("/usr/lib/{last}");
        image.host(Path::new(&library), &library, &wanted_of_python)?;
    }
    Ok(())
}

/// Leaves out what no program imports: half of the files.
fn wanted_of_python(path: &Path) -> bool {
    const OUT: [&str; 9] = [
        "test",
        "idlelib",
        "tkinter",
        "lib2to3",
        "ensurepip",
        "turtledemo",
        "distutils",
        "pydoc_data",
        "dist-packages",
    ];
    let name = path.file_name().map(|n| n.to_string_lossy()).unwrap_or_default();
    !(OUT.contains(&&*name) || name.starts_with("config-") || name.contains(".opt-"))
}

/// Debian's own programs first: a PATH may lead to wrappers of some version manager.
fn find(name: &str) -> Option<PathBuf> {
    if name.contains('/') {
        return Some(PathBuf::from(name)).filter(|p| p.is_file());
    }
    let path = env::var("PATH").unwrap_or_default();
    let dirs = ["/usr/bin", "/usr/sbin"].into_iter().chain(path.split(':'));
    dirs.map(|dir| Path::new(dir).join(name)).find(|p| p.is_file())
}

/// Adds the shared libraries of every dynamic ELF file in the image, at the paths they have here.
pub(crate) fn add_libraries(image: &mut Image) -> Result<(), LabError> {
    let dynamic: Vec<PathBuf> = image.host_files().filter(|p| is_dynamic(p)).map(Path::to_path_buf).collect();
    let mut found = BTreeSet::new();
    for some in dynamic.chunks(64) {
        let listed = Command::new("ldd")
            .args(some)
            .env_remove("LD_PRELOAD")
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output()
            .map_err(LabError::io("run ldd"))?;
        for line in String::from_utf8_lossy(&listed.stdout).lines() {
            if let Some((name, "not found")) =
                line.split_once("=>").map(|(name, path)| (name.trim(), path.trim()))
            {
                return Err(LabError::Usage(format!(
                    "a library of the guest's programs is not on this machine: {name}"
                )));
            }
            // "libc.so.6 => /lib/... (0x...)", "/lib64/ld-linux-x86-64.so.2 (0x...)"; "file:" and "linux-vdso"
            // lines have no such word.
            found.extend(
                line.split_whitespace()
                    .find(|word| word.starts_with('/') && !word.ends_with(':'))
                    .map(PathBuf::from),
            );
        }
    }
    for library in found {
        image.host(&library, &library.to_string_lossy(), &|_| true)?;
    }
    Ok(())
}

/// Whether a file is an ELF file with a dynamic section.
fn is_dynamic(path: &Path) -> bool {
    let mut head = Vec::new();
    let read = File::open(path).and_then(|f| f.take(4096).read_to_end(&mut head));
    if read.is_err() || !head.starts_with(b"\x7fELF\x02\x01") || head.len() < 64 {
        return false;
    }
    let half = |at: usize| usize::from(u16::from_le_bytes([head[at], head[at + 1]]));
    let headers = u64::from_le_bytes(head[32..40].try_into().unwrap_or_default()) as usize;
    let (size, count) = (half(54), half(56));
    // Program headers follow the ELF header in every file a linker writes; PT_DYNAMIC is 2.
    (0..count).any(|i| head.get(headers + i * size..).is_some_and(|h| h.starts_with(&[2, 0, 0, 0])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_test_is_dynamic_and_its_source_is_not() {
        assert!(is_dynamic(&env::current_exe().unwrap()));
        assert!(!is_dynamic(Path::new(file!())));
        assert!(!is_dynamic(Path::new("/nowhere")));
    }

    #[test]
    fn the_libraries_of_a_program_are_found() {
        let mut image = Image::new();
        image.host(Path::new("/bin/cat"), "/bin/cat", &|_| true).unwrap();
        add_libraries(&mut image).unwrap();
        assert!(image.has("/lib/x86_64-linux-gnu/libc.so.6"));
        assert!(image.has("/lib64/ld-linux-x86-64.so.2"));
    }

    #[test]
    fn a_preload_of_a_library_that_is_not_there_is_refused() {
        let mut image = Image::new();
        assert!(check_mentions(&image, "LD_PRELOAD=/terrace/libterrace.so true").is_err());
        assert!(check_mentions(&image, "/terrace/my-tool -x").is_ok());
        image.bytes("/terrace/libterrace.so", "", 0o755);
        assert!(check_mentions(&image, "LD_PRELOAD=/terrace/libterrace.so:/x.so true").is_ok());
        assert!(check_mentions(&image, "/terrace/terrace stat").is_err());
    }
}
