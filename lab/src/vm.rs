//! The description of one run: what tests and the command line build.

use crate::counts;
use crate::error::LabError;
use crate::layout::{Kernel, Layout};
use crate::machine::{collect, new_run_dir};
use crate::outcome::{Outcome, UNFINISHED};
use crate::qemu::{self, End};
use crate::setup;
use crate::slots::Slot;
use std::ffi::OsStr;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The virtual addresses whose accesses are counted unless a program asks for others: where Terrace puts its
/// heaps.
pub const HEAP_WINDOW: Range<u64> = 0x1000_0000_0000..0x5000_0000_0000;

/// Users of the guest: name, uid and gid.
pub(crate) const USERS: [(&str, u32); 2] = [("root", 0), ("nobody", 65534)];

/// Gets what the command prints.
type Sink<'a> = Box<dyn FnMut(&[u8]) + 'a>;

/// One virtual machine to be run; see the [crate's documentation](crate) for an example.
///
/// Every method takes and returns the description. Nothing happens before [`Vm::run`].
pub struct Vm<'a> {
    pub(crate) layout: Layout,
    pub(crate) kernel: Kernel,
    pub(crate) dram_mib: u64,
    pub(crate) device_mib: u64,
    pub(crate) cpus: u32,
    limit: Duration,
    pub(crate) user: String,
    pub(crate) files: Vec<(PathBuf, String)>,
    pub(crate) c_programs: Vec<(String, String)>,
    pub(crate) programs: Vec<String>,
    pub(crate) modules: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) append: String,
    pub(crate) terrace: Option<PathBuf>,
    pub(crate) count: Option<Range<u64>>,
    out: Option<PathBuf>,
    alone: bool,
    pub(crate) verbose: bool,
    sink: Sink<'a>,
}

impl<'a> Vm<'a> {
    /// A machine of that layout: Linux 6.12, 1 GiB a node, 2 vCPUs, user root, 300 s.
    pub fn layout(layout: Layout) -> Vm<'a> {
        Vm {
            layout,
            kernel: Kernel::V6_12,
            dram_mib: 1024,
            device_mib: 1024,
            cpus: 2,
            limit: Duration::from_secs(300),
            user: "root".into(),
            files: Vec::new(),
            c_programs: Vec::new(),
            programs: Vec::new(),
            modules: Vec::new(),
            env: Vec::new(),
            append: String::new(),
            terrace: None,
            count: None,
            out: None,
            alone: false,
            verbose: false,
            sink: Box::new(|_| {}),
        }
    }

    /// The kernel to boot.
    pub fn kernel(mut self, kernel: Kernel) -> Self {
        self.kernel = kernel;
        self
    }

    /// Memory of node 0, MiB.
    pub fn dram_mib(mut self, mib: u64) -> Self {
        self.dram_mib = mib;
        self
    }

    /// Memory of each device node, MiB.
    pub fn device_mib(mut self, mib: u64) -> Self {
        self.device_mib = mib;
        self
    }

    /// Number of vCPUs, 1 to 16; all belong to node 0.
    pub fn cpus(mut self, cpus: u32) -> Self {
        self.cpus = cpus;
        self
    }

    /// How long the command may take, from its start.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Who runs the command: `root` or `nobody`.
    pub fn user(mut self, name: &str) -> Self {
        self.user = name.into();
        self
    }

    /// Puts a host file or directory into `/job`, which is the command's working directory.
    pub fn file(self, host: impl AsRef<Path>) -> Self {
        let name = host.as_ref().file_name().unwrap_or(OsStr::new("file")).to_string_lossy().into_owned();
        self.file_at(host, &format!("/job/{name}"))
    }

    /// Puts a host file or directory at that path of the guest.
    pub fn file_at(mut self, host: impl AsRef<Path>, guest: &str) -> Self {
        self.files.push((host.as_ref().into(), guest.into()));
        self
    }

    /// Puts a C program into `/job/NAME`: compiled from this source, statically.
    pub fn c_program(mut self, name: &str, source: &str) -> Self {
        self.c_programs.push((name.into(), source.into()));
        self
    }

    /// Puts a program of the host's Debian into the guest, such as `redis-server` or `python3`, with its
    /// libraries.
    pub fn program(mut self, name: &str) -> Self {
        self.programs.push(name.into());
        self
    }

    /// Loads a kernel module before the command.
    pub fn module(mut self, name: &str) -> Self {
        self.modules.push(name.into());
        self
    }

    /// Sets an environment variable of the command.
    pub fn env(mut self, key: &str, value: &str) -> Self {
        self.env.push((key.into(), value.into()));
        self
    }

    /// Adds to the kernel's command line.
    pub fn append(mut self, kernel_args: &str) -> Self {
        self.append = format!("{} {kernel_args}", self.append);
        self
    }

    /// Takes Terrace from this directory instead of the newest build in cargo's target directory.
    pub fn terrace_from(mut self, dir: impl AsRef<Path>) -> Self {
        self.terrace = Some(dir.as_ref().into());
        self
    }

    /// Counts loads and stores per NUMA node, in [`HEAP_WINDOW`], of every process of the guest. Three to six
    /// times slower.
    pub fn count_accesses(mut self, yes: bool) -> Self {
        self.count = yes.then_some(HEAP_WINDOW);
        self
    }

    /// Counts loads and stores per NUMA node in this range of virtual addresses.
    pub fn count_range(mut self, range: Range<u64>) -> Self {
        self.count = Some(range);
        self
    }

    /// Keeps the guest's `/out` in this host directory.
    pub fn out(mut self, dir: impl AsRef<Path>) -> Self {
        self.out = Some(dir.as_ref().into());
        self
    }

    /// Prints the emulator's command line and the guest's console to standard error.
    pub fn verbose(mut self, yes: bool) -> Self {
        self.verbose = yes;
        self
    }

    /// Called with every line the command prints, while it runs, without its end.
    pub fn on_line(self, mut call: impl FnMut(&str) + 'a) -> Self {
        let mut pending = Vec::new();
        self.on_output(move |bytes| {
            pending.extend_from_slice(bytes);
            while let Some(end) = pending.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = pending.drain(..=end).collect();
                call(String::from_utf8_lossy(&line[..end]).trim_end_matches('\r'));
            }
        })
    }

    /// Runs while no other machine does: for what takes time and says how long.
    pub fn alone(mut self) -> Self {
        self.alone = true;
        self
    }

    /// Called with what the command prints, as it comes.
    pub fn on_output(mut self, call: impl FnMut(&[u8]) + 'a) -> Self {
        self.sink = Box::new(call);
        self
    }

    /// Boots the machine and runs a shell command in it. Waits for one of the computer's slots (`LAB_JOBS`, 2)
    /// first.
    ///
    /// # Errors
    /// When the machine cannot be set up or does not boot in three attempts. A command that fails or does not
    /// end is an
    /// [`Outcome`]; a command that was started is never started again.
    pub fn run(mut self, command: &str) -> Result<Outcome, LabError> {
        let uid = self.check(command)?;
        setup::for_run(self.kernel)?;
        let run = new_run_dir()?;
        self.image(command, uid)?.write_cpio(&run.initrd())?;
        let qemu = self.qemu_command(&run)?;
        if self.verbose {
            eprintln!("lab: {}", qemu.join(" "));
        }
        let slot = Slot::take(self.alone)?;
        let mut stdout = Vec::new();
        let mut sink = std::mem::replace(&mut self.sink, Box::new(|_| {}));
        let mut again = crash_retries();
        let end = loop {
            let end = qemu::run(&run, &qemu, self.limit, &mut |bytes| {
                stdout.extend_from_slice(bytes);
                sink(bytes);
            });
            match end {
                Ok(End::Unfinished(why)) if again > 0 && why.starts_with(qemu::ENDED) => {
                    again -= 1;
                    eprintln!("lab: {why}\nlab: running the command again (LAB_CRASH_RETRIES)");
                    stdout.clear();
                }
                end => break end,
            }
        };
        drop(slot);
        if self.verbose {
            eprintln!("{}", fs::read_to_string(run.console()).unwrap_or_default());
        }
        let (status, unfinished) = match end? {
            End::Status(status) => (status, None),
            End::Unfinished(why) => (UNFINISHED, Some(why)),
        };
        let files = self.out.clone().unwrap_or_else(|| run.dir.join("out"));
        collect(&run, &files)?;
        let counts = match self.count {
            Some(_) => counts::parse(&fs::read_to_string(run.counts()).unwrap_or_default())?,
            None => Vec::new(),
        };
        let stdout = String::from_utf8_lossy(&stdout).into_owned();
        Ok(Outcome { status, stdout, files, counts, unfinished, _run: run })
    }

    /// Checks what can be checked before anything is set up; the user's id.
    fn check(&self, command: &str) -> Result<u32, LabError> {
        self.layout.check(self.dram_mib, self.device_mib)?;
        if !(1..=16).contains(&self.cpus) {
            return Err(LabError::Usage(format!("{} vCPUs: 1 to 16 were expected", self.cpus)));
        }
        if command.trim().is_empty() {
            return Err(LabError::Usage("no command to run".into()));
        }
        for (key, _) in &self.env {
            if key.is_empty() || !key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
                return Err(LabError::Usage(format!("{key}: not the name of an environment variable")));
            }
        }
        let known = USERS.iter().find(|(name, _)| *name == self.user);
        known.map(|(_, uid)| *uid).ok_or_else(|| {
            LabError::Usage(format!("no user {} in the guest: root or nobody was expected", self.user))
        })
    }
}

/// The text as one word of the shell.
pub(crate) fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// One shell command from the words of a command line: a single word is a command already, several are quoted.
pub fn shell_command(words: &[String]) -> String {
    match words {
        [one] => one.clone(),
        many => many.iter().map(|w| quote(w)).collect::<Vec<_>>().join(" "),
    }
}

/// How often a command may run again because the emulator died under it: `LAB_CRASH_RETRIES`, else never. A time-out or a failing
/// command is never repeated.
fn crash_retries() -> u32 {
    std::env::var("LAB_CRASH_RETRIES").ok().and_then(|n| n.parse().ok()).unwrap_or(0)
}
