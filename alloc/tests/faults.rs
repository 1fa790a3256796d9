//! Little address space: under `RLIMIT_AS` every request that cannot be had is null, what was allocated keeps its contents, and what
//! is freed can be had again. (Calls that fail at random points are in `invariants.rs`.)

#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "each block below is live and owned by the test that touches it"
)]

#[path = "support/blocks.rs"]
mod blocks;

use blocks::{Block, Random};
use std::os::unix::process::CommandExt;
use std::process::Command;
use terrace::raw;

const MIB: usize = 1 << 20;
/// Set in the processes that run under a limit, to its MiB.
const LIMIT: &str = "TERRACE_TEST_LIMIT";

#[test]
fn under_a_limit_memory_ends_with_null_and_comes_back() {
    if let Ok(limit) = std::env::var(LIMIT) {
        return under_limit(limit.parse().unwrap());
    }
    for mib in [40, 64, 150, 500] {
        let mut again = Command::new(std::env::current_exe().unwrap());
        again.args(["--exact", "under_a_limit_memory_ends_with_null_and_comes_back", "--nocapture"]);
        again.env(LIMIT, mib.to_string());
        let limit = libc::rlimit64 { rlim_cur: (mib * MIB) as u64, rlim_max: (mib * MIB) as u64 };
        // SAFETY: setrlimit is async-signal-safe.
        unsafe {
            again.pre_exec(move || match libc::setrlimit64(libc::RLIMIT_AS, &raw const limit) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            });
        }
        let out = again.output().unwrap();
        let said = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "under {mib} MiB: {}\n{said}", out.status);
        print!("{}", String::from_utf8_lossy(&out.stdout));
    }
}

/// Fills memory until it ends, again and again, with blocks of different sizes. The harness's own memory is another heap's, and it
/// must not need more while ours has taken everything: all it needs is made first.
fn under_limit(mib: usize) {
    let mut live: Vec<Block> = Vec::with_capacity(1 << 15);
    let mut random = Random::new(mib as u64);
    let mut most = [0; 8];
    for (round, most) in most.iter_mut().enumerate() {
        // Small, medium and large blocks, and everything mixed.
        let limit = [3000, 20_000, 200_000, 4 * MIB][round % 4];
        let (mut nulls, mut bytes) = (0, 0);
        while nulls < 40 && live.len() < live.capacity() {
            // A request that is refused must leave room for smaller ones to succeed or fail alike.
            let size = 1 + random.next() as usize % if round >= 4 { limit } else { limit >> (nulls / 10) };
            let zero = random.next().is_multiple_of(4);
            let at = if zero { raw::calloc(1, size) } else { raw::malloc(size) };
            if at.is_null() {
                nulls += 1;
                // In need, resizing works or fails without harm.
                if let Some(last) = live.pop() {
                    let grown = unsafe { raw::realloc(last.ptr(), last.size() + 300_000) };
                    if grown.is_null() {
                        last.check();
                        live.push(last);
                    } else {
                        last.check_prefix_at(grown, last.size());
                        live.push(Block::new(grown, last.size(), 9));
                    }
                }
                continue;
            }
            assert!(!zero || (0..size).step_by(61).all(|i| unsafe { at.add(i).read() } == 0));
            live.push(Block::new(at, size, round as u8));
            bytes += size;
        }
        *most = bytes;
        live.drain(..).for_each(Block::free);
        raw::trim();
    }
    assert_eq!(raw::heap_stats().live_blocks, 0);
    // What one round got, the same round later gets again, but for what holds the tables of the rest.
    for round in 0..4 {
        assert!(most[round] > MIB, "{most:?}");
        assert!(most[round + 4] > most[round] / 2, "memory was lost: {most:?}");
    }
    println!("{mib} MiB: {} MiB filled", most.iter().max().unwrap() / MIB);
}
