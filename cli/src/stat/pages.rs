//! The statistics pages of this machine: whose they are, and which are left over from processes that are gone.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Where processes publish.
pub(super) const DIRECTORY: &str = "/dev/shm";

/// A page found in the directory.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) pid: u32,
    pub(super) path: PathBuf,
    /// Seconds since the epoch.
    created: i64,
}

/// The pages of `directory`, by process id.
pub(super) fn list(directory: &Path) -> Vec<Page> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut pages: Vec<Page> = entries
        .filter_map(|entry| {
            let pid = pid_of(entry.file_name().to_str()?)?;
            let about = entry.metadata().ok().filter(fs::Metadata::is_file)?;
            Some(Page { pid, path: entry.path(), created: about.mtime() })
        })
        .collect();
    pages.sort_by_key(|page| page.pid);
    pages
}

/// `terrace-1234.stats` is 1234's.
fn pid_of(name: &str) -> Option<u32> {
    let digits = name.strip_prefix("terrace-")?.strip_suffix(".stats")?;
    (!digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok())?
}

impl Page {
    /// Whether its process is gone: no such process, or one that started after the page was made (the id was used
    /// again). A process that cannot be looked at counts as alive.
    pub(super) fn is_stale(&self) -> bool {
        match process_start(self.pid) {
            Process::Gone => true,
            Process::Since(start) => start > self.created + 1,
            Process::Hidden => false,
        }
    }
}

enum Process {
    Gone,
    /// Started at this second since the epoch.
    Since(i64),
    Hidden,
}

/// proc_pid_stat(5), field 22, in clock ticks since the boot that /proc/stat dates.
fn process_start(pid: u32) -> Process {
    if !alive(pid) {
        return Process::Gone;
    }
    let started = || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name, field 2, may hold blanks and parentheses: count from behind the last one.
        let ticks: i64 = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()?;
        let boot = fs::read_to_string("/proc/stat").ok()?;
        let boot: i64 = boot.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
        // SAFETY: sysconf only reads a constant.
        let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
        Some(boot + ticks / per_second.max(1))
    };
    started().map_or(Process::Hidden, Process::Since)
}

/// Whether a process has this id, whoever owns it.
pub(super) fn alive(pid: u32) -> bool {
    let Ok(pid) = libc::pid_t::try_from(pid) else { return false };
    // SAFETY: signal 0 checks for existence and permission and is delivered to nobody.
    let found = unsafe { libc::kill(pid, 0) } == 0;
    found || std::io::Error::last_os_error().raw_os_error() != Some(libc::ESRCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_pages_count() {
        assert_eq!(pid_of("terrace-1234.stats"), Some(1234));
        for name in [
            "terrace-.stats",
            "terrace-12.stats.old",
            "terrace-a.stats",
            "xterrace-1.stats",
            "terrace-01.stats",
        ] {
            assert_eq!(pid_of(name), None, "{name}");
        }
        assert_eq!(pid_of("terrace-99999999999.stats"), None);
    }

    #[test]
    fn a_page_is_stale_without_its_process_and_when_the_id_was_used_again() {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let page = |pid, created| Page { pid, path: PathBuf::new(), created };
        let me = std::process::id();
        assert!(!page(me, now.cast_signed()).is_stale());
        assert!(page(me, 1_000_000_000).is_stale(), "made years before this process started");
        let mut gone = std::process::Command::new("true").spawn().unwrap();
        gone.wait().unwrap();
        assert!(page(gone.id(), now.cast_signed()).is_stale());
    }
}
