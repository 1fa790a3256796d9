//! NUMA placement: mbind(2), move_pages(2), get_mempolicy(2), and a node's meminfo.

use super::{Call, Errno, may_fail, proc, syscall};
use core::fmt::Write;

mod mask;
pub use mask::{MAX_NODES, NodeMask};

/// Allocate on the preferred node first, elsewhere when it is full.
pub const MPOL_PREFERRED: u32 = 1;
/// Allocate only on the given nodes.
pub const MPOL_BIND: u32 = 2;
/// Like [`MPOL_PREFERRED`] for a set of nodes (Linux 5.15).
pub const MPOL_PREFERRED_MANY: u32 = 5;
/// Mode flag: node numbers are physical, not relative to the cpuset.
pub const MPOL_F_STATIC_NODES: u32 = 1 << 15;

const MPOL_F_MEMS_ALLOWED: usize = 1 << 2;
const MPOL_MF_MOVE: usize = 1 << 1;

/// The nodes this process may allocate on (its cpuset), from get_mempolicy(2) with `MPOL_F_MEMS_ALLOWED`.
pub fn mems_allowed() -> Result<NodeMask, Errno> {
    may_fail(Call::Policy)?;
    let mut mask = NodeMask::EMPTY;
    let (out, bits) = (mask.words_mut().as_mut_ptr().addr(), MAX_NODES as usize);
    // SAFETY: `out` has room for MAX_NODES bits, which is what `maxnode` says.
    Errno::check(unsafe { syscall(libc::SYS_get_mempolicy, [0, out, bits, 0, MPOL_F_MEMS_ALLOWED, 0]) })?;
    #[cfg(feature = "invariants")]
    (0..super::fault::pretended_nodes()).for_each(|node| mask.set(node));
    Ok(mask)
}

/// Sets the memory policy of `[addr, addr + len)` (mbind(2)); affects pages touched from now on.
pub fn mbind(addr: usize, len: usize, mode: u32, mask: &NodeMask, flags: u32) -> Result<(), Errno> {
    may_fail(Call::Bind)?;
    // The kernel counts one bit less than `maxnode`.
    let bits = MAX_NODES as usize + 1;
    let words = mask.words().as_ptr().addr();
    // SAFETY: a policy changes where future pages come from, never contents; the mask outlives the call.
    let ret = unsafe { syscall(libc::SYS_mbind, [addr, len, mode as usize, words, bits, flags as usize]) };
    Errno::check(ret).map(drop)
}

/// Moves pages of this process, or with `nodes == None` asks where they are (move_pages(2)).
///
/// `status` gets a node number or a negative errno per page; the kernel may leave its tail untouched when it stops
/// early. Returns how many pages were not moved (Linux 4.17 and later).
///
/// # Panics
/// When the slices differ in length.
pub fn move_pages(pages: &[usize], nodes: Option<&[i32]>, status: &mut [i32]) -> Result<usize, Errno> {
    assert_eq!(pages.len(), status.len());
    may_fail(Call::MovePages)?;
    let nodes = nodes.map_or(0, |nodes| {
        assert_eq!(pages.len(), nodes.len());
        nodes.as_ptr().addr()
    });
    let args = [0, pages.len(), pages.as_ptr().addr(), nodes, status.as_mut_ptr().addr(), MPOL_MF_MOVE];
    // SAFETY: the arrays have `pages.len()` elements each; moving a page changes neither its address nor its contents.
    Errno::check(unsafe { syscall(libc::SYS_move_pages, args) })
}

/// The node that holds the page at `addr`, or `None` if no page is there (yet) or the kernel does not tell.
#[must_use]
pub fn node_of(addr: usize) -> Option<u32> {
    let mut status = [i32::MIN];
    move_pages(&[addr], None, &mut status).ok()?;
    u32::try_from(status[0]).ok()
}

/// Free and total bytes of `node`, from its meminfo in sysfs; `None` if the node is gone or sysfs is not there.
#[must_use]
pub fn node_free_bytes(node: u32) -> Option<(u64, u64)> {
    let mut path = proc::Line::new();
    write!(path, "/sys/devices/system/node/node{node}/meminfo\0").ok()?;
    let path = core::ffi::CStr::from_bytes_with_nul(path.as_bytes()).ok()?;
    let mut buf = [0; 1024];
    let n = proc::read_file(path, &mut buf).ok()?;
    let field = |name: &[u8]| {
        let line =
            buf[..n].split(|&b| b == b'\n').find(|line| line.windows(name.len()).any(|w| w == name))?;
        let at = line.iter().position(|&b| b == b':')?;
        let digits = line[at + 1..].trim_ascii_start().split(|&b| b == b' ').next()?;
        core::str::from_utf8(digits).ok()?.parse::<u64>().ok()
    };
    Some((field(b"MemFree:")? << 10, field(b"MemTotal:")? << 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_touched_page_is_on_an_allowed_node() {
        let page = Box::new([1u8; 8192]);
        let node = node_of(page.as_ptr().addr() & !4095).expect("move_pages answers for a touched page");
        assert!(mems_allowed().unwrap().has(node));
    }

    #[test]
    fn node_zero_has_memory() {
        let (free, total) = node_free_bytes(0).expect("node 0 exists");
        assert!(free <= total && total > 0);
    }
}
