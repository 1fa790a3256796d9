//! `terrace-demo-judge`: judges a program whose accesses are known exactly (`terrace_demo::judge`).
//!
//! Usage: `terrace-demo-judge [--terrace COMMAND] [--window ACCESSES] [--limit SECONDS] --dram-mib N
//! --distributions zipf,hot,… -- PROGRAM ARGUMENTS… MAPFILE`. Exit status: 0 when every check is good, 1 when one is
//! not, 2 when the program could not be judged.

use std::io;
use std::process::ExitCode;

use terrace_demo::judge::{self, Case};
use terrace_demo::nodes::Nodes;
use terrace_demo::record::Record;

fn main() -> ExitCode {
    let outcome = case(std::env::args().skip(1)).and_then(|case| {
        let record = Record::new(Box::new(io::stdout()));
        judge::run(&case, &record)
    });
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(e) => {
            eprintln!("terrace-demo-judge: {e}");
            ExitCode::from(2)
        }
    }
}

fn case(mut words: impl Iterator<Item = String>) -> io::Result<Case> {
    let mut case = Case {
        command: Vec::new(),
        distributions: Vec::new(),
        budget: 0,
        terrace: None,
        window: 0,
        limit: 60.0,
        nodes: Nodes::here(),
    };
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(usage);
        match word.as_str() {
            "--terrace" => case.terrace = Some(value()?.into()),
            "--window" => case.window = value()?.parse().map_err(|_| usage())?,
            "--limit" => case.limit = value()?.parse().map_err(|_| usage())?,
            "--dram-mib" => case.budget = value()?.parse::<u64>().map_err(|_| usage())? << 20,
            "--distributions" => case.distributions = value()?.split(',').map(str::to_owned).collect(),
            "--" => case.command = words.by_ref().collect(),
            _ => return Err(usage()),
        }
    }
    let complete = case.command.len() > 1 && case.budget > 0 && !case.distributions.is_empty();
    if complete { Ok(case) } else { Err(usage()) }
}

fn usage() -> io::Error {
    io::Error::other(
        "usage: terrace-demo-judge [--terrace COMMAND] [--window N] [--limit SECONDS] --dram-mib N \
         --distributions D,… -- PROGRAM ARGUMENTS… MAPFILE",
    )
}
