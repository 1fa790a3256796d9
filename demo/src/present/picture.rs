//! The picture of a run: one page, panels over a common time axis.
//!
//! Zone: control (a program of its own).

use super::chart::Frame;
use super::heatmap;
use super::run::Run;
use super::svg::{Anchor, Svg};
use crate::checks::{TOLERANCE, mib, thousands};
use crate::goals::goals;
use crate::sampler::Sample;

const WIDTH: f64 = 1600.0;
const LEFT: f64 = 110.0;
const RIGHT: f64 = 1560.0;

const DRAM: &str = "#2563eb";
const DEVICE: &str = "#f59e0b";
const PROMOTED: &str = "#0d9488";
const DEMOTED: &str = "#f59e0b";
const EVICTED: &str = "#9333ea";
const GOOD: &str = "#15803d";
const BAD: &str = "#b91c1c";

/// How a budget, a goal or a head-room is drawn.
const GOAL: &str = r##"stroke="#0f172a" stroke-width="1.6" stroke-dasharray="7 4""##;

/// How the hot set's share is drawn.
const HOT: &str = r##"stroke="#dc2626" stroke-width="2.5""##;

/// What a legend shows beside a text.
enum Mark {
    Area(&'static str),
    Dots(&'static str),
    Line(&'static str),
}

/// Draws a run.
pub fn draw(run: &Run) -> String {
    let mut page = Page { svg: Svg::new(WIDTH), run, y: 0.0 };
    page.header();
    page.tiles();
    let top = page.ribbon();
    page.bytes();
    page.moves();
    page.hot_set();
    page.device_free();
    page.heap();
    page.phase_lines(top);
    page.footer();
    page.svg.finish(page.y)
}

/// A page that fills from the top; `y` is where the next thing goes.
struct Page<'a> {
    svg: Svg,
    run: &'a Run,
    y: f64,
}

impl Page<'_> {
    fn header(&mut self) {
        let run = self.run;
        self.svg.text(
            (LEFT, 62.0),
            Anchor::Start,
            "title",
            "An unmodified redis-server on two tiers of memory",
        );
        let nodes: Vec<String> = run.device_nodes.iter().map(u64::to_string).collect();
        let tracker = run.inside().map_or("none", |i| i.tracker.as_str());
        let about = format!(
            "{:.0} MiB of values in {} keys · DRAM budget {:.1} MiB, one third · device: NUMA node {} · Linux {} · heat from tracker “{tracker}”",
            mib(run.data),
            thousands(run.keys),
            mib(run.budget),
            nodes.join(", "),
            run.kernel,
        );
        self.svg.text((LEFT, 90.0), Anchor::Start, "soft", &about);
        let bad = run.checks.iter().filter(|c| !c.good).count();
        let (text, colour) = match (run.good, bad) {
            (None, _) => ("did not come to its end".to_owned(), BAD),
            (Some(true), 0) => (format!("all {} checks good", run.checks.len()), GOOD),
            _ => (format!("{bad} of {} checks failed", run.checks.len()), BAD),
        };
        self.svg.rect(RIGHT - 250.0, 36.0, 250.0, 40.0, &format!(r#"rx="20" fill="{colour}""#));
        let style = r##"style="fill:#ffffff;font-size:17px""##;
        self.svg.styled_text((RIGHT - 125.0, 62.0), Anchor::Middle, "bold", style, &text);
        self.y = 112.0;
    }

    /// The checks that have a figure, side by side.
    fn tiles(&mut self) {
        let tiles: Vec<_> = self.run.checks.iter().filter(|c| !c.figure.is_empty()).collect();
        let (gap, height) = (12.0, 122.0);
        let width = (RIGHT - LEFT + gap) / tiles.len().max(1) as f64 - gap;
        for (i, check) in tiles.iter().enumerate() {
            let x = LEFT + i as f64 * (width + gap);
            let colour = if check.good { GOOD } else { BAD };
            self.svg.rect(x, self.y, width, height, r##"rx="8" fill="#f1f5f9""##);
            self.svg.rect(x, self.y, 5.0, height, &format!(r#"rx="2" fill="{colour}""#));
            let style = format!(r#"style="fill:{colour};font-size:26px""#);
            self.svg.styled_text((x + 16.0, self.y + 38.0), Anchor::Start, "figure", &style, &check.figure);
            for (line, text) in wrap(&check.name, (width / 7.6) as usize).iter().take(4).enumerate() {
                let at = (x + 16.0, self.y + 60.0 + 17.0 * line as f64);
                self.svg.text(at, Anchor::Start, "soft", text);
            }
        }
        self.y += if tiles.is_empty() { 0.0 } else { height + 20.0 };
    }

    /// The phases as a ribbon; returns its lower edge.
    fn ribbon(&mut self) -> f64 {
        let frame = self.frame_at(self.y, 26.0, (0.0, 1.0));
        for (i, phase) in self.run.phases.iter().enumerate() {
            let end = self.run.phases.get(i + 1).map_or(self.run.end(), |p| p.begin);
            let (x, right) = (frame.x(phase.begin), frame.x(end));
            let fill = if i % 2 == 0 { "#cbd5e1" } else { "#e2e8f0" };
            self.svg.rect(x, frame.top, right - x, 26.0, &format!(r#"fill="{fill}""#));
            let name = format!("{} {}", i + 1, phase.name);
            let text =
                if (right - x) > 8.2 * name.chars().count() as f64 { name } else { (i + 1).to_string() };
            let middle = ((x + right) / 2.0, frame.top + 18.0);
            self.svg.text(middle, Anchor::Middle, "", &text);
        }
        self.y = frame.bottom + 34.0;
        frame.bottom
    }

    fn bytes(&mut self) {
        self.head("Bytes of the heap by tier, MiB");
        let run = self.run;
        let all: Vec<&Sample> = run.points.iter().map(|p| &p.sample).collect();
        let most = all
            .iter()
            .map(|s| mib(s.outside.dram + s.outside.device))
            .fold(mib(run.budget).max(1.0), f64::max);
        let frame = self.frame(250.0, (0.0, most * 1.06));
        frame.grid(&mut self.svg, |v| format!("{v:.0}"));
        let curve = |low: fn(&Sample) -> u64, high: fn(&Sample) -> u64| -> Vec<_> {
            all.iter().map(|s| (s.seconds, mib(low(s)), mib(high(s)))).collect()
        };
        frame.area(&mut self.svg, &curve(|_| 0, |s| s.outside.dram), "#93b4f5");
        let device = curve(|s| s.outside.dram, |s| s.outside.dram + s.outside.device);
        frame.area(&mut self.svg, &device, "#fbd38d");
        for sample in &all {
            let Some(inside) = &sample.inside else { continue };
            let mut dot = |bytes: u64, colour: &str| {
                let style = format!(r##"fill="{colour}" stroke="#ffffff" stroke-width="0.6""##);
                self.svg.dot((frame.x(sample.seconds), frame.y(mib(bytes))), 2.8, &style);
            };
            dot(inside.dram + inside.device, "#b45309");
            dot(inside.dram, "#1e3a8a");
        }
        let budget = mib(run.budget);
        frame.level(
            &mut self.svg,
            budget * (1.0 + TOLERANCE),
            r##"stroke="#0f172a" stroke-dasharray="2 5""##,
        );
        frame.level(&mut self.svg, budget, GOAL);
        self.legend(&[
            (Mark::Area("#93b4f5"), "DRAM"),
            (Mark::Area("#fbd38d"), "device, both as the kernel counts"),
            (Mark::Dots("#1e3a8a"), "DRAM"),
            (Mark::Dots("#b45309"), "the sum, both as Terrace counts"),
            (Mark::Line(GOAL), "DRAM budget, + 5 %"),
        ]);
        self.below(&frame);
    }

    fn moves(&mut self) {
        self.head("Pages moved per second");
        let inside: Vec<_> = self
            .run
            .points
            .iter()
            .filter_map(|p| Some((p.sample.seconds, p.sample.inside.as_ref()?)))
            .collect();
        let rates: Vec<[f64; 5]> = inside
            .windows(2)
            .map(|w| {
                let ((t0, a), (t1, b)) = (w[0], w[1]);
                let rate = |a: u64, b: u64| b.saturating_sub(a) as f64 / (t1 - t0).max(0.1);
                [t0, t1, rate(a.promoted, b.promoted), rate(a.evicted, b.evicted), rate(a.demoted, b.demoted)]
            })
            .collect();
        let up = rates.iter().map(|r| r[2] + r[3]).fold(100.0, f64::max);
        let down = rates.iter().map(|r| r[4]).fold(100.0, f64::max);
        let frame = self.frame(170.0, (-down * 1.08, up * 1.08));
        frame.grid(&mut self.svg, |v| thousands(v.abs() as u64));
        for [t0, t1, promoted, evicted, demoted] in rates {
            frame.bar(&mut self.svg, (t0, t1), 0.0, promoted, PROMOTED);
            frame.bar(&mut self.svg, (t0, t1), promoted, promoted + evicted, EVICTED);
            frame.bar(&mut self.svg, (t0, t1), -demoted, 0.0, DEMOTED);
        }
        frame.level(&mut self.svg, 0.0, r##"stroke="#475569""##);
        self.legend(&[
            (Mark::Area(PROMOTED), "promoted: hot, device → DRAM"),
            (Mark::Area(EVICTED), "evicted: device over-full, device → DRAM"),
            (Mark::Area(DEMOTED), "demoted: cold, DRAM → device"),
        ]);
        self.below(&frame);
    }

    fn hot_set(&mut self) {
        self.head("Share of the hot keys’ pages that is in DRAM");
        let frame = self.frame(120.0, (0.0, 1.0));
        frame.grid(&mut self.svg, |v| format!("{:.0} %", v * 100.0));
        frame.level(&mut self.svg, goals().hot_share, GOAL);
        // One curve a phase: the hot set is another one.
        for phase in 0..self.run.phases.len() {
            let of_phase = self.run.points.iter().map(|p| &p.sample).filter(|s| s.phase == phase);
            let curve: Vec<_> = of_phase.filter_map(|s| Some((s.seconds, s.hot_share()?))).collect();
            frame.curve(&mut self.svg, &curve, HOT);
        }
        self.legend(&[
            (Mark::Line(HOT), "hot values, located one by one in the server’s memory"),
            (Mark::Line(GOAL), "80 %"),
        ]);
        self.below(&frame);
    }

    fn device_free(&mut self) {
        self.head("Free memory of the device node, MiB");
        let run = self.run;
        let free: Vec<_> = run.points.iter().map(|p| (p.sample.seconds, mib(p.device_free))).collect();
        let most = free.iter().map(|f| f.1).fold(mib(run.headroom).max(1.0), f64::max);
        let frame = self.frame(90.0, (0.0, most * 1.08));
        frame.grid(&mut self.svg, |v| format!("{v:.0}"));
        let area: Vec<_> = free.iter().map(|(t, v)| (*t, 0.0, *v)).collect();
        frame.area(&mut self.svg, &area, "#e9d5ff");
        frame.level(&mut self.svg, mib(run.headroom), GOAL);
        self.legend(&[
            (Mark::Area("#e9d5ff"), "free"),
            (Mark::Line(GOAL), "head-room that Terrace is to keep"),
        ]);
        self.below(&frame);
    }

    fn heap(&mut self) {
        self.head("The heap by tier: one row 2 MiB of addresses");
        let frame = self.frame(330.0, (0.0, 1.0));
        self.svg.rect(frame.left, frame.top, frame.right - frame.left, 330.0, r##"fill="#f8fafc""##);
        let rows = heatmap::draw(&mut self.svg, &frame, &self.run.maps);
        self.svg.text((LEFT - 10.0, frame.top + 12.0), Anchor::End, "soft", &format!("{} MiB", rows * 2));
        self.svg.text((LEFT - 10.0, frame.bottom), Anchor::End, "soft", "0");
        self.legend(&[
            (Mark::Area(DRAM), "in DRAM"),
            (Mark::Area("#8d817b"), "half and half"),
            (Mark::Area(DEVICE), "on the device"),
            (Mark::Area("#f8fafc"), "no memory"),
        ]);
        frame.time_axis(&mut self.svg);
        self.y = frame.bottom + 60.0;
    }

    /// Thin lines where phases begin, through all panels above.
    fn phase_lines(&mut self, top: f64) {
        let frame = self.frame_at(top, self.y - 60.0 - top, (0.0, 1.0));
        for phase in self.run.phases.iter().skip(1) {
            let x = frame.x(phase.begin);
            self.svg.line((x, top), (x, frame.bottom), r##"stroke="#475569" stroke-opacity="0.35""##);
        }
    }

    fn footer(&mut self) {
        let top = self.y;
        self.svg.text((LEFT, top), Anchor::Start, "panel", "What happens");
        for (i, phase) in self.run.phases.iter().enumerate() {
            let y = top + 28.0 + 22.0 * i as f64;
            self.svg.text((LEFT, y), Anchor::Start, "bold", &format!("{}  {}", i + 1, phase.name));
            self.svg.text((LEFT + 130.0, y), Anchor::Start, "", &phase.text);
        }
        let middle = 640.0;
        self.svg.text((middle, top), Anchor::Start, "panel", "What was checked");
        for (i, check) in self.run.checks.iter().enumerate() {
            let y = top + 28.0 + 22.0 * i as f64;
            let (mark, colour) = if check.good { ("✔", GOOD) } else { ("✘", BAD) };
            let style = format!(r#"style="fill:{colour}""#);
            self.svg.styled_text((middle, y), Anchor::Start, "bold", &style, mark);
            self.svg.text((middle + 22.0, y), Anchor::Start, "", &format!("{}: {}", check.name, check.text));
        }
        let lines = self.run.phases.len().max(self.run.checks.len());
        self.y = top + 28.0 + 22.0 * lines as f64 + 16.0;
        let text = "Areas, hot pages and the map of the heap come from the kernel (numa_maps, move_pages queries), not from Terrace. \
                    In the lab the machine is emulated: pages and moves are exact, seconds are not a measure of speed.";
        self.svg.text((LEFT, self.y), Anchor::Start, "soft", text);
        self.y += 30.0;
    }

    /// A panel's title; the panel goes below it.
    fn head(&mut self, title: &str) {
        self.svg.text((LEFT, self.y), Anchor::Start, "panel", title);
        self.y += 14.0;
    }

    /// Explains marks, on the line of the last title, up to the right edge.
    fn legend(&mut self, entries: &[(Mark, &str)]) {
        let width = |text: &str| 7.15 * text.chars().count() as f64;
        let mut x = RIGHT - entries.iter().map(|e| width(e.1) + 44.0).sum::<f64>() + 20.0;
        let y = self.y - 14.0;
        for (mark, text) in entries {
            match mark {
                Mark::Area(colour) => {
                    let style = format!(r##"rx="2" fill="{colour}" stroke="#94a3b8" stroke-width="0.5""##);
                    self.svg.rect(x, y - 11.0, 16.0, 13.0, &style);
                }
                Mark::Dots(colour) => {
                    for dot in 0..3 {
                        let at = (x + 2.0 + 6.0 * f64::from(dot), y - 4.5);
                        self.svg.dot(at, 2.5, &format!(r#"fill="{colour}""#));
                    }
                }
                Mark::Line(style) => self.svg.line((x - 4.0, y - 4.5), (x + 16.0, y - 4.5), style),
            }
            self.svg.text((x + 23.0, y), Anchor::Start, "soft", text);
            x += width(text) + 44.0;
        }
    }

    fn frame(&self, height: f64, range: (f64, f64)) -> Frame {
        self.frame_at(self.y, height, range)
    }

    fn frame_at(&self, top: f64, height: f64, range: (f64, f64)) -> Frame {
        Frame { left: LEFT, right: RIGHT, top, bottom: top + height, seconds: self.run.end(), range }
    }

    fn below(&mut self, frame: &Frame) {
        self.y = frame.bottom + 40.0;
    }
}

/// Breaks a text into lines of at most about `width` characters.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::Check;

    #[test]
    fn a_run_that_never_began_can_be_drawn() {
        let text = draw(&Run::default());
        assert!(text.contains("did not come to its end"));
        assert!(!text.contains("NaN") && !text.contains("inf"));
    }

    #[test]
    fn a_failed_check_is_named_and_counted() {
        let mut run = Run { good: Some(false), ..Run::default() };
        run.checks.push(Check::new("reads < writes", true, String::new()));
        run.checks.push(Check::new("nothing lost", false, "1 wrong".into()).figure("1"));
        let text = draw(&run);
        assert!(text.contains("1 of 2 checks failed"));
        assert!(text.contains("nothing lost: 1 wrong") && text.contains("reads &lt; writes"));
    }

    #[test]
    fn texts_are_wrapped_between_words() {
        assert_eq!(wrap("at least 100,000 pages moved", 16), ["at least 100,000", "pages moved"]);
        assert_eq!(wrap("one", 1), ["one"]);
    }
}
