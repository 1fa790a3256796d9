//! The malloc ABI as programs see it: C contracts, C++ operators, exceptions.

mod support;

use support::{compile, library, limit_address_space, preload, preloaded, run, terrace_lines};

#[test]
fn c_functions_keep_their_contracts() {
    // Linked against the library, as a program that uses free_sized on an older glibc must be.
    let program = compile("c/abi.c", &[&library().display().to_string()]);
    let result = run(&mut preloaded(program), 60).expect_success("c/abi.c");
    assert_eq!(result.stdout, "abi: ok\n");
    let lines = terrace_lines(&result.stderr);
    assert_eq!(lines.len(), 1, "malloc_stats prints one line: {lines:?}");
    assert!(lines[0].contains("live blocks"), "{lines:?}");
}

#[test]
fn operators_allocate_throw_and_ask_the_new_handler() {
    let program = compile("c/operators.cpp", &[]);
    let mut command = preloaded(program);
    let result = run(limit_address_space(&mut command, 4 << 30), 60).expect_success("c/operators.cpp");
    assert_eq!(result.stdout, "operators: ok\n");
}

#[test]
fn operators_throw_where_the_runtime_is_a_plugin_s_own() {
    // A C program loads a C++ plugin with RTLD_LOCAL: the C++ runtime is not in the global scope, so nothing that the
    // loader resolved when it loaded libterrace.so can find it.
    let plugin = compile("c/throwing_plugin.cpp", &["-shared", "-fPIC"]);
    let host = compile("c/plugin_host.c", &[]);
    let result = run(preloaded(host).arg(plugin), 60).expect_success("c/plugin_host.c");
    assert_eq!(result.stdout, "plugin: caught std::bad_alloc\n");
}

#[test]
fn operator_new_without_a_runtime_ends_in_one_line() {
    let program = compile("c/new_without_runtime.c", &[&library().display().to_string()]);
    let mut command = std::process::Command::new(program);
    let result = run(preload(&mut command), 60);
    assert!(!result.status.success());
    assert_eq!(
        terrace_lines(&result.stderr),
        ["terrace: out of memory in operator new, and no C++ runtime to throw std::bad_alloc"],
        "{}",
        result.describe()
    );
}

#[test]
fn a_static_program_is_complete() {
    // The archive, whole, in a C++ program: the same contracts without a dynamic loader's help in finding them.
    let archive = library().with_file_name("libterrace.a").display().to_string();
    let program = compile(
        "c/operators.cpp",
        &["-Wl,--whole-archive", &archive, "-Wl,--no-whole-archive", "-lgcc_eh", "-ldl", "-lm"],
    );
    let mut command = std::process::Command::new(program);
    let result =
        run(limit_address_space(&mut command, 4 << 30), 60).expect_success("c/operators.cpp, static");
    assert_eq!(result.stdout, "operators: ok\n");
}
