//! The judge: runs a program whose accesses are known exactly, and compares what DRAM serves with what it could.
//!
//! The programs (`demo/workloads/`, `terrace-demo-known`) describe their accesses in a file and take commands on
//! standard input; `known.c` documents the protocol. Placement is asked of the kernel, from outside.
//!
//! Zone: control (a program of its own).

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::checks::{Check, TOLERANCE, mib};
use crate::goals::goals;
use crate::inside::{self, Inside};
use crate::nodes::Nodes;
use crate::outside;
use crate::placement::Accesses;
use crate::record::Record;

/// A distribution has converged when it is a little above what must be reached; it may get better still.
const CONVERGED: f64 = 0.93;

/// Seconds from convergence to the steady state: a page is ping-pong when it moves back within 30 s of its last move,
/// and what counts is whether moves of a converged placement are taken back, not how its mistakes were mended before.
const SETTLING: f64 = 30.0;

/// Seconds for which the steady state is watched.
const STEADY: f64 = 15.0;

/// The share of the budget's pages below which so little moves that ping-pong does not arise.
const STILL: f64 = 0.005;

/// Time between looks.
const PERIOD: Duration = Duration::from_secs(1);

/// What to judge, and how.
pub struct Case {
    /// The program and its arguments; the last is the file it describes its accesses in.
    pub command: Vec<String>,
    /// Names of the distributions to ask for, in order.
    pub distributions: Vec<String>,
    /// DRAM budget in bytes.
    pub budget: u64,
    /// The `terrace` command to preload with; `None` when the program brings Terrace itself.
    pub terrace: Option<PathBuf>,
    /// Accesses between two marks of the access counter; 0 for programs without marks.
    pub window: u64,
    /// Seconds that a distribution gets to converge.
    pub limit: f64,
    /// Nodes of this machine.
    pub nodes: Nodes,
}

/// A program under judgement.
struct Trial<'a> {
    case: &'a Case,
    record: &'a Record,
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    peak: u64,
    checks: Vec<Check>,
}

/// Runs a case; true when every check is good.
///
/// # Errors
/// When the program dies or does not keep to the protocol.
pub fn run(case: &Case, record: &Record) -> io::Result<bool> {
    let mut command = Command::new(case.terrace.as_ref().map_or(case.command[0].as_ref(), |t| t.as_os_str()));
    let budget = case.budget.to_string();
    match case.terrace {
        Some(_) => command.args(["run", "--mode", "auto", "--dram", &budget, "--"]).args(&case.command),
        None => command.args(&case.command[1..]).env("TERRACE_MODE", "auto").env("TERRACE_DRAM", &budget),
    };
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let stdin = child.stdin.take().expect("piped above");
    let stdout = BufReader::new(child.stdout.take().expect("piped above"));
    let mut trial = Trial { case, record, child, stdin, stdout, peak: 0, checks: Vec::new() };
    trial.expect("ready")?;
    for name in &case.distributions {
        trial.judge(name)?;
    }
    trial.conclude()
}

impl Trial<'_> {
    /// One distribution: until it has converged, then its steady state, then a counted window.
    fn judge(&mut self, name: &str) -> io::Result<()> {
        self.say(&format!("next {name}"))?;
        self.expect("map")?;
        let map = self.case.command.last().expect("a program has arguments");
        let accesses = Accesses::parse(&fs::read_to_string(map)?)?;
        let oracle = accesses.oracle(self.case.budget);
        let footprint = (accesses.pages() * outside::PAGE) as u64;
        let begin = self.record.seconds();
        self.record.say(&format!(
            "{name}: {:.1} MiB of pages, {:.1} MiB of DRAM, oracle {oracle:.3}",
            mib(footprint),
            mib(self.case.budget)
        ));
        let hot = accesses.hot_pages();
        let mut arrived = None;
        loop {
            let (share, hot_share) = self.look(name, &accesses, &hot)?;
            let seconds = self.record.seconds() - begin;
            if hot_share >= goals().hot_share {
                arrived.get_or_insert(seconds);
            }
            if (share >= CONVERGED * oracle && arrived.is_some()) || seconds > self.case.limit {
                break;
            }
            thread::sleep(PERIOD);
        }
        let converged = self.record.seconds() - begin;
        let mut watch = |until: f64| -> io::Result<Inside> {
            while self.record.seconds() - begin < until {
                self.look(name, &accesses, &hot)?;
                thread::sleep(PERIOD);
            }
            self.inside()
        };
        let before = watch(converged + SETTLING)?;
        let after = watch(converged + SETTLING + STEADY)?;
        let share = self.window(name, &accesses, oracle)?;
        let text = format!("{share:.3} of {oracle:.3}, after {converged:.0} s");
        let good = share >= goals().of_oracle * oracle;
        let figure = format!("{:.1} %", share / oracle * 100.0);
        self.check(Check::new(&format!("{name}: share of the oracle's"), good, text).figure(figure))?;
        if name == "hot" {
            let text =
                arrived.map_or("never".into(), |s| format!("{s:.0} s, {} allowed", goals().hot_seconds));
            let good = arrived.is_some_and(|s| s <= goals().hot_seconds);
            let name = format!("hot: {:.0} % of hot pages in DRAM", goals().hot_share * 100.0);
            self.check(Check::new(&name, good, text))?;
        }
        self.steady_state(name, &before, &after)
    }

    fn steady_state(&mut self, name: &str, before: &Inside, after: &Inside) -> io::Result<()> {
        let moved = after.moved() - before.moved();
        let returned = after.returned - before.returned;
        let still = moved as f64 <= STILL * (self.case.budget / outside::PAGE as u64) as f64;
        let text = format!("{returned} of {moved} pages moved in {STEADY} s went back");
        let good = still || returned as f64 <= goals().ping_pong * moved as f64;
        self.check(Check::new(&format!("{name}: ping-pong in the steady state"), good, text))
    }

    /// The share of accesses that DRAM serves, and the share of hot pages in it, right now.
    fn look(&mut self, name: &str, accesses: &Accesses, hot: &[usize]) -> io::Result<(f64, f64)> {
        let pid = self.pid();
        let share = accesses.served_by_dram(pid, &self.case.nodes)?;
        let (present, dram) = outside::count_in_dram(pid, hot, &self.case.nodes)?;
        let hot_share = if present == 0 { 1.0 } else { dram as f64 / present as f64 };
        let bytes = outside::heap_bytes(pid, &self.case.nodes)?;
        self.peak = self.peak.max(bytes.dram);
        let line = self.record.line("look").text("distribution", name).number("share", share);
        let line =
            line.number("hot_share", hot_share).count("dram", bytes.dram).count("device", bytes.device);
        self.record.put(self.inside()?.write(line))?;
        Ok((share, hot_share))
    }

    /// A stretch of accesses between two marks, with the placement before and after it: their mean is what the
    /// access counter must find.
    fn window(&mut self, name: &str, accesses: &Accesses, oracle: f64) -> io::Result<f64> {
        let (pid, nodes) = (self.pid(), &self.case.nodes);
        let before = accesses.served_by_dram(pid, nodes)?;
        if self.case.window > 0 {
            self.say(&format!("measure {}", self.case.window))?;
            self.expect("measured")?;
        }
        let after = accesses.served_by_dram(pid, nodes)?;
        let share = (before + after) / 2.0;
        let line = self.record.line("window").text("distribution", name).number("share", share);
        self.record.put(line.number("drift", after - before).number("oracle", oracle))?;
        Ok(share)
    }

    fn conclude(mut self) -> io::Result<bool> {
        let limit = self.case.budget as f64 * (1.0 + TOLERANCE);
        let text = format!("most {:.1} MiB of {:.1} MiB", mib(self.peak), mib(self.case.budget));
        self.check(Check::new("DRAM against its budget (5 % allowed)", self.peak as f64 <= limit, text))?;
        self.say("end")?;
        let line = self.line()?;
        let numbers: Vec<u64> = line.split(' ').skip(1).filter_map(|w| w.parse().ok()).collect();
        let good = line.starts_with("verified ") && numbers.len() == 2 && numbers[0] > 0 && numbers[1] == 0;
        self.check(Check::new("every object verifies", good, line))?;
        let status = self.child.wait()?;
        self.check(Check::new("the program ends well", status.success(), status.to_string()))?;
        let good = self.checks.iter().all(|c| c.good);
        self.record.put(self.record.line("end").flag("good", good))?;
        Ok(good)
    }

    fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// Terrace's own view, which must be there once there is a heap worth tiering.
    fn inside(&self) -> io::Result<Inside> {
        let begin = Instant::now();
        loop {
            match inside::read(self.pid())? {
                Some(inside) => return Ok(inside),
                None if begin.elapsed() > Duration::from_secs(10) => {
                    return Err(io::Error::other("the program publishes no statistics page"));
                }
                None => thread::sleep(PERIOD / 10),
            }
        }
    }

    fn say(&mut self, words: &str) -> io::Result<()> {
        writeln!(self.stdin, "{words}")
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }

    fn expect(&mut self, word: &str) -> io::Result<()> {
        let line = self.line()?;
        if line == word {
            Ok(())
        } else {
            Err(io::Error::other(format!("the program said {line:?}, not {word}")))
        }
    }

    fn check(&mut self, check: Check) -> io::Result<()> {
        let mark = if check.good { "ok " } else { "BAD" };
        self.record.say(&format!("{mark} {}: {} {}", check.name, check.figure, check.text));
        self.record.put(check.write(self.record.line("check")))?;
        self.checks.push(check);
        Ok(())
    }
}

impl Drop for Trial<'_> {
    fn drop(&mut self) {
        // Only an error leaves the program running; after `conclude` both calls fail harmlessly.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
