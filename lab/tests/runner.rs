//! The runner: what goes in, what comes out, and what happens when a command does not end.

use lab::{Kernel, LabError, Layout, UNFINISHED, Vm};
use std::process::Command;
use std::time::{Duration, Instant};

#[test]
fn an_unprivileged_command_has_its_files_its_programs_and_its_environment() {
    let host = std::env::temp_dir().join(format!("lab-runner-{}", std::process::id()));
    std::fs::create_dir_all(host.join("inside")).unwrap();
    std::fs::write(host.join("inside/data"), "from the host").unwrap();
    let mut lines: Vec<(String, Instant)> = Vec::new();
    let outcome = Vm::layout(Layout::OneNode)
        .user("nobody")
        .cpus(1)
        .dram_mib(768)
        .file(&host)
        .file_at(host.join("inside/data"), "/etc/lab.conf")
        .program("sha256sum")
        .env("GREETING", "it's \"quoted\" $HOME")
        .on_line(|line| lines.push((line.to_owned(), Instant::now())))
        .run(
            r#"echo first; sleep 2; echo "$GREETING" >&2; pwd; cat */inside/data /etc/lab.conf
            sha256sum --version | head -1
            ip link show lo | grep -o LOOPBACK,UP; id -un; touch /dev/shm/x /tmp/x && echo scratch
            ulimit -n; cat /sys/kernel/mm/transparent_hugepage/enabled
            mkdir /out/deep && cp /etc/lab.conf /out/deep/copy; exit 77"#,
        )
        .unwrap();
    let _ = std::fs::remove_dir_all(&host);
    assert_eq!(outcome.status, 77, "{}", outcome.stdout);
    let text: Vec<&str> = outcome.stdout.lines().collect();
    assert_eq!(text[..3], ["first", "it's \"quoted\" $HOME", "/job"], "{}", outcome.stdout);
    assert!(text[3].starts_with("from the hostfrom the hostsha256sum (GNU coreutils)"), "{}", outcome.stdout);
    assert_eq!(text[4..7], ["LOOPBACK,UP", "nobody", "scratch"], "{}", outcome.stdout);
    assert_eq!(text[7..], ["1024", "[always] madvise never"], "Debian's defaults");
    assert_eq!(outcome.file("deep/copy").unwrap(), "from the host");
    assert_eq!(lines.len(), text.len());
    assert!(lines[1].1 - lines[0].1 > Duration::from_secs(1), "lines come while the command runs");
}

#[test]
fn a_command_that_does_not_end_is_120_and_is_not_run_again() {
    let vm = Vm::layout(Layout::OneNode).cpus(1).dram_mib(512).timeout(Duration::from_secs(1));
    let outcome = vm.run("echo once; sleep 1000").unwrap();
    assert_eq!((outcome.status, outcome.stdout.as_str()), (UNFINISHED, "once\n"));
    assert!(outcome.unfinished.is_some_and(|why| why.contains("1s")));
}

#[test]
fn a_guest_that_crashes_is_120_and_its_console_is_shown() {
    let vm = Vm::layout(Layout::OneNode).kernel(Kernel::V6_1).cpus(1).dram_mib(512);
    let outcome = vm.run("echo once; echo c >/proc/sysrq-trigger; sleep 1000").unwrap();
    assert_eq!((outcome.status, outcome.stdout.as_str()), (UNFINISHED, "once\n"));
    assert!(outcome.unfinished.is_some_and(|why| why.contains("sysrq")));
}

#[test]
fn the_command_line_passes_output_files_and_status_on() {
    let out = std::env::temp_dir().join(format!("lab-cli-{}", std::process::id()));
    let run = Command::new(env!("CARGO_BIN_EXE_lab"))
        .args([
            "--layout", "one-node", "--dram", "512", "--cpus", "1", "--user", "nobody", "--env", "A=b=c",
            "--out",
        ])
        .arg(&out)
        .args(["--", "sh", "-c", "echo \"$A $1\"; echo kept >/out/file; kill -SEGV $$", "sh", "two words"])
        .output()
        .unwrap();
    let kept = std::fs::read_to_string(out.join("file"));
    let _ = std::fs::remove_dir_all(&out);
    let said = String::from_utf8_lossy(&run.stderr);
    assert_eq!(run.status.code(), Some(139), "{said}");
    assert!(String::from_utf8_lossy(&run.stdout).starts_with("b=c two words\n"), "{said}");
    assert_eq!(kept.unwrap(), "kept\n");
}

/// Runs the command line with a stand-in for the emulator: its exit status and how often the stand-in was
/// started.
fn with_stand_in_emulator(name: &str, script: &str) -> (Option<i32>, usize, String) {
    let dir = std::env::temp_dir().join(format!("lab-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let emulator = dir.join("emulator");
    let attempts = dir.join("attempts");
    let text = format!(
        r#"#!/bin/sh
        [ "$1" = --version ] && echo "QEMU emulator version 7.2.0" && exit
        echo attempt >>{}
        for word; do case $word in file,id=ctl,path=*) control=${{word#*path=}};; esac; done
        {script}"#,
        attempts.display()
    );
    // By another process: one that a test beside this one starts could inherit a descriptor open for writing, and
    // the script would not run while it does (ETXTBSY).
    std::fs::write(dir.join("script"), text).unwrap();
    let mut install = Command::new("install");
    install.args(["-m", "755"]).arg(dir.join("script")).arg(&emulator);
    assert!(install.status().unwrap().success());
    let mut lab = Command::new(env!("CARGO_BIN_EXE_lab"));
    lab.env_remove("LAB_CRASH_RETRIES");
    let run = lab.env("LAB_QEMU", &emulator).args(["--layout", "one-node", "--", "true"]).output().unwrap();
    let started = std::fs::read_to_string(&attempts).unwrap_or_default().lines().count();
    let _ = std::fs::remove_dir_all(&dir);
    (run.status.code(), started, String::from_utf8_lossy(&run.stderr).into_owned())
}

#[test]
fn a_boot_that_fails_is_tried_three_times() {
    let (status, started, said) = with_stand_in_emulator("no-boot", "echo no such machine >&2; exit 1");
    assert_eq!((status, started), (Some(3), 3), "{said}");
    assert!(said.contains("no such machine"), "{said}");
}

#[test]
fn a_boot_that_succeeds_the_second_time_is_good() {
    let script = "[ $(wc -l <${0%/*}/attempts) = 2 ] && printf 'started\\nstatus 5\\n' >$control";
    let (status, started, said) = with_stand_in_emulator("second-boot", script);
    assert_eq!((status, started), (Some(5), 2), "{said}");
}

#[test]
fn a_command_that_was_started_is_never_started_again() {
    let (status, started, said) = with_stand_in_emulator("crash", "echo started >$control; exit 1");
    assert_eq!((status, started), (Some(UNFINISHED), 1), "{said}");
}

#[test]
fn wrong_usage_is_one_line_and_status_2() {
    let wrong: [&[&str]; 7] = [
        &[],
        &["--frobnicate", "x", "--", "true"],
        &["--layout", "nine-tiers", "--", "true"],
        &["--dram", "many", "--", "true"],
        &["--user", "somebody", "--", "true"],
        &["--layout", "device-via-kmem", "--device", "100", "--", "true"],
        &["--file", "/no/such/file", "--", "true"],
    ];
    for args in wrong {
        let run = Command::new(env!("CARGO_BIN_EXE_lab")).args(args).output().unwrap();
        let said = String::from_utf8_lossy(&run.stderr);
        assert_eq!(said.lines().count(), 1, "{args:?}: {said}");
        assert_eq!(run.status.code(), Some(2), "{args:?}: {said}");
    }
}

#[test]
fn an_odd_request_is_an_error_before_anything_boots() {
    let usage = |vm: Vm<'_>, command: &str| matches!(vm.run(command), Err(LabError::Usage(_)));
    assert!(usage(Vm::layout(Layout::OneNode), "  "));
    assert!(usage(Vm::layout(Layout::OneNode).cpus(0), "true"));
    assert!(usage(Vm::layout(Layout::OneNode).env("A B", "x"), "true"));
    assert!(usage(Vm::layout(Layout::OneNode).program("no-such-program"), "true"));
    assert!(usage(Vm::layout(Layout::OneNode).module("no_such_module"), "true"));
}
