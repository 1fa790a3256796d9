//! The committed C header is the one that the source makes, and C and C++ compilers take it.

#[path = "support/header.rs"]
mod header;
mod support;

use std::collections::BTreeSet;
use support::{compile, library, preload, run, workspace};

#[test]
fn the_committed_header_is_up_to_date() {
    let committed =
        std::fs::read_to_string(workspace().join("include/terrace.h")).expect("include/terrace.h is there");
    assert!(
        committed == header::generate(),
        "include/terrace.h is stale: cargo run -p terrace-ffi --example header"
    );
}

#[test]
fn every_function_of_the_header_is_exported_and_every_export_is_in_it() {
    let exported: BTreeSet<&str> =
        include_str!("../symbols.txt").lines().filter(|name| name.starts_with("terrace_")).collect();
    let header = header::generate();
    // A declaration begins its line; comments and parameters do not.
    let declarations = header.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_lowercase()));
    let declared: BTreeSet<&str> = declarations
        .filter_map(|line| line.split_once('(')?.0.rsplit([' ', '*']).next())
        .filter(|name| name.starts_with("terrace_"))
        .collect();
    assert_eq!(declared, exported);
    assert!(declared.len() >= 12, "{declared:?}");
}

#[test]
fn c_programs_use_it() {
    let include = format!("-I{}", workspace().join("include").display());
    let program = compile("c/api.c", &[&include, "-pedantic", &library().display().to_string()]);
    let mut command = std::process::Command::new(program);
    let result = run(preload(&mut command), 60).expect_success("c/api.c");
    assert_eq!(result.stdout, "api: ok\n");
}

#[test]
fn c_plus_plus_programs_include_it() {
    let include = format!("-I{}", workspace().join("include").display());
    let program = compile("c/api_from_cxx.cpp", &[&include, "-pedantic", &library().display().to_string()]);
    let mut command = std::process::Command::new(program);
    run(preload(&mut command), 60).expect_success("c/api_from_cxx.cpp");
}
