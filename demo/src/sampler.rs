//! Once a second: what Terrace says of itself, what the kernel says of Terrace, where the hot set lies. Half a second before, what the
//! kernel says, too.
//!
//! The sampler has its own thread and its own connection to the server. The two views are taken one right after
//! the other, but not at the same instant: [`crate::checks`] allows for that.
//!
//! Zone: control (a program of its own).

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};

use crate::inside::{self, Inside};
use crate::json::Line;
use crate::locate;
use crate::nodes::{self, Nodes};
use crate::outside::{self, Bytes};
use crate::record::Record;
use crate::resp::Client;

/// Half the time between samples.
const HALF: Duration = Duration::from_millis(500);

/// The heap map is drawn every so many samples, from every so many pages.
const MAP_EVERY: u64 = 2;
const MAP_STRIDE: usize = 8;

/// Hot keys looked for in one sample. Another part of the hot block each time: looking at a value touches it.
const HOT_KEYS: usize = 1024;

/// One second of a run.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// Seconds since the start.
    pub seconds: f64,
    /// The phase it was taken in, counted from 0.
    pub phase: usize,
    /// Terrace's own view; `None` until it has one.
    pub inside: Option<Inside>,
    /// The kernel's view.
    pub outside: Bytes,
    /// The same half a second before, if it was looked at.
    pub before: Option<Bytes>,
    /// Pages with values of the hot set that were looked at, and those of them in DRAM.
    pub hot: (u64, u64),
}

impl Sample {
    /// Share of the hot set's pages in DRAM, `None` when none was found.
    pub fn hot_share(&self) -> Option<f64> {
        (self.hot.0 > 0).then(|| self.hot.1 as f64 / self.hot.0 as f64)
    }
}

/// What the script tells the sampler, and the sampler the script.
#[derive(Default)]
pub struct Shared {
    /// Commands that the traffic has completed.
    pub operations: Arc<AtomicU64>,
    state: Mutex<State>,
    stop: AtomicBool,
}

#[derive(Default)]
struct State {
    phase: usize,
    hot: Range<usize>,
    samples: Vec<Sample>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// From now on, phase number `phase` with the hot block `hot`.
    pub fn enter(&self, phase: usize, hot: Range<usize>) {
        let mut state = self.state();
        state.phase = phase;
        state.hot = hot;
    }

    /// All samples so far.
    pub fn samples(&self) -> Vec<Sample> {
        self.state().samples.clone()
    }

    /// The latest sample of phase `phase`, if there is one yet.
    pub fn latest(&self, phase: usize) -> Option<Sample> {
        self.state().samples.last().filter(|s| s.phase == phase).cloned()
    }
}

/// Where to look.
pub struct Subject {
    /// The server.
    pub pid: i32,
    /// A connection to it for the sampler alone.
    pub client: Client,
    /// The machine's nodes.
    pub nodes: Nodes,
}

/// A running sampler thread.
pub struct Sampler {
    shared: Arc<Shared>,
    thread: JoinHandle<io::Result<()>>,
}

impl Sampler {
    /// Starts sampling `subject`.
    pub fn start(mut subject: Subject, shared: Arc<Shared>, record: Arc<Record>) -> Sampler {
        let theirs = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            let begin = Instant::now();
            let mut before = None;
            for turn in 0.. {
                if theirs.stop.load(Ordering::Acquire) {
                    break;
                }
                if turn % 2 == 0 {
                    subject.sample(turn / 2, before.take(), &theirs, &record)?;
                } else {
                    before = Some(outside::heap_bytes(subject.pid, &subject.nodes)?);
                }
                // The next half second; a slow sample skips some instead of chasing them.
                let past = begin.elapsed().as_nanos() % HALF.as_nanos();
                thread::sleep(HALF - Duration::from_nanos(past as u64));
            }
            Ok(())
        });
        Sampler { shared, thread }
    }

    /// Ends the sampling.
    ///
    /// # Errors
    /// Whatever had ended it earlier.
    pub fn stop(self) -> io::Result<()> {
        self.shared.stop.store(true, Ordering::Release);
        self.thread.join().map_err(|_| io::Error::other("the sampler panicked"))?
    }
}

impl Subject {
    fn sample(
        &mut self,
        round: u64,
        before: Option<Bytes>,
        shared: &Shared,
        record: &Record,
    ) -> io::Result<()> {
        let (phase, hot) = {
            let state = shared.state();
            (state.phase, state.hot.clone())
        };
        let inside = inside::read(self.pid)?;
        let outside = outside::heap_bytes(self.pid, &self.nodes)?;
        let seconds = record.seconds();
        let found = self.hot_pages(round, &hot)?;
        let sample = Sample { seconds, phase, inside, outside, before, hot: found };
        let mut line = Line::new("sample", seconds)
            .count("phase", phase as u64)
            .count("operations", shared.operations.load(Ordering::Relaxed))
            .count("dram", outside.dram)
            .count("device", outside.device)
            .count("hot_pages", found.0)
            .count("hot_dram", found.1);
        if let Some(before) = before {
            line = line.count("dram_before", before.dram).count("device_before", before.device);
        }
        if let Some((free, total)) = self.nodes.device.first().and_then(|n| nodes::free_and_total(*n)) {
            line = line.count("device_free", free).count("device_total", total);
        }
        record.put(if let Some(inside) = &sample.inside { inside.write(line) } else { line })?;
        if round.is_multiple_of(MAP_EVERY) {
            let map = outside::heap_map(self.pid, MAP_STRIDE, &self.nodes)?;
            let numbers = map.iter().flat_map(|c| [c.0, c.1, c.2]);
            record.put(Line::new("map", seconds).counts("cells", numbers))?;
        }
        let mut state = shared.state();
        // The script may have moved on while we looked; such a sample belongs to neither hot set.
        if state.phase == phase {
            state.samples.push(sample);
        }
        Ok(())
    }

    /// Looks at one part of the hot block: keys `round`, `round + step`, … of it.
    fn hot_pages(&mut self, round: u64, hot: &Range<usize>) -> io::Result<(u64, u64)> {
        let step = hot.len().div_ceil(HOT_KEYS).max(1);
        let keys: Vec<usize> = hot.clone().skip(round as usize % step).step_by(step).collect();
        let pages = locate::pages_of_values(&mut self.client, self.pid, &keys)?;
        outside::count_in_dram(self.pid, &pages, &self.nodes)
    }
}
