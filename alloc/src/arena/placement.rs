//! Which nodes are DRAM and which are devices, as far as a malloc must know at its first reservation.
//!
//! Zone: cold; worked out once. A process that may allocate on one node only costs one system call and no file: it has no
//! device tier. Otherwise two small sysfs files tell which nodes have memory and no CPUs. Latencies, capacities and the order
//! of the tiers are the control plane's business (`tier/`).

use crate::config::{self, Mode};
use crate::sync::Lock;
use crate::sys::numa::{self, NodeMask};
use crate::sys::proc;
use core::cell::UnsafeCell;
use core::ffi::CStr;
use core::sync::atomic::{AtomicBool, Ordering};

/// The nodes of either kind that this process may allocate on, and the mode in force.
#[derive(Clone, Copy, Debug)]
pub struct Placement {
    /// Nodes with CPUs, or all that are not devices.
    pub dram: NodeMask,
    /// Device nodes; empty = there is no device tier and nothing is ever moved or bound.
    pub device: NodeMask,
    /// `auto` where a device tier exists, unless the configuration says otherwise, or `assist` of a kernel that does not promote.
    pub mode: Mode,
}

struct Once {
    value: UnsafeCell<Placement>,
    ready: AtomicBool,
    lock: Lock<()>,
}

// SAFETY: `value` is written under `lock` before `ready` is set, and only read after.
unsafe impl Sync for Once {}

static PLACEMENT: Once = Once {
    value: UnsafeCell::new(Placement { dram: NodeMask::EMPTY, device: NodeMask::EMPTY, mode: Mode::Auto }),
    ready: AtomicBool::new(false),
    lock: Lock::new(()),
};

/// The placement this process was started with.
pub fn placement() -> &'static Placement {
    if !PLACEMENT.ready.load(Ordering::Acquire) {
        let _guard = PLACEMENT.lock.lock();
        if !PLACEMENT.ready.load(Ordering::Acquire) {
            let found = detect();
            // SAFETY: nobody reads before `ready`, and the lock keeps other writers out.
            unsafe { *PLACEMENT.value.get() = found };
            PLACEMENT.ready.store(true, Ordering::Release);
        }
    }
    // SAFETY: `ready` was seen, so the value is written for good.
    unsafe { &*PLACEMENT.value.get() }
}

fn detect() -> Placement {
    let config = config::get();
    // Refused (a sandbox) or one node only: no tiers.
    let allowed = numa::mems_allowed().unwrap_or(NodeMask::EMPTY);
    let mut device = NodeMask::EMPTY;
    if allowed.count() > 1 {
        device = match config.device_nodes {
            Some(named) => named_devices(&named, &allowed),
            None => match (
                nodes(c"/sys/devices/system/node/has_memory"),
                nodes(c"/sys/devices/system/node/has_cpu"),
            ) {
                (Some(memory), Some(cpu)) => memory.minus(&cpu).intersect(&allowed),
                _ => NodeMask::EMPTY,
            },
        };
    } else if config.device_nodes.is_some() {
        proc::say(format_args!(
            "TERRACE_DEVICE_NODES: this process may use one memory node only; no device tier"
        ));
    }
    let dram = allowed.minus(&device);
    if dram.is_empty() {
        device = NodeMask::EMPTY;
    }
    let mode = match config.mode {
        Some(Mode::Assist) if !device.is_empty() => assist_or_auto(),
        mode => mode.unwrap_or(Mode::Auto),
    };
    Placement { dram, device, mode }
}

/// `assist` if the kernel promotes, else `auto`.
#[cold]
#[inline(never)]
fn assist_or_auto() -> Mode {
    if numa::kernel_promotes() {
        return Mode::Assist;
    }
    proc::say(format_args!(
        "TERRACE_MODE=assist: the kernel promotes nothing (kernel.numa_balancing is not 2); using auto"
    ));
    Mode::Auto
}

fn named_devices(named: &NodeMask, allowed: &NodeMask) -> NodeMask {
    let device = named.intersect(allowed);
    let missing = named.minus(&device);
    if !missing.is_empty() {
        proc::say(format_args!(
            "TERRACE_DEVICE_NODES={named}: node {missing} does not exist or this process may not use it; using {}",
            if device.is_empty() { "no device tier" } else { "the others" }
        ));
    }
    if allowed.minus(&device).is_empty() {
        proc::say(format_args!(
            "TERRACE_DEVICE_NODES={named}: no node is left for DRAM; using no device tier"
        ));
        return NodeMask::EMPTY;
    }
    device
}

fn nodes(path: &CStr) -> Option<NodeMask> {
    let mut buf = [0; 512];
    let n = proc::read_file(path, &mut buf).ok()?;
    NodeMask::parse(&buf[..n])
}

/// Takes the lock for fork.
pub(super) fn lock_for_fork() {
    PLACEMENT.lock.acquire();
}

/// Releases the lock after fork in the parent.
///
/// # Safety
/// * This thread called [`lock_for_fork`].
pub(super) unsafe fn unlock_after_fork() {
    // SAFETY: held by this thread.
    unsafe { PLACEMENT.lock.release() };
}

/// Frees the lock after fork in the child.
///
/// # Safety
/// * This is the only thread of the process.
pub(super) unsafe fn reset_after_fork() {
    // SAFETY: no other thread exists.
    unsafe { PLACEMENT.lock.reset() };
}
