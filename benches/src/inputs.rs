//! Builds the workload program, once a run, into the scratch directory, where all inputs lie too.

use crate::allocators::Allocator;
use crate::measure::{self, Invocation};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

const C_SOURCES: &[&str] = &[
    "main.c",
    "memory.c",
    "pairs.c",
    "batches.c",
    "large.c",
    "remote.c",
    "threads.c",
    "crowds.c",
    "fragmentation.c",
    "startup.c",
];
const CPP_SOURCES: &[&str] = &["sized.cpp", "stl.cpp"];

/// `-fno-builtin`: a compiler that knows malloc may remove a pair or turn malloc and memset into calloc.
const FLAGS: &[&str] = &["-O2", "-g", "-fno-builtin", "-Wall", "-Wextra", "-Werror", "-pthread"];

/// Where this run's programs and inputs lie.
#[derive(Debug)]
pub(crate) struct Inputs {
    pub(crate) scratch: PathBuf,
    pub(crate) workloads: PathBuf,
}

impl Inputs {
    /// Compiles the workloads into a directory of this process's own under `parent`, removed when this is dropped.
    pub(crate) fn prepare(parent: &Path) -> Result<Inputs, String> {
        let scratch = parent.join(std::process::id().to_string());
        std::fs::create_dir_all(&scratch).map_err(|e| format!("{}: {e}", scratch.display()))?;
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("workloads");
        let workloads = scratch.join("workloads");
        let mut objects = Vec::new();
        for (compiler, standard, file) in C_SOURCES
            .iter()
            .map(|f| ("cc", "-std=gnu11", *f))
            .chain(CPP_SOURCES.iter().map(|f| ("c++", "-std=gnu++17", *f)))
        {
            let object = scratch.join(file).with_extension("o");
            finish(
                Command::new(compiler)
                    .args(FLAGS)
                    .arg(standard)
                    .arg("-c")
                    .arg(sources.join(file))
                    .arg("-o")
                    .arg(&object),
            )?;
            objects.push(object);
        }
        finish(
            Command::new("c++").args(FLAGS).args(&objects).arg("-o").arg(&workloads).args(["-lm", "-ldl"]),
        )?;
        Ok(Inputs { scratch, workloads })
    }

    /// Fails unless a program started with the allocator's preload gets its `malloc` from that library.
    pub(crate) fn prove_preload(&self, allocator: &Allocator) -> Result<(), String> {
        let what = self.workload("whose-malloc", None);
        let output = measure::command(&what, allocator)
            .and_then(|mut command| command.output())
            .map_err(|e| format!("{}: {e}", allocator.name))?;
        let owner = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let real = |path: &str| std::fs::canonicalize(path).unwrap_or_else(|_| path.into());
        let wanted = allocator.preload.as_ref().map(|path| real(&path.to_string_lossy()));
        match wanted {
            Some(path) if output.status.success() && real(&owner) == path => Ok(()),
            None if output.status.success() && owner.contains("libc.so") => Ok(()),
            _ => Err(format!(
                "{}: malloc came from {owner:?} ({}): {}",
                allocator.name,
                output.status,
                String::from_utf8_lossy(&output.stderr).trim()
            )),
        }
    }

    /// One function of the workload program.
    pub(crate) fn workload(&self, name: &str, percent: Option<u32>) -> Invocation {
        let args = std::iter::once(name.to_owned()).chain(percent.map(|p| p.to_string())).collect();
        Invocation { program: self.workloads.clone(), args, env: Vec::new(), stdin: None, client: None }
    }

    /// An input file in the scratch directory.
    pub(crate) fn write(&self, name: &str, text: &str) -> Result<PathBuf, String> {
        let file = self.scratch.join(name);
        std::fs::File::create(&file)
            .and_then(|mut f| f.write_all(text.as_bytes()))
            .map_err(|e| format!("{}: {e}", file.display()))?;
        Ok(file)
    }
}

impl Drop for Inputs {
    fn drop(&mut self) {
        // What cannot be removed stays in the target directory, where `cargo clean` finds it.
        let _ = std::fs::remove_dir_all(&self.scratch);
    }
}

/// Runs a command to its successful end.
pub(crate) fn finish(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|e| format!("{command:?}: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr)))
}
