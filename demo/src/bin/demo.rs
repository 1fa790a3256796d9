//! `terrace-demo`: runs the demonstration where this machine can, shows it live, and draws it.
//!
//! Usage: `terrace-demo [--draw RECORD]`. On a machine with a device node (memory without CPUs) the driver runs
//! right here, elsewhere in the lab's virtual machine, as an ordinary user either way it was started. Leaves
//! `out/demo/index.html`, `demo.png` and `run.jsonl`. With `--draw`, draws an earlier record again.
//!
//! Exit status: 0 when every check is good, 1 when one is not, 2 when the demonstration could not be run.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use lab::{Layout, Vm};
use terrace_demo::nodes::Nodes;
use terrace_demo::present::live::Live;
use terrace_demo::present::run::Run;
use terrace_demo::present::{page, picture, summary};

/// Where the results go, under the present directory.
const OUT: &str = "out/demo";

/// How long the driver may take in the lab: it needs two to three minutes on an idle machine.
const LIMIT: Duration = Duration::from_secs(900);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words[..] {
        [] => demonstrate(),
        ["--draw", record] => draw_again(Path::new(record)),
        _ => Err(io::Error::other("usage: terrace-demo [--draw RECORD]")),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(e) => {
            eprintln!("terrace-demo: {e}");
            ExitCode::from(2)
        }
    }
}

fn demonstrate() -> io::Result<bool> {
    let begin = Instant::now();
    fs::create_dir_all(OUT)?;
    let mut watch = Watch::new(Path::new(OUT).join("run.jsonl"))?;
    let nodes = Nodes::here();
    if nodes.device.is_empty() {
        println!(
            "No node without CPUs here: starting the lab's virtual machine, with one of 2 GiB DRAM and one of 640 MiB.\n"
        );
        in_the_lab(&mut watch)?;
    } else {
        println!("Device memory here: node {:?}.\n", nodes.device);
        right_here(&mut watch)?;
    }
    let run = watch.run;
    present(&run)?;
    println!("Took {} s in all.", begin.elapsed().as_secs());
    Ok(run.is_good())
}

fn draw_again(record: &Path) -> io::Result<bool> {
    let mut run = Run::default();
    for line in BufReader::new(File::open(record)?).lines() {
        run.take(&line?);
    }
    fs::create_dir_all(OUT)?;
    present(&run)?;
    Ok(run.is_good())
}

/// Sees the driver's output, line by line.
struct Watch {
    run: Run,
    live: Live,
    record: File,
    /// Lines that are no record: complaints.
    others: Vec<String>,
}

impl Watch {
    fn new(record: PathBuf) -> io::Result<Watch> {
        Ok(Watch {
            run: Run::default(),
            live: Live::new(),
            record: File::create(record)?,
            others: Vec::new(),
        })
    }

    fn see(&mut self, line: &str) {
        if self.run.take(line) {
            self.live.update(&self.run);
            // A full disk shows when the page is written; the run itself goes on.
            let _ = writeln!(self.record, "{line}");
        } else {
            self.others.push(line.to_owned());
        }
    }

    /// Fails with the complaints when the driver did not come to its end.
    fn ended(&self, status: &str) -> io::Result<()> {
        match self.run.good {
            Some(_) => Ok(()),
            None => {
                Err(io::Error::other(format!("the driver ended with {status}\n{}", self.others.join("\n"))))
            }
        }
    }
}

/// A program that was built with this one, or, for `terrace`, by `cargo build --release`.
fn built(name: &str) -> io::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let dir = own.parent().ok_or(io::ErrorKind::NotFound)?;
    let places = [dir.with_file_name("release").join(name), dir.join(name)];
    let found = places.iter().find(|p| p.is_file()).cloned();
    found.ok_or_else(|| io::Error::other(format!("{name} is not built (cargo build --release)")))
}

fn right_here(watch: &mut Watch) -> io::Result<()> {
    let work = std::env::temp_dir().join(format!("terrace-demo-{}", std::process::id()));
    let mut child = Command::new(built("terrace-demo-driver")?)
        .arg("--terrace")
        .arg(built("terrace")?)
        .arg(&work)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    for line in BufReader::new(child.stdout.take().expect("piped above")).lines() {
        watch.see(&line?);
    }
    let status = child.wait()?;
    fs::remove_dir_all(&work)?;
    watch.ended(&status.to_string())
}

fn in_the_lab(watch: &mut Watch) -> io::Result<()> {
    let terrace = built("terrace")?;
    let release = terrace.parent().ok_or(io::ErrorKind::NotFound)?;
    let outcome = Vm::layout(Layout::DramDevice)
        .alone()
        .dram_mib(2048)
        .device_mib(640)
        .user("nobody")
        .timeout(LIMIT)
        // Emulated system calls cost the tracker some ten times what they do on hardware.
        .env("TERRACE_TRACKER_CPU", "10")
        .program("redis-server")
        .terrace_from(release)
        .file(built("terrace-demo-driver")?)
        .on_line(|line| watch.see(line))
        .run("/job/terrace-demo-driver --terrace /terrace/terrace /tmp/demo 2>/tmp/words || { status=$?; cat /tmp/words; exit $status; }")
        .map_err(io::Error::other)?;
    watch.ended(&format!("status {} {}", outcome.status, outcome.unfinished.unwrap_or_default()))
}

/// Writes the table, the page and the picture.
fn present(run: &Run) -> io::Result<()> {
    let out = Path::new(OUT);
    let svg = picture::draw(run);
    fs::write(out.join("index.html"), page::html(run, &svg))?;
    let drawn = out.join("demo.svg");
    fs::write(&drawn, &svg)?;
    let png = out.join("demo.png");
    let status = Command::new("rsvg-convert").arg("--output").arg(&png).arg(&drawn).status();
    let status = status.map_err(|e| io::Error::new(e.kind(), format!("rsvg-convert (librsvg2-bin): {e}")))?;
    if !status.success() {
        return Err(io::Error::other(format!("rsvg-convert ended with {status}")));
    }
    fs::remove_file(&drawn)?;
    println!("\n{}", summary::table(run));
    println!(
        "Picture: {}, page: {}, record: {}",
        png.display(),
        out.join("index.html").display(),
        out.join("run.jsonl").display()
    );
    Ok(())
}
