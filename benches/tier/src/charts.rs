//! The report as pictures: bars per workload, and the share over time.

use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::plan::SUBJECT;
use crate::report::Report;
use crate::results::Run;

const OURS: RGBColor = RGBColor(0xC2, 0x41, 0x0C);
const FAINT: RGBColor = RGBColor(0xD1, 0xD5, 0xDB);

/// Rivals' colours, in the plan's order.
const COLOURS: &[RGBColor] = &[
    RGBColor(0x6B, 0x72, 0x80),
    RGBColor(0x0E, 0x74, 0x90),
    RGBColor(0x25, 0x63, 0xEB),
    RGBColor(0x7C, 0x3A, 0xED),
    RGBColor(0xA1, 0x6B, 0x07),
    RGBColor(0x4D, 0x7C, 0x0F),
    RGBColor(0xBE, 0x18, 0x5D),
    RGBColor(0x11, 0x18, 0x27),
];

/// Size of a panel, and panels side by side.
const PANEL: (u32, u32) = (330, 220);
const COLUMNS: usize = 4;
const HEADING: u32 = 50;

type Failure = Box<dyn std::error::Error>;

/// Writes `bars-N.svg` (share of the oracle's, a panel a workload) and `time-N.svg` (share over time) for each ratio 1:N.
///
/// # Errors
/// A file that cannot be written.
pub fn write(report: &Report<'_>, directory: &Path) -> Result<(), String> {
    for &ratio in &report.plan.ratios {
        let file = |name: &str| directory.join(format!("{name}-{ratio}.svg"));
        bars(report, ratio, &file("bars")).map_err(|e| format!("{}: {e}", file("bars").display()))?;
        time(report, ratio, &file("time")).map_err(|e| format!("{}: {e}", file("time").display()))?;
    }
    Ok(())
}

fn colour(report: &Report<'_>, contender: usize) -> RGBColor {
    if report.plan.contenders[contender].name == SUBJECT { OURS } else { COLOURS[contender % COLOURS.len()] }
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// A sheet with a title `top` pixels from its edge, and below it a panel for each of `count` workloads and to the end of the line.
fn sheet<'a>(
    file: &'a Path,
    title: &str,
    top: i32,
    count: usize,
) -> Result<(Area<'a>, Vec<Area<'a>>), Failure> {
    let lines = count.div_ceil(COLUMNS);
    let size = (PANEL.0 * COLUMNS as u32, HEADING + PANEL.1 * lines as u32);
    let root = SVGBackend::new(file, size).into_drawing_area();
    root.fill(&WHITE)?;
    let (head, body) = root.split_vertically(HEADING);
    head.draw(&Text::new(title, (12, top), ("sans-serif", 20)))?;
    Ok((root, body.split_evenly((lines, COLUMNS))))
}

fn bars(report: &Report<'_>, ratio: u64, file: &Path) -> Result<(), Failure> {
    const NAMES: i32 = 96;
    const LENGTH: f64 = 170.0;
    let workloads = &report.plan.workloads;
    let title = format!(
        "Accesses that DRAM serves, in percent of the oracle's, DRAM:footprint 1:{ratio}; lines: from the least to the most of all runs"
    );
    let (root, panels) = sheet(file, &title, 16, workloads.len())?;
    let step = (PANEL.1 as i32 - 34) / report.plan.contenders.len().max(1) as i32;
    for (workload, panel) in workloads.iter().zip(&panels) {
        panel.draw(&Text::new(workload.name, (10, 6), ("sans-serif", 14)))?;
        for (i, contender) in report.plan.contenders.iter().enumerate() {
            let (top, colour) = (26 + step * i as i32, colour(report, i));
            let middle = top + step / 2;
            let label = ("sans-serif", 11).into_font();
            panel.draw(&Text::new(contender.name, (10, middle - 6), label.clone().color(&colour)))?;
            let Some(cell) = report.cell(contender.name, ratio, workload.name) else {
                panel.draw(&Text::new("failed", (NAMES, middle - 6), label.color(&BLACK)))?;
                continue;
            };
            let at = |share: f64| NAMES + (share.min(1.2) * LENGTH) as i32;
            let x = at(cell.of_oracle);
            panel.draw(&Rectangle::new([(NAMES, top + 1), (x, top + step - 2)], colour.filled()))?;
            let range = vec![(at(cell.least), middle), (at(cell.most), middle)];
            panel.draw(&PathElement::new(range, BLACK.stroke_width(1)))?;
            let text = format!("{:.0}", 100.0 * cell.of_oracle);
            panel.draw(&Text::new(text, (x.max(at(cell.most)) + 4, middle - 6), label.color(&BLACK)))?;
        }
    }
    root.present()?;
    Ok(())
}

fn time(report: &Report<'_>, ratio: u64, file: &Path) -> Result<(), Failure> {
    let workloads = &report.plan.workloads;
    let title = format!(
        "Accesses that DRAM serves, in percent, over time in seconds, DRAM:footprint 1:{ratio}; black: the oracle"
    );
    let (root, panels) = sheet(file, &title, 8, workloads.len())?;
    for (workload, panel) in workloads.iter().zip(&panels) {
        let of = |contender: &str| {
            let is =
                |r: &&Run| r.contender == contender && r.ratio == ratio && r.workload.name == workload.name;
            report.runs.iter().find(is)
        };
        let end = report.plan.contenders.iter().filter_map(|c| of(c.name)?.looks.last().map(|l| l.seconds));
        let end = end.fold(1.0, f64::max);
        let mut chart = ChartBuilder::on(panel)
            .caption(workload.name, ("sans-serif", 15))
            .margin(8)
            .x_label_area_size(18)
            .y_label_area_size(30)
            .build_cartesian_2d(0.0..end, 0.0..100.0)?;
        chart
            .configure_mesh()
            .light_line_style(WHITE)
            .bold_line_style(FAINT)
            .x_labels(5)
            .y_labels(5)
            .draw()?;
        for (i, contender) in report.plan.contenders.iter().enumerate() {
            let Some(run) = of(contender.name) else { continue };
            if contender.name == SUBJECT {
                let best = run.looks.iter().map(|l| (l.seconds, 100.0 * run.oracle_at(l)));
                chart.draw_series(LineSeries::new(best, BLACK.stroke_width(1)))?;
            }
            let width = if contender.name == SUBJECT { 2 } else { 1 };
            let line = run.looks.iter().map(|l| (l.seconds, 100.0 * l.share));
            let colour = colour(report, i);
            chart.draw_series(LineSeries::new(line, colour.stroke_width(width)))?;
        }
    }
    // What the colours mean, under the title.
    for (i, contender) in report.plan.contenders.iter().enumerate() {
        let style = ("sans-serif", 13).into_font().color(&colour(report, i));
        root.draw(&Text::new(contender.name, (20 + 120 * i as i32, 32), style))?;
    }
    root.present()?;
    Ok(())
}
