//! Configuration: the `TERRACE_*` environment variables, read once, as one [`Config`].
//!
//! Owns the settings and the table that describes them ([`VARIABLES`], from which the documentation is generated).
//! Any module may call [`get`]. Zone: cold. Foundation: `core` only, no allocation, no lock, no `std::env`, because
//! the first caller is the first `malloc` of the process, which may run before the constructors have.
//!
//! Invariants:
//! * Nothing here aborts or fails. A value that cannot be used costs exactly one line on file descriptor 2, and the
//!   default stands in for it.
//! * The environment is walked once. What it said is then constant for the life of the process, and after `fork`.
//! * A set-user-ID program (`AT_SECURE`) ignores the environment: its caller is not its owner.

mod file_name;
mod parse;
mod problem;
mod variables;

use core::cell::UnsafeCell;
use core::ffi::{CStr, c_char};
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicUsize, Ordering};

use once_cell::race::OnceRef;

pub use self::file_name::FileName;
pub use self::parse::parse;
pub use self::problem::{Problem, Reason};
pub use self::variables::{Kind, VARIABLES, Variable};
use crate::sys::{numa::NodeMask, proc};

/// How far an ordinary `malloc` may spread over the tiers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Never on a device node without an explicit hint; nothing migrates.
    Isolate,
    /// DRAM first, the device when DRAM or its budget is exhausted; nothing migrates.
    Spill,
    /// DRAM first; Terrace demotes, the kernel's NUMA balancing promotes.
    Assist,
    /// DRAM first; pages migrate both ways while the program runs.
    Auto,
}

/// A number of bytes, or "work it out from the machine".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    /// Derived from the control group and from what is free.
    Auto,
    /// Exactly this many bytes.
    Bytes(u64),
}

/// Which source of heat to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrackerChoice {
    /// The best that a probe finds.
    Auto,
    /// Asynchronous read-write protection through `PAGEMAP_SCAN`: reads and writes. Only if asked for.
    Rwp,
    /// The processor's samples of accesses, through perf_event_open(2). Only if asked for.
    Perf,
    /// Idle page tracking: reads and writes. Only if asked for.
    Idle,
    /// Accessed bits through `clear_refs` and `smaps`: reads and writes.
    Refs,
    /// Asynchronous write protection through `PAGEMAP_SCAN`: writes only.
    Writes,
    /// The allocator's own events only.
    Alloc,
}

/// Whether the process publishes its statistics page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatsChoice {
    /// Publish `/dev/shm/terrace-PID.stats` while the control thread runs.
    On,
    /// Create no file.
    Off,
}

/// Every setting, after defaults. One value per process: [`get`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// `TERRACE_MODE`; `None` = `auto` where a device tier exists.
    pub mode: Option<Mode>,
    /// `TERRACE_DRAM`: the bytes this process may hold in DRAM.
    pub dram: Amount,
    /// `TERRACE_DEVICE`: the bytes this process may hold on device nodes.
    pub device: Amount,
    /// `TERRACE_DEVICE_NODES`: the nodes to treat as devices; `None` = those that have memory and no CPU.
    pub device_nodes: Option<NodeMask>,
    /// `TERRACE_WATERMARKS`, first: demotion starts here, in percent of the budget.
    pub high_percent: u8,
    /// `TERRACE_WATERMARKS`, second: demotion stops here, in percent of the budget; below `high_percent`.
    pub low_percent: u8,
    /// `TERRACE_HEADROOM`: the bytes kept free on the device.
    pub headroom: Amount,
    /// `TERRACE_MOVE_RATE`: the most that migration copies, in MB/s.
    pub move_rate_mbps: u32,
    /// `TERRACE_TICK_MS`: the control thread's period, in ms.
    pub tick_ms: u32,
    /// `TERRACE_TRACKER`.
    pub tracker: TrackerChoice,
    /// `TERRACE_TRACKER_CPU`: what the tracker may take of one core over time, in percent.
    pub tracker_percent: u32,
    /// `TERRACE_START`: the heap size, in bytes, at which the control thread starts.
    pub start_bytes: u64,
    /// `TERRACE_STATS`.
    pub stats: StatsChoice,
    /// `TERRACE_VERBOSE`: say on file descriptor 2 what was found and what was given up.
    pub verbose: bool,
    /// `TERRACE_PURGE_MS`: how long freed pages stay mapped before they return to the system, in ms; 0 = at once.
    pub purge_ms: u32,
    /// `TERRACE_HARDENED`: trade speed and memory for safety.
    pub hardened: bool,
    /// `TERRACE_QUARANTINE`: the bytes of freed blocks that a thread keeps from being used again, in hardened mode.
    pub quarantine_bytes: u64,
    /// `TERRACE_GUARD_SAMPLE`: one in how many allocations is guarded; 0 = none.
    pub guard_sample: u32,
    /// `TERRACE_PROFILE`: where what was learnt is kept for the next run; empty = nowhere.
    pub profile: FileName,
}

impl Config {
    /// What holds when nothing is set. A test keeps it equal to the `default` column of [`VARIABLES`].
    pub const DEFAULT: Self = Self {
        mode: None,
        dram: Amount::Auto,
        device: Amount::Auto,
        device_nodes: None,
        high_percent: 98,
        low_percent: 95,
        headroom: Amount::Auto,
        move_rate_mbps: 1000,
        tick_ms: 200,
        tracker: TrackerChoice::Auto,
        tracker_percent: 3,
        start_bytes: 64 << 20,
        stats: StatsChoice::On,
        verbose: false,
        purge_ms: 100,
        hardened: false,
        quarantine_bytes: 1 << 20,
        guard_sample: 0,
        profile: FileName::EMPTY,
    };
}

impl Default for Config {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Where racing first callers parse, one slot each. The first to finish publishes its slot, the others' are left
/// unused: nobody ever waits for a thread that a `fork` may have taken away.
const RACERS: usize = 8;

struct Slot(UnsafeCell<MaybeUninit<Config>>);

// SAFETY: a slot is written only by the caller that claimed its index (`CLAIMED` hands each out once) and read only
// through the reference that `READY` publishes after that write.
unsafe impl Sync for Slot {}

static SLOTS: [Slot; RACERS] = [const { Slot(UnsafeCell::new(MaybeUninit::uninit())) }; RACERS];
static CLAIMED: AtomicUsize = AtomicUsize::new(0);
static READY: OnceRef<'static, Config> = OnceRef::new();

/// The settings of this process.
///
/// Safe in any thread, at any time, also inside the first `malloc` and after `fork`. Costs one load once parsed.
/// Before the C library has set `environ` up, answers the defaults without fixing them.
#[inline]
pub fn get() -> &'static Config {
    match READY.get() {
        Some(config) => config,
        None => read_environment_slow(),
    }
}

/// Whether [`get`] answers what the environment says, for good.
pub fn is_read() -> bool {
    READY.get().is_some()
}

#[cold]
#[inline(never)]
fn read_environment_slow() -> &'static Config {
    unsafe extern "C" {
        static environ: *const *const c_char;
    }
    // SAFETY: `environ` is the C library's variable; copying the pointer reads no memory behind it.
    let env = unsafe { environ };
    if env.is_null() {
        return &Config::DEFAULT;
    }
    let mine = CLAIMED.fetch_add(1, Ordering::Relaxed);
    let Some(slot) = SLOTS.get(mine) else {
        // More first callers than slots: each earlier one is a few microseconds from publishing.
        loop {
            if let Some(config) = READY.get() {
                return config;
            }
            core::hint::spin_loop();
        }
    };
    // SAFETY: getauxval takes any key and only reads the auxiliary vector.
    let secure = unsafe { libc::getauxval(libc::AT_SECURE) } != 0;
    let config = if secure {
        Config::DEFAULT
    } else {
        // Only the first claimer speaks, so racing threads do not repeat a line.
        let mut say = |problem: &Problem<'_>| {
            if mine == 0 {
                proc::say(format_args!("{problem}"));
            }
        };
        // SAFETY: `env` is the process's environment: NULL-terminated, its strings terminated and not modified
        // while the first allocation of the process runs (setenv in another thread is a race for every reader).
        parse(unsafe { Environment::new(env) }, &mut say)
    };
    // SAFETY: `mine` was handed to this call only, so nothing else reads or writes the slot before it is published.
    let parsed: &'static Config = unsafe { (*slot.0.get()).write(config) };
    match READY.set(parsed) {
        Ok(()) => parsed,
        Err(()) => READY.get().unwrap_or(parsed),
    }
}

/// Whether what [`get`] answers is fixed: the environment has been read.
#[must_use]
pub fn is_known() -> bool {
    READY.get().is_some()
}

/// The environment as (name, value) pairs, without copying.
struct Environment {
    next: *const *const c_char,
}

impl Environment {
    /// # Safety
    /// * `env` points to a NULL-terminated array of NUL-terminated strings.
    /// * Array and strings outlive what the iterator yields, unchanged.
    unsafe fn new(env: *const *const c_char) -> Self {
        Self { next: env }
    }
}

impl Iterator for Environment {
    type Item = (&'static [u8], &'static [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            // SAFETY: `new` promises a NULL-terminated array, and `next` never passes the NULL.
            let entry = unsafe { *self.next };
            if entry.is_null() {
                return None;
            }
            // SAFETY: the entry just read was not the terminator, so the array goes on.
            self.next = unsafe { self.next.add(1) };
            // SAFETY: `new` promises NUL-terminated strings that stay.
            let entry = unsafe { CStr::from_ptr(entry) }.to_bytes();
            if let Some(equals) = entry.iter().position(|&b| b == b'=') {
                return Some((&entry[..equals], &entry[equals + 1..]));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_is_split_at_the_first_equals_sign() {
        let block = [c"A=1".as_ptr(), c"junk".as_ptr(), c"B=x=y".as_ptr(), c"C=".as_ptr(), core::ptr::null()];
        // SAFETY: a NULL-terminated array of C string literals that lives to the end of the test.
        let pairs: Vec<_> = unsafe { Environment::new(block.as_ptr()) }.collect();
        assert_eq!(pairs, [(&b"A"[..], &b"1"[..]), (b"B", b"x=y"), (b"C", b"")]);
    }

    #[test]
    fn racing_first_callers_agree_on_one_address() {
        let seen: Vec<usize> = std::thread::scope(|scope| {
            let callers: Vec<_> =
                (0..RACERS * 2).map(|_| scope.spawn(|| core::ptr::from_ref(get()).addr())).collect();
            callers.into_iter().map(|c| c.join().unwrap()).collect()
        });
        assert!(seen.iter().all(|&at| at == seen[0]), "{seen:x?}");
    }
}
