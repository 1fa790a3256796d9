//! `terrace report`: what a profile (`TERRACE_PROFILE`) says of a program: how hot its pages are, and whose they are.

mod names;

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

use serde::Serialize;
use terrace::heat::map::PAGE_BYTES;
use terrace::heat::profile::{Profile, Site};

use crate::fail::Fail;
use crate::table::{Table, bytes};
use names::Names;

const PAGE: u64 = PAGE_BYTES as u64;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The file that TERRACE_PROFILE named
    profile: PathBuf,
    /// By allocation site: the calls of malloc and operator new, with what lies in their blocks
    #[arg(long)]
    sites: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// Pages that are used about equally often.
#[derive(Serialize)]
struct Level {
    /// Accesses a page and second: at least this many, …
    from: f64,
    /// … and fewer than this.
    to: f64,
    bytes: u64,
}

/// An allocation site, as shown.
#[derive(Serialize)]
struct Shown {
    function: Option<String>,
    line: Option<String>,
    file: String,
    offset: u64,
    block_bytes: usize,
    bytes: u64,
    dram_bytes: u64,
    accesses_a_page_and_second: f64,
    group: Option<usize>,
    sharers: usize,
}

#[derive(Serialize)]
struct Report {
    program: String,
    bytes: u64,
    dram_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    heat: Option<Vec<Level>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sites: Option<Vec<Shown>>,
}

pub(crate) fn run(args: &Args) -> Result<(), Fail> {
    let cannot =
        |why: &dyn std::fmt::Display| Fail::cannot(format_args!("{}: {why}", args.profile.display()));
    let text = fs::read_to_string(&args.profile).map_err(|e| cannot(&e))?;
    let profile = Profile::parse(&text).map_err(|line| cannot(&line))?;
    let report = Report {
        bytes: profile.pages.0 * PAGE,
        dram_bytes: profile.pages.1 * PAGE,
        heat: (!args.sites).then(|| levels(&profile)),
        sites: args.sites.then(|| sites(&profile.sites)),
        program: profile.program,
    };
    let mut out = io::stdout().lock();
    if args.json {
        serde_json::to_writer_pretty(&mut out, &report).map_err(io::Error::from)?;
        return Ok(writeln!(out)?);
    }
    Ok(show(&report, &mut out)?)
}

/// The heap by heat, hottest first, two octaves a level.
fn levels(profile: &Profile) -> Vec<Level> {
    let mut pages = std::collections::BTreeMap::<i32, u64>::new();
    for hz in profile.rates() {
        *pages.entry((hz.log2() / 2.0).floor() as i32).or_default() += 1;
    }
    let level = |(step, pages): (i32, u64)| Level {
        from: 4f64.powi(step),
        to: 4f64.powi(step + 1),
        bytes: pages * PAGE,
    };
    pages.into_iter().rev().map(level).collect()
}

/// The sites by the pages they use, most accesses first.
fn sites(sites: &[Site]) -> Vec<Shown> {
    let mut names = Names::default();
    let mut shown: Vec<Shown> = sites
        .iter()
        .map(|site| {
            let (function, line) = names.of(&site.file, site.offset);
            Shown {
                function,
                line,
                file: site.file.clone(),
                offset: site.offset,
                block_bytes: site.bytes,
                bytes: site.pages * PAGE,
                dram_bytes: site.dram * PAGE,
                accesses_a_page_and_second: site.hz,
                group: site.group,
                sharers: site.sharers,
            }
        })
        .collect();
    shown.sort_by(|a, b| b.accesses_a_page_and_second.total_cmp(&a.accesses_a_page_and_second));
    shown
}

fn show(report: &Report, out: &mut impl Write) -> io::Result<()> {
    let Report { program, bytes: all, dram_bytes, .. } = report;
    writeln!(out, "{program}: a heap of {}, {} of it in DRAM\n", bytes(*all), bytes(*dram_bytes))?;
    if let Some(heat) = &report.heat {
        let mut table = Table::new(&["accesses a page and second", "heap", "so far"]);
        let mut sum = 0;
        for level in heat {
            sum += level.bytes;
            table.row([
                format!("{} to {}", rate(level.from), rate(level.to)),
                bytes(level.bytes),
                bytes(sum),
            ]);
        }
        table.print(out)?;
    }
    let Some(sites) = &report.sites else { return Ok(()) };
    if sites.is_empty() {
        return writeln!(
            out,
            "No allocation site is known: sites are told apart once the heap comes to half of the DRAM budget."
        );
    }
    let mut table =
        Table::new(&["accesses a page and second", "heap", "in DRAM", "blocks of", "group", "site"]);
    for site in sites {
        let place = match (&site.function, &site.line) {
            (Some(function), Some(line)) => format!("{function} ({line})"),
            (Some(function), None) => format!("{function} ({}+{:#x})", site.file, site.offset),
            _ => format!("{}+{:#x}", site.file, site.offset),
        };
        let group = match (site.group, site.sharers) {
            (None, _) => "-".to_owned(),
            (Some(group), ..=1) => group.to_string(),
            (Some(group), sharers) => format!("{group}, of {sharers} sites"),
        };
        let share = site.dram_bytes as f64 / site.bytes.max(1) as f64;
        table.row([
            rate(site.accesses_a_page_and_second),
            bytes(site.bytes),
            format!("{:.0} %", share * 100.0),
            bytes(site.block_bytes as u64),
            group,
            place,
        ]);
    }
    table.print(out)
}

/// A rate with two digits or so.
fn rate(hz: f64) -> String {
    match hz {
        10.0.. => format!("{hz:.0}"),
        0.1.. => format!("{hz:.2}"),
        _ => format!("{hz:.5}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(function: &str, hz: f64, sharers: usize) -> Shown {
        Shown {
            function: (!function.is_empty()).then(|| function.to_owned()),
            line: None,
            file: "/bin/p".into(),
            offset: 0x10,
            block_bytes: 64,
            bytes: 8 << 20,
            dram_bytes: 2 << 20,
            accesses_a_page_and_second: hz,
            group: Some(2),
            sharers,
        }
    }

    #[test]
    fn sites_are_shown_with_all_that_is_known_of_them() {
        let sites = Some(vec![site("main", 12.0, 1), site("", 0.001, 3)]);
        let report = Report { program: "p".into(), bytes: 16 << 20, dram_bytes: 4 << 20, heat: None, sites };
        let mut out = Vec::new();
        show(&report, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with("p: a heap of 16.0 MiB, 4.0 MiB of it in DRAM\n\n"), "{text}");
        let lines: Vec<Vec<&str>> = text
            .lines()
            .skip(3)
            .map(|l| l.split("  ").map(str::trim).filter(|w| !w.is_empty()).collect())
            .collect();
        assert_eq!(lines[0], ["12", "8.0 MiB", "25 %", "64 B", "2", "main (/bin/p+0x10)"]);
        assert_eq!(lines[1], ["0.00100", "8.0 MiB", "25 %", "64 B", "2, of 3 sites", "/bin/p+0x10"]);
    }

    #[test]
    fn without_sites_the_reason_is_given() {
        let report =
            Report { program: "p".into(), bytes: 0, dram_bytes: 0, heat: None, sites: Some(Vec::new()) };
        let mut out = Vec::new();
        show(&report, &mut out).unwrap();
        assert!(String::from_utf8(out).unwrap().contains("No allocation site is known"));
    }
}
