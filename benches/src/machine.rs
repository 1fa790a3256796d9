//! The facts about this machine without which a figure means nothing.

use crate::allocators::first_line;
use std::fs;

/// Label and value, in the order of the report.
pub(crate) fn facts() -> Vec<(&'static str, String)> {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        cpuinfo.lines().find(|l| l.starts_with(name)).and_then(|l| l.split_once(": ")).map(|(_, v)| v.trim())
    };
    let virtualised = field("flags").is_some_and(|flags| flags.split(' ').any(|f| f == "hypervisor"));
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    let model = field("model name").unwrap_or("unknown");
    let os = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let os = os
        .lines()
        .find_map(|l| l.strip_prefix("PRETTY_NAME="))
        .unwrap_or("unknown")
        .trim_matches('"')
        .to_owned();
    let load = line("/proc/loadavg");
    vec![
        ("CPU", format!("{model}, {cpus} CPUs{}", if virtualised { ", virtual machine" } else { "" })),
        ("memory", memory()),
        ("kernel", line("/proc/sys/kernel/osrelease")),
        ("system", os),
        ("transparent huge pages", chosen(&line("/sys/kernel/mm/transparent_hugepage/enabled"))),
        ("overcommit_memory", line("/proc/sys/vm/overcommit_memory")),
        ("compiler of the workloads", first_line("cc", &["--version"]).unwrap_or_else(|| "unknown".into())),
        ("programs", programs()),
        ("load average before", load.split(' ').take(3).collect::<Vec<_>>().join(" ")),
        ("date", first_line("date", &["-u", "+%F %H:%M UTC"]).unwrap_or_default()),
    ]
}

/// Versions of the real programs that are measured.
fn programs() -> String {
    let said = |program: &str, flag: &str| {
        let version = first_line(&format!("/usr/bin/{program}"), &[flag]);
        format!("{program}: {}", version.as_deref().unwrap_or("absent"))
    };
    let mut all: Vec<String> =
        ["python3", "node", "redis-server", "git", "z3"].map(|program| said(program, "--version")).to_vec();
    all.push(said("sqlite3", "-version"));
    all.push(format!("rustfmt: {}", first_line("rustfmt", &["--version"]).as_deref().unwrap_or("absent")));
    all.join("; ")
}

fn line(path: &str) -> String {
    fs::read_to_string(path).map_or_else(|_| "not available".into(), |s| s.trim().to_owned())
}

/// `always [madvise] never` → `madvise`.
fn chosen(options: &str) -> String {
    let inside = options.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
    inside.map_or_else(|| options.to_owned(), |(choice, _)| choice.to_owned())
}

fn memory() -> String {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib: f64 = meminfo
        .lines()
        .find_map(|l| l.strip_prefix("MemTotal:"))
        .and_then(|l| l.trim().trim_end_matches(" kB").parse().ok())
        .unwrap_or(0.0);
    format!("{:.1} GiB", kib / f64::from(1 << 20))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_chosen_option_is_the_bracketed_one() {
        assert_eq!(super::chosen("always [madvise] never"), "madvise");
        assert_eq!(super::chosen("not available"), "not available");
    }
}
