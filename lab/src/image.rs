//! The guest's file tree and its cpio archive ("newc" format), which the kernel unpacks as its root file
//! system.
//!
//! Merged `/usr`, as Debian has it: `/bin`, `/sbin`, `/lib` and `/lib64` are links, and paths under them are
//! stored under `/usr`.

use crate::error::LabError;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

const MERGED: [&str; 4] = ["bin", "lib", "lib64", "sbin"];

#[derive(Debug)]
enum Node {
    Directory,
    /// A host file, read when the archive is written.
    Host(PathBuf, u32),
    Bytes(Vec<u8>, u32),
    Link(String),
}

/// A tree of files by guest path. Adding a path twice replaces the first.
#[derive(Debug)]
pub(crate) struct Image {
    // Sorted, so a directory precedes what is in it.
    nodes: BTreeMap<String, Node>,
}

impl Image {
    /// An empty tree with the merged-`/usr` links and the mount points.
    pub(crate) fn new() -> Image {
        let mut image = Image { nodes: BTreeMap::new() };
        for name in MERGED {
            image.nodes.insert(name.into(), Node::Link(format!("usr/{name}")));
            image.nodes.insert(format!("usr/{name}"), Node::Directory);
        }
        for name in ["usr", "dev", "proc", "sys", "tmp", "run", "job", "out"] {
            image.nodes.insert(name.into(), Node::Directory);
        }
        image
    }

    /// Whether the tree holds that path.
    pub(crate) fn has(&self, guest: &str) -> bool {
        self.nodes.contains_key(&normal(guest))
    }

    /// Adds a file of these bytes.
    pub(crate) fn bytes(&mut self, guest: &str, bytes: impl Into<Vec<u8>>, mode: u32) {
        self.put(guest, Node::Bytes(bytes.into(), mode));
    }

    /// Adds a symbolic link.
    pub(crate) fn link(&mut self, guest: &str, target: &str) {
        self.put(guest, Node::Link(target.into()));
    }

    /// Adds a host file, or a host directory with all that is in it. The top is followed if it is a link;
    /// links inside a directory stay links. `wanted` is asked for every path inside a directory.
    pub(crate) fn host(
        &mut self,
        host: &Path,
        guest: &str,
        wanted: &dyn Fn(&Path) -> bool,
    ) -> Result<(), LabError> {
        let meta = fs::metadata(host).map_err(LabError::io(format!("{}", host.display())))?;
        if !meta.is_dir() {
            self.put(guest, Node::Host(host.into(), meta.permissions().mode() & 0o7777));
            return Ok(());
        }
        self.put(guest, Node::Directory);
        let what = || format!("read directory {}", host.display());
        for entry in fs::read_dir(host).map_err(LabError::io(what()))? {
            let entry = entry.map_err(LabError::io(what()))?;
            let path = entry.path();
            if !wanted(&path) {
                continue;
            }
            let inside = format!("{guest}/{}", entry.file_name().to_string_lossy());
            let kind = entry.file_type().map_err(LabError::io(what()))?;
            if kind.is_symlink() {
                let target = fs::read_link(&path).map_err(LabError::io(what()))?;
                self.link(&inside, &target.to_string_lossy());
            } else {
                self.host(&path, &inside, wanted)?;
            }
        }
        Ok(())
    }

    /// The host files in the tree.
    pub(crate) fn host_files(&self) -> impl Iterator<Item = &Path> {
        self.nodes.values().filter_map(|node| match node {
            Node::Host(path, _) => Some(path.as_path()),
            _ => None,
        })
    }

    fn put(&mut self, guest: &str, node: Node) {
        let path = normal(guest);
        for (i, _) in path.match_indices('/') {
            self.nodes.entry(path[..i].into()).or_insert(Node::Directory);
        }
        self.nodes.insert(path, node);
    }

    /// Writes the archive.
    pub(crate) fn write_cpio(&self, to: &Path) -> Result<(), LabError> {
        let what = || format!("write {}", to.display());
        let mut out = BufWriter::with_capacity(1 << 20, File::create(to).map_err(LabError::io(what()))?);
        for (ino, (path, node)) in self.nodes.iter().enumerate() {
            let failed = |e| LabError::Io { what: format!("put /{path} into the guest"), source: e };
            let ino = ino as u32 + 1;
            match node {
                Node::Directory => entry(&mut out, ino, path, 0o040_755, &[]).map_err(failed)?,
                Node::Link(target) => {
                    entry(&mut out, ino, path, 0o120_777, target.as_bytes()).map_err(failed)?;
                }
                Node::Bytes(bytes, mode) => {
                    entry(&mut out, ino, path, 0o100_000 | mode, bytes).map_err(failed)?;
                }
                Node::Host(host, mode) => {
                    let mut bytes = Vec::new();
                    File::open(host).and_then(|mut f| f.read_to_end(&mut bytes)).map_err(failed)?;
                    entry(&mut out, ino, path, 0o100_000 | mode, &bytes).map_err(failed)?;
                }
            }
        }
        entry(&mut out, 0, "TRAILER!!!", 0, &[]).and_then(|()| out.flush()).map_err(LabError::io(what()))
    }
}

/// The path as stored: no leading slash, no doubled slash, merged `/usr`.
fn normal(guest: &str) -> String {
    let parts: Vec<&str> = guest.split('/').filter(|p| !p.is_empty() && *p != ".").collect();
    let joined = parts.join("/");
    match parts.first() {
        Some(first) if parts.len() > 1 && MERGED.contains(first) => format!("usr/{joined}"),
        _ => joined,
    }
}

fn entry(out: &mut impl Write, ino: u32, path: &str, mode: u32, data: &[u8]) -> io::Result<()> {
    let size = u32::try_from(data.len())
        .map_err(|_| io::Error::new(io::ErrorKind::FileTooLarge, "larger than 4 GiB"))?;
    let name_len = path.len() as u32 + 1;
    // magic ino mode uid gid nlink mtime filesize dev(2) rdev(2) namesize check
    write!(out, "070701{ino:08x}{mode:08x}{0:08x}{0:08x}{1:08x}{0:08x}{size:08x}", 0, 1)?;
    write!(out, "{0:08x}{0:08x}{0:08x}{0:08x}{name_len:08x}{0:08x}{path}\0", 0)?;
    pad(out, 110 + path.len() + 1)?;
    out.write_all(data)?;
    pad(out, data.len())
}

fn pad(out: &mut impl Write, written: usize) -> io::Result<()> {
    out.write_all(&[0; 3][..(4 - written % 4) % 4])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_stored_under_usr_as_debian_has_them() {
        assert_eq!(normal("/lib/x86_64-linux-gnu/libc.so.6"), "usr/lib/x86_64-linux-gnu/libc.so.6");
        assert_eq!(normal("/usr/bin//env"), "usr/bin/env");
        assert_eq!(normal("/lib64"), "lib64");
        assert_eq!(normal("/terrace/./libterrace.so"), "terrace/libterrace.so");
    }

    #[test]
    fn an_entry_is_padded_to_four_bytes_twice() {
        let mut out = Vec::new();
        entry(&mut out, 1, "ab", 0o100_644, b"xyz").unwrap();
        assert_eq!(out.len(), 116 + 4);
        assert_eq!(&out[110..113], b"ab\0");
        assert_eq!(&out[116..], b"xyz\0");
        assert_eq!(&out[54..62], b"00000003");
    }

    #[test]
    fn a_directory_comes_before_its_files() {
        let mut image = Image::new();
        image.bytes("/a/b/c", "x", 0o644);
        let paths: Vec<_> = image.nodes.keys().filter(|k| k.starts_with('a')).cloned().collect();
        assert_eq!(paths, ["a", "a/b", "a/b/c"]);
        assert!(image.has("/a/b") && !image.has("/a/d"));
    }
}
