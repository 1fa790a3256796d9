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
/// Mode flag: the kernel's NUMA balancing may move pages within the nodes of a [`MPOL_BIND`] (Linux 5.15 for ranges).
pub const MPOL_F_NUMA_BALANCING: u32 = 1 << 13;
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

/// Whether the kernel promotes: NUMA balancing in its tiering mode (`kernel.numa_balancing`, bit 1; Linux 5.18).
#[must_use]
pub fn kernel_promotes() -> bool {
    let mut buf = [0; 16];
    let n = proc::read_file(c"/proc/sys/kernel/numa_balancing", &mut buf).unwrap_or(0);
    let mode = core::str::from_utf8(buf[..n].trim_ascii()).ok().and_then(|text| text.parse::<u32>().ok());
    mode.is_some_and(|mode| mode & 2 != 0)
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

/// Memory of a node, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeMemory {
    /// All of it.
    pub total: u64,
    /// What nobody uses.
    pub free: u64,
    /// And what the kernel gives up for others without swapping: file pages that were not used lately, and half of those that were and of
    /// the kernel's own caches. As proc_meminfo(5) has it for all nodes together (MemAvailable); no node's file says it.
    pub available: u64,
}

/// Free and total bytes of `node`; `None` as [`node_memory`].
#[must_use]
pub fn node_free_bytes(node: u32) -> Option<(u64, u64)> {
    node_memory(node).map(|memory| (memory.free, memory.total))
}

/// Memory of `node`, from its meminfo in sysfs; `None` if the node is gone or sysfs is not there.
#[must_use]
pub fn node_memory(node: u32) -> Option<NodeMemory> {
    let mut path = proc::Line::new();
    write!(path, "/sys/devices/system/node/node{node}/meminfo\0").ok()?;
    let path = core::ffi::CStr::from_bytes_with_nul(path.as_bytes()).ok()?;
    let mut buf = [0; 2048];
    let n = proc::read_file(path, &mut buf).ok()?;
    memory_of(&buf[..n])
}

fn memory_of(meminfo: &[u8]) -> Option<NodeMemory> {
    let field = |name: &[u8]| {
        let line = meminfo.split(|&b| b == b'\n').find(|line| line.windows(name.len()).any(|w| w == name))?;
        let at = line.iter().position(|&b| b == b':')?;
        let digits = line[at + 1..].trim_ascii_start().split(|&b| b == b' ').next()?;
        core::str::from_utf8(digits).ok()?.parse::<u64>().ok().map(|kib| kib << 10)
    };
    let (total, free) = (field(b" MemTotal:")?, field(b" MemFree:")?);
    let [idle, used, own] = [b" Inactive(file):".as_slice(), b" Active(file):", b" SReclaimable:"]
        .map(|name| field(name).unwrap_or(0));
    Some(NodeMemory { total, free, available: (free + idle + used / 2 + own / 2).min(total) })
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
        let memory = node_memory(0).expect("node 0 exists");
        assert!(memory.free <= memory.available && memory.available <= memory.total && memory.total > 0);
    }

    #[test]
    fn what_the_page_cache_holds_is_available() {
        let meminfo = b"Node 1 MemTotal: 1000 kB\nNode 1 MemFree:          50 kB\nNode 1 Active:   330 kB\n\
            Node 1 Inactive: 200 kB\nNode 1 Active(file):   300 kB\nNode 1 Inactive(file):   160 kB\n\
            Node 1 KReclaimable: 90 kB\nNode 1 SReclaimable:  80 kB\n";
        let found = memory_of(meminfo).unwrap();
        assert_eq!(found, NodeMemory { total: 1000 << 10, free: 50 << 10, available: 400 << 10 });
        assert_eq!(memory_of(b"Node 1 MemTotal: 1000 kB\n"), None);
    }
}
