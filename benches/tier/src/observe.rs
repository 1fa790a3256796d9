//! The observer: runs workloads under one contender, in the machine with two tiers, and records where their pages are.
//!
//! Root, because some contenders are settings of the kernel. The workloads, and so Terrace, run as an ordinary user.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use terrace_demo::json::Line;
use terrace_demo::nodes::Nodes;
use terrace_demo::outside::{self, PAGE};
use terrace_demo::record::Record;

use crate::accesses::Accesses;
use crate::heap::{Heap, Window};
use crate::table::Table;

/// Time between looks; longer where a look takes more than a tenth of that.
const PERIOD: Duration = Duration::from_secs(2);

/// Time between looks at which blocks objects have left: the table has room for so many.
const NAP: Duration = Duration::from_millis(200);

/// Time that a workload may take to fill its heap.
const FILL_LIMIT: Duration = Duration::from_secs(300);

/// Time that it may take to check its objects and end.
const END_LIMIT: Duration = Duration::from_secs(120);

/// Pages asked for in one system call.
const BATCH: usize = 4096;

const TABLE: &str = "/huge/table";

/// Who workloads run as: nobody.
const USER: &str = "65534";

/// Huge pages, of 2 MiB, for the workload's own tables.
const HUGE_PAGES: &str = "40";

/// What to run.
#[derive(Clone, Debug)]
pub struct Task {
    /// Name of the contender's script, without its end.
    pub contender: String,
    /// The workloads.
    pub workloads: Vec<Load>,
    /// Seconds a phase.
    pub seconds: f64,
}

/// A workload and its size.
#[derive(Clone, Debug)]
pub struct Load {
    /// Its name.
    pub name: String,
    /// MiB of heap it is asked to make.
    pub mib: u64,
    /// MiB of DRAM it may have.
    pub budget_mib: u64,
    /// How many more phases, after the first, it goes through.
    pub shifts: u64,
}

/// Set for a contender that learns: each workload is run once before it is observed, and both runs get the same file to keep what was learnt in.
const REHEARSE: &str = "TERRACE_BENCH_REHEARSE";

/// Runs every workload of `task`, one after the other.
///
/// # Errors
/// When the contender cannot be set up, or a workload dies or does not begin or end in time.
pub fn run(task: &Task, record: &Record) -> io::Result<()> {
    set_huge_pages_aside()?;
    for load in &task.workloads {
        let unseen = Record::new(Box::new(io::sink()));
        let profile = env::var_os(REHEARSE).map(|_| format!("/tmp/{}.profile", load.name));
        let trial = |record| Trial { task, load, record, profile: profile.as_deref(), nodes: Nodes::here() };
        // Drops page cache and holds what DRAM has beyond the budget, whoever contends.
        let _hog = Hog::start(load.budget_mib)?;
        if profile.is_some() {
            trial(&unseen).whole()?;
        }
        let counters = trial(record).whole()?;
        let mut line = record.line("kernel").text("workload", &load.name);
        for (key, value) in counters.lines().filter_map(|l| l.split_once('=')) {
            if let Ok(value) = value.trim().parse::<f64>() {
                line = line.number(key, value);
            }
        }
        record.put(line)?;
    }
    Ok(())
}

/// Sets huge pages aside on the first device node, and mounts a file system of them for the workload's user.
fn set_huge_pages_aside() -> io::Result<()> {
    let nodes = Nodes::here();
    let node = nodes.device.first().ok_or_else(|| io::Error::other("this machine has no device node"))?;
    let pages = format!("/sys/devices/system/node/node{node}/hugepages/hugepages-2048kB/nr_hugepages");
    fs::write(pages, HUGE_PAGES)?;
    fs::create_dir_all("/huge")?;
    let options = format!("uid={USER},gid={USER}");
    let status = Command::new("mount").args(["-t", "hugetlbfs", "-o", &options, "none", "/huge"]).status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other("no file system of huge pages")) }
}

struct Trial<'a> {
    task: &'a Task,
    load: &'a Load,
    record: &'a Record,
    /// The file for what is learnt.
    profile: Option<&'a str>,
    nodes: Nodes,
}

impl Trial<'_> {
    /// Words of the contender's script for `verb`.
    fn script_words(&self, verb: &str) -> Vec<String> {
        let script = format!("./{}.sh", self.task.contender);
        let (budget, mib) = (self.load.budget_mib.to_string(), self.load.mib.to_string());
        ["sh", &script, verb, &budget, &mib].map(str::to_owned).into()
    }

    /// Runs a verb of the contender's script as root; what it prints.
    fn script(&self, verb: &str) -> io::Result<String> {
        let words = self.script_words(verb);
        let output = Command::new(&words[0]).args(&words[1..]).stderr(Stdio::inherit()).output()?;
        if !output.status.success() {
            return Err(io::Error::other(format!("{words:?}: {}", output.status)));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Sets the contender up, runs the workload, and puts things back; what the contender then prints.
    fn whole(&self) -> io::Result<String> {
        self.script("setup")?;
        self.run()?;
        self.script("teardown")
    }

    fn run(&self) -> io::Result<()> {
        let _ = fs::remove_file(TABLE);
        let mut program = self.start()?;
        let table = program.table(Path::new(TABLE))?;
        let mut look = Look::new(self, &program, table);
        let began = look.began;
        for phase in 0..=self.load.shifts {
            if phase > 0 {
                look.shift(phase);
            }
            let until = self.task.seconds * (phase + 1) as f64;
            while began.elapsed().as_secs_f64() < until {
                look.once()?;
                if program.child.try_wait()?.is_some() {
                    return Err(io::Error::other(format!("{} ended early", self.load.name)));
                }
            }
        }
        look.table.ask_to_end();
        let status = program.wait()?;
        let (right, wrong) = look.table.verdict();
        self.record.put(
            self.record
                .line("end")
                .text("workload", &self.load.name)
                .count("right", right)
                .count("wrong", wrong)
                .flag("good", status && wrong == 0 && right > 0),
        )
    }

    fn start(&self) -> io::Result<Program> {
        let words = self.script_words("run");
        let mib = self.load.mib.to_string();
        // Becomes the user for good, so that /proc/self is the user's.
        let child = Command::new("/lab/guest")
            .args(["as", USER, USER])
            .args(words)
            .args(["--", "./tier", TABLE, &self.load.name, &mib])
            .envs(self.profile.iter().map(|file| ("TERRACE_PROFILE", file)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()?;
        Ok(Program { child })
    }

    fn is_dram(&self, node: u32) -> bool {
        !self.nodes.device.contains(&node)
    }
}

/// A running workload; it does not outlive this value.
struct Program {
    child: Child,
}

impl Program {
    fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// Its table, which it makes in `file`, once its heap is filled.
    fn table(&mut self, file: &Path) -> io::Result<Table> {
        let began = Instant::now();
        while began.elapsed() < FILL_LIMIT {
            if let Some(status) = self.child.try_wait()? {
                return Err(io::Error::other(format!("the workload ended while it began: {status}")));
            }
            if let Ok(table) = Table::open(file)
                && table.is_ready()
            {
                return Ok(table);
            }
            thread::sleep(Duration::from_millis(100));
        }
        Err(io::Error::other(format!("the workload had no heap after {FILL_LIMIT:?}")))
    }

    /// Waits for its end; whether it was a good one.
    fn wait(&mut self) -> io::Result<bool> {
        let began = Instant::now();
        while began.elapsed() < END_LIMIT {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status.success());
            }
            thread::sleep(Duration::from_millis(100));
        }
        Err(io::Error::other(format!("the workload did not end within {END_LIMIT:?}")))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Only an error leaves it running.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What is known of a running workload's heap.
struct Look<'a> {
    trial: &'a Trial<'a>,
    pid: i32,
    table: Table,
    heap: Heap,
    by_page: Accesses,
    began: Instant,
    last: Instant,
    accesses: u64,
    phase: u64,
}

impl<'a> Look<'a> {
    fn new(trial: &'a Trial<'a>, program: &Program, table: Table) -> Self {
        let (pid, accesses, now) = (program.pid(), table.accesses(), Instant::now());
        Look {
            trial,
            pid,
            table,
            heap: Heap::default(),
            by_page: Accesses::default(),
            began: now,
            last: now,
            accesses,
            phase: 0,
        }
    }

    fn shift(&mut self, phase: u64) {
        self.table.ask_for_phase(phase);
        while self.table.phase() != phase && self.began.elapsed() < FILL_LIMIT {
            thread::sleep(Duration::from_millis(10));
        }
        // What came before belongs to no phase.
        self.by_page.take_in(&self.table, &mut self.heap);
        self.heap.look(&[], 0, 0.0);
        self.heap.begin_phase();
        self.phase = phase;
        self.last = Instant::now();
        self.accesses = self.table.accesses();
    }

    fn once(&mut self) -> io::Result<()> {
        let begun = Instant::now();
        self.by_page.take_in(&self.table, &mut self.heap);
        let placed = self.placed()?;
        let (seconds, accesses) = (self.began.elapsed().as_secs_f64(), self.table.accesses());
        let budget = (self.trial.load.budget_mib << 20) as usize / PAGE;
        let window = self.heap.look(&placed, budget, seconds);
        let rate = (accesses - self.accesses) as f64 / self.last.elapsed().as_secs_f64();
        (self.accesses, self.last) = (accesses, Instant::now());
        let line = self.trial.record.line("look").text("workload", &self.trial.load.name);
        let line = line.number("seconds", seconds).count("phase", self.phase).number("rate", rate.round());
        let line = line.count("others_ms", cpu_of_other_threads(self.pid));
        self.trial.record.put(write(window, line))?;
        let period = PERIOD.max(begun.elapsed() * 10);
        while begun.elapsed() < period {
            thread::sleep(NAP.min(period.saturating_sub(begun.elapsed())));
            self.by_page.take_in_departed(&self.table, &mut self.heap);
        }
        Ok(())
    }

    /// Where every page is.
    fn placed(&self) -> io::Result<Vec<Option<bool>>> {
        let mut placed = Vec::with_capacity(self.heap.addresses().len());
        for pages in self.heap.addresses().chunks(BATCH) {
            let nodes = outside::nodes_of(self.pid, pages)?;
            placed.extend(nodes.into_iter().map(|node| node.map(|n| self.trial.is_dram(n))));
        }
        Ok(placed)
    }
}

fn write(window: Window, line: Line) -> Line {
    line.number("share", window.share)
        .number("oracle", window.oracle)
        .number("phase_oracle", window.phase_oracle)
        .count("dram", window.dram as u64)
        .count("device", window.device as u64)
        .count("up", window.up as u64)
        .count("down", window.down as u64)
        .count("returned", window.returned as u64)
}

/// CPU time, in ms, of all threads of a process but the first: a tracker's, for programs of one thread.
fn cpu_of_other_threads(pid: i32) -> u64 {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return 0 };
    let ticks = tasks.flatten().filter(|t| t.file_name() != pid.to_string().as_str()).filter_map(|task| {
        let stat = fs::read_to_string(task.path().join("stat")).ok()?;
        // The name in parentheses may hold anything; user and system time are the 12th and 13th words behind it.
        let words: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        Some(words.get(11)?.parse::<u64>().ok()? + words.get(12)?.parse::<u64>().ok()?)
    });
    ticks.sum::<u64>() * 10
}

/// A process that holds what DRAM has beyond what is left to the workload.
struct Hog(Child);

impl Hog {
    fn start(leave_mib: u64) -> io::Result<Hog> {
        let mut child = Command::new("./hog")
            .args(["0", &leave_mib.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        let out = child.stdout.take().expect("piped above");
        io::BufRead::read_line(&mut io::BufReader::new(out), &mut line)?;
        if line.is_empty() {
            return Err(io::Error::other("the hog said nothing"));
        }
        eprint!("hog: {line}");
        Ok(Hog(child))
    }
}

impl Drop for Hog {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Pages that hold the objects of `load`, when the program `tier` runs here and now: what its size comes to.
///
/// # Errors
/// When the program does not run.
pub fn pages_here(tier: &Path, name: &str, mib: u64, scratch: &Path) -> io::Result<usize> {
    let file: PathBuf = scratch.join(format!("table-{name}"));
    let _ = fs::remove_file(&file);
    let child = Command::new(tier).arg(&file).args([name, &mib.to_string()]).stdout(Stdio::null()).spawn()?;
    let table = Program { child }.table(&file)?;
    let mut heap = Heap::default();
    for i in 0..table.objects() {
        let object = table.object(i);
        if object.address != 0 {
            heap.add(object.address, object.bytes, 0);
        }
    }
    let _ = fs::remove_file(&file);
    Ok(heap.addresses().len())
}
