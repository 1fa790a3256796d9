//! The command together with the library as it ships: what reaches the program, and what the library says by itself
//! when nobody has checked its configuration first.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// `libterrace.so` as it ships, brought up to date first.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--release", "--quiet", "--package", "terrace-ffi", "--target-dir"]).arg(target);
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        assert!(cargo.current_dir(workspace).status().unwrap().success(), "libterrace.so does not build");
        target.join("release/libterrace.so")
    })
}

fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

#[test]
fn a_program_run_by_the_command_has_its_heap_on_terrace() {
    let mut run = Command::new(env!("CARGO_BIN_EXE_terrace"));
    run.args(["run", "--dram", "256M", "--", "cat", "/proc/self/maps"]).env("TERRACE_LIB", library());
    let (maps, err) = texts(&run.output().unwrap());
    assert_eq!(err, "");
    assert!(maps.contains("/libterrace.so"), "{maps}");
    let starts = maps.lines().filter_map(|line| u64::from_str_radix(line.split('-').next()?, 16).ok());
    let window = 0x1000_0000_0000..0x5000_0000_0000;
    assert!(starts.into_iter().any(|start| window.contains(&start)), "no heap of Terrace in\n{maps}");
}

#[test]
fn without_the_command_a_bad_setting_costs_one_line_and_nothing_else() {
    for (settings, line) in [
        (
            &[("TERRACE_MODE", "turbo")][..],
            "TERRACE_MODE=turbo: not one of isolate, spill, assist, auto; using auto",
        ),
        (
            &[("TERRACE_DEVICE", "1G"), ("TERRACE_HEADROOM", "1G")],
            "TERRACE_HEADROOM=1G: not below TERRACE_DEVICE; using auto",
        ),
        (
            &[("TERRACE_DRAM", "8M"), ("TERRACE_START", "16M")],
            "TERRACE_START=16M: above TERRACE_DRAM; using half of TERRACE_DRAM",
        ),
        (
            &[("TERRACE_WATERMARK", "90,80")],
            "TERRACE_WATERMARK=90,80: no such variable, ignored; did you mean TERRACE_WATERMARKS?",
        ),
        (&[("TERRACE_ROSES", "red")], "TERRACE_ROSES=red: no such variable, ignored"),
    ] {
        let mut echo = Command::new("echo");
        let output =
            echo.arg("ran").env("LD_PRELOAD", library()).envs(settings.iter().copied()).output().unwrap();
        assert!(output.status.success());
        assert_eq!(texts(&output), ("ran\n".to_owned(), format!("terrace: {line}\n")), "{settings:?}");
    }
    let mut quiet = Command::new("echo");
    quiet.arg("ran").env("LD_PRELOAD", library()).env("TERRACE_MODE", "").env("TERRACE_LAB_X", "1");
    assert_eq!(texts(&quiet.output().unwrap()), ("ran\n".to_owned(), String::new()));
}

#[test]
fn a_program_with_the_rights_of_another_ignores_the_environment() {
    // SAFETY: getuid only asks.
    if unsafe { libc::getuid() } != 0 {
        println!("skipped: making a set-user-ID program of another user needs root");
        return;
    }
    let dir = PathBuf::from(format!("/var/tmp/terrace-setuid-{}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
    let (source, program, copy) = (dir.join("id.c"), dir.join("id"), dir.join("libterrace.so"));
    fs::copy(library(), &copy).unwrap();
    fs::write(
        &source,
        "#include <stdio.h>\n#include <stdlib.h>\n#include <unistd.h>\n\
         int main(void) { free(malloc(100)); printf(\"%d %d\\n\", (int)getuid(), (int)geteuid()); return 0; }\n",
    )
    .unwrap();
    // The loader ignores LD_PRELOAD here, so the program is linked against the library.
    let mut cc = Command::new("cc");
    cc.arg("-o").args([&program, &source, &copy]).arg(format!("-Wl,-rpath,{}", dir.display()));
    assert!(cc.status().expect("cc is installed").success());
    let run = |mode| {
        fs::set_permissions(&program, fs::Permissions::from_mode(mode)).unwrap();
        let output =
            Command::new(&program).env("TERRACE_MODE", "turbo").uid(65534).gid(65534).output().unwrap();
        texts(&output)
    };
    let (own, other) = (run(0o755), run(0o4755));
    fs::remove_dir_all(&dir).unwrap();
    assert!(own.1.starts_with("terrace: TERRACE_MODE=turbo: ") && own.0 == "65534 65534\n", "{own:?}");
    if other.0 == "65534 65534\n" {
        println!("skipped: /var/tmp is mounted nosuid");
        return;
    }
    assert_eq!(other, ("65534 0\n".to_owned(), String::new()));
}
