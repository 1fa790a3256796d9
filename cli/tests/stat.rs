//! `terrace stat` against pages that this very test publishes, and against processes that publish none.

use std::os::unix::process::CommandExt;
use std::process::{Command, Output};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use terrace::config::Mode;
use terrace::control::stats::{StatsPage, StatsSnapshot, TierStats, mode_code};

mod support;
use support::copy_program;

/// One page a process: tests that publish take turns.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn stat(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_terrace"));
    command.arg("stat").args(args);
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn refused(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert_eq!(
        (output.status.code(), text(&output.stdout)),
        (Some(1), String::new()),
        "{}",
        text(&output.stderr)
    );
    text(&output.stderr)
}

fn sample() -> StatsSnapshot {
    let mut sample = StatsSnapshot {
        pid: u64::from(std::process::id()),
        mode: mode_code(Mode::Auto),
        ticks: 5,
        page_bytes: 4096,
        tier_count: 2,
        promoted: 11,
        demoted: 22,
        failed: [1, 0, 0, 2, 0, 0],
        ..StatsSnapshot::default()
    };
    sample.tiers[0] = TierStats {
        device: 0,
        bytes: 96 << 20,
        budget: 100 << 20,
        high: 98 << 20,
        low: 95 << 20,
        latency: 130,
        idle_latency: 95,
    };
    sample.tiers[1] = TierStats {
        device: 1,
        bytes: 300 << 20,
        budget: 1 << 30,
        high: 1 << 30,
        low: 1 << 30,
        ..TierStats::default()
    };
    sample.set_tracker("refs");
    sample
}

#[test]
fn a_published_page_is_shown() {
    let _turn = turn();
    let mut page = StatsPage::create().unwrap();
    page.publish(&sample());
    let me = std::process::id().to_string();
    let shown = text(&stat(&[&me]).output().unwrap().stdout);
    assert!(shown.contains("mode auto  tracker refs  tick 5"), "{shown}");
    assert!(shown.contains("dram    96.0 MiB  100 MiB  96.0 %"), "{shown}");
    assert!(shown.contains("EBUSY 1, ENOMEM 2"), "{shown}");
    let json: Value = serde_json::from_slice(&stat(&[&me, "--json"]).output().unwrap().stdout).unwrap();
    assert_eq!(json["tiers"][1]["bytes"], 300 << 20);
    assert!(shown.contains("130 ns  95 ns"), "{shown}");
    assert_eq!(
        (&json["tiers"][0]["latency_ns"], &json["tiers"][1]["latency_ns"]),
        (&130.into(), &Value::Null)
    );
    assert_eq!((&json["moves"]["promoted"], &json["moves"]["failed"]["ENOMEM"]), (&11.into(), &2.into()));
    let listed = text(&stat(&[]).output().unwrap().stdout);
    assert!(listed.lines().any(|line| line.starts_with(&me) && line.contains("300 MiB")), "{listed}");
}

#[test]
fn a_watch_goes_on_until_the_page_is_gone() {
    let _turn = turn();
    let mut page = StatsPage::create().unwrap();
    page.publish(&sample());
    let me = std::process::id().to_string();
    let mut watch = stat(&[&me, "--watch", "0.1", "--json"]);
    let watching = watch.stdout(std::process::Stdio::piped()).spawn().unwrap();
    for ticks in 6..12 {
        std::thread::sleep(std::time::Duration::from_millis(100));
        page.publish(&StatsSnapshot { ticks, ..sample() });
    }
    drop(page);
    let output = watching.wait_with_output().unwrap();
    assert!(output.status.success());
    let ticks: Vec<u64> = text(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["ticks"].as_u64().unwrap())
        .collect();
    assert!(ticks.len() > 2 && ticks.is_sorted() && ticks.first() < ticks.last(), "{ticks:?}");
}

#[test]
fn what_cannot_be_read_is_explained() {
    let _turn = turn();
    let mut gone = Command::new("true").spawn().unwrap();
    gone.wait().unwrap();
    let pid = gone.id().to_string();
    assert_eq!(refused(&mut stat(&[&pid])), format!("terrace: no such process: {pid}\n"));
    let mut plain = Command::new("sleep").arg("60").spawn().unwrap();
    let said = refused(&mut stat(&[&plain.id().to_string()]));
    plain.kill().unwrap();
    plain.wait().unwrap();
    let expect = format!("terrace: process {} (sleep) does not run on Terrace", plain.id());
    assert!(said.starts_with(&expect), "{said}");
    assert!(!stat(&["0"]).output().unwrap().status.success());
    assert_eq!(stat(&["pid"]).output().unwrap().status.code(), Some(2));
}

#[test]
fn another_users_page_is_refused_by_name() {
    // SAFETY: getuid only asks.
    if unsafe { libc::getuid() } != 0 {
        println!("skipped: becoming another user needs root");
        return;
    }
    let _turn = turn();
    let mut page = StatsPage::create().unwrap();
    page.publish(&sample());
    // The build directory may be closed to that user: run a copy from where anybody may.
    let copy = std::env::temp_dir().join(format!("terrace-stat-{}", std::process::id()));
    copy_program(env!("CARGO_BIN_EXE_terrace"), &copy);
    let me = std::process::id().to_string();
    let said = refused(Command::new(&copy).args(["stat", &me]).uid(65534).gid(65534));
    std::fs::remove_file(copy).unwrap();
    assert!(said.ends_with("belongs to user root: only that user and root may look at it\n"), "{said}");
}

#[test]
fn pages_of_dead_processes_are_removed() {
    let mut gone = Command::new("true").spawn().unwrap();
    gone.wait().unwrap();
    let stale = format!("/dev/shm/terrace-{}.stats", gone.id());
    std::fs::write(&stale, "left over").unwrap();
    let Output { stderr, .. } = stat(&[]).output().unwrap();
    assert!(
        text(&stderr).contains(&format!("removed {stale}: process {} is gone", gone.id())),
        "{}",
        text(&stderr)
    );
    assert!(!std::fs::exists(&stale).unwrap());
}
