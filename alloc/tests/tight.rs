//! A heap that does not fit in DRAM: which of its free blocks are used again first, and that none is lost. A process of its own, as what the control
//! plane says is for the whole of it; here the tests say it.

#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "each block below is live and owned by the test that touches it"
)]

use std::collections::{BTreeMap, HashSet};
use std::os::unix::process::CommandExt;
use std::process::Command;
use terrace::arena::{SLICE_BYTES, for_each_extent, pressure, set_in_dram};
use terrace::raw;

const BYTES: usize = 512;
/// Blocks of a slab.
const SLAB: usize = SLICE_BYTES / BYTES;
/// Set in the process that runs under a limit on its address space.
const LIMITED: &str = "TERRACE_TEST_LIMITED";

fn malloc() -> usize {
    raw::malloc(BYTES).expose_provenance()
}

fn free(block: usize) {
    unsafe { raw::free(std::ptr::with_exposed_provenance_mut(block)) };
}

/// Says that of all slices those in `slices` lie in DRAM.
fn say_in_dram(slices: &[usize]) {
    for_each_extent(&mut |view| {
        let bits = (0..32).filter(|slice| slices.contains(&(view.base / SLICE_BYTES + slice)));
        set_in_dram(view.index, bits.fold(0, |all, slice| all | 1 << slice));
    });
}

/// Blocks that fill about `slabs` slabs, by slice; those of a slab that is not full, or not yet found to be, are left out.
fn full_slabs(slabs: usize) -> Vec<(usize, Vec<usize>)> {
    let mut slices: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    let mut last = 0;
    for _ in 0..(slabs + 1) * SLAB {
        let block = malloc();
        last = block / SLICE_BYTES;
        slices.entry(last).or_default().push(block);
    }
    slices.into_iter().filter(|(slice, blocks)| *slice != last && blocks.len() == SLAB).collect()
}

#[test]
fn a_full_slab_on_a_device_is_used_again_when_many_of_its_blocks_are_free_and_one_in_dram_before() {
    pressure::set_tight(true);
    // A thread of its own has a heap of its own.
    let in_thread = || {
        let slabs = full_slabs(24);
        say_in_dram(&[]);
        // A sixteenth of each, side by side.
        slabs.iter().for_each(|(_, blocks)| blocks[8..16].iter().for_each(|&block| free(block)));
        let old: HashSet<usize> = slabs.iter().map(|(slice, _)| *slice).collect();
        let reused = |n: usize| -> Vec<usize> {
            (0..n).map(|_| malloc() / SLICE_BYTES).filter(|slice| old.contains(slice)).collect()
        };
        let so_many = reused(2 * SLAB).len();
        assert_eq!(so_many, 0, "blocks of slabs with few free ones");
        // And of one, a quarter; and of two in DRAM, a sixteenth and four blocks.
        let [many, dram, other] = [3, 11, 19].map(|i| &slabs[i]);
        say_in_dram(&[dram.0, other.0]);
        dram.1[16..20].iter().for_each(|&block| free(block));
        other.1[16..20].iter().for_each(|&block| free(block));
        many.1[16..40].iter().for_each(|&block| free(block));
        let mut order = reused(4 * SLAB);
        order.dedup();
        let (last, first) = order.split_last().expect("they are used again");
        assert_eq!(first.iter().collect::<HashSet<_>>(), HashSet::from([&dram.0, &other.0]), "{order:?}");
        assert_eq!(*last, many.0);
    };
    std::thread::spawn(in_thread).join().unwrap();
}

#[test]
fn where_there_is_no_memory_every_free_block_is_used_again() {
    if std::env::var_os(LIMITED).is_some() {
        return under_limit();
    }
    let mut again = Command::new(std::env::current_exe().unwrap());
    again.args(["--exact", "where_there_is_no_memory_every_free_block_is_used_again", "--nocapture"]);
    again.env(LIMITED, "1");
    let limit = libc::rlimit64 { rlim_cur: 64 << 20, rlim_max: 64 << 20 };
    // SAFETY: setrlimit is async-signal-safe.
    unsafe {
        again.pre_exec(move || match libc::setrlimit64(libc::RLIMIT_AS, &raw const limit) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
    let out = again.output().unwrap();
    assert!(out.status.success(), "{}\n{}", out.status, String::from_utf8_lossy(&out.stderr));
}

/// The harness's own memory is another heap's, and must not be needed once ours has taken everything.
fn under_limit() {
    pressure::set_tight(true);
    let mut blocks: Vec<usize> = Vec::with_capacity(1 << 17);
    let fill = |blocks: &mut Vec<usize>| {
        let before = blocks.len();
        while blocks.len() < blocks.capacity() {
            match malloc() {
                0 => break,
                block => blocks.push(block),
            }
        }
        blocks.len() - before
    };
    let all = fill(&mut blocks);
    assert!((10_000..blocks.capacity()).contains(&all), "{all} blocks until memory ends");
    for every in [100, 10, 3] {
        let mut n = 0;
        blocks.retain(|&block| {
            n += 1;
            let stays = n % every != 0;
            if !stays {
                free(block);
            }
            stays
        });
        let (freed, found) = (all - blocks.len(), fill(&mut blocks));
        assert_eq!(found, freed, "one in {every}");
    }
    blocks.drain(..).for_each(free);
}
