//! `terrace stat`: what a process does with its tiers, from the page that its control thread publishes.
//!
//! Reading costs the process nothing: the page is shared memory that it writes whether anybody looks or not.

mod pages;
mod show;
mod snapshot;
mod why;

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::fail::Fail;
use crate::table::{Table, bytes};
use snapshot::{Snapshot, read};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The process; without it, every process that publishes a page
    #[arg(value_parser = clap::value_parser!(u32).range(1..=i64::from(i32::MAX)))]
    pid: Option<u32>,
    /// Again every SECS seconds, with what moved per second, until the process ends
    #[arg(long, short, value_name = "SECS", value_parser = seconds, requires = "pid")]
    watch: Option<Duration>,
    /// As JSON, one object a line
    #[arg(long)]
    json: bool,
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.1..=86_400.0).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("not a number of seconds between 0.1 and 86400".to_owned()),
    }
}

pub(crate) fn run(args: &Args) -> Result<(), Fail> {
    let mut out = io::stdout().lock();
    let Some(pid) = args.pid else {
        return list(&mut out, args.json, Path::new(pages::DIRECTORY));
    };
    let first = read(pid).map_err(|error| why::unreadable(pid, &error))?;
    show(&mut out, args.json, &first, None)?;
    if let Some(period) = args.watch {
        watch(&mut out, args.json, first, period)?;
    }
    Ok(())
}

/// Prints until the process ends, which is the normal end of a watch.
fn watch(out: &mut impl Write, json: bool, first: Snapshot, period: Duration) -> Result<(), Fail> {
    let clear = !json && io::stdout().is_terminal();
    let (mut before, mut at) = (first, Instant::now());
    loop {
        out.flush()?;
        sleep(period);
        let Ok(now) = read(before.pid) else { return Ok(()) };
        let took = at.elapsed().as_secs_f64();
        at = Instant::now();
        match (json, clear) {
            (true, _) => {}
            (false, true) => write!(out, "\x1b[H\x1b[2J")?,
            (false, false) => writeln!(out)?,
        }
        show(out, json, &now, Some((&before, took)))?;
        before = now;
    }
}

fn show(
    out: &mut impl Write,
    json: bool,
    now: &Snapshot,
    before: Option<(&Snapshot, f64)>,
) -> io::Result<()> {
    if !json {
        return show::print(out, now, before);
    }
    serde_json::to_writer(&mut *out, now).map_err(io::Error::from)?;
    writeln!(out)
}

/// Every process that publishes a page; the pages of processes that are gone are removed on the way.
fn list(out: &mut impl Write, json: bool, directory: &Path) -> Result<(), Fail> {
    let mut table =
        Table::new(&["pid", "name", "mode", "tracker", "DRAM", "device", "promoted", "demoted", "evicted"]);
    let mut found = 0;
    for page in pages::list(directory) {
        if page.is_stale() {
            // Another user's page is not ours to remove; that user's next `terrace stat` will.
            if fs::remove_file(&page.path).is_ok() {
                eprintln!("terrace: removed {}: process {} is gone", page.path.display(), page.pid);
            }
            continue;
        }
        found += 1;
        match read(page.pid) {
            Ok(now) if json => show(out, true, &now, None)?,
            Ok(now) => table.row(row(&now)),
            Err(error) => {
                eprintln!("terrace: process {} ({}): {error}", page.pid, why::name_of(page.pid));
            }
        }
    }
    if !json && found > 0 {
        table.print(out)?;
    } else if found == 0 {
        eprintln!(
            "terrace: no process publishes a page (that takes a device tier and a heap above TERRACE_START)"
        );
    }
    Ok(())
}

fn row(now: &Snapshot) -> [String; 9] {
    let held = |kind: &str| bytes(now.tiers.iter().filter(|t| t.kind == kind).map(|t| t.bytes).sum());
    let moves = &now.moves;
    [
        now.pid.to_string(),
        now.name.clone(),
        now.mode.clone(),
        now.tracker.clone(),
        held("dram"),
        held("device"),
        moves.promoted.to_string(),
        moves.demoted.to_string(),
        moves.evicted.to_string(),
    ]
}
