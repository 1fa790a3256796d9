//! What the tests of libterrace.so share: the library as it ships, small C and C++ programs, and running things
//! under it with a time limit.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Once, OnceLock};
use std::time::{Duration, Instant};

/// The root of the workspace.
pub(crate) fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("ffi/ lies in the workspace")
}

/// An empty directory for what a test produces, inside the target directory. It stays for whoever wants to see why a test
/// failed, until the next run.
pub(crate) fn scratch(name: &str) -> PathBuf {
    static CLEANED: Once = Once::new();
    CLEANED.call_once(remove_what_earlier_runs_left);
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).expect("a scratch directory can be made");
    path
}

/// Directories that end in the id of a process that is no more.
fn remove_what_earlier_runs_left() {
    let entries = std::fs::read_dir(env!("CARGO_TARGET_TMPDIR")).into_iter().flatten().flatten();
    for path in entries.map(|entry| entry.path()).filter(|path| path.is_dir()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let pid = name.rsplit_once('-').and_then(|(_, pid)| pid.parse::<u32>().ok());
        if pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            let _ = std::fs::remove_dir_all(path);
        }
    }
}

/// `libterrace.so` as `cargo build --release` makes it, brought up to date first. What is tested is what ships: a
/// debug build has other code, other TLS and other symbols.
pub(crate) fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let target =
            Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the scratch directory lies in target/");
        let status = Command::new(env!("CARGO"))
            .args(["build", "--release", "--quiet", "--package", "terrace-ffi", "--target-dir"])
            .arg(target)
            .current_dir(workspace())
            .status()
            .expect("cargo runs");
        assert!(status.success(), "libterrace.so does not build");
        let path = target.join("release/libterrace.so");
        assert!(path.is_file(), "{} is missing", path.display());
        path
    })
}

/// Compiles `source` (a path under `ffi/tests/`) with the C or C++ compiler by its suffix, and `extra` arguments.
pub(crate) fn compile(source: &str, extra: &[&str]) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(source);
    let cxx = source.extension() == Some(OsStr::new("cpp"));
    let stem = source.file_stem().expect("a source file has a name").to_string_lossy().into_owned();
    let output = scratch(&format!("build-{stem}-{}", unique())).join(stem);
    let mut command = Command::new(if cxx { "g++" } else { "gcc" });
    // -fno-builtin: the compiler may otherwise drop or rewrite the very calls under test.
    command.args(["-O1", "-g", "-Wall", "-Wextra", "-Werror", "-fno-builtin", "-pthread"]);
    command.arg(if cxx { "-std=c++17" } else { "-std=gnu11" });
    command.arg("-o").arg(&output).arg(&source).args(extra);
    let result = run(&mut command, 120);
    assert!(result.status.success(), "{} does not compile:\n{}", source.display(), result.stderr);
    output
}

fn unique() -> usize {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// `program`, to be run with libterrace.so preloaded.
pub(crate) fn preloaded(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    preload(&mut command);
    command
}

/// Preloads libterrace.so into `command`.
pub(crate) fn preload(command: &mut Command) -> &mut Command {
    command.env("LD_PRELOAD", library())
}

/// Starts `command` with a soft limit of `bytes` on its address space.
pub(crate) fn limit_address_space(command: &mut Command, bytes: u64) -> &mut Command {
    let limit = move || {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: the structure is live and of the right type.
        let done = unsafe {
            libc::getrlimit(libc::RLIMIT_AS, &raw mut limit) == 0 && {
                limit.rlim_cur = bytes;
                libc::setrlimit(libc::RLIMIT_AS, &raw const limit) == 0
            }
        };
        if done { Ok(()) } else { Err(std::io::Error::last_os_error()) }
    };
    // SAFETY: between fork and exec the closure makes two system calls and allocates nothing.
    unsafe { command.pre_exec(limit) }
}

/// What a program left behind.
pub(crate) struct Outcome {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) elapsed: Duration,
}

impl Outcome {
    /// Panics with all the output unless the program succeeded.
    #[track_caller]
    pub(crate) fn expect_success(self, what: &str) -> Outcome {
        assert!(self.status.success(), "{what}: {}", self.describe());
        self
    }

    pub(crate) fn describe(&self) -> String {
        let mut text = String::new();
        let _ = write!(text, "{} (signal {:?})", self.status, self.status.signal());
        let _ = write!(text, "\n-- stdout\n{}\n-- stderr\n{}", tail(&self.stdout), tail(&self.stderr));
        text
    }
}

fn tail(text: &str) -> &str {
    let start = text.len().saturating_sub(6000);
    let start = (start..text.len()).find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    &text[start..]
}

/// Runs `command` to its end, or panics after `limit_s` seconds having killed it and every process of its group.
#[track_caller]
pub(crate) fn run(command: &mut Command, limit_s: u64) -> Outcome {
    let started = Instant::now();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
    let stdout = drain(child.stdout.take().expect("stdout is piped"));
    let stderr = drain(child.stderr.take().expect("stderr is piped"));
    let status = loop {
        if let Some(status) = child.try_wait().expect("the child can be waited for") {
            break Some(status);
        }
        if started.elapsed() > Duration::from_secs(limit_s) {
            // SAFETY: the group is the child's own, made by process_group(0), and the child has not been reaped.
            unsafe { libc::kill(-(child.id() as libc::pid_t), libc::SIGKILL) };
            let _ = child.wait();
            break None;
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    let elapsed = started.elapsed();
    let (stdout, stderr) = (stdout.join().expect("reader ends"), stderr.join().expect("reader ends"));
    let Some(status) = status else {
        panic!(
            "{command:?} hangs: killed after {limit_s} s\n-- stdout\n{}\n-- stderr\n{}",
            tail(&stdout),
            tail(&stderr)
        );
    };
    Outcome { status, stdout, stderr, elapsed }
}

fn drain(mut from: impl Read + Send + 'static) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// The lines of `text` that Terrace wrote.
pub(crate) fn terrace_lines(text: &str) -> Vec<&str> {
    text.lines().filter(|line| line.starts_with("terrace: ")).collect()
}
