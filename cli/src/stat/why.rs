//! Why a process has no page to read: the one reason that applies.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;

use terrace::config::{self, Config, Mode, StatsChoice};

use super::pages;
use crate::fail::Fail;
use crate::topology;

/// Addresses at which Terrace, and nothing else, keeps its heap.
const HEAP_WINDOW: std::ops::Range<u64> = 0x1000_0000_0000..0x5000_0000_0000;

/// Turns the error of reading `pid`'s page into what the user should know.
pub(super) fn unreadable(pid: u32, error: &io::Error) -> Fail {
    match error.kind() {
        io::ErrorKind::NotFound => Fail::cannot(no_page(pid)),
        io::ErrorKind::PermissionDenied => Fail::cannot(not_ours(pid)),
        _ => Fail::cannot(format_args!("the statistics page of process {pid}: {error}")),
    }
}

/// The name of a process as the kernel has it, or nothing.
pub(super) fn name_of(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm"))
        .map_or_else(|_| String::new(), |name| name.trim().to_owned())
}

fn not_ours(pid: u32) -> String {
    let owner =
        fs::metadata(format!("/proc/{pid}")).map_or_else(|_| "another user".to_owned(), |m| uid(m.uid()));
    format!("process {pid} ({}) belongs to {owner}: only that user and root may look at it", name_of(pid))
}

fn uid(uid: u32) -> String {
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let mut users = passwd.lines().map(|line| line.split(':'));
    let name = users.find_map(|mut fields| {
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    name.map_or_else(|| format!("user {uid}"), |name| format!("user {name}"))
}

fn no_page(pid: u32) -> String {
    if !pages::alive(pid) {
        return format!("no such process: {pid}");
    }
    let maps = match fs::read_to_string(format!("/proc/{pid}/maps")) {
        Ok(maps) => maps,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return not_ours(pid),
        Err(error) => return format!("process {pid}: {error}"),
    };
    let who = format!("process {pid} ({})", name_of(pid));
    if !maps.lines().any(is_ours) {
        return format!("{who} does not run on Terrace: start it with `terrace run`");
    }
    let config = configuration(pid);
    if config.stats == StatsChoice::Off {
        return format!("{who} publishes no page: TERRACE_STATS is off there");
    }
    if !topology::has_device_tier(config.device_nodes.as_ref()) {
        return format!(
            "{who} publishes no page: this machine has no device tier, so Terrace is a plain malloc there"
        );
    }
    if config.mode == Some(Mode::Isolate) {
        return format!("{who} publishes no page: in mode isolate nothing moves and nothing is counted");
    }
    format!("{who} publishes no page yet: its heap is below TERRACE_START ({} MiB)", config.start_bytes >> 20)
}

/// Whether a line of /proc/PID/maps shows the library or a Terrace heap.
fn is_ours(line: &str) -> bool {
    let start = line.split('-').next().and_then(|hex| u64::from_str_radix(hex, 16).ok());
    line.contains("/libterrace.so") || start.is_some_and(|at| HEAP_WINDOW.contains(&at))
}

/// The configuration that `pid` started with, read as the library reads it.
fn configuration(pid: u32) -> Config {
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    let pairs = environment.split(|&b| b == 0).filter_map(|entry| {
        let equals = entry.iter().position(|&b| b == b'=')?;
        Some((&entry[..equals], &entry[equals + 1..]))
    });
    config::parse(pairs, &mut |_| {})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_given_is_the_one_that_applies() {
        let me = std::process::id();
        assert!(
            no_page(me).ends_with("does not run on Terrace: start it with `terrace run`"),
            "{}",
            no_page(me)
        );
        let mut gone = std::process::Command::new("true").spawn().unwrap();
        gone.wait().unwrap();
        assert_eq!(no_page(gone.id()), format!("no such process: {}", gone.id()));
    }

    #[test]
    fn the_library_and_the_heap_window_are_recognised() {
        assert!(is_ours("7f0000000000-7f0000001000 r-xp 00000000 08:01 1 /usr/lib/libterrace.so"));
        assert!(is_ours("100000000000-100000200000 rw-p 00000000 00:00 0"));
        assert!(!is_ours("7f0000000000-7f0000001000 r-xp 00000000 08:01 1 /usr/lib/libc.so.6"));
        assert!(!is_ours("555555554000-555555558000 r--p 00000000 08:01 1 /bin/true"));
    }
}
