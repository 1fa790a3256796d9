//! hwloc's view of the machine's memory, for Terrace's control thread and for `terrace topology`.
//!
//! A shared library of its own, because libhwloc and libudev, which it needs, have constructors that would otherwise
//! run in every preloaded process. It is loaded by name from the directory of `libterrace.so`, only where there is
//! a device tier, and answers one question: which memory nodes hwloc knows, with the latency and bandwidth from the
//! nearest processors (HMAT, or what a driver told it) and the kind of memory. Zone: control.

use hwlocality::Topology;
use hwlocality::memory::attribute::MemoryAttribute;
use hwlocality::object::TopologyObject;
use hwlocality::object::attributes::ObjectAttributes;
use hwlocality::object::types::ObjectType;
use std::cell::Cell;
use std::panic;
use std::sync::Once;
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Duration;

/// One memory node. The layout is the interface between two libraries: a change needs a new function name.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// The kernel's number of the node.
    pub id: u32,
    /// Read latency from the nearest processors, ns; 0 = not known.
    pub latency_ns: u32,
    /// Read bandwidth from there, MB/s; 0 = not known.
    pub bandwidth_mbps: u32,
    /// Zero.
    pub reserved: u32,
    /// Bytes of memory.
    pub capacity: u64,
    /// hwloc's word for the kind of memory (`DRAM`, `HBM`, `NVM`, `CXL-DRAM`…), ended by a zero; empty = none.
    pub subtype: [u8; 24],
}

/// Writes what hwloc knows of at most `room` nodes to `nodes` and returns how many it knows, or -1 if it cannot tell.
///
/// # Safety
/// * `nodes` has room for `room` nodes, or `room` is 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn terrace_topology_v1(nodes: *mut Node, room: usize) -> isize {
    let Some(found) = guarded(discover).flatten() else { return -1 };
    for (at, node) in found.iter().enumerate().take(room) {
        // SAFETY: `at` is below `room`, for which the caller has made room.
        unsafe { nodes.add(at).write(*node) };
    }
    found.len().cast_signed()
}

/// How long discovery may take; hwloc reads a few hundred small files.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs `work` on a thread of its own. A panic there, or a hang, costs that thread, which sleeps for ever: the process is
/// somebody else's program, and must not end because its memory could not be described. (Panics of this library abort,
/// so there is nothing to catch; but nothing happens before the hook returns.)
fn guarded<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    static HOOK: Once = Once::new();
    // The hook is this library's alone: it has its own copy of the standard library.
    HOOK.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if thread::current().name() != Some(NAME) {
                return usual(info);
            }
            eprintln!("terrace: hwloc failed ({info}); going on with what the kernel says");
            GIVEN_UP.with(|give_up| drop(give_up.take()));
            loop {
                thread::park();
            }
        }));
    });
    let (send, receive) = mpsc::channel();
    let (give_up, gave_up) = mpsc::channel::<()>();
    let run = move || {
        GIVEN_UP.with(|mine| mine.set(Some(give_up)));
        let _ = send.send(work());
        GIVEN_UP.with(|mine| drop(mine.take()));
    };
    thread::Builder::new().name(NAME.into()).spawn(run).ok()?;
    // Nothing is ever sent here: it ends when the thread is done, one way or the other.
    let _ = gave_up.recv_timeout(PATIENCE);
    receive.try_recv().ok()
}

/// The name of the thread that asks hwloc.
const NAME: &str = "terrace-hwloc";

thread_local! {
    /// Dropped when the thread has given up.
    static GIVEN_UP: Cell<Option<Sender<()>>> = const { Cell::new(None) };
}

/// Every memory node, by number.
#[must_use]
pub fn discover() -> Option<Vec<Node>> {
    let topology = Topology::new().ok()?;
    let latency = MemoryAttribute::read_latency(&topology);
    let bandwidth = MemoryAttribute::read_bandwidth(&topology);
    // Tables that tell reads from writes are rare; most give one figure for both.
    let latencies = [latency, MemoryAttribute::latency(&topology)];
    let bandwidths = [bandwidth, MemoryAttribute::bandwidth(&topology)];
    let nodes = topology.objects_with_type(ObjectType::NUMANode).filter_map(|object| {
        Some(Node {
            id: u32::try_from(object.os_index()?).ok()?,
            latency_ns: from_nearest(&latencies, object),
            bandwidth_mbps: from_nearest(&bandwidths, object),
            reserved: 0,
            capacity: capacity(object),
            subtype: subtype(object),
        })
    });
    let mut nodes: Vec<Node> = nodes.collect();
    nodes.sort_by_key(|node| node.id);
    Some(nodes)
}

/// The first of these attributes that has a value for the node, seen from its best initiator; 0 = none has.
fn from_nearest(attributes: &[MemoryAttribute<'_>], node: &TopologyObject) -> u32 {
    let best = |attribute: &MemoryAttribute<'_>| {
        attribute.best_initiator(node).ok().flatten().map(|(_, value)| value)
    };
    attributes.iter().find_map(best).and_then(|value| u32::try_from(value).ok()).unwrap_or(0)
}

fn capacity(node: &TopologyObject) -> u64 {
    match node.attributes() {
        Some(ObjectAttributes::NUMANode(numa)) => numa.local_memory().map_or(0, |bytes| bytes.get()),
        _ => 0,
    }
}

/// hwloc 2.9 keeps the kind of memory in an info string, later versions in the subtype.
fn subtype(node: &TopologyObject) -> [u8; 24] {
    let word = node.subtype().map_or(&[][..], |word| word.to_bytes());
    let mut bytes = [0; 24];
    let length = word.len().min(bytes.len() - 1);
    bytes[..length].copy_from_slice(&word[..length]);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machines_memory_is_found() {
        let nodes = discover().expect("hwloc reads this machine");
        assert!(nodes.iter().map(|node| node.capacity).sum::<u64>() > 64 << 20, "{nodes:?}");
        assert!(nodes.is_sorted_by_key(|node| node.id));
    }

    #[test]
    fn a_panic_in_discovery_is_no_more_than_an_answer_that_is_missing() {
        // In a process of its own: the thread that sleeps in the panic hook would keep the test harness from taking it back.
        const MARK: &str = "TOPOLOGY_PANIC_TEST";
        if std::env::var_os(MARK).is_some() {
            let begin = std::time::Instant::now();
            let answers = (guarded(|| -> u32 { panic!("as a test") }), guarded(|| 7));
            std::process::exit(if answers == (None, Some(7)) && begin.elapsed() < PATIENCE / 2 {
                0
            } else {
                1
            });
        }
        let mut again = std::process::Command::new(std::env::current_exe().expect("this test"));
        again.args(["a_panic_in_discovery", "--nocapture"]).env(MARK, "1");
        let output = again.output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.contains("terrace: hwloc failed"), "{said}");
    }

    #[test]
    fn the_c_function_fills_no_more_than_it_may() {
        let untouched = Node { id: 77, ..Node::default() };
        let mut nodes = [untouched; 3];
        // SAFETY: room for one of three.
        let known = unsafe { terrace_topology_v1(nodes.as_mut_ptr(), 1) };
        assert!(known >= 1);
        assert_ne!(nodes[0], untouched);
        assert_eq!(nodes[1..], [untouched; 2]);
        // SAFETY: no room is asked for.
        assert_eq!(unsafe { terrace_topology_v1(std::ptr::null_mut(), 0) }, known);
    }
}
