//! `terrace variables`: the configuration table, for people and for `docs/configuration.md`.

use std::io::{self, Write};

use terrace::config::{Kind, VARIABLES, Variable};

use crate::fail::Fail;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// As the text of docs/configuration.md
    #[arg(long, hide = true)]
    markdown: bool,
}

pub(crate) fn run(args: &Args) -> Result<(), Fail> {
    let mut out = io::stdout().lock();
    if args.markdown {
        out.write_all(markdown().as_bytes())?;
        return Ok(());
    }
    for Variable { name, kind, default, .. } in VARIABLES {
        let default = if default.is_empty() { "not set" } else { default };
        writeln!(out, "{name:<22} {:<16} default {default:<8} {kind}", kind.type_name())?;
    }
    writeln!(out, "\nWhat each does: docs/configuration.md")?;
    Ok(())
}

/// What stands around the table.
const HEAD: &str = "\
# Configuration

<!-- Generated: `terrace variables --markdown`. A test fails when this file and the code disagree. -->

Terrace is configured by environment variables, read once when a program starts. None is needed. `terrace run` sets
the common ones from options and checks every value before the program starts; without it, a value that cannot be used
costs one line on standard error, the default is used, and the program runs. A misspelt name costs one line too. An
empty value counts as not set. Programs that run with the rights of another user (set-user-ID) ignore them all.

| variable | type | values | default | meaning |
| --- | --- | --- | --- | --- |
";

const TAIL: &str = "
Sizes are bytes, or a number with K, M, G or T (also KB, KiB and so on; all are powers of 1024): `512M`, `1.5G`.

Names that begin with `TERRACE_LAB_`, `TERRACE_TEST_`, `TERRACE_BENCH_` or `TERRACE_DEMO_` belong to the project's own
tools; the library ignores them.

## Contradictions

* A low watermark that is not below the high one: both defaults are used.
* A head-room that is not below an explicit device budget: `auto` is used.
* A `TERRACE_START` above an explicit DRAM budget, which tiering could then not keep: half of the budget is used.
";

fn markdown() -> String {
    let mut text = HEAD.to_owned();
    for Variable { name, kind, default, meaning } in VARIABLES {
        let values = match kind {
            Kind::Word(words) => words.iter().map(|w| format!("`{w}`")).collect::<Vec<_>>().join(", "),
            other => other.to_string(),
        };
        let default = if default.is_empty() { "not set".to_owned() } else { format!("`{default}`") };
        let kind = kind.type_name();
        text += &format!("| `{name}` | {kind} | {values} | {default} | {meaning} |\n");
    }
    text + TAIL
}
