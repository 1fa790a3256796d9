//! Whether the dynamic loader will run for a program at all: preloading does nothing to a static one.

use std::env;
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;

/// Why `LD_PRELOAD` will have no effect on `program`, if that can be told. Anything unclear (a script, a program that is
/// not there) is `None`: exec will say what there is to say.
pub(super) fn why_preload_fails(program: &OsStr) -> Option<&'static str> {
    let path = on_path(program)?;
    let file = File::open(&path).ok()?;
    let about = file.metadata().ok()?;
    // SAFETY: getuid has no preconditions and cannot fail.
    let me = unsafe { libc::getuid() };
    if about.mode() & 0o4000 != 0 && about.uid() != me {
        return Some("set-user-ID");
    }
    has_interpreter(&file).filter(|dynamic| !dynamic).map(|_| "statically linked")
}

/// The file that execvp would take.
fn on_path(program: &OsStr) -> Option<PathBuf> {
    if program.as_bytes().contains(&b'/') {
        return Some(program.into());
    }
    env::split_paths(&env::var_os("PATH")?).map(|dir| dir.join(program)).find(|path| path.is_file())
}

/// Whether a 64-bit little-endian ELF file names an interpreter (`PT_INTERP`); `None` for any other file.
fn has_interpreter(file: &File) -> Option<bool> {
    const PT_INTERP: u32 = 3;
    let mut head = [0u8; 64];
    file.read_exact_at(&mut head, 0).ok()?;
    if !head.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let word = |at: usize| u16::from_le_bytes([head[at], head[at + 1]]);
    // e_phoff, e_phentsize, e_phnum of the ELF-64 header.
    let table = u64::from_le_bytes(head[32..40].try_into().ok()?);
    let (size, count) = (word(54), word(56));
    for entry in 0..u64::from(count) {
        let mut kind = [0u8; 4];
        file.read_exact_at(&mut kind, table.checked_add(entry * u64::from(size))?).ok()?;
        if u32::from_le_bytes(kind) == PT_INTERP {
            return Some(true);
        }
    }
    Some(false)
}
