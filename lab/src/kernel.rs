//! Stock Debian kernels: fetched as packages, unpacked into the lab's directory, booted without their
//! decompressor.

use crate::error::LabError;
use crate::layout::Kernel;
use crate::setup::{self, output};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Fetches and unpacks a kernel unless it is there. Call with the set-up lock held.
pub(crate) fn fetch(kernel: Kernel) -> Result<(), LabError> {
    let home = home(kernel);
    if home.join("vmlinux").exists() {
        return Ok(());
    }
    let package = match package_of(kernel) {
        Ok(package) => package,
        Err(_) if setup::is_root() => setup::update().and_then(|()| package_of(kernel))?,
        Err(e) => return Err(e),
    };
    eprintln!("lab: fetching {package}");
    let io = |what: String| LabError::io(what);
    let work = setup::directory().join(format!("fetch.{}", setup::unique()));
    fs::create_dir_all(&work).map_err(io(format!("create {}", work.display())))?;
    let fetched = unpack(&package, &work).and_then(|()| {
        let _ = fs::remove_dir_all(&home);
        fs::rename(&work, &home).map_err(io(format!("rename {}", work.display())))
    });
    if fetched.is_err() {
        let _ = fs::remove_dir_all(&work);
    }
    fetched
}

fn home(kernel: Kernel) -> PathBuf {
    setup::directory().join(format!("linux-{}", kernel.name()))
}

/// The kernel's ELF image, for QEMU's `-kernel`.
pub(crate) fn vmlinux(kernel: Kernel) -> PathBuf {
    home(kernel).join("vmlinux")
}

/// The package of the current build, from the package that names it ("linux-image-6.12.117+deb12-cloud-amd64").
fn package_of(kernel: Kernel) -> Result<String, LabError> {
    let alias = kernel.package();
    let listed = output(Command::new("apt-cache").args(["depends", alias])).unwrap_or_default();
    let found = listed.lines().find_map(|line| line.trim().strip_prefix("Depends: linux-image-"));
    found.map(|version| format!("linux-image-{version}")).ok_or_else(|| {
        LabError::Setup(format!(
            "{alias} is not known to apt: the lab needs Debian 12 with its main and security archives (try apt-get update as root)"
        ))
    })
}

fn unpack(package: &str, work: &Path) -> Result<(), LabError> {
    let version = package.trim_start_matches("linux-image-");
    output(Command::new("apt-get").args(["download", "-q", package]).current_dir(work))
        .map_err(|e| LabError::Setup(format!("cannot download {package}: {e}")))?;
    let what = format!("read {}", work.display());
    let deb = fs::read_dir(work)
        .map_err(LabError::io(what))?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|e| e == "deb"))
        .ok_or_else(|| LabError::Setup(format!("apt-get download {package} left no package")))?;
    let tree = work.join("tree");
    output(Command::new("dpkg-deb").arg("-x").arg(&deb).arg(&tree))?;
    let io = |e| LabError::Io { what: format!("unpack {package}"), source: e };
    fs::remove_file(&deb).map_err(io)?;
    if !tree.join("lib").exists() {
        std::os::unix::fs::symlink("usr/lib", tree.join("lib")).map_err(io)?;
    }
    // depmod lives in /sbin, which is not in every user's PATH.
    output(Command::new("/sbin/depmod").arg("-b").arg(&tree).arg(version))?;
    let image = fs::read(tree.join(format!("boot/vmlinuz-{version}"))).map_err(io)?;
    fs::write(work.join("vmlinux"), decompress(&image)?).map_err(io)?;
    std::os::unix::fs::symlink(format!("tree/lib/modules/{version}"), work.join("modules")).map_err(io)
}

/// The ELF inside a bzImage. QEMU starts it through its PVH entry, which saves the guest the seconds
/// (emulated) that its own decompressor would take.
fn decompress(image: &[u8]) -> Result<Vec<u8>, LabError> {
    let broken = |why: &str| LabError::Setup(format!("cannot read the kernel image: {why}"));
    let word = |at: usize| -> Option<usize> {
        let bytes = image.get(at..at + 4)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?) as usize)
    };
    // Documentation/arch/x86/boot.rst: setup_sects, payload_offset, payload_length.
    let sectors = usize::from(*image.get(0x1f1).ok_or_else(|| broken("too short"))?);
    let start = (if sectors == 0 { 4 } else { sectors } + 1) * 512;
    let (offset, length) = word(0x248).zip(word(0x24c)).ok_or_else(|| broken("too short"))?;
    let payload =
        image.get(start + offset..start + offset + length).ok_or_else(|| broken("payload out of range"))?;
    let (data, size) = payload.split_last_chunk::<4>().ok_or_else(|| broken("no payload"))?;
    let size = u32::from_le_bytes(*size) as usize;
    let program: &[&str] = match data {
        [0x28, 0xb5, 0x2f, 0xfd, ..] => &["zstd", "-dc"],
        [0x02, 0x21, 0x4c, 0x18, ..] => &["lz4", "-dc"],
        [0xfd, b'7', b'z', b'X', b'Z', ..] => &["xz", "-dc", "--single-stream"],
        [0x1f, 0x8b, ..] => &["gzip", "-dc"],
        _ => return Err(broken("unknown compression")),
    };
    let mut elf = filter(program, data)?;
    elf.truncate(size);
    if elf.len() != size || !elf.starts_with(b"\x7fELF") {
        return Err(broken("the payload is not an ELF file of the size it states"));
    }
    Ok(elf)
}

/// Runs bytes through a program. Its exit status is not looked at: a decompressor may complain about what
/// follows its data.
fn filter(program: &[&str], input: &[u8]) -> Result<Vec<u8>, LabError> {
    let what = format!("run {}", program[0]);
    let mut child = Command::new(program[0])
        .args(&program[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(LabError::io(what.clone()))?;
    let mut stdin = child.stdin.take();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            if let Some(pipe) = stdin.as_mut() {
                // Fails when the program has read enough; what it wrote is checked by the caller.
                let _ = pipe.write_all(input);
            }
        });
        child.wait_with_output().map(|done| done.stdout).map_err(LabError::io(what))
    })
}

/// A kernel module, ready to be inserted.
pub(crate) struct Module {
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
}

/// The modules of these names with all they depend on, in the order to insert them. What is built in is left
/// out.
pub(crate) fn modules(kernel: Kernel, names: &[&str]) -> Result<Vec<Module>, LabError> {
    let dir = home(kernel).join("modules");
    let read = |name: &str| {
        let path = dir.join(name);
        fs::read_to_string(&path).map_err(LabError::io(format!("read {}", path.display())))
    };
    let (deps, builtin) = (read("modules.dep")?, read("modules.builtin")?);
    let mut order: Vec<&str> = Vec::new();
    for name in names {
        if builtin.lines().any(|path| stem(path) == stem(name)) {
            continue;
        }
        let line =
            deps.lines().find(|line| line.split(':').next().is_some_and(|path| stem(path) == stem(name)));
        let Some((path, needs)) = line.and_then(|line| line.split_once(':')) else {
            return Err(LabError::Usage(format!("Linux {} has no module {name}", kernel.name())));
        };
        for path in needs.split_whitespace().rev().chain([path]) {
            if !order.contains(&path) {
                order.push(path);
            }
        }
    }
    order
        .into_iter()
        .map(|path| {
            let file = dir.join(path);
            let bytes = fs::read(&file).map_err(LabError::io(format!("read {}", file.display())))?;
            let bytes = if path.ends_with(".xz") { filter(&["xz", "-dc"], &bytes)? } else { bytes };
            Ok(Module { name: format!("{}.ko", stem(path)), bytes })
        })
        .collect()
}

/// A module's name from its path: no directory, no `.ko` or `.ko.xz`, underscores.
fn stem(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split(".ko").next().unwrap_or(file).replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_is_found_under_any_spelling() {
        assert_eq!(stem("kernel/drivers/dax/dax_hmem.ko.xz"), "dax_hmem");
        assert_eq!(stem("kernel/drivers/block/virtio-blk.ko"), "virtio_blk");
        assert_eq!(stem("kmem"), "kmem");
    }

    #[test]
    fn a_broken_kernel_image_is_an_error_not_a_panic() {
        assert!(decompress(&[]).is_err());
        assert!(decompress(&[0; 0x300]).is_err());
    }
}
