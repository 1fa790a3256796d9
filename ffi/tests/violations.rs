//! Programs that break the heap's rules: each dies at once, by SIGABRT, with one line that says what and where.

mod support;

use std::os::unix::process::ExitStatusExt;
use support::{compile, preloaded, run, terrace_lines};

/// The program and what its line must contain.
const CRIMES: &[(&str, &str)] = &[
    ("double_free_small", "double free of 0x"),
    ("double_free_medium", "double free of 0x"),
    ("double_free_large", "freed before"),
    ("double_free_later", "double free of 0x"),
    ("double_free_remote", "double free of 0x"),
    ("double_free_both", "double free of 0x"),
    ("double_free_stranger", "double free of 0x"),
    ("double_free_by_two_others", "double free of 0x"),
    ("double_free_in_a_batch", "double free of 0x"),
    ("double_free_between_batches", "double free of 0x"),
    ("delete_after_free", "double free of 0x"),
    ("realloc_after_free", "double free of 0x"),
    ("realloc_after_free_large", "is not memory of this heap"),
    ("realloc_interior", "not the start of a block"),
    ("interior_free_small", "not the start of a block"),
    ("interior_free_large", "not the start of a block"),
    ("interior_free_large_end", "not the start of a block"),
    ("unaligned_free", "not the start of a block"),
    ("unallocated_free", "memory is not in use"),
    ("guard_page_free", "not memory of this heap"),
    ("wild_free", "not memory of this heap"),
    ("non_canonical_free", "not memory of this heap"),
    ("stack_free", "not memory of this heap"),
    ("static_free", "not memory of this heap"),
];

/// Those that only hardened mode recognises, or that it recognises earlier.
const HARDENED: &[(&str, &str)] = &[
    ("double_free_after_pressure", "double free of 0x"),
    ("overflow_after_realloc", "heap overflow past 0x"),
    ("overflow_by_one", "heap overflow past 0x"),
    ("overflow_into_slack", "heap overflow past 0x"),
    ("overflow_medium", "heap overflow past 0x"),
    ("usable_size_after_free", "use after free of 0x"),
    ("write_after_free", "write after free of 0x"),
    ("write_after_free_medium", "write after free of 0x"),
    ("write_after_free_remote", "write after free of 0x"),
];

/// Those that a guarded block recognises, the signal they die of, and whose stacks the report has.
const GUARDED: &[(&str, i32, &str, &[&str])] = &[
    ("guarded_double_free", libc::SIGABRT, "double free of 0x", &["freed now", "freed", "allocated"]),
    ("guarded_interior_free", libc::SIGABRT, "not the start of a block", &["freed now", "allocated"]),
    ("guarded_overflow", libc::SIGSEGV, "heap overflow: read of 0x", &["accessed", "allocated"]),
    ("guarded_overflow_found_late", libc::SIGABRT, "heap overflow past 0x", &["freed now", "allocated"]),
    (
        "guarded_read_after_free",
        libc::SIGSEGV,
        "use after free: read of 0x",
        &["accessed", "freed", "allocated"],
    ),
    ("guarded_underflow", libc::SIGSEGV, "heap underflow: write to 0x", &["accessed", "allocated"]),
    ("guarded_underflow_found_late", libc::SIGABRT, "heap underflow before 0x", &["freed now", "allocated"]),
    (
        "guarded_use_by_another_thread",
        libc::SIGSEGV,
        "use after free: write to 0x",
        &["accessed", "freed", "allocated"],
    ),
    (
        "guarded_write_after_free",
        libc::SIGSEGV,
        "use after free: write to 0x",
        &["accessed", "freed", "allocated"],
    ),
];

/// Runs a program with `settings`; what is wrong with how it died, if it did not die with one line that contains `what`.
fn one_line(name: &str, what: &str, settings: &[(&str, &str)]) -> Option<String> {
    let program = compile(&format!("violations/{name}.c"), &[]);
    let result = run(preloaded(program).envs(settings.iter().copied()), 20);
    let lines: Vec<&str> = result.stderr.lines().collect();
    let one_line = matches!(lines.as_slice(), [line] if line.starts_with("terrace: ") && line.contains(what));
    (result.status.signal() != Some(libc::SIGABRT) || !one_line)
        .then(|| format!("{name}: wanted SIGABRT and \"{what}\", got {}", result.describe()))
}

#[test]
fn each_violation_aborts_with_one_line() {
    let wrong: Vec<_> = CRIMES.iter().filter_map(|(name, what)| one_line(name, what, &[])).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Hardened mode without guarded blocks, so that each program always meets the same checks.
const NO_GUARDS: &[(&str, &str)] = &[("TERRACE_HARDENED", "on"), ("TERRACE_GUARD_SAMPLE", "0")];

#[test]
fn hardened_mode_recognises_all_of_them_and_more() {
    // A block's size is looked at first, and in this mode that shows that it was freed.
    let sooner = |name: &str| (name == "realloc_after_free").then_some("use after free of 0x");
    let all = CRIMES.iter().map(|(name, what)| (*name, sooner(name).unwrap_or(what)));
    let wrong: Vec<_> = all
        .chain(HARDENED.iter().copied())
        .filter_map(|(name, what)| one_line(name, what, NO_GUARDS))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What hardened mode adds is not there without it: these programs break rules that go unnoticed.
#[test]
fn the_normal_mode_does_not_look_for_what_only_hardened_mode_finds() {
    for (name, _) in HARDENED.iter().filter(|(name, _)| name.starts_with("overflow")) {
        let program = compile(&format!("violations/{name}.c"), &[]);
        run(&mut preloaded(program), 20).expect_success(name);
    }
}

/// The title and the frames of each stack in a report.
fn stacks(stderr: &str) -> Vec<(String, Vec<String>)> {
    let mut stacks: Vec<(String, Vec<String>)> = Vec::new();
    for line in terrace_lines(stderr) {
        let line = line.trim_start_matches("terrace: ");
        if let Some((title, _)) = line.split_once(" by thread ") {
            stacks.push((title.to_owned(), Vec::new()));
        } else if let (Some(frame), Some(last)) = (line.strip_prefix("  #"), stacks.last_mut()) {
            last.1.push(frame.split_once(' ').map(|(_, at)| at.to_owned()).unwrap_or_default());
        }
    }
    stacks
}

const ALL_GUARDED: &[(&str, &str)] = &[("TERRACE_HARDENED", "on"), ("TERRACE_GUARD_SAMPLE", "1")];

#[test]
fn each_violation_of_a_guarded_block_is_reported_with_its_stacks() {
    let mut wrong = Vec::new();
    for (name, signal, what, titles) in GUARDED {
        let program = compile(&format!("violations/{name}.c"), &[]);
        let result = run(preloaded(&program).envs(ALL_GUARDED.iter().copied()), 20);
        let first = result.stderr.lines().next().unwrap_or_default().to_owned();
        let stacks = stacks(&result.stderr);
        let found: Vec<&str> = stacks.iter().map(|(title, _)| title.as_str()).collect();
        // Every one of these has a frame in the program itself, which the report names.
        let named = stacks.iter().all(|(_, frames)| {
            frames.iter().any(|frame| frame.starts_with(&format!("{}+0x", program.display())))
        });
        if result.status.signal() != Some(*signal) || !first.contains(what) || found != *titles || !named {
            wrong.push(format!("{name}: wanted signal {signal}, \"{what}\", got {}", result.describe()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn addr2line_takes_the_frames_of_a_report() {
    let program = compile("violations/guarded_read_after_free.c", &[]);
    let result = run(preloaded(&program).envs(ALL_GUARDED.iter().copied()), 20);
    let function = |title: &str| -> Vec<String> {
        let (_, frames) = stacks(&result.stderr).into_iter().find(|(t, _)| t == title).expect(title);
        let (object, offset) = frames[0].rsplit_once('+').expect("object+offset");
        let output =
            run(std::process::Command::new("addr2line").args(["-i", "-f", "-e", object, offset]), 20)
                .expect_success("addr2line");
        output.stdout.lines().map(str::to_owned).collect()
    };
    assert!(function("accessed").contains(&"main".to_owned()), "{}", result.describe());
    assert_eq!(function("freed")[0], "drop", "{}", result.describe());
    assert!(function("allocated").contains(&"make".to_owned()), "{}", result.describe());
}

/// Guards alone, without hardened mode: what misses the fast path is sampled.
#[test]
fn guards_work_without_hardened_mode() {
    let program = compile("c/guarded_sample.c", &[]);
    let result = run(preloaded(program).env("TERRACE_GUARD_SAMPLE", "2"), 20);
    assert_eq!(result.status.signal(), Some(libc::SIGSEGV), "{}", result.describe());
    assert!(result.stderr.starts_with("terrace: use after free: write to 0x"), "{}", result.describe());
}

#[test]
fn faults_that_are_not_the_heap_s_are_the_program_s_own() {
    for handler in ["none", "before", "after"] {
        let program = compile("c/own_fault.c", &[]);
        let result = run(preloaded(program).arg(handler).envs(ALL_GUARDED.iter().copied()), 20);
        if handler == "none" {
            assert_eq!(result.status.signal(), Some(libc::SIGSEGV), "{}", result.describe());
        } else {
            assert_eq!(result.status.code(), Some(42), "{handler}: {}", result.describe());
        }
        assert_eq!(result.stderr, "", "{handler}");
    }
}

#[test]
fn every_program_of_the_directory_is_run() {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/violations");
    let mut files: Vec<String> = std::fs::read_dir(directory)
        .expect("the directory is there")
        .filter_map(|entry| Some(entry.ok()?.file_name().to_str()?.strip_suffix(".c")?.to_owned()))
        .collect();
    let mut listed: Vec<&str> = CRIMES.iter().chain(HARDENED).map(|(name, _)| *name).collect();
    listed.extend(GUARDED.iter().map(|(name, ..)| *name));
    files.sort();
    listed.sort_unstable();
    assert_eq!(files, listed);
}

#[test]
fn blocks_of_libc_s_own_heap_are_passed_on() {
    // A library loaded with RTLD_DEEPBIND allocates past us, and hands its blocks to a program that does not.
    let library = compile("c/deepbind_library.c", &["-shared", "-fPIC"]);
    let program = compile("c/deepbind.c", &[]);
    let result = run(preloaded(program).arg(library), 20).expect_success("c/deepbind.c");
    assert_eq!(result.stdout, "deepbind: ok\n");
}
