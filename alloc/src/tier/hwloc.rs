//! hwloc's figures, through the topology plug-in, where it is installed.
//!
//! Zone: control. The plug-in is `libterrace_topology.so` in the directory of whatever this code is linked into:
//! `libterrace.so`, or the `terrace` command. Nothing else is ever loaded in its place: no search path, no environment
//! variable. Whatever goes wrong, the answer is "hwloc says nothing", and sysfs has to do.

use std::ffi::{CStr, CString, OsStr, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::topology::{Figure, Node, Source};

const NAME: &str = "libterrace_topology.so";

/// The plug-in's idea of a node. The plug-in's `Node` is the other half of this interface.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Facts {
    id: u32,
    latency_ns: u32,
    bandwidth_mbps: u32,
    _reserved: u32,
    _capacity: u64,
    subtype: [u8; 24],
}

type Ask = unsafe extern "C" fn(*mut Facts, usize) -> isize;

/// The most nodes asked for.
const ROOM: usize = 1024;

/// Adds what hwloc knows to `nodes`, and reports where it contradicts what they have. Without the plug-in, does nothing.
pub fn complete(nodes: &mut [Node]) -> Vec<String> {
    match ask(&beside_us()) {
        Some(facts) => merge(nodes, &facts),
        None => Vec::new(),
    }
}

/// Where the plug-in would be.
fn beside_us() -> CString {
    let mut info = libc::Dl_info {
        dli_fname: std::ptr::null(),
        dli_fbase: std::ptr::null_mut(),
        dli_sname: std::ptr::null(),
        dli_saddr: std::ptr::null_mut(),
    };
    let here: *const c_void = std::ptr::from_ref(&NAME).cast();
    // SAFETY: dladdr only fills in the structure, with strings of the loader that live as long as the object does.
    let found = unsafe { libc::dladdr(here, &raw mut info) };
    if found == 0 || info.dli_fname.is_null() {
        return CString::default();
    }
    // SAFETY: dladdr set it to a terminated string.
    let object = Path::new(OsStr::from_bytes(unsafe { CStr::from_ptr(info.dli_fname) }.to_bytes()));
    // The loader knows a program by argv[0], which may be relative to a directory long left, or no path at all.
    let object = if object.is_absolute() { Some(object.to_owned()) } else { std::env::current_exe().ok() };
    let beside = object.map(|object| object.with_file_name(NAME)).unwrap_or_default();
    CString::new(beside.as_os_str().as_bytes()).unwrap_or_default()
}

fn ask(plugin: &CStr) -> Option<Vec<Facts>> {
    if plugin.is_empty() {
        return None;
    }
    // SAFETY: the plug-in is ours by its place beside us; its constructors are those of libhwloc and libudev. It stays
    // loaded: unloading would run destructors that nobody has tested in a strange process.
    let handle = unsafe { libc::dlopen(plugin.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
    if handle.is_null() {
        return None;
    }
    // SAFETY: a live handle and a terminated name.
    let at = unsafe { libc::dlsym(handle, c"terrace_topology_v1".as_ptr()) };
    if at.is_null() {
        return None;
    }
    // SAFETY: the name carries the version of the interface: whatever has it is a function of this type.
    let ask = unsafe { std::mem::transmute::<*mut c_void, Ask>(at) };
    let mut facts = vec![Facts::default(); ROOM];
    // SAFETY: room for as many as is said.
    let known = unsafe { ask(facts.as_mut_ptr(), ROOM) };
    facts.truncate(usize::try_from(known).ok()?);
    Some(facts)
}

/// Figures that sysfs lacks are taken, those it has are compared.
fn merge(nodes: &mut [Node], facts: &[Facts]) -> Vec<String> {
    let mut doubts = Vec::new();
    for node in nodes {
        let Some(facts) = facts.iter().find(|f| f.id == node.id) else { continue };
        let end = facts.subtype.iter().position(|&b| b == 0).unwrap_or(facts.subtype.len());
        node.subtype = String::from_utf8_lossy(&facts.subtype[..end]).into_owned();
        for (known, value, what) in [
            (&mut node.latency_ns, facts.latency_ns, "ns"),
            (&mut node.bandwidth_mbps, facts.bandwidth_mbps, "MB/s"),
        ] {
            match known {
                _ if value == 0 => {}
                None => *known = Some(Figure { value, source: Source::Hwloc }),
                Some(figure) if figure.value == value => {}
                Some(figure) => doubts.push(format!(
                    "node {}: the kernel says {} {what}, hwloc says {value} {what}; the kernel's figure is used",
                    node.id, figure.value
                )),
            }
        }
    }
    doubts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: u32, latency: Option<u32>) -> Node {
        let latency_ns = latency.map(|value| Figure { value, source: Source::Hmat });
        let subtype = String::new();
        Node { id, has_cpu: true, capacity: 1, latency_ns, bandwidth_mbps: None, distance: None, subtype }
    }

    fn facts(id: u32, latency_ns: u32) -> Facts {
        let mut facts = Facts { id, latency_ns, ..Facts::default() };
        facts.subtype[..4].copy_from_slice(b"DRAM");
        facts
    }

    #[test]
    fn hwloc_fills_gaps_and_is_compared_elsewhere() {
        let mut nodes = [node(0, Some(100)), node(1, None), node(2, Some(300)), node(3, None)];
        let doubts = merge(&mut nodes, &[facts(0, 100), facts(1, 600), facts(2, 900), facts(9, 1)]);
        let latencies = nodes.each_ref().map(|node| node.latency_ns.map(|f| (f.value, f.source)));
        let expect = [Some((100, Source::Hmat)), Some((600, Source::Hwloc)), Some((300, Source::Hmat)), None];
        assert_eq!(latencies, expect);
        assert_eq!(
            doubts,
            ["node 2: the kernel says 300 ns, hwloc says 900 ns; the kernel's figure is used"]
        );
        assert_eq!((nodes[0].subtype.as_str(), nodes[3].subtype.as_str()), ("DRAM", ""));
    }

    #[test]
    fn without_the_plug_in_nothing_is_said() {
        assert!(ask(c"").is_none());
        assert!(ask(c"/nowhere/libterrace_topology.so").is_none());
        let other = CString::new(std::env::current_exe().unwrap().as_os_str().as_bytes()).unwrap();
        assert!(ask(&other).is_none(), "not everything is the plug-in");
    }

    #[test]
    fn the_plug_in_is_looked_for_beside_this_program() {
        let beside = std::env::current_exe().unwrap().with_file_name(NAME);
        assert_eq!(beside_us().to_bytes(), beside.as_os_str().as_bytes());
    }
}
