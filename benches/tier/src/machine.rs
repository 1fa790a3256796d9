//! The virtual machine of one contender at one ratio: builds what goes into it and runs the observer there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use lab::{Layout, Vm};

use crate::observe::pages_here;
use crate::plan::{Contender, Plan, Workload};

/// Memory of the machine. What DRAM has beyond a workload's budget is held by another process.
const DRAM_MIB: u64 = 640;
const DEVICE_MIB: u64 = 1024;

/// Seconds that a workload may take beside its phases: to fill its heap, to end, and to set its contender up.
const BESIDE: u64 = 240;

/// Where Debian puts memkind's preload library.
const MEMTIER: &str = "/usr/lib/x86_64-linux-gnu/libmemtier.so.0";

const BINARIES: &[(&str, &[&str])] = &[("hog", &["-static", "-lm"]), ("policy", &["-static"])];

/// Programs and scripts that every machine gets.
pub struct Kit {
    files: Vec<PathBuf>,
    terrace: PathBuf,
    tier: PathBuf,
    scratch: PathBuf,
}

impl Kit {
    /// Builds what is to be built, in `scratch`.
    ///
    /// # Errors
    /// What the compiler said; a program that is not there.
    pub fn new(scratch: &Path) -> Result<Kit, String> {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        fs::create_dir_all(scratch).map_err(|e| format!("{}: {e}", scratch.display()))?;
        let own = std::env::current_exe().map_err(|e| e.to_string())?;
        let target = own.parent().ok_or("this program lies nowhere")?.to_owned();
        let workloads = sources(&here.join("workloads"), "c")?;
        let tier = compile(&workloads, "tier", scratch, &["-D_GNU_SOURCE", "-lm"])?;
        let mut files = vec![target.join("terrace-tier-observer"), tier.clone()];
        for (name, arguments) in BINARIES {
            let source = here.join(format!("contenders/{name}.c"));
            files.push(compile(&[source], name, scratch, arguments)?);
        }
        files.extend(sources(&here.join("contenders"), "sh")?);
        for file in &files {
            if !file.exists() {
                return Err(format!("{} is not there; was it built?", file.display()));
            }
        }
        Ok(Kit { files, terrace: target, tier, scratch: scratch.to_owned() })
    }

    /// MiB of pages that hold the objects of `workload`, when it is asked for `mib` MiB.
    ///
    /// # Errors
    /// When it does not run here.
    pub fn footprint_mib(&self, workload: &str, mib: u64) -> Result<f64, String> {
        let pages = pages_here(&self.tier, workload, mib, &self.scratch).map_err(|e| e.to_string())?;
        Ok(pages as f64 * terrace_demo::outside::PAGE as f64 / f64::from(1 << 20))
    }

    /// Runs the workloads of `plan` under `contender` in a machine, DRAM being a `ratio`th of each footprint; the observer's record.
    ///
    /// # Errors
    /// When the machine does not run or the observer fails.
    pub fn run(
        &self,
        plan: &Plan,
        contender: &Contender,
        ratio: u64,
        footprints: &[(Workload, f64)],
    ) -> Result<String, String> {
        let mut vm = Vm::layout(Layout::DramDevice)
            .dram_mib(DRAM_MIB)
            .device_mib(DEVICE_MIB)
            .cpus(plan.cpus)
            .terrace_from(&self.terrace);
        if plan.jobs == 1 {
            vm = vm.alone();
        }
        for file in &self.files {
            vm = vm.file(file);
        }
        if contender.script == "memtier" {
            vm = vm.file(MEMTIER);
        }
        for (key, value) in contender.environment {
            vm = vm.env(key, value);
        }
        let loads: Vec<String> = footprints
            .iter()
            .map(|(workload, footprint)| {
                let budget = (footprint / ratio as f64).round().max(1.0);
                format!("{}:{}:{budget}:{}", workload.name, plan.mib, workload.shifts)
            })
            .collect();
        let phases: u64 = footprints.iter().map(|(w, _)| w.shifts + 1).sum();
        // Twice: some rehearse.
        let limit = 2 * (phases * plan.seconds + BESIDE * footprints.len() as u64);
        let command =
            format!("./terrace-tier-observer {} {} {}", contender.script, plan.seconds, loads.join(" "));
        let outcome = vm.timeout(Duration::from_secs(limit)).run(&command).map_err(|e| e.to_string())?;
        if outcome.success() {
            return Ok(outcome.stdout);
        }
        let end: Vec<&str> = outcome.stdout.lines().rev().take(5).collect();
        Err(format!(
            "{} at 1:{ratio}: status {}, {}\n{}",
            contender.name,
            outcome.status,
            outcome.unfinished.as_deref().unwrap_or(""),
            end.into_iter().rev().collect::<Vec<_>>().join("\n")
        ))
    }
}

/// Files of `directory` with this ending, sorted.
fn sources(directory: &Path, ending: &str) -> Result<Vec<PathBuf>, String> {
    let entries = fs::read_dir(directory).map_err(|e| format!("{}: {e}", directory.display()))?;
    let mut files: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|e| e == ending))
        .collect();
    files.sort();
    Ok(files)
}

fn compile(sources: &[PathBuf], name: &str, directory: &Path, arguments: &[&str]) -> Result<PathBuf, String> {
    let program = directory.join(name);
    let mut cc = Command::new("cc");
    cc.args(["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-O2", "-o"]).arg(&program);
    let output = cc.args(sources).args(arguments).output().map_err(|e| format!("cc: {e}"))?;
    if output.status.success() {
        Ok(program)
    } else {
        Err(format!("{name}: {}", String::from_utf8_lossy(&output.stderr)))
    }
}
