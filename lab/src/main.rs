//! `lab`: runs a command on a virtual machine with several tiers of memory. See `docs/lab.md`.

use lab::{Kernel, LabError, Layout, Mark, Vm};
use std::env;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::exit;
use std::time::Duration;

const USAGE: &str = "\
usage: lab [OPTION]... -- CMD...
       lab --setup
Boots a stock Debian kernel in an emulator and runs CMD in it. One word is a shell command; several are a program and its arguments.
  --layout NAME        one-node, dram-device (default), dram-device-nohmat, three-tiers, device-via-kmem, device-dax
  --kernel 6.12|6.1    Debian kernel to boot (default 6.12)
  --dram MiB           memory of node 0 (default 1024)
  --device MiB         memory of each device node (default 1024)
  --cpus N             vCPUs, all of node 0 (default 2)
  --timeout S          seconds CMD may take (default 300)
  --user NAME          root (default) or nobody
  --file HOST[:GUEST]  put a file or directory into the guest (default place: /job, where CMD starts)
  --program NAME       put a program of this machine into the guest with its libraries: redis-server, python3
  --module NAME        load a kernel module
  --env K=V            set a variable of CMD
  --terrace DIR        take libterrace.so and so on from DIR (default: newest build in the target directory)
  --out DIR            keep what CMD leaves in /out
  --count              count loads and stores per node, in Terrace's heaps
  --count-range LO-HI  count them in this range of virtual addresses
  --append KARGS       add to the kernel's command line
  -v                   show the emulator's command line and the guest's console
The exit status is CMD's; 120: the machine did not finish; 2: wrong usage; 3: the machine could not be set up or booted.
";

fn main() {
    let code = match parse(env::args().skip(1)) {
        Ok(Request::Help) => {
            print!("{USAGE}");
            0
        }
        Ok(Request::Setup) => lab::setup::all().map_or_else(|e| report(&e), |()| 0),
        Ok(Request::Run(vm, command)) => run(*vm, &command).unwrap_or_else(|e| report(&e)),
        Err(why) => {
            eprintln!("lab: {why} (lab --help)");
            2
        }
    };
    exit(code);
}

fn report(error: &LabError) -> i32 {
    eprintln!("lab: {error}");
    if matches!(error, LabError::Usage(_)) { 2 } else { 3 }
}

fn run(vm: Vm<'static>, command: &str) -> Result<i32, LabError> {
    let outcome = vm
        .on_output(|bytes| {
            let mut out = io::stdout().lock();
            // A reader that went away (`lab ... | head`) does not concern the guest.
            let _ = out.write_all(bytes).and_then(|()| out.flush());
        })
        .run(command)?;
    for mark in &outcome.counts {
        eprintln!("{}", describe(mark));
    }
    if let Some(why) = &outcome.unfinished {
        eprintln!("lab: the command did not end: {why}");
    }
    Ok(outcome.status)
}

fn describe(mark: &Mark) -> String {
    let mut line = if mark.id == Mark::END { "end:".to_owned() } else { format!("mark {}:", mark.id) };
    for (n, node) in mark.nodes.iter().enumerate() {
        line += &format!(" node{n} {} loads {} stores;", node.reads, node.writes);
    }
    line + &format!(" elsewhere {}", mark.elsewhere.total())
}

enum Request {
    Help,
    Setup,
    Run(Box<Vm<'static>>, String),
}

/// The options in any order, then `--` and the command.
fn parse(mut args: impl Iterator<Item = String>) -> Result<Request, String> {
    let mut layout = Layout::DramDevice;
    let mut changes: Vec<Box<dyn FnOnce(Vm<'static>) -> Vm<'static>>> = Vec::new();
    while let Some(option) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{option} needs a value"));
        match option.as_str() {
            "-h" | "--help" => return Ok(Request::Help),
            "--setup" => return Ok(Request::Setup),
            "--" => {
                let words: Vec<String> = args.collect();
                let vm = changes.into_iter().fold(Vm::layout(layout), |vm, change| change(vm));
                return Ok(Request::Run(Box::new(vm), lab::shell_command(&words)));
            }
            "--count" => changes.push(Box::new(|vm| vm.count_accesses(true))),
            "-v" => changes.push(Box::new(|vm| vm.verbose(true))),
            "--layout" => {
                layout = value().and_then(|v| Layout::from_name(&v).ok_or(format!("no layout {v}")))?;
            }
            _ => {
                let change = with_value(&option, value()?)?;
                changes.push(change);
            }
        }
    }
    Err("no command: expected -- CMD".into())
}

fn with_value(option: &str, value: String) -> Result<Box<dyn FnOnce(Vm<'static>) -> Vm<'static>>, String> {
    let number = || value.parse::<u64>().map_err(|_| format!("{option} {value}: a number was expected"));
    Ok(match option {
        "--kernel" => {
            let kernel = Kernel::from_name(&value).ok_or(format!("no kernel {value}: 6.12 or 6.1"))?;
            Box::new(move |vm| vm.kernel(kernel))
        }
        "--dram" => number().map(|n| Box::new(move |vm: Vm<'static>| vm.dram_mib(n)))?,
        "--device" => number().map(|n| Box::new(move |vm: Vm<'static>| vm.device_mib(n)))?,
        "--cpus" => number().map(|n| Box::new(move |vm: Vm<'static>| vm.cpus(n.min(1000) as u32)))?,
        "--timeout" => {
            number().map(|n| Box::new(move |vm: Vm<'static>| vm.timeout(Duration::from_secs(n))))?
        }
        "--user" => Box::new(move |vm| vm.user(&value)),
        "--file" => {
            let (host, guest) = match value.rsplit_once(':') {
                Some((host, guest)) => (PathBuf::from(host), Some(guest.to_owned())),
                None => (PathBuf::from(&value), None),
            };
            Box::new(move |vm| match &guest {
                Some(guest) => vm.file_at(&host, guest),
                None => vm.file(&host),
            })
        }
        "--program" => Box::new(move |vm| vm.program(&value)),
        "--module" => Box::new(move |vm| vm.module(&value)),
        "--env" => {
            let (key, text) = value.split_once('=').ok_or(format!("--env {value}: K=V was expected"))?;
            let (key, text) = (key.to_owned(), text.to_owned());
            Box::new(move |vm| vm.env(&key, &text))
        }
        "--terrace" => Box::new(move |vm| vm.terrace_from(Path::new(&value))),
        "--out" => Box::new(move |vm| vm.out(Path::new(&value))),
        "--count-range" => {
            let range = range(&value).ok_or(format!("--count-range {value}: LO-HI was expected"))?;
            Box::new(move |vm| vm.count_range(range))
        }
        "--append" => Box::new(move |vm| vm.append(&value)),
        _ => return Err(format!("unknown option {option}")),
    })
}

fn range(text: &str) -> Option<std::ops::Range<u64>> {
    let number = |text: &str| match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(&hex.replace('_', ""), 16).ok(),
        None => text.parse().ok(),
    };
    let (low, high) = text.split_once('-')?;
    Some(number(low)?..number(high)?)
}
