//! What several of these tests need.

use std::path::Path;
use std::process::Command;

/// Copies a program that is to be run. A process of its own writes the copy: a descriptor open for writing in
/// this one would be inherited by whatever another test starts at that moment, and while it lives there the
/// kernel refuses to run the copy (ETXTBSY, execve(2)).
pub(crate) fn copy_program(from: &str, to: &Path) {
    let status = Command::new("cp").arg(from).arg(to).status().expect("cp is installed");
    assert!(status.success(), "cp {from} {}", to.display());
}
