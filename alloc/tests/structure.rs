//! The house rules that the compiler cannot check: which module may use which, what each zone may touch, and that a
//! file stays readable. Reads `src/` as text; `structure/source.rs` says what of it counts.

#[path = "structure/source.rs"]
mod source;

use std::path::Path;

use source::{Source, sources};

/// The foundation, bottom up: each may use those above it in this list.
const FOUNDATION: [&str; 9] = ["model", "arch", "sys", "sync", "config", "meta", "pagemap", "class", "arena"];

/// What stands on the foundation, and what else of the crate it may use. The two wings never name each other.
const UPPER: [(&str, &[&str]); 8] = [
    // Heap wing.
    ("slab", &[]),
    ("heap", &["slab"]),
    // Tiering wing.
    ("tier", &[]),
    ("heat", &["tier"]),
    ("mover", &["tier"]),
    ("policy", &["tier", "heat", "mover"]),
    // The background thread drives the tiering wing, and tells the heap that it is no thread of the program; what users call drives everything.
    ("control", &["tier", "heat", "mover", "policy", "heap"]),
    ("api", &["slab", "heap", "tier", "heat", "mover", "policy", "control"]),
];

/// Names from above that a module may use after all: it stores pointers to them and never looks behind those.
const POINTEES: [(&str, &str, &str); 5] = [
    // The slot's first value is the address of the static empty heap, so that the fast path needs no null test.
    ("arch", "heap", "EMPTY"),
    // The map's values are slabs; who reads them is a matter of the heap wing.
    ("pagemap", "slab", "Slab"),
    ("arena", "slab", "Slab"),
    // The map's entry for a large span, which the arenas' walker compares with.
    ("arena", "slab", "LARGE"),
    // A slab knows the heap it belongs to by address.
    ("slab", "heap", "Heap"),
];

/// Modules that run inside `malloc` and `free`: `core` only, since whatever allocates there would re-enter us.
const HEAP_ZONE: [&str; 10] =
    ["arch", "sys", "sync", "config", "meta", "class", "pagemap", "arena", "slab", "heap"];

/// What the heap's zones may not name, each with its reason. A name ending in `!` is a macro, one in `::` a crate.
const FORBIDDEN: [(&str, &str); 13] = [
    ("std::", "std may allocate"),
    ("alloc::", "the heap cannot be its own client"),
    ("parking_lot::", "its lock table allocates"),
    ("crossbeam_epoch::", "its collector allocates"),
    ("Vec", "allocates"),
    ("vec!", "allocates"),
    ("Box", "allocates"),
    ("String", "allocates"),
    ("format!", "allocates"),
    ("HashMap", "allocates"),
    ("println!", "takes a lock and allocates"),
    ("eprintln!", "takes a lock and allocates"),
    ("thread_local!", "a thread's first use may allocate; the slot is in arch"),
];

/// Modules whose protocols the models run: their atomics are the crate's own, which the models' scheduler sees.
const MODELLED: [&str; 4] = ["pagemap", "arena", "slab", "heap"];

/// Files of those that use `core`'s atomics all the same: what they hold is constant once it is published, or no part of a protocol.
const UNSEEN: [(&str, &str); 8] = [
    ("pagemap.rs", "where the window is"),
    ("arena/reserve.rs", "where the arenas are"),
    ("arena/placement.rs", "which nodes there are"),
    ("arena/pressure.rs", "flags that may be seen late"),
    ("arena/sites.rs", "hints that may be seen late or lost"),
    ("heap/boot.rs", "whether first use is over"),
    ("heap/thread.rs", "the thread key"),
    ("heap/foreign.rs", "functions of libc"),
];

const MOST_LINES: usize = 500;

/// The modules that `module` may name.
fn allowed(module: &str) -> Option<Vec<&'static str>> {
    if let Some(level) = FOUNDATION.iter().position(|&m| m == module) {
        return Some(FOUNDATION[..level].to_vec());
    }
    let (_, beside) = UPPER.iter().find(|(m, _)| *m == module)?;
    Some(FOUNDATION.iter().chain(beside.iter()).copied().collect())
}

/// Every use of a module that stands above or beside the file's own.
fn layering(source: &Source) -> Vec<String> {
    let Some(allowed) = allowed(&source.module) else {
        return vec![format!("{}: module {} has no place in the house", source.name, source.module)];
    };
    let known = |name: &str| FOUNDATION.contains(&name) || UPPER.iter().any(|(module, _)| *module == name);
    let refused = |path: &[String]| {
        let (used, item) = (path[0].as_str(), path.get(1).map_or("", String::as_str));
        let above = known(used) && used != source.module && !allowed.contains(&used);
        above && !POINTEES.contains(&(&source.module, used, item))
    };
    let uses = source.crate_paths().into_iter().filter(|(_, path)| refused(path));
    uses.map(|(line, path)| format!("{}:{line}: {} uses {}", source.name, source.module, path.join("::")))
        .collect()
}

/// Every forbidden name in a file of the heap's zones.
fn zone(source: &Source) -> Vec<String> {
    if !HEAP_ZONE.contains(&source.module.as_str()) {
        return Vec::new();
    }
    let lines = |name| source.words(name).map(move |line| (name, line));
    FORBIDDEN
        .iter()
        .flat_map(|(name, why)| lines(name).map(move |found| (found, why)))
        .map(|((name, line), why)| format!("{}:{line}: {name}: {why}", source.name))
        .collect()
}

/// System calls and assembly have one door.
fn one_door(source: &Source) -> Vec<String> {
    if ["sys", "arch"].contains(&source.module.as_str()) {
        return Vec::new();
    }
    ["asm!", "global_asm!", "naked_asm!", "syscall"]
        .iter()
        .flat_map(|name| source.words(name).map(move |line| (name, line)))
        .map(|(name, line)| format!("{}:{line}: {name} belongs in sys or arch", source.name))
        .collect()
}

/// The lines that name atomic types of `core`.
fn core_atomics(source: &Source) -> Vec<usize> {
    let lines: Vec<&str> = source.text.lines().collect();
    let types = |line: &usize| !lines[line - 1].contains("sync::atomic::Ordering");
    ["core::sync::atomic", "std::sync::atomic"]
        .iter()
        .flat_map(|name| source.words(name).filter(types))
        .collect()
}

/// Every use of an atomic type that the models do not see.
fn unseen(source: &Source) -> Vec<String> {
    let excused = UNSEEN.iter().any(|(name, _)| *name == source.name);
    if !MODELLED.contains(&source.module.as_str()) || excused {
        return Vec::new();
    }
    let found = core_atomics(source).into_iter();
    found
        .map(|line| format!("{}:{line}: atomics of a protocol come from crate::sync::atomic", source.name))
        .collect()
}

/// A file a stranger can take in: it says what it is, and it ends.
fn readable(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    if !source.text.starts_with("//!") {
        found.push(format!("{}: does not begin with //!", source.name));
    }
    let lines = source.text.lines().count();
    if lines > MOST_LINES {
        found.push(format!("{}: {lines} lines, at most {MOST_LINES}", source.name));
    }
    found
}

fn check(rule: fn(&Source) -> Vec<String>, with_tests: bool) {
    let all = sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    assert!(all.len() > 5, "the source tree was not found");
    let found: Vec<String> =
        all.iter().filter(|s| with_tests || !(s.is_test || s.module == "lib")).flat_map(rule).collect();
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn a_module_uses_only_what_stands_below_it() {
    check(layering, false);
}

#[test]
fn no_exception_outlives_its_reason() {
    let all = sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    for (module, used, item) in POINTEES {
        let needed = all
            .iter()
            .filter(|source| source.module == module)
            .flat_map(Source::crate_paths)
            .any(|(_, path)| path[0] == used && path.get(1).is_some_and(|name| name == item));
        assert!(needed, "{module} no longer uses {used}::{item}: take it out of POINTEES");
    }
    for (name, _) in UNSEEN {
        let needed = all.iter().any(|source| source.name == name && !core_atomics(source).is_empty());
        assert!(needed, "{name} no longer uses core's atomics: take it out of UNSEEN");
    }
}

#[test]
fn the_heaps_zones_stay_clear_of_std_and_of_locks_that_allocate() {
    check(zone, false);
}

#[test]
fn system_calls_and_assembly_have_one_door() {
    check(one_door, false);
}

#[test]
fn the_models_see_every_atomic_of_the_protocols() {
    check(unseen, false);
}

#[test]
fn every_file_says_what_it_is_and_stays_short() {
    check(readable, true);
}

// The rules themselves can fail:

#[test]
fn the_layering_rule_sees_every_way_to_name_a_module() {
    for (name, text, found) in [
        ("slab/a.rs", "use crate::tier::Tier;", 1),
        ("slab/a.rs", "use crate::{arena, tier::{self, Tier}};", 2),
        ("slab/a.rs", "fn f() { crate::heap::x(); }", 1),
        ("slab/mod.rs", "use super::heap::Thread;", 1),
        ("slab/deep/a.rs", "use super::super::super::heap;", 1),
        ("slab.rs", "use super::{sys, mover};", 1),
        ("sys.rs", "use crate::sync::Lock;", 1),
        ("heat/a.rs", "use crate::heap::x; use crate::policy::y;", 2),
        ("garden.rs", "", 1),
        ("slab/a.rs", "use crate::{arena::{tier, Pool}, slab::b}; use super::heap;", 0),
        (
            "slab/a.rs",
            "// crate::tier\n/* crate::tier /* */ crate::tier */ const A: &str = \"crate::tier\";",
            0,
        ),
        ("slab/a.rs", "#[cfg(test)]\nmod tests { use crate::tier; }\nuse crate::arena;", 0),
        ("policy/a.rs", "use crate::{heat, mover, tier, arena, config};", 0),
    ] {
        assert_eq!(layering(&Source::of(name, text)).len(), found, "{name}: {text}");
    }
}

#[test]
fn the_zone_rules_tell_names_from_parts_of_names() {
    for (name, text, found) in [
        ("heap.rs", "use std::sync::Mutex;", 1),
        ("heap.rs", "fn f() { let v = vec![1]; let b: Box<u8> = Box::new(1); g(vec, format); }", 3),
        ("heap.rs", "use parking_lot::Mutex;", 1),
        ("heap.rs", "use alloc::vec::Vec;", 2),
        ("heap.rs", "use core::alloc::Layout; fn alloc() {} struct Vector; // std", 0),
        ("heap.rs", "#[cfg(test)]\nmod tests { use std::thread; }", 0),
        ("control.rs", "use std::thread; use parking_lot::Mutex;", 0),
    ] {
        assert_eq!(zone(&Source::of(name, text)).len(), found, "{name}: {text}");
    }
    assert_eq!(one_door(&Source::of("heap.rs", "core::arch::asm!(\"\")")).len(), 1);
    assert_eq!(one_door(&Source::of("sys/raw.rs", "core::arch::asm!(\"\")")).len(), 0);
    assert_eq!(unseen(&Source::of("slab/a.rs", "use core::sync::atomic::{AtomicU8, Ordering};")).len(), 1);
    assert_eq!(unseen(&Source::of("slab/a.rs", "use core::sync::atomic;")).len(), 1);
    assert_eq!(unseen(&Source::of("slab/a.rs", "use core::sync::atomic::Ordering;")).len(), 0);
    assert_eq!(unseen(&Source::of("sync/a.rs", "use core::sync::atomic::AtomicU8;")).len(), 0);
    assert_eq!(readable(&Source::of("heap.rs", &"\n".repeat(501))).len(), 2);
}
