//! `terrace run` from outside: what the program it becomes gets to see, and what is refused before it starts.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

mod support;
use support::copy_program;

/// A shared library that is certainly loadable here, standing for libterrace.so: the C library of this very process.
fn some_library() -> PathBuf {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let libc =
        maps.lines().filter_map(|line| line.split_whitespace().nth(5)).find(|path| path.contains("/libc.so"));
    libc.expect("this test is dynamically linked").into()
}

/// `terrace run` with a clean set of TERRACE_ variables.
fn terrace(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_terrace"));
    command.arg("run").args(args).env("TERRACE_LIB", some_library()).env_remove("LD_PRELOAD");
    command
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn the_program_sees_preload_and_configuration() {
    let options = ["--mode", "spill", "--dram", "256M", "--device", "1G", "--tracker", "writes", "--verbose"];
    let output = terrace(&options).args(["--watermarks", "90,80", "--", "env"]).output().unwrap();
    let seen = out(&output);
    let library = some_library().canonicalize().unwrap();
    for line in [
        &format!("LD_PRELOAD={}", library.display()),
        "TERRACE_MODE=spill",
        "TERRACE_DRAM=256M",
        "TERRACE_DEVICE=1G",
        "TERRACE_TRACKER=writes",
        "TERRACE_WATERMARKS=90,80",
        "TERRACE_VERBOSE=on",
    ] {
        assert!(seen.lines().any(|l| l == line), "{line} is missing in\n{seen}{}", err(&output));
    }
}

#[test]
fn what_was_preloaded_stays_after_ours() {
    let other = some_library().with_file_name("libm.so.6");
    let output = terrace(&["env"]).env("LD_PRELOAD", &other).output().unwrap();
    let ours = some_library().canonicalize().unwrap();
    let expect = format!("LD_PRELOAD={}:{}", ours.display(), other.display());
    assert!(out(&output).lines().any(|l| l == expect), "{}", out(&output));
}

#[test]
fn options_win_over_the_environment_and_the_rest_is_inherited() {
    let output = terrace(&["--dram", "1G", "env"])
        .env("TERRACE_DRAM", "nonsense")
        .env("TERRACE_TICK_MS", "50")
        .output();
    let seen = out(&output.unwrap());
    assert!(seen.contains("TERRACE_DRAM=1G\n") && seen.contains("TERRACE_TICK_MS=50\n"), "{seen}");
}

#[test]
fn process_id_status_and_signals_are_the_programs() {
    let child =
        terrace(&["sh", "-c", "echo $$; exit 7"]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let pid = child.id();
    let output = child.wait_with_output().unwrap();
    assert_eq!(out(&output).trim(), pid.to_string());
    assert_eq!(output.status.code(), Some(7));
    let killed = terrace(&["sh", "-c", "kill -TERM $$"]).status().unwrap();
    assert_eq!(killed.signal(), Some(libc::SIGTERM));
}

#[test]
fn options_after_the_program_are_the_programs() {
    let output = terrace(&["--", "echo", "--mode", "-v", "--", "x"]).output().unwrap();
    assert_eq!(out(&output), "--mode -v -- x\n");
    let output = terrace(&["echo", "--mode", "spill"]).output().unwrap();
    assert_eq!(out(&output), "--mode spill\n");
}

#[test]
fn bad_values_are_refused_before_the_program_starts() {
    for (args, expect) in [
        (&["--mode", "turbo"][..], "terrace: --mode turbo: not one of isolate, spill, assist, auto\n"),
        (&["--dram", "lots"], "terrace: --dram lots: not a size (such as 512M or 2G) or auto\n"),
        (&["--device", "4K"], "terrace: --device 4K: out of range: 1M to 64T, or auto\n"),
        (
            &["--tracker", "pebs"],
            "terrace: --tracker pebs: not one of auto, rwp, perf, idle, refs, writes, alloc\n",
        ),
        (
            &["--watermarks", "80,90"],
            "terrace: --watermarks 80,90: the low watermark is not below the high one\n",
        ),
        (
            &["--device-nodes", "3-1"],
            "terrace: --device-nodes 3-1: not a list of nodes such as 1 or 1,3 or 1-3\n",
        ),
        (&["--device-nodes", "0,900"], "terrace: this machine has no node 900 to use as a device\n"),
    ] {
        let output = terrace(args).args(["echo", "started"]).output().unwrap();
        assert_eq!((err(&output).as_str(), out(&output).as_str()), (expect, ""), "{args:?}");
        assert_eq!(output.status.code(), Some(2), "{args:?}");
    }
}

#[test]
fn bad_inherited_values_are_refused_by_their_name() {
    let output = terrace(&["--device", "1G", "echo"]).env("TERRACE_HEADROOM", "2G").output().unwrap();
    assert_eq!(err(&output), "terrace: TERRACE_HEADROOM=2G: not below TERRACE_DEVICE\n");
    assert_eq!(output.status.code(), Some(2));
    // Somebody else's variable is no reason to refuse.
    assert!(terrace(&["true"]).env("TERRACE_CLOUD_TOKEN", "x").status().unwrap().success());
}

#[test]
fn a_program_that_cannot_run_gives_the_shells_status() {
    let output = terrace(&["no-such-program-here"]).output().unwrap();
    assert_eq!(err(&output), "terrace: no-such-program-here: No such file or directory\n");
    assert_eq!(output.status.code(), Some(127));
    let output = terrace(&["/etc/passwd"]).output().unwrap();
    assert_eq!(err(&output), "terrace: /etc/passwd: Permission denied\n");
    assert_eq!(output.status.code(), Some(126));
}

#[test]
fn the_library_must_exist_and_be_nameable() {
    let output = terrace(&["true"]).env("TERRACE_LIB", "/nowhere/libterrace.so").output().unwrap();
    assert_eq!(err(&output), "terrace: TERRACE_LIB=/nowhere/libterrace.so: no such file\n");
    assert_eq!(output.status.code(), Some(1));
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("with blank");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::copy(some_library(), dir.join("libterrace.so")).unwrap();
    let output = terrace(&["true"]).env("TERRACE_LIB", dir.join("libterrace.so")).output().unwrap();
    assert!(
        err(&output).contains("LD_PRELOAD cannot name a path with a colon or a blank"),
        "{}",
        err(&output)
    );
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn the_library_is_found_beside_the_command_and_in_lib() {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("installed");
    for library in ["bin/libterrace.so", "lib/libterrace.so"] {
        let _ = std::fs::remove_dir_all(&root);
        std::fs::create_dir_all(root.join("bin")).unwrap();
        std::fs::create_dir_all(root.join("lib")).unwrap();
        copy_program(env!("CARGO_BIN_EXE_terrace"), &root.join("bin/terrace"));
        let run = || {
            let mut command = Command::new(root.join("bin/terrace"));
            command.args(["run", "env"]).env_remove("TERRACE_LIB").env_remove("LD_PRELOAD").output().unwrap()
        };
        assert!(err(&run()).contains("libterrace.so is neither in "), "{}", err(&run()));
        std::fs::copy(some_library(), root.join(library)).unwrap();
        let expect = format!("LD_PRELOAD={}\n", root.join(library).canonicalize().unwrap().display());
        assert!(out(&run()).contains(&expect), "{library}: {}", out(&run()));
    }
}

#[test]
fn a_static_program_runs_and_is_said_to_be_out_of_reach() {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR"));
    std::fs::write(dir.join("static.c"), "int main(void) { return 5; }\n").unwrap();
    let built = Command::new("cc").args(["-static", "-o", "static", "static.c"]).current_dir(dir).status();
    assert!(built.expect("cc is installed").success());
    let program = dir.join("static");
    let output = terrace(&[program.to_str().unwrap()]).output().unwrap();
    let expect =
        format!("terrace: {}: statically linked: its heap will not be on Terrace\n", program.display());
    assert_eq!((err(&output), output.status.code()), (expect, Some(5)));
}
