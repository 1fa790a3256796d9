//! A run, as its record tells it.
//!
//! Zone: control (a program of its own).

use crate::checks::Check;
use crate::inside::Inside;
use crate::json::{self, Value};
use crate::outside::{Bytes, Cell};
use crate::sampler::Sample;

/// A part of the story.
#[derive(Clone, Debug)]
pub struct Phase {
    /// A word or two.
    pub name: String,
    /// What happens in it.
    pub text: String,
    /// Seconds at which it began.
    pub begin: f64,
}

/// The heap by extent at one moment.
#[derive(Clone, Debug)]
pub struct Map {
    /// Seconds since the start.
    pub seconds: f64,
    /// Its extents in address order.
    pub cells: Vec<Cell>,
}

/// One sample, with what only the picture wants of it.
#[derive(Clone, Debug)]
pub struct Point {
    /// Both views.
    pub sample: Sample,
    /// Bytes free on the device node.
    pub device_free: u64,
}

/// What is known of a run, so far.
#[derive(Clone, Debug, Default)]
pub struct Run {
    /// Number of keys.
    pub keys: u64,
    /// Bytes of values.
    pub data: u64,
    /// DRAM budget in bytes.
    pub budget: u64,
    /// Device head-room in bytes.
    pub headroom: u64,
    /// Kernel release.
    pub kernel: String,
    /// Device nodes.
    pub device_nodes: Vec<u64>,
    /// The story.
    pub phases: Vec<Phase>,
    /// One a second.
    pub points: Vec<Point>,
    /// The heap by extent, every few seconds.
    pub maps: Vec<Map>,
    /// What was checked.
    pub checks: Vec<Check>,
    /// Whether the run came to its end, and well; `None` before that.
    pub good: Option<bool>,
}

impl Run {
    /// Takes one line of the record; false when it is none.
    pub fn take(&mut self, text: &str) -> bool {
        let Some(line) = json::parse(text) else { return false };
        let count = |name| line.number(name) as u64;
        let seconds = line.number("t");
        match line.text("k") {
            "start" => {
                self.keys = count("keys");
                self.data = count("data");
                self.budget = count("budget");
                self.headroom = count("headroom");
                self.kernel = line.text("kernel").to_owned();
                self.device_nodes = line.numbers("device_nodes").into_iter().map(|n| n as u64).collect();
            }
            "phase" => {
                let (name, text) = (line.text("name").to_owned(), line.text("text").to_owned());
                self.phases.push(Phase { name, text, begin: seconds });
            }
            "sample" => self.points.push(point(&line)),
            "map" => {
                let numbers: Vec<u64> = line.numbers("cells").into_iter().map(|n| n as u64).collect();
                let cells = numbers.chunks_exact(3).map(|c| (c[0], c[1], c[2])).collect();
                self.maps.push(Map { seconds, cells });
            }
            "check" => {
                let good = line.get("good") == Some(&Value::Bool(true));
                let check = Check::new(line.text("name"), good, line.text("text").to_owned());
                self.checks.push(check.figure(line.text("figure")));
            }
            "end" => self.good = Some(line.get("good") == Some(&Value::Bool(true))),
            _ => return false,
        }
        true
    }

    /// Seconds at which the record ends.
    pub fn end(&self) -> f64 {
        let last = self.points.last().map_or(0.0, |p| p.sample.seconds);
        self.phases.last().map_or(last, |p| last.max(p.begin)).max(1.0)
    }

    /// The latest inside view.
    pub fn inside(&self) -> Option<&Inside> {
        self.points.iter().rev().find_map(|p| p.sample.inside.as_ref())
    }

    /// True when the run came to its end and every check was good.
    pub fn is_good(&self) -> bool {
        self.good == Some(true) && self.checks.iter().all(|c| c.good)
    }
}

fn point(line: &Value) -> Point {
    let count = |name| line.number(name) as u64;
    let sample = Sample {
        seconds: line.number("t"),
        phase: line.number("phase") as usize,
        inside: line.get("in_dram").map(|_| Inside::of(line)),
        outside: Bytes { dram: count("dram"), device: count("device") },
        before: line
            .get("dram_before")
            .map(|_| Bytes { dram: count("dram_before"), device: count("device_before") }),
        hot: (count("hot_pages"), count("hot_dram")),
    };
    Point { sample, device_free: count("device_free") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::Line;

    #[test]
    fn what_the_driver_writes_is_read() {
        let mut run = Run::default();
        let inside = Inside { dram: 5, promoted: 7, tracker: "refs".into(), ..Inside::default() };
        assert!(run.take(&Line::new("start", 0.0).count("keys", 10).count("budget", 3 << 20).finish()));
        assert!(run.take(&Line::new("phase", 1.0).text("name", "load").text("text", "x").finish()));
        let sample = Line::new("sample", 2.0).count("phase", 1).count("dram", 6).count("device", 8);
        assert!(run.take(&sample.finish()));
        assert!(run.inside().is_none());
        let sample = Line::new("sample", 3.0).count("dram", 6).count("hot_pages", 4).count("hot_dram", 1);
        assert!(run.take(&inside.write(sample).finish()));
        assert!(run.take(&Line::new("map", 3.0).counts("cells", [1, 64, 32, 2, 64, 0].into_iter()).finish()));
        assert!(run.take(&Line::new("check", 4.0).text("name", "n").flag("good", true).finish()));
        assert_eq!((run.keys, run.budget, run.phases.len(), run.end()), (10, 3 << 20, 1, 3.0));
        assert_eq!(run.inside(), Some(&inside));
        assert_eq!(run.points[1].sample.hot_share(), Some(0.25));
        assert_eq!(run.maps[0].cells, [(1, 64, 32), (2, 64, 0)]);
        assert!(!run.is_good());
        assert!(run.take(&Line::new("end", 5.0).flag("good", true).finish()));
        assert!(run.is_good());
    }

    #[test]
    fn other_output_is_no_record() {
        let mut run = Run::default();
        assert!(!run.take("terrace-demo-driver: no device node here"));
        assert!(!run.take("{\"k\":\"something else\"}"));
    }

    #[test]
    fn a_run_without_an_end_is_not_good() {
        assert!(!Run::default().is_good());
    }
}
