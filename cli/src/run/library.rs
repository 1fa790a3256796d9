//! Where `libterrace.so` is.

use std::env;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::fail::Fail;

const NAME: &str = "libterrace.so";

/// `TERRACE_LIB`, else beside this executable, else `../lib` from there. Always absolute, so that it is found whatever
/// directory the program changes to before it starts others.
pub(super) fn find() -> Result<PathBuf, Fail> {
    if let Some(named) = env::var_os("TERRACE_LIB").filter(|name| !name.is_empty()) {
        let path = PathBuf::from(named);
        if !path.is_file() {
            return Err(Fail::cannot(format_args!("TERRACE_LIB={}: no such file", path.display())));
        }
        return usable(&path);
    }
    let exe = env::current_exe().map_err(|e| Fail::cannot(format_args!("where this command is: {e}")))?;
    let here = exe.parent().unwrap_or(Path::new("/"));
    match [here.join(NAME), here.join("../lib").join(NAME)].iter().find(|path| path.is_file()) {
        Some(path) => usable(path),
        None => Err(Fail::cannot(format_args!(
            "{NAME} is neither in {} nor in its ../lib; name it with TERRACE_LIB",
            here.display()
        ))),
    }
}

/// The dynamic loader takes colons and blanks as the end of a name, and has no way to quote them.
fn usable(path: &Path) -> Result<PathBuf, Fail> {
    let path = path.canonicalize().map_err(|e| Fail::cannot(format_args!("{}: {e}", path.display())))?;
    if path.as_os_str().as_bytes().iter().any(|b| matches!(b, b':' | b' ' | b'\t' | b'\n')) {
        return Err(Fail::cannot(format_args!(
            "{}: LD_PRELOAD cannot name a path with a colon or a blank in it",
            path.display()
        )));
    }
    Ok(path)
}
