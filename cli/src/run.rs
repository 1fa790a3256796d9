//! `terrace run`: set the preload and the configuration, check them, become the program.
//!
//! The command replaces itself (execve(2)), so the process id, the signals and the exit status are the program's.

mod elf;
mod library;

use std::env;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use terrace::config::{self, Reason};

use crate::fail::Fail;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// isolate, spill, assist or auto
    #[arg(long, value_name = "MODE")]
    mode: Option<OsString>,
    /// DRAM budget, such as 512M, or auto
    #[arg(long, value_name = "SIZE")]
    dram: Option<OsString>,
    /// Device budget, such as 8G, or auto
    #[arg(long, value_name = "SIZE")]
    device: Option<OsString>,
    /// NUMA nodes to treat as devices, such as 1 or 1,3 [default: those with memory and no CPU]
    #[arg(long, value_name = "NODES")]
    device_nodes: Option<OsString>,
    /// Where demotion starts and stops, in percent of the DRAM budget, such as 98,95
    #[arg(long, value_name = "HIGH,LOW")]
    watermarks: Option<OsString>,
    /// Source of heat: auto, rwp, perf, idle, refs, writes or alloc
    #[arg(long, value_name = "TRACKER")]
    tracker: Option<OsString>,
    /// A file that keeps what is learnt for the next run
    #[arg(long, value_name = "FILE")]
    profile: Option<OsString>,
    /// Let the library say what it found and what it gave up
    #[arg(long, short)]
    verbose: bool,
    /// The program and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "PROGRAM")]
    program: Vec<OsString>,
}

impl Args {
    /// The options that were given: option, variable, value.
    fn settings(&self) -> Vec<(&'static str, &'static str, &OsStr)> {
        let options = [
            ("--mode", "TERRACE_MODE", self.mode.as_deref()),
            ("--dram", "TERRACE_DRAM", self.dram.as_deref()),
            ("--device", "TERRACE_DEVICE", self.device.as_deref()),
            ("--device-nodes", "TERRACE_DEVICE_NODES", self.device_nodes.as_deref()),
            ("--watermarks", "TERRACE_WATERMARKS", self.watermarks.as_deref()),
            ("--tracker", "TERRACE_TRACKER", self.tracker.as_deref()),
            ("--profile", "TERRACE_PROFILE", self.profile.as_deref()),
            ("--verbose", "TERRACE_VERBOSE", self.verbose.then_some(OsStr::new("on"))),
        ];
        options.into_iter().filter_map(|(option, name, value)| Some((option, name, value?))).collect()
    }
}

/// Does not return when all is well.
pub(crate) fn run(args: &Args) -> Result<(), Fail> {
    let settings = args.settings();
    check(&settings, Path::new("/sys/devices/system/node"))?;
    let library = library::find()?;
    let program = &args.program[0];
    if let Some(why) = elf::why_preload_fails(program) {
        eprintln!("terrace: {}: {why}: its heap will not be on Terrace", program.display());
    }
    let mut command = Command::new(program);
    command.args(&args.program[1..]);
    command.env("LD_PRELOAD", preload(&library, env::var_os("LD_PRELOAD").as_deref()));
    for (_, name, value) in &settings {
        command.env(name, value);
    }
    let error = command.exec();
    // As a shell: 127 when there is no such program, 126 when there is but it cannot be run.
    let status = if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 };
    Err(Fail::with_status(format_args!("{}: {}", program.display(), plain(&error)), status))
}

/// Our library first, so that its malloc is the one found, then what the user preloads already.
fn preload(library: &Path, existing: Option<&OsStr>) -> OsString {
    let mut list = library.as_os_str().to_owned();
    if let Some(existing) = existing.filter(|e| !e.is_empty()) {
        list.push(":");
        list.push(existing);
    }
    list
}

/// Refuses what the library would only warn about: here the user is still at the keyboard. A name that does not exist
/// is left to the library: it may be somebody else's.
fn check(settings: &[(&'static str, &'static str, &OsStr)], nodes: &Path) -> Result<(), Fail> {
    let inherited: Vec<(OsString, OsString)> =
        env::vars_os().filter(|(name, _)| !settings.iter().any(|(_, set, _)| name == set)).collect();
    let pairs = settings
        .iter()
        .map(|&(_, name, value)| (name.as_bytes(), value.as_bytes()))
        .chain(inherited.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())));
    let mut first = None;
    let parsed = config::parse(pairs, &mut |problem| {
        if !matches!(problem.reason, Reason::Unknown(_)) {
            first.get_or_insert(*problem);
        }
    });
    if let Some(problem) = first {
        let name = String::from_utf8_lossy(problem.name);
        let option = settings.iter().find(|(_, set, _)| *set == name).map(|(option, ..)| *option);
        let value = String::from_utf8_lossy(problem.value);
        let what =
            option.map_or_else(|| format!("{name}={value:.64}"), |option| format!("{option} {value:.64}"));
        return Err(Fail::usage(format_args!("{what}: {}", problem.reason)));
    }
    if let Some(asked) = parsed.device_nodes
        && nodes.exists()
        && let Some(missing) = asked.iter().find(|node| !nodes.join(format!("node{node}")).exists())
    {
        return Err(Fail::usage(format_args!("this machine has no node {missing} to use as a device")));
    }
    Ok(())
}

/// The message of errno alone, without Rust's "(os error 2)".
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().map_or_else(String::new, str::to_owned)
}
