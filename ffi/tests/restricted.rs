//! Terrace where something it would like to have is missing: address space, overcommit, /proc, system calls. Each time
//! a real workload runs, checks its data and sees no word of it.

mod support;

use std::process::Command;
use support::{Outcome, compile, library, limit_address_space, preload, preloaded, run, scratch};

#[track_caller]
fn assert_unnoticed(result: Outcome, what: &str) {
    let result = result.expect_success(what);
    assert_eq!(result.stdout, "workload: ok\n", "{what}");
    assert_eq!(result.stderr, "", "{what}");
}

fn workload() -> std::path::PathBuf {
    compile("c/workload.c", &[])
}

#[test]
fn a_limited_address_space_is_enough() {
    let workload = workload();
    for mib in [200, 400, 1000, 20_000] {
        let mut command = preloaded(&workload);
        let result = run(limit_address_space(&mut command, mib << 20), 120);
        assert_unnoticed(result, &format!("RLIMIT_AS {mib} MiB"));
    }
}

#[test]
fn python_runs_in_a_limited_address_space() {
    let mut command = preloaded("/usr/bin/python3");
    command.args(["-c", "d = {i: str(i) * 3 for i in range(200_000)}; print(len(d), d[199_999])"]);
    let result = run(limit_address_space(&mut command, 300 << 20), 120).expect_success("python3");
    assert_eq!(result.stdout, "200000 199999199999199999\n");
}

#[test]
fn running_out_of_a_limited_address_space_is_enomem_and_not_the_end() {
    let program = compile("c/exhaustion.c", &[]);
    for mib in [150, 600] {
        let mut command = preloaded(&program);
        let result = run(limit_address_space(&mut command, mib << 20), 120).expect_success("c/exhaustion.c");
        assert_eq!(result.stdout, "exhaustion: ok\n", "RLIMIT_AS {mib} MiB");
    }
}

/// The kernel's strict accounting, `vm.overcommit_memory=2`, put back when the test ends, however it ends.
struct StrictOvercommit {
    before: String,
}

const OVERCOMMIT: &str = "/proc/sys/vm/overcommit_memory";

impl StrictOvercommit {
    fn enter() -> StrictOvercommit {
        let before = std::fs::read_to_string(OVERCOMMIT).expect("the setting is readable");
        std::fs::write(OVERCOMMIT, "2").expect("this test changes vm.overcommit_memory and needs root");
        StrictOvercommit { before }
    }
}

impl Drop for StrictOvercommit {
    fn drop(&mut self) {
        std::fs::write(OVERCOMMIT, self.before.trim()).expect("the setting can be put back");
    }
}

#[test]
fn strict_overcommit_is_enough() {
    let workload = workload();
    let library = library();
    let result = {
        let _strict = StrictOvercommit::enter();
        run(Command::new(workload).env("LD_PRELOAD", library), 120)
    };
    assert_unnoticed(result, "vm.overcommit_memory=2");
}

#[test]
fn no_proc_and_no_sys_are_enough() {
    let workload = workload();
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c"]);
    command.arg("umount -l /sys; umount -l /proc; test ! -e /proc/self && LD_PRELOAD=\"$1\" exec \"$2\"");
    command.arg("sh").arg(library()).arg(workload);
    assert_unnoticed(run(&mut command, 120), "no /proc, no /sys");
}

#[test]
fn a_chroot_with_nothing_but_the_libraries_is_enough() {
    let root = scratch("chroot");
    let workload = workload();
    let mut files: Vec<String> = vec![workload.display().to_string(), library().display().to_string()];
    // `chroot` itself runs outside; inside, `env` sets the preload for the workload only.
    files.push("/usr/bin/env".to_owned());
    let listed = run(Command::new("ldd").arg(&workload).arg("/usr/bin/env"), 10).expect_success("ldd").stdout;
    files.extend(
        listed
            .split_whitespace()
            .map(|word| word.trim_end_matches(':').to_owned())
            .filter(|word| word.starts_with('/')),
    );
    for file in &files {
        let inside = root.join(file.trim_start_matches('/'));
        std::fs::create_dir_all(inside.parent().expect("a file has a directory"))
            .expect("directories can be made");
        // By another process: one that a test beside this one starts could inherit a descriptor open for writing,
        // and the copy would not run while it does (ETXTBSY).
        run(Command::new("cp").arg(file).arg(inside), 10).expect_success("cp");
    }
    let mut command = Command::new("chroot");
    command.arg(&root).arg("/usr/bin/env").arg(format!("LD_PRELOAD={}", library().display())).arg(&files[0]);
    assert_unnoticed(run(&mut command, 120), "chroot");
}

#[test]
fn a_sandbox_that_refuses_the_numa_calls_is_enough() {
    let sandbox = compile("c/sandbox.c", &[]);
    let workload = workload();
    let mut command = Command::new(&sandbox);
    preload(command.arg("mbind,move_pages,get_mempolicy,set_mempolicy,userfaultfd").arg(&workload));
    assert_unnoticed(run(&mut command, 120), "no NUMA calls");

    let mut command = Command::new(&sandbox);
    preload(command.arg("madvise,mremap,getrandom,prctl,membarrier,mbind").arg(&workload));
    assert_unnoticed(run(&mut command, 120), "no madvise, no mremap");
}
