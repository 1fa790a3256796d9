//! One run of one program under one allocator: start it, wait for it, and say what it cost and what it printed.
//!
//! Cost is the kernel's own account (`wait4`): CPU time and page faults of the program and of the children it waited for,
//! and the largest resident set among them. The resident set includes the moment before `exec`, so it is never reported
//! smaller than this runner itself (about 2 MiB).

use crate::allocators::Allocator;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// What to run. The environment is cleared but for `PATH`, `LANG=C`, the preload and `env`.
#[derive(Clone, Debug)]
pub(crate) struct Invocation {
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<(&'static str, String)>,
    pub(crate) stdin: Option<PathBuf>,
    /// Who makes a server work, and stops it.
    pub(crate) client: Option<Client>,
}

/// What runs beside a server that is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Client {
    Redis { requests: u32 },
}

/// What one run cost.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) user_s: f64,
    pub(crate) sys_s: f64,
    pub(crate) wall_s: f64,
    pub(crate) rss_kib: u64,
    pub(crate) faults: u64,
    /// Hash of everything the program printed: equal work gives equal checksums.
    pub(crate) checksum: u64,
    /// What the program found out about itself: its lines `metric NAME VALUE` on standard error.
    pub(crate) metrics: Vec<(String, f64)>,
}

impl Sample {
    /// A figure that the program reported.
    pub(crate) fn metric(&self, name: &str) -> Option<f64> {
        self.metrics.iter().find(|(n, _)| n == name).map(|(_, value)| *value)
    }

    /// User and system time together.
    pub(crate) fn cpu_s(&self) -> f64 {
        self.user_s + self.sys_s
    }
}

/// Why a run gives no figure; `Display` is what the report prints.
#[derive(Debug)]
pub(crate) enum Failure {
    NotStarted(io::Error),
    /// Its input or the program itself could not be had.
    NotPrepared(String),
    /// It printed something else than under the other allocators.
    WrongResult,
    /// The server under it did not do what its client asked.
    Client(String),
    Exit(i32, String),
    Signal(i32, String),
    TimedOut(Duration),
    /// The loader said that it could not preload the library.
    NotPreloaded(String),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::NotStarted(e) => write!(f, "not started: {e}"),
            Failure::NotPrepared(said) => write!(f, "not prepared: {said}"),
            Failure::WrongResult => write!(f, "a wrong result"),
            Failure::Client(said) => write!(f, "{said}"),
            Failure::Exit(code, said) => write!(f, "exit status {code}: {said}"),
            Failure::Signal(signal, said) => write!(f, "killed by signal {signal}: {said}"),
            Failure::TimedOut(limit) => write!(f, "still running after {} s", limit.as_secs()),
            Failure::NotPreloaded(said) => write!(f, "not preloaded: {said}"),
        }
    }
}

/// Runs `what` under `allocator`, with its output in files of `scratch`; kills it after `limit`.
pub(crate) fn run(
    what: &Invocation,
    allocator: &Allocator,
    scratch: &Path,
    limit: Duration,
) -> Result<Sample, Failure> {
    let (out, err) = (scratch.join("stdout"), scratch.join("stderr"));
    let mut command = command(what, allocator).map_err(Failure::NotStarted)?;
    command.stdout(File::create(&out).map_err(Failure::NotStarted)?);
    command.stderr(File::create(&err).map_err(Failure::NotStarted)?).current_dir(scratch);

    let begin = Instant::now();
    let child = command.spawn().map_err(Failure::NotStarted)?;
    let served = match what.client {
        None => Ok(String::new()),
        Some(Client::Redis { requests }) => crate::redis::drive(scratch, requests),
    };
    if served.is_err() {
        // SAFETY: no memory is passed. The child is not reaped yet, so the pid is its own.
        unsafe { libc::kill(child.id().cast_signed(), libc::SIGKILL) };
    }
    let (usage, status, wall, killed) = reap(child.id(), begin, limit).map_err(Failure::NotStarted)?;

    let said = std::fs::read_to_string(&err).unwrap_or_default();
    let first = said.lines().find(|line| !line.starts_with("metric ")).unwrap_or_default().to_owned();
    if killed {
        return Err(Failure::TimedOut(limit));
    }
    if let Some(line) = said.lines().find(|l| l.contains("cannot be preloaded")) {
        return Err(Failure::NotPreloaded(line.to_owned()));
    }
    let served = served.map_err(Failure::Client)?;
    if libc::WIFSIGNALED(status) {
        return Err(Failure::Signal(libc::WTERMSIG(status), first));
    }
    if libc::WEXITSTATUS(status) != 0 {
        return Err(Failure::Exit(libc::WEXITSTATUS(status), first));
    }
    let mut printed = std::fs::read(&out).map_err(Failure::NotStarted)?;
    printed.extend(served.as_bytes());
    Ok(Sample {
        user_s: seconds(usage.ru_utime),
        sys_s: seconds(usage.ru_stime),
        wall_s: wall.as_secs_f64(),
        rss_kib: usage.ru_maxrss.unsigned_abs(),
        faults: usage.ru_minflt.unsigned_abs() + usage.ru_majflt.unsigned_abs(),
        checksum: fnv1a(&printed),
        metrics: said.lines().filter_map(metric).collect(),
    })
}

/// The command with its environment and standard input, output still to be set.
pub(crate) fn command(what: &Invocation, allocator: &Allocator) -> io::Result<Command> {
    let mut command = Command::new(&what.program);
    command.args(&what.args).env_clear().env("PATH", "/usr/bin:/bin").env("LANG", "C");
    command.envs(what.env.iter().map(|(key, value)| (key, value)));
    command.envs(allocator.env.iter().copied());
    if let Some(library) = &allocator.preload {
        command.env("LD_PRELOAD", library);
    }
    match &what.stdin {
        Some(path) => command.stdin(File::open(path)?),
        None => command.stdin(Stdio::null()),
    };
    Ok(command)
}

/// Waits for the child, or kills it at the limit. Returns its accounts, its status, the wall time and whether it was killed.
fn reap(pid: u32, begin: Instant, limit: Duration) -> io::Result<(libc::rusage, i32, Duration, bool)> {
    let pid = pid.cast_signed();
    let (finished, watch) = mpsc::channel::<()>();
    let watchdog = std::thread::spawn(move || {
        let late = watch.recv_timeout(limit).is_err_and(|e| e == mpsc::RecvTimeoutError::Timeout);
        if late {
            // SAFETY: no memory is passed. The pid is still ours: it is reaped only after this thread was joined.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
        late
    });
    // Until the child is a zombie, without reaping it, so that the watchdog can never kill a recycled pid.
    loop {
        // SAFETY: all-zero is a valid siginfo_t.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        // SAFETY: `info` is valid for writing; pid is our child.
        let rc = unsafe {
            libc::waitid(libc::P_PID, pid.cast_unsigned(), &raw mut info, libc::WEXITED | libc::WNOWAIT)
        };
        if rc == 0 || io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            break;
        }
    }
    let wall = begin.elapsed();
    // The watchdog may have timed out and hung up already; its answer says so.
    let _ = finished.send(());
    let killed = watchdog.join().unwrap_or(false);
    // SAFETY: all-zero is a valid rusage.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    let mut status = 0;
    // SAFETY: `status` and `usage` are valid for writing; pid is our child, a zombie by now.
    if unsafe { libc::wait4(pid, &raw mut status, 0, &raw mut usage) } != pid {
        return Err(io::Error::last_os_error());
    }
    Ok((usage, status, wall, killed))
}

/// `metric NAME VALUE`.
fn metric(line: &str) -> Option<(String, f64)> {
    let (name, value) = line.strip_prefix("metric ")?.split_once(' ')?;
    Some((name.to_owned(), value.parse().ok()?))
}

fn seconds(t: libc::timeval) -> f64 {
    t.tv_sec as f64 + t.tv_usec as f64 / 1e6
}

/// FNV-1a, 64 bits: enough to tell outputs apart.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, |hash, &b| (hash ^ u64::from(b)).wrapping_mul(0x100_0000_01B3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Invocation {
        Invocation {
            program: "/bin/sh".into(),
            args: vec!["-c".into(), script.into()],
            env: Vec::new(),
            stdin: None,
            client: None,
        }
    }

    fn scratch(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("terrace-benches-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        dir
    }

    fn plain() -> Allocator {
        crate::allocators::baseline("glibc")
    }

    #[test]
    fn output_decides_the_checksum_and_failures_are_told_apart() {
        let dir = scratch("kinds");
        let long = Duration::from_secs(20);
        let run = |script: &str| run(&shell(script), &plain(), &dir, long);
        let one = run("echo 1").unwrap();
        assert_eq!(one.checksum, run("echo 1").unwrap().checksum);
        assert_ne!(one.checksum, run("echo 2").unwrap().checksum);
        assert!(one.rss_kib > 0 && one.wall_s > 0.0);
        assert!(matches!(run("echo no >&2; exit 4"), Err(Failure::Exit(4, said)) if said == "no"));
        let told = run("echo 1; echo metric left 2.5 >&2").unwrap();
        assert_eq!(
            (told.checksum, told.metric("left"), told.metric("right")),
            (one.checksum, Some(2.5), None)
        );
        assert!(matches!(run("kill -SEGV $$"), Err(Failure::Signal(11, _))));
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_hung_program_is_killed_at_the_limit() {
        let dir = scratch("hung");
        let result = run(&shell("exec sleep 30"), &plain(), &dir, Duration::from_millis(200));
        assert!(matches!(result, Err(Failure::TimedOut(_))), "{result:?}");
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_library_that_cannot_be_loaded_is_not_measured_as_glibc() {
        let dir = scratch("preload");
        let absent = Allocator { preload: Some("/nonexistent/liballoc.so".into()), ..plain() };
        let result = run(&shell("true"), &absent, &dir, Duration::from_secs(20));
        assert!(matches!(result, Err(Failure::NotPreloaded(_))), "{result:?}");
        std::fs::remove_dir_all(dir).unwrap();
    }
}
