//! The `terrace` command: run a program on Terrace, see the machine's tiers, see what a process does with them.
//!
//! One file a subcommand. Exit status: 0 done, 1 could not be done, 2 wrong use; `terrace run` becomes the program, so
//! its status is the program's, or 126 and 127 as a shell gives them.

mod fail;
mod report;
mod run;
mod stat;
mod table;
mod topology;
mod variables;

use clap::{Parser, Subcommand};

use fail::Fail;

/// A malloc whose heap spans memory tiers.
#[derive(Parser)]
#[command(name = "terrace", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a program with its heap on Terrace
    Run(run::Args),
    /// Show the memory tiers of this machine and where each figure comes from
    Topology(topology::Args),
    /// Show what a process does with its tiers, or list the processes that say
    Stat(stat::Args),
    /// Show what a profile says: how hot the heap is, and whose it is
    Report(report::Args),
    /// List the environment variables that configure Terrace
    Variables(variables::Args),
}

fn main() -> std::process::ExitCode {
    let done = match Cli::parse().command {
        Command::Run(args) => run::run(&args),
        Command::Topology(args) => topology::run(&args),
        Command::Stat(args) => stat::run(&args),
        Command::Report(args) => report::run(&args),
        Command::Variables(args) => variables::run(&args),
    };
    done.map_or_else(Fail::report, |()| std::process::ExitCode::SUCCESS)
}
