//! Runs one prepared virtual machine: starts the emulator, passes on what the guest prints, watches the clock.

use crate::error::LabError;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// A guest that has not reached its command after this long is given up. A boot takes about four seconds
/// of CPU time; the rest is for computers with other things to do.
const BOOT_LIMIT: Duration = Duration::from_secs(240);
const BOOT_ATTEMPTS: u32 = 3;

/// Why a command is unfinished when the emulator is gone.
pub(crate) const ENDED: &str = "the virtual machine ended";

/// How a command ended.
pub(crate) enum End {
    /// With this exit status.
    Status(i32),
    /// Not at all; why not.
    Unfinished(String),
}

/// Paths of one run, all in its private directory.
#[derive(Debug)]
pub(crate) struct RunDir {
    pub(crate) dir: PathBuf,
}

impl RunDir {
    pub(crate) fn initrd(&self) -> PathBuf {
        self.dir.join("initrd")
    }

    /// The guest's /out as a tar archive; empty if it left nothing there.
    pub(crate) fn results(&self) -> PathBuf {
        self.dir.join("res")
    }

    pub(crate) fn counts(&self) -> PathBuf {
        self.dir.join("counts")
    }

    pub(crate) fn console(&self) -> PathBuf {
        self.dir.join("console")
    }

    fn control(&self) -> PathBuf {
        self.dir.join("ctl")
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// The emulator's arguments for the guest's channels: console, output, control, results.
pub(crate) fn channel_args(run: &RunDir) -> Vec<String> {
    let mut args: Vec<String> = ["-device", "virtio-serial-pci", "-serial"].map(Into::into).into();
    args.push(format!("file:{}", run.console().display()));
    let (ctl, res) = (run.control(), run.results());
    // The guest's output is the emulator's own standard output, so it ends when the emulator does.
    for (name, path) in [("out", Path::new("/dev/stdout")), ("ctl", &ctl), ("res", &res)] {
        args.push("-chardev".into());
        args.push(format!("file,id={name},path={}", path.display()));
        args.push("-device".into());
        args.push(format!("virtserialport,chardev={name},name={name}"));
    }
    args
}

/// Boots the machine, again if a boot fails, and runs its command, never twice. `sink` gets what the command
/// prints as it comes.
pub(crate) fn run(
    run: &RunDir,
    command: &[String],
    limit: Duration,
    sink: &mut dyn FnMut(&[u8]),
) -> Result<End, LabError> {
    let mut said = String::new();
    for attempt in 1..=BOOT_ATTEMPTS {
        for path in [run.control(), run.results(), run.console()] {
            fs::write(&path, "").map_err(LabError::io(format!("create {}", path.display())))?;
        }
        let (why, complaint) = attempt_once(run, command, limit, sink)?;
        let control = fs::read_to_string(run.control()).unwrap_or_default();
        let status = control.lines().find_map(|line| line.strip_prefix("status ")?.trim().parse().ok());
        if let Some(status) = status {
            return Ok(End::Status(status));
        }
        let tail = console_tail(run);
        if control.contains("started") {
            return Ok(End::Unfinished(format!("{why}\n{complaint}{tail}")));
        }
        said = format!("{why}\n{complaint}{tail}");
        if attempt < BOOT_ATTEMPTS {
            eprintln!("lab: boot {attempt} failed ({why}); trying again");
        }
    }
    Err(LabError::Boot { attempts: BOOT_ATTEMPTS, console: said })
}

/// Kills the emulator unless it has ended: nothing outlives a run, not even one that panics in a sink.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// One life of the emulator: why it ended, and what it printed on standard error.
fn attempt_once(
    run: &RunDir,
    command: &[String],
    limit: Duration,
    sink: &mut dyn FnMut(&[u8]),
) -> Result<(String, String), LabError> {
    // setpriv makes the kernel end the emulator when this thread dies for whatever reason.
    let mut qemu = Command::new("setpriv")
        .args(["--pdeathsig", "KILL"])
        .args(command)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map(Guard)
        .map_err(LabError::io("start setpriv"))?;
    let (send, receive) = mpsc::channel();
    let mut out = qemu.0.stdout.take();
    let reader = thread::spawn(move || {
        let mut buffer = [0; 1 << 16];
        while let Some(n) = out.as_mut().and_then(|pipe| pipe.read(&mut buffer).ok()).filter(|n| *n > 0) {
            if send.send(buffer[..n].to_vec()).is_err() {
                break;
            }
        }
    });
    let mut err = qemu.0.stderr.take();
    let complaints = thread::spawn(move || {
        let mut text = Vec::new();
        let _ = err.as_mut().map(|pipe| pipe.read_to_end(&mut text));
        String::from_utf8_lossy(&text).into_owned()
    });

    let booted = Instant::now();
    let mut started: Option<Instant> = None;
    let why = loop {
        match receive.recv_timeout(Duration::from_millis(20)) {
            Ok(bytes) => sink(&bytes),
            Err(RecvTimeoutError::Timeout) => {}
            // The emulator closed its output: it has ended.
            Err(RecvTimeoutError::Disconnected) => break ENDED.to_owned(),
        }
        if started.is_none() && fs::metadata(run.control()).is_ok_and(|m| m.len() > 0) {
            started = Some(Instant::now());
        }
        let late = match started {
            Some(at) if at.elapsed() > limit => Some(format!("the command did not end within {limit:?}")),
            None if booted.elapsed() > BOOT_LIMIT => Some(format!("no boot within {BOOT_LIMIT:?}")),
            _ => None,
        };
        if let Some(why) = late {
            let _ = qemu.0.kill();
            receive.iter().for_each(|bytes| sink(&bytes));
            break why;
        }
    };
    let _ = reader.join();
    // How the emulator ended tells a crash of it (a signal) from a guest that reset itself (an orderly exit).
    let why = match qemu.0.wait() {
        Ok(status) if why == ENDED => format!("{ENDED}, the emulator's {status}"),
        _ => why,
    };
    drop(qemu);
    Ok((why, complaints.join().unwrap_or_default()))
}

/// The part of the guest's console that explains: from the first sign of a crash, or the end.
fn console_tail(run: &RunDir) -> String {
    const SIGNS: [&str; 5] = ["Kernel panic", "BUG: ", "Oops", "general protection fault", "sysrq: "];
    let text = fs::read(run.console()).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let crash = lines.iter().position(|line| SIGNS.iter().any(|sign| line.contains(sign)));
    let from = crash.unwrap_or(lines.len().saturating_sub(25));
    lines[from..].iter().take(40).copied().collect::<Vec<_>>().join("\n")
}
