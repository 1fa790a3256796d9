//! What a process pays for being preloaded when there is no device tier: almost nothing.

mod support;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::process::{Command, Stdio};
use std::time::Instant;
use support::{compile, library, preloaded, run, scratch, terrace_lines};

/// The system calls of `/bin/true` under strace, in order, as lines.
fn trace(preload: bool) -> Vec<String> {
    let file = scratch(if preload { "strace-terrace" } else { "strace-libc" }).join("trace");
    let mut command = Command::new("strace");
    command.args(["-f", "-o"]).arg(&file);
    if preload {
        command.arg("-E").arg(format!("LD_PRELOAD={}", library().display()));
    }
    run(command.arg("/bin/true"), 60).expect_success("strace /bin/true");
    let text = std::fs::read_to_string(&file).expect("strace writes its file");
    text.lines().map(str::to_owned).collect()
}

fn count(lines: &[String]) -> BTreeMap<String, i64> {
    let mut counts = BTreeMap::new();
    for line in lines {
        let call = line.split_whitespace().nth(1).and_then(|rest| rest.split_once('('));
        if let Some((name, _)) = call {
            *counts.entry(name.to_owned()).or_default() += 1;
        }
    }
    counts
}

#[test]
fn true_makes_at_most_a_handful_more_system_calls() {
    let (ours, plain) = (trace(true), trace(false));

    let opened = |lines: &[String]| -> Vec<String> {
        let opens = lines.iter().filter(|line| line.contains("open"));
        opens.filter_map(|line| Some(line.split('"').nth(1)?.to_owned())).collect()
    };
    // The loader opens the library itself; nothing else is opened: no dependency, no configuration, no /proc or /sys.
    let mut expected = opened(&plain);
    let extra: Vec<_> = opened(&ours)
        .into_iter()
        .filter(|path| match expected.iter().position(|known| known == path) {
            Some(at) => {
                expected.remove(at);
                false
            }
            None => true,
        })
        .collect();
    assert_eq!(extra, [library().display().to_string()], "files opened beyond those of an unpreloaded run");

    let (before, after) = (count(&plain), count(&ours));
    assert_eq!(after.get("clone").or(after.get("clone3")), None, "a thread at start-up");

    // What loading any library costs: open, read of its header, fstat, its segments, mprotect, close.
    let any_library = loading_costs();
    let total = |counts: &BTreeMap<String, i64>| counts.values().sum::<i64>();
    let more = total(&after) - total(&before) - any_library;
    let differing: Vec<_> = after
        .iter()
        .filter(|(name, n)| before.get(*name) != Some(n))
        .map(|(name, n)| format!("{name} {n}"))
        .collect();
    println!(
        "{more} system calls more than with glibc's malloc, besides {any_library} to load a library: {differing:?}"
    );
    assert!(more <= 8, "{more} system calls more: {differing:?}\n{}", ours.join("\n"));
}

/// The system calls it takes to preload an empty library with as many segments.
fn loading_costs() -> i64 {
    let empty = compile("c/empty.c", &["-shared", "-fPIC", "-Wl,-z,relro,-z,now"]);
    let file = scratch("strace-empty").join("trace");
    let mut command = Command::new("strace");
    command
        .args(["-f", "-o"])
        .arg(&file)
        .arg("-E")
        .arg(format!("LD_PRELOAD={}", empty.display()))
        .arg("/bin/true");
    run(&mut command, 60).expect_success("strace /bin/true");
    let text = std::fs::read_to_string(&file).expect("strace writes its file");
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    count(&lines).values().sum::<i64>() - count(&trace(false)).values().sum::<i64>()
}

/// Starting a process costs less than with jemalloc: medians of runs that take turns, so that whatever else this machine
/// does meets both. (Measured: about 0.2 ms more than glibc's malloc, jemalloc 1.5 ms.)
#[test]
fn starting_a_process_costs_less_than_with_jemalloc() {
    let jemalloc = "/usr/lib/x86_64-linux-gnu/libjemalloc.so.2";
    assert!(std::path::Path::new(jemalloc).exists(), "libjemalloc2 is missing (ci/packages.txt)");
    let once = |preload: &OsStr| {
        let started = Instant::now();
        let status = Command::new("/bin/echo").env("LD_PRELOAD", preload).stdout(Stdio::null()).status();
        assert!(status.expect("echo starts").success());
        started.elapsed()
    };
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..200 {
        ours.push(once(library().as_os_str()));
        theirs.push(once(OsStr::new(jemalloc)));
    }
    ours.sort();
    theirs.sort();
    println!("median of /bin/echo: {:?}, with jemalloc {:?}", ours[100], theirs[100]);
    assert!(ours[100] < theirs[100], "{:?} against {:?}", ours[100], theirs[100]);
}

#[test]
fn a_program_without_a_device_tier_gets_no_thread_and_no_file() {
    // Beyond the threshold at which tiering would start, had this machine a device.
    let program = compile("c/no_tier.c", &[]);
    let result = run(&mut preloaded(program), 60).expect_success("c/no_tier.c");
    assert_eq!(result.stdout, "no tier: 1 thread, no file\n");
    assert_eq!(terrace_lines(&result.stderr), Vec::<&str>::new());
}

/// A variable that cannot be used, and what the one line about it must contain.
const BAD: &[(&str, &str)] = &[
    ("TERRACE_MODE", "bogus"),
    ("TERRACE_DRAM", "12 parsecs"),
    ("TERRACE_DEVICE", "-5"),
    ("TERRACE_DEVICE_NODES", "one"),
    ("TERRACE_WATERMARKS", "50,90"),
    ("TERRACE_HEADROOM", "?"),
    ("TERRACE_MOVE_RATE", "fast"),
    ("TERRACE_TICK_MS", "0x"),
    ("TERRACE_TRACKER", "crystal-ball"),
    ("TERRACE_TRACKER_CPU", "all of it"),
    ("TERRACE_START", "soon"),
    ("TERRACE_STATS", "maybe"),
    ("TERRACE_VERBOSE", "loud"),
    ("TERRACE_PURGE_MS", "1e3"),
    ("TERRACE_HARDENED", "very"),
    ("TERRACE_QUARANTINE", "2G"),
    ("TERRACE_GUARD_SAMPLE", "1%"),
];

#[test]
fn a_bad_setting_is_one_line_and_the_program_runs() {
    for (name, value) in BAD {
        let result = run(preloaded("/bin/echo").arg("ran").env(name, value), 20).expect_success(name);
        assert_eq!(result.stdout, "ran\n", "{name}");
        let lines: Vec<&str> = result.stderr.lines().collect();
        assert_eq!(lines.len(), 1, "{name}={value}: {lines:?}");
        assert!(
            lines[0].starts_with("terrace: ") && lines[0].contains(&format!("{name}={value}")),
            "{lines:?}"
        );
    }
}

#[test]
fn a_good_environment_is_silent() {
    let settings = [("TERRACE_MODE", "auto"), ("TERRACE_DRAM", "1G"), ("TERRACE_PURGE_MS", "0")];
    let result = run(preloaded("/bin/echo").arg("ran").envs(settings), 20).expect_success("echo");
    assert_eq!((result.stdout.as_str(), result.stderr.as_str()), ("ran\n", ""));
}

#[test]
fn an_empty_environment_is_enough() {
    // ld.so itself preloads it: no variable is set at all.
    let mut command = Command::new("/lib64/ld-linux-x86-64.so.2");
    command.arg("--preload").arg(library()).arg("/bin/echo").arg("ran").env_clear();
    let result = run(&mut command, 20).expect_success("echo");
    assert_eq!((result.stdout.as_str(), result.stderr.as_str()), ("ran\n", ""));
}
