//! Who calls whom in libterrace.so, read from its disassembly: enough to prove that something is never reached.
//!
//! Followed are direct calls and jumps (tail calls, conditional ones too) and those through the global offset table.
//! Not followed are calls through function pointers in data; the allocator has two such: the hook that starts the
//! control thread and the fork handlers.

use super::run;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;
use std::process::Command;

/// For each function, the functions it calls or jumps to. A call through the linkage or offset table, which the loader
/// may bind to any library, has a target that begins with `@`.
pub(crate) struct CallGraph {
    calls: BTreeMap<String, BTreeSet<String>>,
    /// Names of one and the same code, as identical functions are merged: each with the name the disassembly uses.
    aliases: BTreeMap<String, String>,
    /// The disassembly.
    text: String,
}

impl CallGraph {
    /// Disassembles `library`.
    pub(crate) fn of(library: &Path) -> CallGraph {
        let text = tool("objdump", &["--disassemble", "--no-show-raw-insn", "--wide"], library);
        let relocations = relocations(library);
        let mut names = BTreeMap::new();
        for (address, name) in text.lines().filter_map(function_head) {
            names.insert(address, name.to_owned());
        }
        let mut calls: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let mut current = String::new();
        for line in text.lines() {
            if let Some((_, name)) = function_head(line) {
                current = name.to_owned();
                calls.entry(current.clone()).or_default();
            } else if let Some(target) = target(line, &relocations, &names)
                && target != current
            {
                calls.entry(current.clone()).or_default().insert(target);
            }
        }
        CallGraph { calls, aliases: aliases(library, &names), text }
    }

    /// A chain of calls from `from` to `to`, if there is one that passes no function for which `stop` holds.
    pub(crate) fn path(&self, from: &str, to: &str, stop: impl Fn(&str) -> bool) -> Option<Vec<String>> {
        let mut reached_from: BTreeMap<&str, &str> = BTreeMap::new();
        let from = self.shown(from);
        let mut queue = vec![from];
        while let Some(function) = queue.pop() {
            for next in self.calls.get(function).into_iter().flatten() {
                if next == from || stop(next) || reached_from.contains_key(next.as_str()) {
                    continue;
                }
                reached_from.insert(next, function);
                if next == to {
                    let mut path = vec![to.to_owned()];
                    while let Some(caller) = reached_from.get(path[path.len() - 1].as_str()) {
                        path.push((*caller).to_owned());
                    }
                    path.reverse();
                    return Some(path);
                }
                queue.push(next);
            }
        }
        None
    }

    /// Whether the library has this function, with code.
    pub(crate) fn has(&self, function: &str) -> bool {
        self.calls.contains_key(self.shown(function))
    }

    /// Where the jumps of `function` lie, each with the comparison in front of it where the processor makes one instruction of both.
    pub(crate) fn jumps(&self, function: &str) -> Vec<Range<u64>> {
        let shown = self.shown(function);
        let begins = |line: &&str| function_head(line).is_some_and(|(_, name)| name == shown);
        let body = self.text.lines().skip_while(|line| !begins(line)).skip(1);
        let instruction = |line| {
            let (address, instruction): (&str, &str) = str::split_once(line, ":\t")?;
            Some((u64::from_str_radix(address.trim(), 16).ok()?, instruction.split_whitespace().next()?))
        };
        let code: Vec<_> = body.take_while(|line| !line.is_empty()).filter_map(instruction).collect();
        let fuses = |mnemonic: &str| mnemonic.starts_with("cmp") || mnemonic.starts_with("test");
        let jumps = code.windows(3).filter(|at| at[1].1.starts_with('j'));
        jumps
            .map(|at| {
                let with_the_first = fuses(at[0].1) && at[1].1 != "jmp";
                at[usize::from(!with_the_first)].0..at[2].0
            })
            .collect()
    }

    /// The name that the disassembly uses.
    fn shown<'a>(&'a self, function: &'a str) -> &'a str {
        self.aliases.get(function).map_or(function, String::as_str)
    }
}

/// The standard output of a tool of binutils run on `file`.
pub(crate) fn tool(name: &str, arguments: &[&str], file: &Path) -> String {
    run(Command::new(name).args(arguments).arg(file).env("LC_ALL", "C"), 60).expect_success(name).stdout
}

/// `000000000000dc00 <_Znwm>:` begins a function.
fn function_head(line: &str) -> Option<(u64, &str)> {
    let (address, rest) = line.split_once(" <")?;
    Some((u64::from_str_radix(address, 16).ok()?, rest.strip_suffix(">:")?))
}

/// The function that the instruction on this line calls or jumps to.
fn target(line: &str, relocations: &BTreeMap<u64, Slot>, names: &BTreeMap<u64, String>) -> Option<String> {
    let instruction = line.split_once(":\t")?.1;
    let mnemonic = instruction
        .split_whitespace()
        .find(|word| !matches!(*word, "data16" | "rex.W" | "bnd" | "notrack"))?;
    if !(mnemonic.starts_with("call") || mnemonic.starts_with('j')) {
        return None;
    }
    if let Some(slot) = instruction.split_once("(%rip)").and_then(|(_, comment)| comment.split_once("# ")) {
        let address = u64::from_str_radix(slot.1.split_whitespace().next()?, 16).ok()?;
        return match relocations.get(&address)? {
            Slot::Imported(name) => Some(name.clone()),
            Slot::Local(address) => names.get(address).cloned(),
        };
    }
    let name = instruction.split_once('<')?.1.split_once('>')?.0;
    let name = name.split_once('+').map_or(name, |(name, _)| name);
    Some(name.strip_suffix("@plt").map_or_else(|| name.to_owned(), imported))
}

/// The name of a call that the loader binds, without the symbol's version.
fn imported(name: &str) -> String {
    format!("@{}", name.split_once('@').map_or(name, |(name, _)| name))
}

/// For every function symbol, the name under which the disassembly shows its code.
fn aliases(library: &Path, names: &BTreeMap<u64, String>) -> BTreeMap<String, String> {
    let listing = tool("nm", &["--defined-only", "--format=posix"], library);
    let alias = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [name, _, address, ..] = fields.as_slice() else { return None };
        let shown = names.get(&u64::from_str_radix(address, 16).ok()?)?;
        Some(((*name).to_owned(), shown.clone()))
    };
    listing.lines().filter_map(alias).collect()
}

enum Slot {
    Imported(String),
    Local(u64),
}

/// What the loader writes into each slot of the global offset table.
fn relocations(library: &Path) -> BTreeMap<u64, Slot> {
    let mut slots = BTreeMap::new();
    for line in tool("readelf", &["--relocs", "--wide"], library).lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (Some(offset), Some(kind)) =
            (fields.first().and_then(|hex| u64::from_str_radix(hex, 16).ok()), fields.get(2))
        else {
            continue;
        };
        let value = match *kind {
            "R_X86_64_RELATIVE" => {
                fields.get(3).and_then(|hex| u64::from_str_radix(hex, 16).ok()).map(Slot::Local)
            }
            "R_X86_64_GLOB_DAT" | "R_X86_64_JUMP_SLOT" => {
                fields.get(4).map(|name| Slot::Imported(imported(name)))
            }
            _ => None,
        };
        if let Some(value) = value {
            slots.insert(offset, value);
        }
    }
    slots
}
