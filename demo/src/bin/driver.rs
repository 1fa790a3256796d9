//! `terrace-demo-driver`: tells the demonstration's story where the memory tiers are.
//!
//! Usage: `terrace-demo-driver [--keys N] [--terrace COMMAND] DIR`. The record goes to standard output, words for
//! a person to standard error. Exit status: 0 when every check is good, 1 when one is not, 2 when the story could
//! not be told to its end.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use terrace_demo::hog;
use terrace_demo::nodes::Nodes;
use terrace_demo::record::Record;
use terrace_demo::script::{self, Plan};

/// Keys when nobody says otherwise: 254 MiB of values.
const KEYS: usize = 65_000;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match arguments.first().map(String::as_str) {
        Some(hog::COMMAND) => rival(&arguments[1..]).map(|()| true),
        _ => driver(&arguments),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(e) => {
            eprintln!("terrace-demo-driver: {e}");
            ExitCode::from(2)
        }
    }
}

fn driver(arguments: &[String]) -> io::Result<bool> {
    let mut plan =
        Plan { keys: KEYS, dir: PathBuf::new(), terrace: PathBuf::from("terrace"), nodes: Nodes::here() };
    let mut rest = arguments.iter();
    while let Some(word) = rest.next() {
        match word.as_str() {
            "--keys" => plan.keys = number(rest.next())?,
            "--terrace" => plan.terrace = rest.next().ok_or_else(usage)?.into(),
            word if word.starts_with('-') || !plan.dir.as_os_str().is_empty() => return Err(usage()),
            word => plan.dir = word.into(),
        }
    }
    if plan.dir.as_os_str().is_empty() || plan.keys < 1000 {
        return Err(usage());
    }
    script::run(plan, Arc::new(Record::new(Box::new(io::stdout()))))
}

fn rival(arguments: &[String]) -> io::Result<()> {
    hog::live(number(arguments.first())?, number(arguments.get(1))?)
}

fn number<T: std::str::FromStr>(word: Option<&String>) -> io::Result<T> {
    word.and_then(|w| w.parse().ok()).ok_or_else(usage)
}

fn usage() -> io::Error {
    io::Error::other("usage: terrace-demo-driver [--keys N, at least 1000] [--terrace COMMAND] DIR")
}
