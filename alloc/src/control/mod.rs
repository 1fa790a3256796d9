//! The control plane: the one background thread of a process with tiers, and what it publishes.
//!
//! Zone: control. It drives the tiering wing and never holds a lock that an application thread can want. It exists only
//! where there is a device tier, and only once the heap is large enough for tiers to matter: the heap's growth hook
//! starts it. A forked child has none until it has grown by itself.

mod act;
mod census;
pub(crate) mod fork;
mod keeper;
mod sites;
pub mod stats;
mod system;
mod tick;
mod waker;

use self::keeper::Keeper;
use self::stats::StatsPage;
use self::system::{Process, System};
use self::tick::Plane;
use crate::arena::{self, placement};
use crate::config::{self, Amount, Config, StatsChoice, TrackerChoice};
use crate::heap;
use crate::heat::tracker;
use crate::sys::{Call, may_fail};
use crate::tier::{mode, topology};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use std::time::Duration;

const IDLE: u32 = 0;
const STARTED: u32 = 1;
const NEVER: u32 = 2;

static STATE: AtomicU32 = AtomicU32::new(IDLE);
static AT_EXIT: AtomicBool = AtomicBool::new(false);

const STACK_BYTES: usize = 256 << 10;

pub(crate) use waker::wake;

/// What a forked child must at least have grown by: most children live briefly, to run another program or to write a snapshot, and are
/// not worth a thread and a statistics page, which stays behind when they run another program.
const CHILD_GROWTH: usize = 64 << 20;

/// Bytes of extents that a forked child was born with, or has had at least since, for it is its own growth that counts: what other threads of
/// its parent had in use goes back in time. 0 in a process that was not forked.
static INHERITED: AtomicUsize = AtomicUsize::new(0);

/// Has the heap call [`start_if_needed`] when it grows. Called by the library's constructor, which may run before the C library's own:
/// the environment, and so the threshold, is not known yet.
pub fn install() {
    arena::set_growth_hook(start_if_needed, 0);
}

/// The heap size at which the control thread starts.
fn threshold(config: &Config) -> usize {
    let start = usize::try_from(config.start_bytes).unwrap_or(usize::MAX);
    match INHERITED.load(Ordering::Relaxed) {
        0 => start,
        inherited => inherited.saturating_add(start.max(CHILD_GROWTH)),
    }
}

/// Starts the control thread if there is a device tier and none runs yet. The growth hook: any thread, no lock held,
/// errno preserved.
pub fn start_if_needed() {
    let config = config::get();
    if STATE.load(Ordering::Relaxed) != IDLE || !config::is_read() {
        return;
    }
    let is_child = INHERITED.load(Ordering::Relaxed) != 0;
    if is_child {
        INHERITED.fetch_min(arena::live_extent_bytes().max(1), Ordering::Relaxed);
    }
    let threshold = threshold(config);
    if !placement().device.is_empty() && arena::live_extent_bytes() < threshold {
        // A child must notice when it shrinks, too.
        arena::set_growth_hook(start_if_needed, if is_child { 0 } else { threshold });
        return;
    }
    if STATE.compare_exchange(IDLE, STARTED, Ordering::AcqRel, Ordering::Relaxed).is_err() {
        return;
    }
    let place = placement();
    if place.device.is_empty() || !mode::needs_control(place.mode) {
        STATE.store(NEVER, Ordering::Relaxed);
        arena::set_growth_hook(start_if_needed, usize::MAX);
        return;
    }
    if !mode::migrates(place.mode)
        && let Amount::Bytes(budget) = config.dram
    {
        // The first tick may come late.
        let room = (budget as usize).saturating_sub(arena::live_extent_bytes()) / arena::EXTENT_BYTES;
        arena::pressure::set_dram_room(Some(room));
    }
    // SAFETY: errno is this thread's own.
    let errno = unsafe { *libc::__errno_location() };
    if !with_signals_blocked(spawn) {
        STATE.store(NEVER, Ordering::Relaxed);
        // Nobody will ever say that there is room again.
        arena::pressure::set_dram_room(None);
        if config::get().verbose {
            crate::sys::proc::say(format_args!(
                "no thread to be had: memory stays where it was first touched"
            ));
        }
    }
    arena::set_growth_hook(start_if_needed, usize::MAX);
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
}

/// In a forked child: the control thread stayed with the parent. One is started once the child has grown as much again.
fn in_child_after_fork() {
    if STATE.load(Ordering::Relaxed) == STARTED {
        STATE.store(IDLE, Ordering::Relaxed);
        waker::forget();
        INHERITED.store(arena::live_extent_bytes().max(1), Ordering::Relaxed);
        arena::set_growth_hook(start_if_needed, 0);
        arena::pressure::set_dram_full(false);
        arena::pressure::set_device_full(false);
        arena::pressure::set_tight(false);
        arena::pressure::set_dram_room(None);
        arena::sites::set_apart(false);
    }
}

fn spawn() -> bool {
    if may_fail(Call::Thread).is_err() {
        return false;
    }
    std::thread::Builder::new().name("terrace".into()).stack_size(STACK_BYTES).spawn(run).is_ok()
}

/// Runs `f` with every signal blocked, so that a thread started in it never runs the program's handlers.
fn with_signals_blocked<T>(f: impl FnOnce() -> T) -> T {
    // SAFETY: both sets are initialised by the calls before they are read.
    unsafe {
        let mut all: libc::sigset_t = core::mem::zeroed();
        let mut old: libc::sigset_t = core::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut old);
        let result = f();
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const old, core::ptr::null_mut());
        result
    }
}

/// The thread. It ends with the process.
fn run() {
    heap::become_own();
    let config = config::get();
    let mut system = Process::new();
    let (dram, device) = system.nodes();
    let table = if fork::is_child() {
        topology::tiers()
    } else {
        let table = fork::undisturbed(|| topology::discover(&dram, &device));
        if config.verbose {
            table.doubts.iter().for_each(|doubt| system.say(doubt));
        }
        topology::publish(table.clone());
        table
    };
    let order: Vec<u32> = table.device_nodes().collect();
    let mut page = match config.stats {
        StatsChoice::On => {
            // Undisturbed: the C library holds a lock that it does not free in a child.
            fork::undisturbed(|| {
                if !AT_EXIT.swap(true, Ordering::Relaxed) {
                    // SAFETY: the handler lives as long as the process: the library is never unloaded.
                    unsafe { libc::atexit(remove_page) };
                }
            });
            StatsPage::create()
                .inspect_err(|e| {
                    if config.verbose {
                        system.say(&format!("no statistics page: {e}"));
                    }
                })
                .ok()
        }
        StatsChoice::Off => None,
    };
    // Where nothing is moved, nobody needs to know what is hot.
    let wanted = if mode::migrates(placement().mode) { config.tracker } else { TrackerChoice::Alloc };
    let tracker = tracker::choose(wanted, f64::from(config.tracker_percent) / 100.0);
    let mut plane = Plane::new(config, placement().mode, tracker, &system);
    plane.set_device_order(order);
    // A child's heap is its parent's, and its births come in an order of their own.
    let kept = if fork::is_child() { None } else { Keeper::open(config, &system) };
    let mut keeper = kept.map(|(keeper, profile)| {
        plane.set_profile(profile);
        keeper
    });
    loop {
        let wake = plane.tick(&mut system);
        if let Some(page) = &mut page {
            page.publish(&plane.stats);
        }
        if keeper.as_mut().is_some_and(|keeper| !keeper.keep(&plane, &system)) {
            keeper = None;
        }
        waker::sleep(Duration::from_nanos(wake.saturating_sub(system.now()).max(100_000)));
    }
}

extern "C" fn remove_page() {
    stats::remove_at_exit();
}
