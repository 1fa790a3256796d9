//! The outside view: where the kernel says that another process's heap lies.
//!
//! Nothing here asks Terrace. A heap address is recognised by the window of virtual addresses that Terrace
//! documents for it; bytes per node come from `numa_maps` (proc_pid_numa_maps(5)), the node of a page from
//! `move_pages(2)` without target nodes, which neither moves nor touches it. All of it works for an ordinary user
//! on that user's own processes.
//!
//! Zone: control (a program of its own).

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;

use crate::nodes::Nodes;

/// The window of virtual addresses that holds every Terrace heap.
pub const WINDOW: std::ops::Range<usize> = 0x1000_0000_0000..0x5000_0000_0000;

/// Bytes of a page. Terrace's tiers move base pages.
pub const PAGE: usize = 4096;

/// Bytes of an extent, the unit of the heap map.
pub const EXTENT: usize = 2 << 20;

/// A reservation fills from its start; a stretch this long without a page ends the search for more.
const END_OF_HEAP: usize = 128 << 20;

/// Bytes of a heap by kind of node.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Bytes {
    /// Bytes on nodes with CPUs.
    pub dram: u64,
    /// Bytes on nodes without.
    pub device: u64,
}

/// Two readings of `numa_maps` that differ by less than this many bytes in all show the same heap.
const AGREE: u64 = 256 << 10;

/// Bytes of the Terrace heap of process `pid` on each kind of node.
///
/// The file is not a snapshot: the kernel hands it out in pieces, and a mapping that is joined with the one before it between
/// two of them is listed twice. Terrace's tracker joins mappings all the time. So it is read until two readings agree, and of
/// those that do not, the smallest counts: nothing is ever left out.
///
/// # Errors
/// ENOENT or ESRCH when the process is gone, EACCES when it is not ours.
pub fn heap_bytes(pid: i32, nodes: &Nodes) -> io::Result<Bytes> {
    let total = |bytes: &Bytes| bytes.dram + bytes.device;
    let read =
        || io::Result::Ok(sum_numa_maps(&fs::read_to_string(format!("/proc/{pid}/numa_maps"))?, nodes));
    let mut least = read()?;
    for _ in 0..4 {
        let next = read()?;
        let agree = total(&next).abs_diff(total(&least)) < AGREE;
        if agree || total(&next) < total(&least) {
            least = next;
        }
        if agree {
            break;
        }
    }
    Ok(least)
}

fn sum_numa_maps(text: &str, nodes: &Nodes) -> Bytes {
    let mut sum = Bytes::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let start = words.next().and_then(|w| usize::from_str_radix(w, 16).ok());
        if !start.is_some_and(|a| WINDOW.contains(&a)) {
            continue;
        }
        let unit = words.clone().find_map(|w| w.strip_prefix("kernelpagesize_kB=")?.parse::<u64>().ok());
        for word in words {
            let Some((node, pages)) = word.strip_prefix('N').and_then(|w| w.split_once('=')) else {
                continue;
            };
            let (Ok(node), Ok(pages)) = (node.parse::<u32>(), pages.parse::<u64>()) else { continue };
            let bytes = pages * unit.unwrap_or(4) * 1024;
            if nodes.device.contains(&node) {
                sum.device += bytes;
            } else {
                sum.dram += bytes;
            }
        }
    }
    sum
}

/// The present pages of the Terrace heap of `pid`, in address order, every `stride`-th of them.
///
/// # Errors
/// ENOENT or ESRCH when the process is gone, EACCES when it is not ours.
pub fn heap_pages(pid: i32, stride: usize) -> io::Result<Vec<usize>> {
    let pagemap = File::open(format!("/proc/{pid}/pagemap"))?;
    let mut pages = Vec::new();
    let mut entries = vec![0u8; EXTENT / PAGE * 8];
    for range in heap_ranges(&fs::read_to_string(format!("/proc/{pid}/maps"))?) {
        let mut last_found = range.start;
        for extent in range.clone().step_by(EXTENT) {
            if extent - last_found > END_OF_HEAP {
                break;
            }
            let bytes = (range.end - extent).min(EXTENT) / PAGE * 8;
            pagemap.read_exact_at(&mut entries[..bytes], (extent / PAGE * 8) as u64)?;
            for (i, entry) in entries[..bytes].chunks_exact(8).enumerate() {
                // Bit 63: present. The frame number is hidden from ordinary users, this bit is not.
                if entry[7] & 0x80 != 0 {
                    last_found = extent;
                    if i % stride == 0 {
                        pages.push(extent + i * PAGE);
                    }
                }
            }
        }
    }
    Ok(pages)
}

fn heap_ranges(maps: &str) -> Vec<std::ops::Range<usize>> {
    let bounds = maps.lines().filter_map(|line| {
        let (start, end) = line.split_whitespace().next()?.split_once('-')?;
        Some(usize::from_str_radix(start, 16).ok()?..usize::from_str_radix(end, 16).ok()?)
    });
    bounds.filter(|r| WINDOW.contains(&r.start)).collect()
}

/// The node of each page of process `pid`; `None` for a page that is not present.
///
/// # Errors
/// ESRCH when the process is gone, EPERM when it is not ours.
pub fn nodes_of(pid: i32, pages: &[usize]) -> io::Result<Vec<Option<u32>>> {
    let mut status = vec![-1i32; pages.len()];
    // SAFETY: both pointers cover `pages.len()` elements and outlive the call; with a null `nodes` the kernel
    // moves nothing and reads no memory of the other process.
    let result = unsafe {
        libc::syscall(
            libc::SYS_move_pages,
            libc::c_long::from(pid),
            pages.len(),
            pages.as_ptr(),
            std::ptr::null::<i32>(),
            status.as_mut_ptr(),
            0,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(status.into_iter().map(|s| u32::try_from(s).ok()).collect())
}

/// Of `pages` of process `pid`: how many are present, and how many of these in DRAM.
///
/// # Errors
/// As [`nodes_of`].
pub fn count_in_dram(pid: i32, pages: &[usize], nodes: &Nodes) -> io::Result<(u64, u64)> {
    let placed = nodes_of(pid, pages)?;
    let present = placed.iter().flatten().count();
    let dram = placed.iter().flatten().filter(|n| !nodes.device.contains(n)).count();
    Ok((present as u64, dram as u64))
}

/// One extent of the heap map: its number in the window, its sampled pages, and how many of them are in DRAM.
pub type Cell = (u64, u64, u64);

/// The heap of `pid` by extent, from every `stride`-th page.
///
/// # Errors
/// As [`heap_pages`] and [`nodes_of`].
pub fn heap_map(pid: i32, stride: usize, nodes: &Nodes) -> io::Result<Vec<Cell>> {
    let pages = heap_pages(pid, stride)?;
    let placed = nodes_of(pid, &pages)?;
    let mut cells: Vec<Cell> = Vec::new();
    for (page, node) in pages.iter().zip(placed) {
        let Some(node) = node else { continue };
        let extent = ((page - WINDOW.start) / EXTENT) as u64;
        if cells.last().is_none_or(|c| c.0 != extent) {
            cells.push((extent, 0, 0));
        }
        let cell = cells.last_mut().expect("pushed above");
        cell.1 += 1;
        cell.2 += u64::from(!nodes.device.contains(&node));
    }
    Ok(cells)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_nodes() -> Nodes {
        Nodes { dram: vec![0], device: vec![1] }
    }

    #[test]
    fn numa_maps_counts_only_the_window() {
        let text = "\
55d0c0000000 default heap anon=9 dirty=9 N0=9 kernelpagesize_kB=4
100000000000 bind:0-1 anon=30 dirty=30 N0=10 N1=20 kernelpagesize_kB=4
101000000000 prefer=static:1 anon=5 dirty=5 N1=5 kernelpagesize_kB=4
4ffffffff000 bind:0-1 huge anon=1 dirty=1 N0=1 kernelpagesize_kB=2048
500000000000 default anon=7 N0=7 kernelpagesize_kB=4
7ffe00000000 default stack:1 anon=3 N0=3 kernelpagesize_kB=4
";
        let bytes = sum_numa_maps(text, &two_nodes());
        assert_eq!(bytes, Bytes { dram: (10 << 12) + (2 << 20), device: 25 << 12 });
    }

    #[test]
    fn only_ranges_of_the_window_are_searched() {
        let maps = "55d0c0000000-55d0c0001000 r--p 0 0 0 x\n100000000000-101000000000 rw-p 0 0 0\n";
        let ranges = heap_ranges(maps);
        assert_eq!((ranges.len(), &ranges[0]), (1, &(0x1000_0000_0000..0x1010_0000_0000)));
    }

    #[test]
    fn own_pages_are_found_where_they_are() {
        let here = std::process::id() as i32;
        let touched = vec![7u8; 16 * PAGE];
        let first = touched.as_ptr() as usize / PAGE * PAGE + PAGE;
        let pages: Vec<usize> = (0..14).map(|i| first + i * PAGE).collect();
        let (present, dram) = count_in_dram(here, &pages, &two_nodes()).expect("our own process");
        assert_eq!((present, dram), (14, 14));
        assert_eq!(nodes_of(here, &[PAGE]).expect("our own process"), [None]);
    }

    #[test]
    fn a_mapping_in_the_window_shows_up_in_the_heap_map() {
        let base = 0x4fff_0000_0000usize;
        // SAFETY: a fresh mapping at an address that nothing else in this test process uses.
        let mapped = unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
            libc::mmap(base as *mut _, 4 * EXTENT, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0)
        };
        assert_eq!(mapped as usize, base);
        // SAFETY: the second extent of the mapping made above.
        unsafe { std::ptr::write_bytes((base + EXTENT) as *mut u8, 1, EXTENT) };
        let map = heap_map(std::process::id() as i32, 8, &two_nodes()).expect("our own process");
        let extent = ((base + EXTENT - WINDOW.start) / EXTENT) as u64;
        assert_eq!(map, [(extent, 64, 64)]);
        let bytes = heap_bytes(std::process::id() as i32, &two_nodes()).expect("our own process");
        assert_eq!(bytes, Bytes { dram: EXTENT as u64, device: 0 });
        // SAFETY: nothing refers to the mapping any more.
        unsafe { libc::munmap(mapped, 4 * EXTENT) };
    }
}
