//! The report as pictures: self-contained SVG files beside its tables.

use crate::allocators::{BASELINE, NULL_ARM, SUBJECT};
use crate::report::{Group, Quantity, Results};
use plotters::coord::Shift;
use plotters::prelude::*;
use std::fmt::Display;
use std::path::Path;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// A bar that is longer than this many times the best one is cut off; the figure beside it says how long it is.
const LONGEST: f64 = 3.0;
const COLUMNS: usize = 5;
const PANEL: (u32, u32) = (300, 210);
const HEADING: u32 = 50;

const OURS: RGBColor = RGBColor(0xC2, 0x41, 0x0C);
const BASE: RGBColor = RGBColor(0x6B, 0x72, 0x80);
const PEER: RGBColor = RGBColor(0x25, 0x63, 0xEB);
const FAINT: RGBColor = RGBColor(0xD1, 0xD5, 0xDB);

fn colour(allocator: &str) -> RGBColor {
    match allocator {
        SUBJECT => OURS,
        BASELINE => BASE,
        _ => PEER,
    }
}

/// Writes `means.svg`, and `cpu.svg` and `memory.svg` with a panel a benchmark. A chart without a figure is not written.
pub(crate) fn write(results: &Results, directory: &Path) -> Result<(), String> {
    let in_file = |name: &str, e: &dyn Display| format!("{}: {e}", directory.join(name).display());
    means(results, &directory.join("means.svg")).map_err(|e| in_file("means.svg", &e))?;
    for (quantity, name) in [(Quantity::Cpu, "cpu.svg"), (Quantity::Rss, "memory.svg")] {
        bars(results, quantity, &directory.join(name)).map_err(|e| in_file(name, &e))?;
    }
    Ok(())
}

/// CPU time against memory, a point an allocator: geometric means to the best of each benchmark, the best of all worlds at
/// the lower left.
fn means(results: &Results, file: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let point = |a: usize| {
        let mean = |quantity| results.mean_to_best(quantity, Group::All, a);
        Some((results.allocators[a].name.as_str(), mean(Quantity::Cpu)?, mean(Quantity::Rss)?))
    };
    let points: Vec<(&str, f64, f64)> = (0..results.allocators.len())
        .filter(|&a| results.allocators[a].name != NULL_ARM)
        .filter_map(point)
        .collect();
    if points.is_empty() {
        return Ok(());
    }
    // A scale from the best possible to a little above the worst, with room for the label at its right.
    let far = |value: fn(&(&str, f64, f64)) -> f64| {
        let worst = points.iter().map(value).fold(1.0, f64::max);
        1.0 + (worst - 1.0).max(0.1) * 1.25
    };
    let root = SVGBackend::new(file, (820, 560)).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption("CPU time against memory, geometric means to the best of each benchmark", ("sans-serif", 18))
        .margin(16)
        .x_label_area_size(44)
        .y_label_area_size(60)
        .build_cartesian_2d(1.0..far(|p| p.1), 1.0..far(|p| p.2))?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .bold_line_style(FAINT)
        .x_desc("CPU time (1: the best of each)")
        .y_desc("largest resident set (1: the best of each)")
        .label_style(("sans-serif", 13))
        .draw()?;
    let mut labels: Vec<(i32, i32)> = Vec::new();
    for (name, x, y) in &points {
        let (left, top) = chart.plotting_area().map_coordinate(&(*x, *y));
        // Beside its point, or a line higher or lower where another label is.
        let free = |at: &i32| labels.iter().all(|(l, t)| (left - l).abs() > 90 || (top + at - t).abs() > 13);
        let at = [-7, 7, -21, 21, -35].into_iter().find(free).unwrap_or(-7);
        labels.push((left, top + at));
        chart.draw_series([EmptyElement::at((*x, *y))
            + Circle::new((0, 0), 5, colour(name).filled())
            + Text::new((*name).to_owned(), (9, at), ("sans-serif", 14).into_font().color(&colour(name)))])?;
    }
    root.present()?;
    Ok(())
}

/// A panel a benchmark, a bar an allocator, relative to the best.
fn bars(results: &Results, quantity: Quantity, file: &Path) -> Result<(), Box<dyn std::error::Error>> {
    if results.benchmarks.is_empty() {
        return Ok(());
    }
    let lines = results.benchmarks.len().div_ceil(COLUMNS);
    let size = (PANEL.0 * COLUMNS as u32, HEADING + PANEL.1 * lines as u32);
    let root = SVGBackend::new(file, size).into_drawing_area();
    root.fill(&WHITE)?;
    let title = match quantity {
        Quantity::Rss => "Largest resident set",
        _ => "CPU time",
    };
    let (heading, panels) = root.split_vertically(HEADING);
    heading.draw(&Text::new(
        format!("{title}, relative to the best of each benchmark; bars end at {LONGEST}"),
        (12, 16),
        ("sans-serif", 20),
    ))?;
    for (b, area) in panels.split_evenly((lines, COLUMNS)).iter().enumerate().take(results.benchmarks.len()) {
        panel(results, quantity, b, area)?;
    }
    root.present()?;
    Ok(())
}

fn panel(
    results: &Results,
    quantity: Quantity,
    benchmark: usize,
    area: &Area<'_>,
) -> Result<(), Box<dyn std::error::Error>> {
    const NAMES: i32 = 92;
    const BARS: f64 = 150.0;
    area.draw(&Text::new(results.benchmarks[benchmark].name, (10, 6), ("sans-serif", 14)))?;
    let step = (PANEL.1 as i32 - 34) / results.allocators.len().max(1) as i32;
    for (a, allocator) in results.allocators.iter().enumerate() {
        let top = 26 + step * a as i32;
        let colour = colour(&allocator.name);
        let label = ("sans-serif", 11).into_font();
        area.draw(&Text::new(
            allocator.name.as_str(),
            (10, top + step / 2 - 6),
            label.clone().color(&colour),
        ))?;
        let ratio = results.to_best(quantity, benchmark, a);
        let length = ratio.map_or(0.0, |r| r.min(LONGEST) / LONGEST * BARS) as i32;
        area.draw(&Rectangle::new([(NAMES, top + 1), (NAMES + length, top + step - 2)], colour.filled()))?;
        let text = ratio.map_or("failed".to_owned(), |r| format!("{r:.2}"));
        area.draw(&Text::new(text, (NAMES + length + 4, top + step / 2 - 6), label.color(&BLACK)))?;
    }
    let one = NAMES + (BARS / LONGEST) as i32;
    area.draw(&PathElement::new([(one, 24), (one, PANEL.1 as i32 - 8)], FAINT))?;
    Ok(())
}
