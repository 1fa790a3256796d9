//! The command as a user runs it: sound allocators pass, broken ones are named, bad arguments are refused.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn benches(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_terrace-benches")).args(args).output().unwrap()
}

/// One quick run of the benchmarks `only` names in each of two columns, both of them the C library's malloc.
fn glibc_twice(dir: &Path, only: &str) -> Output {
    let out = dir.to_str().unwrap();
    benches(&["--quick", "--runs", "1", "--allocators", "glibc", "--null", "--only", only, "--out", out])
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn scratch(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

/// A library that interposes one C function, compiled from `source`.
fn library(dir: &Path, name: &str, source: &str) -> PathBuf {
    let (file, library) = (dir.join(name).with_extension("c"), dir.join(name).with_extension("so"));
    std::fs::write(&file, source).unwrap();
    let status = Command::new("cc")
        .args(["-O1", "-fno-builtin", "-shared", "-fPIC"])
        .arg(&file)
        .arg("-o")
        .arg(&library)
        .status()
        .unwrap();
    assert!(status.success());
    library
}

#[test]
fn sound_allocators_agree_on_every_workload() {
    let dir = scratch("sound");
    let only =
        "pairs-medium,batch-random,larson,shared-slots,thread-churn,realloc-vectors,calloc-large,stl-threads";
    let output = glibc_twice(&dir, only);
    assert!(output.status.success(), "{}", text(&output));
    let csv = std::fs::read_to_string(dir.join("bench.csv")).unwrap();
    assert_eq!(csv.lines().filter(|line| !line.starts_with('#')).count(), 1 + 2 * 8, "{csv}");
    assert!(!text(&output).contains("WRONG"), "{}", text(&output));
}

/// The real programs, the threads and this program as a Rust workload, each twice under the same malloc: their output may not
/// depend on timing or chance.
#[test]
fn programs_and_crowds_print_the_same_every_time() {
    let dir = scratch("programs");
    let only = "producers-consumer,producer-consumers,asymmetric,thread-once,oversubscribed-8,local-1,local-2,sized-deletes,\
                rust-collections,node,redis,git,rustfmt";
    let output = glibc_twice(&dir, only);
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    assert!(!said.contains("WRONG") && !said.contains("failed"), "{said}");
    for part in ["### Two threads to one", "### A thread that allocates once", "(programs alone)"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let csv = std::fs::read_to_string(dir.join("bench.csv")).unwrap();
    for fact in ["# CPU: ", "# kernel: ", "# glibc: ", "resident_growth_kib="] {
        assert!(csv.contains(fact), "{fact}: {csv}");
    }
    for chart in ["means.svg", "cpu.svg", "memory.svg"] {
        let svg = std::fs::read_to_string(dir.join(chart)).unwrap();
        assert!(svg.starts_with("<svg") && svg.contains("glibc") && !svg.contains("href"), "{chart}");
    }
}

#[test]
fn fragmentation_is_told_against_live_bytes() {
    let dir = scratch("fragmentation");
    let output = benches(&[
        "--quick",
        "--allocators",
        "glibc",
        "--only",
        "fragmentation",
        "--out",
        dir.to_str().unwrap(),
    ]);
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("| glibc | 96.0 MiB | 1"), "{said}");
    assert!(std::fs::read_to_string(dir.join("bench.csv")).unwrap().contains("left_resident_kib="));
}

/// An allocator of which `calloc` does not clear and whose blocks are not aligned, and which is said to be ours.
#[test]
fn a_broken_allocator_is_named_and_fails_the_run() {
    let dir = scratch("broken");
    let broken = library(
        &dir,
        "broken",
        "#include <stddef.h>
        extern void *__libc_malloc(size_t);
        void *malloc(size_t n) { return __libc_malloc(n); }
        void *aligned_alloc(size_t a, size_t n) { return (char *)__libc_malloc(n + a) + 16 * (a > 16); }
        void *calloc(size_t n, size_t m) {
            unsigned char *p = __libc_malloc(n * m);
            for (size_t i = 0; i < n * m; i++) p[i] = n * m >= 65536;
            return p;
        }
        ",
    );
    let output = benches(&[
        "--quick",
        "--runs",
        "1",
        "--library",
        &format!("terrace={}", broken.display()),
        "--allocators",
        "terrace",
        "--only",
        "aligned,calloc-large,pairs-small",
        "--out",
        dir.to_str().unwrap(),
    ]);
    let said = text(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("terrace failed aligned: "), "{said}");
    assert!(said.contains("terrace failed calloc-large: exit status 4"), "{said}");
    assert!(!said.contains("terrace failed pairs-small"), "{said}");
}

#[test]
fn a_library_without_malloc_is_not_measured() {
    let dir = scratch("empty");
    let empty = library(&dir, "empty", "int nothing;");
    let output = benches(&["--library", &format!("empty={}", empty.display()), "--only", "stl"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output).contains("empty: malloc came from"), "{}", text(&output));
}

#[test]
fn unknown_names_are_refused() {
    for args in [["--only", "nothing"], ["--allocators", "nothing"], ["--library", "x"]] {
        assert_eq!(benches(&args).status.code(), Some(2), "{args:?}");
    }
}
