//! Builds the workload program and writes the inputs of the real programs, once a run, into the scratch directory.

use crate::allocators::{self, Allocator};
use crate::measure::{self, Invocation};
use crate::programs;
use crate::suite::{Benchmark, Kind};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

const C_SOURCES: &[&str] = &["main.c", "pairs.c", "batches.c", "large.c", "threads.c", "startup.c"];

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
        for (compiler, standard, file) in
            C_SOURCES.iter().map(|f| ("cc", "-std=gnu11", *f)).chain([("c++", "-std=gnu++17", "stl.cpp")])
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

    /// The command that does `percent` of the benchmark's nominal work; writes its input files.
    pub(crate) fn invocation(&self, benchmark: &Benchmark, percent: u32) -> Result<Invocation, String> {
        match benchmark.kind {
            Kind::Workload => Ok(self.workload(benchmark.name, Some(percent))),
            Kind::Sqlite => {
                let script = self.write("sqlite.sql", &programs::sqlite(percent))?;
                Ok(Invocation {
                    program: "/usr/bin/sqlite3".into(),
                    args: vec![":memory:".into()],
                    env: Vec::new(),
                    stdin: Some(script),
                })
            }
            Kind::Python => {
                let script = self.write("python.py", programs::PYTHON)?;
                Ok(Invocation {
                    program: "/usr/bin/python3".into(),
                    args: vec!["-S".into(), path(&script), percent.to_string()],
                    env: vec![("PYTHONMALLOC", "malloc".into()), ("PYTHONHASHSEED", "0".into())],
                    stdin: None,
                })
            }
            Kind::Perl => {
                let script = self.write("perl.pl", programs::PERL)?;
                Ok(Invocation {
                    program: "/usr/bin/perl".into(),
                    args: vec![path(&script), percent.to_string()],
                    env: vec![("PERL_HASH_SEED", "0".into()), ("PERL_PERTURB_KEYS", "0".into())],
                    stdin: None,
                })
            }
            Kind::Compiler => self.compiler(percent),
        }
    }

    fn workload(&self, name: &str, percent: Option<u32>) -> Invocation {
        let args = std::iter::once(name.to_owned()).chain(percent.map(|p| p.to_string())).collect();
        Invocation { program: self.workloads.clone(), args, env: Vec::new(), stdin: None }
    }

    /// The compiler proper, not the driver: the driver's children would each load the allocator anew.
    fn compiler(&self, percent: u32) -> Result<Invocation, String> {
        let compiler =
            allocators::first_line("c++", &["-print-prog-name=cc1plus"]).ok_or("no c++ compiler")?;
        if !Path::new(&compiler).is_absolute() {
            return Err("the c++ compiler is not GCC: no cc1plus".to_owned());
        }
        let source = self.write("unit.cpp", &programs::translation_unit(percent))?;
        let preprocessed = self.scratch.join("unit.ii");
        finish(Command::new("c++").args(["-std=gnu++17", "-E"]).arg(&source).arg("-o").arg(&preprocessed))?;
        Ok(Invocation {
            program: compiler.into(),
            args: ["-quiet", "-std=gnu++17", "-O1", "-fpreprocessed", &path(&preprocessed), "-o", "-"]
                .map(str::to_owned)
                .to_vec(),
            env: Vec::new(),
            stdin: None,
        })
    }

    fn write(&self, name: &str, text: &str) -> Result<PathBuf, String> {
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

fn path(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn finish(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|e| format!("{command:?}: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr)))
}
