//! What the lab needs on the host, made once: Debian packages, the lab's directory, and the small C programs
//! it compiles.
//!
//! Everything comes from the package sources a Debian 12 machine already has. No kernel is installed on the
//! host: packages of kernels are unpacked inside the lab's directory. All functions are idempotent and safe to
//! call from several processes.

use crate::artifacts;
use crate::error::LabError;
use crate::kernel;
use crate::layout::Kernel;
use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// Packages the host needs. `cpio` and `python3` are not among them: the lab writes its own archives.
const PACKAGES: [&str; 8] =
    ["qemu-system-x86", "busybox-static", "kmod", "zstd", "xz-utils", "lz4", "gcc", "libc6-dev"];

/// The lab's directory: `LAB_DIR`, or `lab` in cargo's target directory.
pub fn directory() -> PathBuf {
    if let Some(dir) = env::var_os("LAB_DIR") {
        return std::path::absolute(&dir).unwrap_or_else(|_| dir.into());
    }
    let target = artifacts::profile_dir().and_then(|dir| dir.parent().map(Path::to_path_buf));
    target.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target")).join("lab")
}

/// Does all of the set-up now: packages, both kernels, the guest's programs. [`Vm::run`](crate::Vm::run) does
/// what it needs of this by itself.
pub fn all() -> Result<(), LabError> {
    let _lock = lock()?;
    packages()?;
    for kernel in Kernel::ALL {
        kernel::fetch(kernel)?;
    }
    guest_helper().map(drop)
}

/// Makes ready what one run needs.
pub(crate) fn for_run(kernel: Kernel) -> Result<(), LabError> {
    static CHECKED: OnceLock<()> = OnceLock::new();
    let _lock = lock()?;
    if CHECKED.get().is_none() {
        packages()?;
        let _ = CHECKED.set(());
    }
    kernel::fetch(kernel)
}

/// Holds off every other set-up in the same directory while the returned file is open.
fn lock() -> Result<File, LabError> {
    let dir = directory();
    if dir.to_string_lossy().contains(',') {
        return Err(LabError::Setup(format!(
            "{}: the emulator takes no path with a comma; set LAB_DIR",
            dir.display()
        )));
    }
    fs::create_dir_all(&dir).map_err(LabError::io(format!("create {}", dir.display())))?;
    let path = dir.join("setup.lock");
    let what = format!("lock {}", path.display());
    let file = File::create(&path).map_err(LabError::io(what.clone()))?;
    file.lock().map_err(LabError::io(what))?;
    Ok(file)
}

/// The emulator: `LAB_QEMU`, or the one of package `qemu-system-x86`.
pub(crate) fn qemu() -> PathBuf {
    env::var_os("LAB_QEMU").map_or_else(|| "qemu-system-x86_64".into(), PathBuf::from)
}

/// The emulator's version, (major, minor).
pub(crate) fn qemu_version() -> Result<(u32, u32), LabError> {
    static VERSION: OnceLock<(u32, u32)> = OnceLock::new();
    if let Some(version) = VERSION.get() {
        return Ok(*version);
    }
    let said = output(Command::new(qemu()).arg("--version"))?;
    let version = said
        .split_whitespace()
        .find_map(|word| {
            let mut parts = word.split('.');
            Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
        })
        .ok_or_else(|| {
            LabError::Setup(format!("{}: cannot tell its version from: {said}", qemu().display()))
        })?;
    Ok(*VERSION.get_or_init(|| version))
}

/// Installs the packages that are missing, or says which.
fn packages() -> Result<(), LabError> {
    if cfg!(not(all(target_os = "linux", target_arch = "x86_64"))) {
        return Err(LabError::Setup("the lab runs on x86-64 Debian GNU/Linux only".into()));
    }
    let known = Command::new("dpkg-query")
        .args(["-W", "-f", "${Package} ${db:Status-Status}\n"])
        .args(PACKAGES)
        .stderr(Stdio::null())
        .output()
        .map_err(|e| LabError::Setup(format!("the lab needs a Debian machine (dpkg-query: {e})")))?;
    let known = String::from_utf8_lossy(&known.stdout).into_owned();
    let own_qemu = env::var_os("LAB_QEMU").is_some();
    let missing: Vec<&str> = PACKAGES
        .into_iter()
        .filter(|p| !(own_qemu && *p == "qemu-system-x86"))
        .filter(|p| !known.lines().any(|line| line == format!("{p} installed")))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if !is_root() {
        return Err(LabError::Setup(format!(
            "the lab needs Debian packages; as root: apt-get install {list}"
        )));
    }
    eprintln!("lab: installing {list}");
    let install = || {
        apt(&["install", "-y", "-q", "--no-install-recommends"], &missing)
            .map_err(|e| LabError::Setup(format!("apt-get cannot install {list}: {e}")))
    };
    install().or_else(|_| update().and_then(|()| install()))
}

/// Refreshes apt's lists (root only).
pub(crate) fn update() -> Result<(), LabError> {
    apt(&["update", "-q"], &[]).map_err(|e| LabError::Setup(format!("apt-get update failed: {e}")))
}

/// Whether this process is root.
pub(crate) fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self").is_ok_and(|m| m.uid() == 0)
}

fn apt(args: &[&str], packages: &[&str]) -> Result<(), LabError> {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").args(args).args(packages);
    output(&mut command).map(drop)
}

/// Runs a host program to its end; its standard output, or an error with the last line it wrote to standard
/// error.
pub(crate) fn output(command: &mut Command) -> Result<String, LabError> {
    let name = command.get_program().to_string_lossy().into_owned();
    let done = command.stdin(Stdio::null()).output().map_err(LabError::io(format!("run {name}")))?;
    if done.status.success() {
        return Ok(String::from_utf8_lossy(&done.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&done.stderr);
    let last = said.lines().rev().find(|l| !l.trim().is_empty()).unwrap_or("no message");
    Err(LabError::Setup(format!("{name}: {}: {last}", done.status)))
}

/// The guest's helper program, compiled.
pub(crate) fn guest_helper() -> Result<PathBuf, LabError> {
    compile(&Source {
        name: "guest",
        text: include_str!("../guest/guest.c"),
        headers: &[],
        flags: &["-static", "-s"],
    })
}

/// A C program for the guest, compiled statically. It may include `marks.h`.
pub(crate) fn guest_program(name: &str, text: &str) -> Result<PathBuf, LabError> {
    let headers = [("marks.h", include_str!("../guest/marks.h"))];
    compile(&Source { name, text, headers: &headers, flags: &["-static", "-pthread"] })
}

/// C source for [`compile`].
pub(crate) struct Source<'a> {
    pub(crate) name: &'a str,
    pub(crate) text: &'a str,
    /// Headers it includes by these names.
    pub(crate) headers: &'a [(&'a str, &'a str)],
    pub(crate) flags: &'a [&'a str],
}

/// Compiles C once per content: the result's name carries a hash of the source, its headers and the flags.
pub(crate) fn compile(source: &Source<'_>) -> Result<PathBuf, LabError> {
    let mut hash = Fnv::new();
    for text in [source.name, source.text].iter().chain(source.flags) {
        hash.add(text);
    }
    for (name, text) in source.headers {
        hash.add(name);
        hash.add(text);
    }
    let dir = directory().join("built");
    let made = dir.join(format!("{}-{:016x}", source.name, hash.0));
    if made.exists() {
        return Ok(made);
    }
    // A private directory, then a rename: several processes may compile the same source at the same time.
    let work = dir.join(format!("{}-{:016x}.{}", source.name, hash.0, unique()));
    let what = || format!("write {}", work.display());
    fs::create_dir_all(&work).map_err(LabError::io(what()))?;
    for (name, text) in source.headers {
        fs::write(work.join(name), text).map_err(LabError::io(what()))?;
    }
    let c = work.join(format!("{}.c", source.name));
    fs::write(&c, source.text).map_err(LabError::io(what()))?;
    let built = work.join("out");
    let mut gcc = Command::new("gcc");
    gcc.args(["-O2", "-Wall", "-Wextra", "-o"]).arg(&built).args(source.flags).arg(&c);
    let compiled = output(&mut gcc).map(drop).and_then(|()| {
        fs::rename(&built, &made).map_err(LabError::io(format!("rename {}", built.display())))
    });
    let _ = fs::remove_dir_all(&work);
    compiled.map(|()| made)
}

/// A string no other call in any process of this machine returns at the same time.
pub(crate) fn unique() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{}.{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// FNV-1a, 64 bits: names for cached files, not a defence against anyone.
struct Fnv(u64);

impl Fnv {
    fn new() -> Fnv {
        Fnv(0xcbf2_9ce4_8422_2325)
    }

    fn add(&mut self, text: &str) {
        for byte in text.bytes().chain([0]) {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}
