//! Programs that break the heap's rules: each dies at once, by SIGABRT, with one line that says what and where.

mod support;

use std::os::unix::process::ExitStatusExt;
use support::{compile, preloaded, run};

/// The program and what its line must contain.
const CRIMES: &[(&str, &str)] = &[
    ("double_free_small", "double free of 0x"),
    ("double_free_medium", "double free of 0x"),
    ("double_free_large", "freed before"),
    ("double_free_later", "double free of 0x"),
    ("double_free_remote", "double free of 0x"),
    ("double_free_both", "double free of 0x"),
    ("double_free_by_two_others", "double free of 0x"),
    ("delete_after_free", "double free of 0x"),
    ("realloc_after_free", "double free of 0x"),
    ("realloc_after_free_large", "is not memory of this heap"),
    ("realloc_interior", "not the start of a block"),
    ("interior_free_small", "not the start of a block"),
    ("interior_free_large", "not the start of a block"),
    ("interior_free_large_end", "not the start of a block"),
    ("unaligned_free", "not the start of a block"),
    ("unallocated_free", "memory is not in use"),
    ("wild_free", "not memory of this heap"),
    ("non_canonical_free", "not memory of this heap"),
    ("stack_free", "not memory of this heap"),
    ("static_free", "not memory of this heap"),
];

#[test]
fn each_violation_aborts_with_one_line() {
    let mut wrong = Vec::new();
    for (name, what) in CRIMES {
        let program = compile(&format!("violations/{name}.c"), &[]);
        let result = run(&mut preloaded(program), 20);
        let lines: Vec<&str> = result.stderr.lines().collect();
        let one_line =
            matches!(lines.as_slice(), [line] if line.starts_with("terrace: ") && line.contains(what));
        if result.status.signal() != Some(libc::SIGABRT) || !one_line {
            wrong.push(format!("{name}: wanted SIGABRT and \"{what}\", got {}", result.describe()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_program_of_the_directory_is_run() {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/violations");
    let mut files: Vec<String> = std::fs::read_dir(directory)
        .expect("the directory is there")
        .filter_map(|entry| Some(entry.ok()?.file_name().to_str()?.strip_suffix(".c")?.to_owned()))
        .collect();
    let mut listed: Vec<&str> = CRIMES.iter().map(|(name, _)| *name).collect();
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
