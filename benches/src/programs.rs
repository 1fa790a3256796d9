//! How each benchmark is started: the workload program, this program as a Rust workload, and the real programs with their
//! inputs written out.
//!
//! A Rust compilation is not among them. `rustc`, `rustdoc` and `clippy-driver` define `malloc` themselves (they link
//! jemalloc), and an executable's own symbols come before any preload. rustfmt, which has the compiler's parser, has none.

use crate::allocators;
use crate::inputs::{Inputs, finish};
use crate::measure::{Client, Invocation};
use crate::suite::{Benchmark, Kind};
use crate::{redis, texts};
use std::path::{Path, PathBuf};
use std::process::Command;

impl Inputs {
    /// The command that does `percent` of the benchmark's nominal work; writes its input files.
    pub(crate) fn invocation(&self, benchmark: &Benchmark, percent: u32) -> Result<Invocation, String> {
        let what = self.command_line(benchmark, percent)?;
        takes_a_preload(&what.program)?;
        Ok(what)
    }

    fn command_line(&self, benchmark: &Benchmark, percent: u32) -> Result<Invocation, String> {
        Ok(match benchmark.kind {
            Kind::Workload => self.workload(benchmark.name, Some(percent)),
            Kind::Collections => {
                let this = std::env::current_exe().map_err(|e| format!("where am I? {e}"))?;
                plain(this, ["--collections".to_owned(), percent.to_string()])
            }
            Kind::Sqlite => {
                let script = self.write("sqlite.sql", &texts::sqlite(percent))?;
                Invocation { stdin: Some(script), ..plain("/usr/bin/sqlite3", [":memory:".to_owned()]) }
            }
            Kind::Python => {
                let script = self.write("python.py", texts::PYTHON)?;
                Invocation {
                    env: vec![("PYTHONMALLOC", "malloc".into()), ("PYTHONHASHSEED", "0".into())],
                    ..plain("/usr/bin/python3", ["-S".into(), path(&script), percent.to_string()])
                }
            }
            Kind::Perl => {
                let script = self.write("perl.pl", texts::PERL)?;
                Invocation {
                    env: vec![("PERL_HASH_SEED", "0".into()), ("PERL_PERTURB_KEYS", "0".into())],
                    ..plain("/usr/bin/perl", [path(&script), percent.to_string()])
                }
            }
            Kind::Node => {
                let script = self.write("node.js", texts::NODE)?;
                plain("/usr/bin/node", [path(&script), percent.to_string()])
            }
            // Debian's links jemalloc; for glibc's column the C library is put before it.
            Kind::Redis => Invocation {
                env: vec![("LD_PRELOAD", "libc.so.6".into())],
                client: Some(Client::Redis { requests: percent * 1000 }),
                ..plain("/usr/bin/redis-server", redis::server_arguments())
            },
            Kind::Git => self.git(percent)?,
            Kind::Rustfmt => self.rustfmt(percent)?,
            Kind::Solver => {
                let script = self.write("formulas.smt2", &texts::formulas(percent))?;
                plain("/usr/bin/z3", [path(&script)])
            }
            Kind::Compiler => self.compiler(percent)?,
        })
    }

    /// The compiler proper, not the driver: the driver's children would each load the allocator anew.
    fn compiler(&self, percent: u32) -> Result<Invocation, String> {
        let compiler =
            allocators::first_line("c++", &["-print-prog-name=cc1plus"]).ok_or("no c++ compiler")?;
        if !Path::new(&compiler).is_absolute() {
            return Err("the c++ compiler is not GCC: no cc1plus".to_owned());
        }
        let source = self.write("unit.cpp", &texts::translation_unit(percent))?;
        let preprocessed = self.scratch.join("unit.ii");
        finish(Command::new("c++").args(["-std=gnu++17", "-E"]).arg(&source).arg("-o").arg(&preprocessed))?;
        let options = ["-quiet", "-std=gnu++17", "-O1", "-fpreprocessed", &path(&preprocessed), "-o", "-"];
        Ok(plain(compiler, options.map(str::to_owned)))
    }

    /// All of a repository's history packed anew, in one thread and so to the same bytes: `git gc` at its heart.
    fn git(&self, percent: u32) -> Result<Invocation, String> {
        let repository = self.scratch.join("repository.git");
        if !repository.exists() {
            let git = |arguments: &[&str]| {
                let mut git = Command::new("/usr/bin/git");
                git.env("GIT_CONFIG_NOSYSTEM", "1").env("HOME", &self.scratch).args(arguments);
                git
            };
            finish(git(&["init", "--quiet", "--bare"]).arg(&repository))?;
            let history = std::fs::File::open(self.write("history", &texts::history(percent))?);
            let history = history.map_err(|e| format!("the history: {e}"))?;
            finish(git(&["--git-dir", &path(&repository), "fast-import", "--quiet"]).stdin(history))?;
        }
        let pack =
            "pack-objects --all --quiet --no-reuse-delta --no-reuse-object --threads=1 --window=20 --stdout";
        let arguments = ["--git-dir".to_owned(), path(&repository)];
        let arguments = arguments.into_iter().chain(pack.split(' ').map(str::to_owned));
        Ok(Invocation {
            env: vec![("GIT_CONFIG_NOSYSTEM", "1".into()), ("HOME", path(&self.scratch))],
            ..plain("/usr/bin/git", arguments)
        })
    }

    fn rustfmt(&self, percent: u32) -> Result<Invocation, String> {
        // The toolchain's own program: the one on the path may be rustup's, which starts this one.
        let sysroot = allocators::first_line("rustc", &["--print", "sysroot"]).ok_or("no rustc")?;
        let source = self.write("source.rs", &texts::rust_source(percent))?;
        let options = ["--edition", "2024", "--emit", "stdout", "--quiet", &path(&source)];
        Ok(plain(Path::new(&sysroot).join("bin/rustfmt"), options.map(str::to_owned)))
    }
}

/// Refuses a program that a preload has no effect on: one without dynamic symbols, or with a `malloc` of its own among
/// them. It would show every allocator to be equal.
fn takes_a_preload(program: &Path) -> Result<(), String> {
    let output = Command::new("nm").arg("-D").arg(program).output();
    let output = output.map_err(|e| format!("nm: {e} (Debian package: binutils)"))?;
    let (symbols, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if !output.status.success() || symbols.trim().is_empty() {
        return Err(format!("{} has no dynamic symbols: {}", program.display(), said.trim()));
    }
    // An undefined symbol has no address: two words.
    let own = |line: &str| match line.split_whitespace().collect::<Vec<_>>().as_slice() {
        [_, _, symbol] => *symbol == "malloc" || symbol.starts_with("malloc@"),
        _ => false,
    };
    if symbols.lines().any(own) {
        return Err(format!("{} defines malloc itself: a preload has no effect", program.display()));
    }
    Ok(())
}

/// A program with nothing but arguments.
fn plain(program: impl Into<PathBuf>, arguments: impl IntoIterator<Item = String>) -> Invocation {
    Invocation {
        program: program.into(),
        args: arguments.into_iter().collect(),
        env: Vec::new(),
        stdin: None,
        client: None,
    }
}

fn path(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_with_a_malloc_of_their_own_are_refused() {
        takes_a_preload(Path::new("/usr/bin/python3")).unwrap();
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let libc = maps.split_whitespace().find(|word| word.ends_with("/libc.so.6")).unwrap();
        assert!(takes_a_preload(Path::new(libc)).unwrap_err().contains("defines malloc itself"));
        assert!(takes_a_preload(Path::new("/nonexistent")).is_err());
    }
}
