//! The rival: a process that takes device memory until little is left, and holds it.
//!
//! It is the driver's own program, run again; so it works wherever the driver does.
//!
//! Zone: control (a program of its own).

use std::io::{self, BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, Stdio};

use crate::nodes;

/// The word that makes the driver's program a rival.
pub const COMMAND: &str = "hold-device-memory";

const MPOL_BIND: libc::c_long = 2;

/// Words of a node mask: 1024 nodes, as many as any kernel knows.
const NODE_WORDS: usize = 16;

/// Bytes taken at once; small enough to stop close to the mark.
const STEP: usize = 4 << 20;

/// A running rival. Dropped, it lets go of its memory.
pub struct Hog {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Hog {
    /// Starts a process that takes memory of node `node` until at most `leave` bytes are free there, and waits
    /// until it has. Returns it with the number of bytes taken.
    ///
    /// # Errors
    /// When it cannot be started or cannot take the memory.
    pub fn start(node: u32, leave: u64) -> io::Result<(Hog, u64)> {
        let mut child = Command::new(std::env::current_exe()?)
            .args([COMMAND, &node.to_string(), &leave.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = BufReader::new(child.stdout.take().expect("piped above"));
        let mut hog = Hog { child, output };
        let mut line = String::new();
        hog.output.read_line(&mut line)?;
        let taken = line.trim().parse().map_err(|_| io::Error::other(format!("the rival said {line:?}")))?;
        Ok((hog, taken))
    }
}

impl Drop for Hog {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// The rival's whole life: takes memory of node `node` until at most `leave` bytes are free, prints how much it
/// took, and ends when its standard input does.
///
/// # Errors
/// When `mbind(2)` or `mmap(2)` refuse.
pub fn live(node: u32, leave: u64) -> io::Result<()> {
    let mut taken = 0u64;
    while nodes::free_and_total(node).is_some_and(|(free, _)| free > leave) {
        take(node)?;
        taken += STEP as u64;
    }
    println!("{taken}");
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

/// Takes [`STEP`] bytes on `node`, for the life of the process.
fn take(node: u32) -> io::Result<()> {
    let (size, protection) = (STEP, libc::PROT_READ | libc::PROT_WRITE);
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new mapping, chosen by the kernel.
    let base = unsafe { libc::mmap(std::ptr::null_mut(), size, protection, flags, -1, 0) };
    if base == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    let mut mask = [0u64; NODE_WORDS];
    let word = mask.get_mut(node as usize / 64).ok_or(io::ErrorKind::InvalidInput)?;
    *word = 1 << (node % 64);
    // mbind(2) counts one bit more than it reads.
    let bits = 64 * NODE_WORDS + 1;
    // SAFETY: the range is the mapping made above, and `mask` holds the bits announced.
    let bound = unsafe { libc::syscall(libc::SYS_mbind, base, size, MPOL_BIND, mask.as_ptr(), bits, 0) };
    if bound != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the mapping made above, `size` bytes, ours alone.
    unsafe { std::ptr::write_bytes(base.cast::<u8>(), 0x5a, size) };
    Ok(())
}
