//! The story of a run, phase by phase, and its checks.
//!
//! load → a hot block that by then lies on the device → a shift of the hot block → a snapshot in the middle of the
//! traffic → another shift → a rival takes the device's free memory → keys that DRAM holds expire, so that there is room
//! for what the device must give up → read everything back.
//!
//! Zone: control (a program of its own).

use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::checks::{self, Check, mib, thousands};
use crate::hog::Hog;
use crate::keyspace;
use crate::nodes::{self, Nodes};
use crate::outside::heap_bytes;
use crate::record::Record;
use crate::sampler::{Sample, Sampler, Shared, Subject};
use crate::server::{Preload, Server, field};
use crate::traffic::{self, Traffic, Verdict};

/// Share of the hot set's pages in DRAM at which a phase has nothing more to show.
const SETTLED: f64 = 0.93;

/// Bytes that are to stay free on the device.
const HEADROOM: u64 = 128 << 20;

/// What the rival leaves of it: clear of the kernel's own reserve, below which a process bound to one node is killed.
const LEFT: u64 = 96 << 20;

/// Traffic while a second server works: a breath after each batch leaves it a CPU of the lab's two.
const BREATH: Duration = Duration::from_millis(20);

/// How long demotion may take to catch up with the load.
const SETTLE: Duration = Duration::from_secs(5);

/// Share of the expired values' bytes that the system must get back: a page goes when the last block in it does.
const GIVEN_BACK: f64 = 0.5;

/// What a run needs to know.
pub struct Plan {
    /// Number of keys; values are a page on average.
    pub keys: usize,
    /// A directory of our own for sockets, logs and the snapshot.
    pub dir: PathBuf,
    /// The `terrace` command.
    pub terrace: PathBuf,
    /// Nodes of this machine.
    pub nodes: Nodes,
}

/// What happened so far.
struct Run {
    plan: Plan,
    budget: u64,
    record: Arc<Record>,
    shared: Arc<Shared>,
    traffic: Traffic,
    /// Pause after each batch.
    breath: Duration,
    phase: usize,
    checks: Vec<Check>,
}

/// Runs the whole story; true when every check is good.
///
/// # Errors
/// When it cannot be told to its end: the server dies, a node vanishes.
pub fn run(plan: Plan, record: Arc<Record>) -> io::Result<bool> {
    let data: u64 = (0..plan.keys).map(|k| keyspace::value_len(k) as u64).sum();
    let budget = data / 3;
    let device = *plan.nodes.device.first().ok_or_else(|| io::Error::other("no device node here"))?;
    let preload = Preload { terrace: plan.terrace.clone(), dram: budget, headroom: HEADROOM };
    let server = Server::start(&plan.dir.join("server"), Some(&preload))?;
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    record.put(
        record
            .line("start")
            .count("keys", plan.keys as u64)
            .count("data", data)
            .count("budget", budget)
            .count("headroom", HEADROOM)
            .text("kernel", kernel.trim())
            .counts("dram_nodes", plan.nodes.dram.iter().map(|n| u64::from(*n)))
            .counts("device_nodes", plan.nodes.device.iter().map(|n| u64::from(*n))),
    )?;
    let shared = Arc::new(Shared::default());
    let subject = Subject { pid: server.pid(), client: server.connect()?, nodes: plan.nodes.clone() };
    let sampler = Sampler::start(subject, Arc::clone(&shared), Arc::clone(&record));
    let traffic = Traffic::new(server.connect()?, plan.keys, Arc::clone(&shared.operations));
    let mut run =
        Run { plan, budget, record, shared, traffic, breath: Duration::ZERO, phase: 0, checks: Vec::new() };
    run.tell(&server, device)?;
    sampler.stop()?;
    run.conclude(server)
}

impl Run {
    fn tell(&mut self, server: &Server, device: u32) -> io::Result<()> {
        let keys = self.plan.keys;
        let part = |from: usize, to: usize| keys * from / 100..keys * to / 100;

        self.enter("load", &format!("{} keys are written", thousands(keys as u64)), 0..0)?;
        self.traffic.load(0..keys)?;
        self.settle(server.pid())?;

        self.hot_phase("hot set", part(10, 30))?;
        self.hot_phase("shift", part(65, 85))?;
        self.snapshot(part(65, 85))?;
        self.hot_phase("shift again", part(40, 60))?;

        self.over_commit(server.pid(), device, part(40, 60), part(0, 5))?;

        self.enter("read back", "read every key back", 0..0)?;
        let verdict = traffic::verify(&mut server.connect()?, self.traffic.keys())?;
        self.check(checks::reads_back("every key reads back", keys, &verdict))
    }

    /// Waits, without traffic, until what the load put into DRAM beyond the budget is demoted: it is written faster
    /// than a tick of the control thread can follow, and the budget holds from here on.
    fn settle(&mut self, pid: i32) -> io::Result<()> {
        let begin = Instant::now();
        let over = |run: &Run| Ok::<bool, io::Error>(heap_bytes(pid, &run.plan.nodes)?.dram > run.budget);
        while over(self)? && begin.elapsed() < 2 * SETTLE {
            thread::sleep(SETTLE / 50);
        }
        let took = begin.elapsed();
        let text = format!("after {:.1} s ({} allowed)", took.as_secs_f64(), SETTLE.as_secs());
        self.check(Check::new("DRAM is within its budget soon after the load", took <= SETTLE, text))
    }

    /// Makes `hot` the hot block and runs traffic until its pages are in DRAM.
    fn hot_phase(&mut self, name: &str, hot: Range<usize>) -> io::Result<()> {
        let text = format!("9 of 10 accesses go to {}", percent(&hot, self.plan.keys));
        let begin = self.enter(name, &text, hot.clone())?;
        self.traffic.aim(hot, 0..self.plan.keys);
        let settled = |s: &Sample| s.hot_share().is_some_and(|h| h >= SETTLED);
        self.until(Duration::from_secs(60), |run| {
            Ok(run.shared.latest(run.phase).is_some_and(|s| settled(&s)))
        })?;
        // Then some more, to show that it stays so.
        self.until(Duration::from_secs(4), |_| Ok(false))?;
        let check = checks::hot_set_arrives(&self.shared.samples(), self.phase, name, begin);
        self.check(check)
    }

    /// Takes a snapshot in the middle of the traffic and verifies it while the traffic goes on.
    fn snapshot(&mut self, hot: Range<usize>) -> io::Result<()> {
        self.enter("snapshot", "BGSAVE in the middle of the traffic", hot.clone())?;
        let expected = self.traffic.keys().clone();
        self.traffic.ask(&["BGSAVE"])?;
        self.until(Duration::from_secs(60), |run| {
            let info = run.traffic.ask(&["INFO", "persistence"])?;
            Ok(field(&info, "rdb_bgsave_in_progress").as_deref() == Some("0"))
        })?;
        let info = self.traffic.ask(&["INFO", "persistence"])?;
        if field(&info, "rdb_last_bgsave_status").as_deref() != Some("ok") {
            return self.check(Check::new("the snapshot verifies", false, "BGSAVE failed".into()));
        }
        self.enter("verify", "a second server reads the snapshot", hot)?;
        let dir = self.plan.dir.join("snapshot");
        std::fs::create_dir_all(&dir)?;
        std::fs::rename(self.plan.dir.join("server/dump.rdb"), dir.join("dump.rdb"))?;
        let verifier = thread::spawn(move || -> io::Result<Verdict> {
            let server = Server::start(&dir, None)?;
            let verdict = traffic::verify(&mut server.connect()?, &expected)?;
            server.stop()?;
            std::fs::remove_file(dir.join("dump.rdb"))?;
            Ok(verdict)
        });
        self.breath = BREATH;
        self.until(Duration::from_secs(120), |_| Ok(verifier.is_finished()))?;
        self.breath = Duration::ZERO;
        let verdict = verifier.join().map_err(|_| io::Error::other("the verifier panicked"))??;
        self.check(checks::reads_back("the snapshot verifies", self.plan.keys, &verdict))
    }

    /// Lets a rival take the device's free memory. The device is then over-full, but DRAM is at its budget, so next to
    /// nothing can be evicted; then the keys of `gone`, which DRAM holds, expire, and there is room for it.
    fn over_commit(
        &mut self,
        pid: i32,
        device: u32,
        gone: Range<usize>,
        hot: Range<usize>,
    ) -> io::Result<()> {
        self.enter("over-commit", "another process takes device memory", hot.clone())?;
        self.traffic.aim(hot.clone(), hot.clone());
        let before = self.latest_evicted();
        let (hog, taken) = Hog::start(device, LEFT)?;
        self.record.say(&format!("the rival took {} MiB", taken >> 20));
        self.until(Duration::from_secs(5), |_| Ok(false))?;

        let text = format!("{} keys that DRAM holds expire", thousands(gone.len() as u64));
        let begin = self.enter("expiry", &text, hot)?;
        let total = |run: &Run| heap_bytes(pid, &run.plan.nodes).map(|b| b.dram + b.device);
        let held = total(self)?;
        let values: u64 = gone.clone().map(|k| keyspace::value_len(k) as u64).sum();
        self.traffic.expire(gone)?;
        let free = || nodes::free_and_total(device).map_or(0, |(free, _)| free);
        let enough = || free() >= HEADROOM * 95 / 100;
        self.until(Duration::from_secs(30), |run| {
            Ok(run.held_by_server()? == run.traffic.keys().alive() as u64 && enough())
        })?;
        let (took, good) = (self.record.seconds() - begin, enough());
        self.until(Duration::from_secs(3), |_| Ok(false))?;
        let evicted = self.latest_evicted() - before;
        let text = format!(
            "{} pages evicted to DRAM, {} MiB free {took:.0} s after the keys went",
            thousands(evicted),
            free() >> 20
        );
        let check = Check::new("device head-room is restored", good && evicted > 0, text);
        self.check(check.figure(format!("{took:.0} s")))?;
        drop(hog);
        let back = held.saturating_sub(total(self)?);
        let text = format!("{:.0} MiB of {:.0}", mib(back), mib(values));
        let good = back as f64 >= values as f64 * GIVEN_BACK;
        self.check(Check::new("expired keys' memory is given back", good, text))
    }

    /// The closing checks, which need the whole run.
    fn conclude(mut self, server: Server) -> io::Result<bool> {
        let samples = self.shared.samples();
        let verdict = self.traffic.verdict().clone();
        let text = format!("{} reads under way, {} equal", verdict.asked, verdict.equal);
        self.check(Check::new("every read of the traffic is right", verdict.is_good(), text))?;
        self.check(checks::budget_is_kept(&samples, 1, self.budget))?;
        self.check(checks::views_agree(&samples, 1, self.budget))?;
        self.check(checks::enough_moves(&samples))?;
        let complaints = server.complaints();
        let ended = server.stop();
        let text = match &ended {
            Ok(()) => "exit status 0".to_owned(),
            Err(e) => e.to_string(),
        };
        if !complaints.is_empty() {
            self.record.say(&format!("on the server's standard error:\n{complaints}"));
        }
        self.check(Check::new("the server ends well", ended.is_ok(), text))?;
        let good = self.checks.iter().all(|c| c.good);
        self.record.put(self.record.line("end").flag("good", good))?;
        Ok(good)
    }

    /// Begins a phase and returns its start in seconds.
    fn enter(&mut self, name: &str, text: &str, hot: Range<usize>) -> io::Result<f64> {
        let seconds = self.record.seconds();
        if name != "load" {
            self.phase += 1;
        }
        self.shared.enter(self.phase, hot);
        self.record.say(&format!("{name}: {text}"));
        let line = self.record.line("phase").count("phase", self.phase as u64);
        self.record.put(line.text("name", name).text("text", text))?;
        Ok(seconds)
    }

    /// Traffic until `done` says so, for at most `limit`.
    fn until(
        &mut self,
        limit: Duration,
        mut done: impl FnMut(&mut Run) -> io::Result<bool>,
    ) -> io::Result<()> {
        let begin = Instant::now();
        let mut asked = begin;
        while begin.elapsed() < limit {
            self.traffic.batch()?;
            thread::sleep(self.breath);
            if asked.elapsed() > Duration::from_millis(200) {
                asked = Instant::now();
                if done(self)? {
                    break;
                }
            }
        }
        Ok(())
    }

    fn check(&mut self, check: Check) -> io::Result<()> {
        let mark = if check.good { "ok " } else { "BAD" };
        self.record.say(&format!("{mark} {}: {}", check.name, check.text));
        self.record.put(check.write(self.record.line("check")))?;
        self.checks.push(check);
        Ok(())
    }

    fn held_by_server(&mut self) -> io::Result<u64> {
        self.traffic.ask(&["DBSIZE"])?.parse().map_err(|_| io::ErrorKind::InvalidData.into())
    }

    fn latest_evicted(&self) -> u64 {
        self.shared.samples().iter().rev().find_map(|s| s.inside.as_ref()).map_or(0, |i| i.evicted)
    }
}

/// Where a block of keys lies, in words.
fn percent(part: &Range<usize>, keys: usize) -> String {
    format!("keys {} %–{} %", part.start * 100 / keys, part.end * 100 / keys)
}
