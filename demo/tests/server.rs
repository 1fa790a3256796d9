//! The client side of the demonstration against a plain redis-server: what it verifies, it must be able to refute.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use terrace_demo::nodes::Nodes;
use terrace_demo::resp::Client;
use terrace_demo::server::{Server, field};
use terrace_demo::traffic::{self, Traffic};
use terrace_demo::{keyspace, locate, outside};

const KEYS: usize = 4000;

fn directory(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("terrace-demo-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a directory of our own");
    dir
}

fn loaded(name: &str) -> (PathBuf, Server, Traffic, Client) {
    let dir = directory(name);
    let server = Server::start(&dir, None).expect("redis-server is installed");
    let mut traffic = Traffic::new(server.connect().unwrap(), KEYS, Arc::new(AtomicU64::new(0)));
    traffic.load(0..KEYS).unwrap();
    let client = server.connect().unwrap();
    (dir, server, traffic, client)
}

fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < Duration::from_secs(60), "{what} takes too long");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn everything_written_reads_back_and_every_corruption_is_seen() {
    let (dir, server, mut traffic, mut client) = loaded("corruption");
    traffic.aim(100..200, 0..KEYS);
    for _ in 0..50 {
        traffic.batch().unwrap();
    }
    assert!(traffic.verdict().is_good() && traffic.verdict().asked > 1000, "{:?}", traffic.verdict());
    let verdict = traffic::verify(&mut client, traffic.keys()).unwrap();
    assert!(verdict.is_good() && verdict.equal == KEYS as u64, "{verdict:?}");

    let name = |key| String::from_utf8(keyspace::name(key).to_vec()).unwrap();
    client.ask(&["SETRANGE", &name(7), "100", "x"]).unwrap();
    client.ask(&["DEL", &name(8)]).unwrap();
    let verdict = traffic::verify(&mut client, traffic.keys()).unwrap();
    assert_eq!((verdict.wrong, verdict.missing, verdict.stale), (1, 1, 0));
    server.stop().unwrap();
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn a_snapshot_holds_the_moment_it_was_asked_for() {
    let (dir, server, mut traffic, mut client) = loaded("snapshot");
    let expected = traffic.keys().clone();
    traffic.ask(&["BGSAVE"]).unwrap();
    for _ in 0..50 {
        traffic.batch().unwrap();
    }
    wait_for("BGSAVE", || {
        let info = client.ask(&["INFO", "persistence"]).unwrap();
        field(&info, "rdb_bgsave_in_progress").as_deref() == Some("0")
    });
    let second = dir.join("second");
    std::fs::create_dir_all(&second).unwrap();
    std::fs::rename(dir.join("dump.rdb"), second.join("dump.rdb")).unwrap();
    let copy = Server::start(&second, None).unwrap();
    let mut reader = copy.connect().unwrap();
    assert!(traffic::verify(&mut reader, &expected).unwrap().is_good());
    // The original has moved on, so its present state is not what the snapshot holds.
    assert!(traffic::verify(&mut reader, traffic.keys()).unwrap().wrong > 0);
    copy.stop().unwrap();
    server.stop().unwrap();
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn expired_keys_go_and_the_others_stay() {
    let (dir, server, mut traffic, mut client) = loaded("expiry");
    traffic.expire(1000..3000).unwrap();
    wait_for("expiry", || client.ask(&["DBSIZE"]).unwrap() == (KEYS - 2000).to_string());
    let verdict = traffic::verify(&mut client, traffic.keys()).unwrap();
    assert!(verdict.is_good() && verdict.equal == 2000 && verdict.asked == KEYS as u64, "{verdict:?}");
    server.stop().unwrap();
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn the_pages_of_values_are_found_from_outside() {
    let (dir, server, traffic, mut client) = loaded("locate");
    let keys: Vec<usize> = (500..1500).collect();
    let pages = locate::pages_of_values(&mut client, server.pid(), &keys).unwrap();
    // At least the bytes themselves, at most one page more for each value.
    let bytes: usize = keys.iter().map(|k| keyspace::value_len(*k)).sum();
    assert!(
        pages.len() * outside::PAGE >= bytes && pages.len() * outside::PAGE < bytes + 1000 * outside::PAGE,
        "{} pages",
        pages.len()
    );
    let (present, dram) = outside::count_in_dram(server.pid(), &pages, &Nodes::here()).unwrap();
    assert_eq!(present, pages.len() as u64);
    assert!(dram > 0);
    assert!(locate::pages_of_values(&mut client, server.pid(), &[KEYS + 1]).unwrap().is_empty());
    assert_eq!(traffic.keys().alive(), KEYS);
    server.stop().unwrap();
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn commands_are_counted() {
    let dir = directory("count");
    let server = Server::start(&dir, None).unwrap();
    let operations = Arc::new(AtomicU64::new(0));
    let mut traffic = Traffic::new(server.connect().unwrap(), KEYS, Arc::clone(&operations));
    traffic.load(0..100).unwrap();
    assert_eq!(operations.load(Ordering::Relaxed), 100);
    server.stop().unwrap();
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn a_server_that_cannot_start_says_why() {
    let dir = directory("refuse");
    std::fs::write(dir.join("dump.rdb"), b"this is no snapshot").unwrap();
    let error = Server::start(&dir, None).err().expect("no such snapshot loads").to_string();
    assert!(error.contains("signature"), "{error}");
    std::fs::remove_dir_all(dir).unwrap();
}
