//! From text to [`Config`]: one pass over (name, value) pairs, every problem reported once.
//!
//! Pure: reads no environment and writes nothing, so the `terrace` command checks its options with the very same code.
//! Zone: cold; `core` only, no allocation.

use super::problem::{Problem, Reason};
use super::variables::{Kind, VARIABLES, Variable};
use super::{Amount, Config, FileName, Mode, StatsChoice, TrackerChoice};
use crate::sys::numa::NodeMask;

const PREFIX: &[u8] = b"TERRACE_";

/// Names that begin so belong to the project's own tools, not to the library: never an error.
const TOOLS: [&[u8]; 4] = [b"TERRACE_LAB_", b"TERRACE_TEST_", b"TERRACE_BENCH_", b"TERRACE_DEMO_"];

/// One in how many allocations is guarded in hardened mode unless the user says otherwise.
const HARDENED_SAMPLE: u32 = 1000;

/// A value of some [`Kind`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value {
    Word(usize),
    Size(Amount),
    Number(u64),
    Nodes(NodeMask),
    Watermarks(u8, u8),
    Switch(bool),
    Path,
    File(FileName),
}

/// Reads every `TERRACE_*` pair and ignores the rest. Calls `report` once for each that cannot be used as written; the
/// result has the default there. Of a name that occurs twice the first counts, as with `getenv`. An empty value is an
/// unset variable.
pub fn parse<'a>(
    pairs: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    report: &mut dyn FnMut(&Problem<'a>),
) -> Config {
    let mut config = Config::DEFAULT;
    let mut used: [Option<&'a [u8]>; VARIABLES.len()] = [None; VARIABLES.len()];
    let mut seen: u32 = 0;
    for (name, value) in pairs {
        if !name.starts_with(PREFIX) || TOOLS.iter().any(|tool| name.starts_with(tool)) {
            continue;
        }
        let Some(index) = VARIABLES.iter().position(|v| v.name.as_bytes() == name) else {
            report(&Problem { name, value, reason: Reason::Unknown(nearest(name)), instead: "" });
            continue;
        };
        if seen & (1 << index) != 0 {
            continue;
        }
        seen |= 1 << index;
        let text = value.trim_ascii();
        if text.is_empty() {
            continue;
        }
        match read(index, text) {
            Ok(read) => {
                set(&mut config, VARIABLES[index].name, read);
                used[index] = Some(value);
            }
            Err(reason) => report(&Problem { name, value, reason, instead: VARIABLES[index].default }),
        }
    }
    reconcile(&mut config, &used, report);
    config
}

/// Settles what single values cannot say: pairs that contradict each other.
fn reconcile<'a>(
    config: &mut Config,
    used: &[Option<&'a [u8]>; VARIABLES.len()],
    report: &mut dyn FnMut(&Problem<'a>),
) {
    let given = |name: &str| VARIABLES.iter().position(|v| v.name == name).and_then(|at| used[at]);
    if let (Amount::Bytes(headroom), Amount::Bytes(device), Some(value)) =
        (config.headroom, config.device, given("TERRACE_HEADROOM"))
        && headroom >= device
    {
        let reason = Reason::HeadroomNotBelowDevice;
        report(&Problem { name: b"TERRACE_HEADROOM", value, reason, instead: "auto" });
        config.headroom = Amount::Auto;
    }
    if config.hardened && given("TERRACE_GUARD_SAMPLE").is_none() {
        config.guard_sample = HARDENED_SAMPLE;
    }
    if let Amount::Bytes(dram) = config.dram {
        match given("TERRACE_START") {
            Some(_) if config.start_bytes <= dram => {}
            Some(value) => {
                let reason = Reason::StartAboveDram;
                report(&Problem { name: b"TERRACE_START", value, reason, instead: "half of TERRACE_DRAM" });
                config.start_bytes = dram / 2;
            }
            None => config.start_bytes = config.start_bytes.min(dram / 2),
        }
    }
}

/// Stores a value that `read` has checked.
fn set(config: &mut Config, name: &str, value: Value) {
    let narrow = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    match (name, value) {
        ("TERRACE_MODE", Value::Word(i)) => {
            config.mode = [Mode::Isolate, Mode::Spill, Mode::Assist, Mode::Auto].get(i).copied();
        }
        ("TERRACE_DRAM", Value::Size(size)) => config.dram = size,
        ("TERRACE_DEVICE", Value::Size(size)) => config.device = size,
        ("TERRACE_DEVICE_NODES", Value::Nodes(nodes)) => config.device_nodes = Some(nodes),
        ("TERRACE_WATERMARKS", Value::Watermarks(high, low)) => {
            (config.high_percent, config.low_percent) = (high, low);
        }
        ("TERRACE_HEADROOM", Value::Size(size)) => config.headroom = size,
        ("TERRACE_MOVE_RATE", Value::Number(rate)) => config.move_rate_mbps = narrow(rate),
        ("TERRACE_TICK_MS", Value::Number(ms)) => config.tick_ms = narrow(ms),
        ("TERRACE_TRACKER", Value::Word(i)) => {
            use TrackerChoice::{Alloc, Auto, Idle, Perf, Refs, Rwp, Writes};
            let words = [Auto, Rwp, Perf, Idle, Refs, Writes, Alloc];
            config.tracker = words.get(i).copied().unwrap_or(Auto);
        }
        ("TERRACE_TRACKER_CPU", Value::Number(percent)) => config.tracker_percent = narrow(percent),
        ("TERRACE_START", Value::Size(Amount::Bytes(bytes))) => config.start_bytes = bytes,
        ("TERRACE_STATS", Value::Switch(on)) => {
            config.stats = if on { StatsChoice::On } else { StatsChoice::Off }
        }
        ("TERRACE_VERBOSE", Value::Switch(on)) => config.verbose = on,
        ("TERRACE_PURGE_MS", Value::Number(ms)) => config.purge_ms = narrow(ms),
        ("TERRACE_HARDENED", Value::Switch(on)) => config.hardened = on,
        ("TERRACE_QUARANTINE", Value::Size(Amount::Bytes(bytes))) => config.quarantine_bytes = bytes,
        ("TERRACE_GUARD_SAMPLE", Value::Number(one_in)) => config.guard_sample = narrow(one_in),
        ("TERRACE_PROFILE", Value::File(file)) => config.profile = file,
        // TERRACE_LIB is the command's. A test sets every variable, so no other pair gets here.
        _ => {}
    }
}

/// Reads `text` (trimmed, not empty) as a value of variable `index`.
fn read(index: usize, text: &[u8]) -> Result<Value, Reason> {
    let out_of_range = Reason::OutOfRange(index);
    match VARIABLES[index].kind {
        Kind::Word(words) => match words.iter().position(|w| w.as_bytes().eq_ignore_ascii_case(text)) {
            Some(at) => Ok(Value::Word(at)),
            None => Err(out_of_range),
        },
        Kind::Size { auto: true, .. } if text.eq_ignore_ascii_case(b"auto") => Ok(Value::Size(Amount::Auto)),
        Kind::Size { auto, min, max } => {
            let what =
                if auto { "a size (such as 512M or 2G) or auto" } else { "a size (such as 512M or 2G)" };
            let bytes = size(text).ok_or(Reason::NotA(what))?;
            if (min..=max).contains(&bytes) {
                Ok(Value::Size(Amount::Bytes(bytes)))
            } else {
                Err(out_of_range)
            }
        }
        Kind::Number { min, max, .. } => {
            let number = number(text).ok_or(Reason::NotA("a whole number"))?;
            if (min..=max).contains(&number) { Ok(Value::Number(number)) } else { Err(out_of_range) }
        }
        Kind::Nodes => {
            nodes(text).map(Value::Nodes).ok_or(Reason::NotA("a list of nodes such as 1 or 1,3 or 1-3"))
        }
        Kind::Watermarks => watermarks(text),
        Kind::Switch => switch(text).map(Value::Switch).ok_or(Reason::NotA("on or off")),
        Kind::Path => Ok(Value::Path),
        Kind::File => FileName::new(text).map(Value::File).ok_or(out_of_range),
    }
}

/// Decimal digits only: no sign, no space. Saturates, so that a number too long is out of range rather than no number.
fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(text.iter().fold(0u64, |n, &d| n.saturating_mul(10).saturating_add(u64::from(d - b'0'))))
}

/// `NUMBER[.FRACTION][K|M|G|T][iB|B]`; every unit is a power of 1024, a fraction has at most 6 digits. Saturates.
fn size(text: &[u8]) -> Option<u64> {
    let digits = text.iter().position(|b| !(b.is_ascii_digit() || *b == b'.')).unwrap_or(text.len());
    let (amount, unit) = text.split_at(digits);
    let (unit, long) = match unit {
        [unit, b'i' | b'I', b'b' | b'B'] => (*unit, true),
        [unit, b'b' | b'B'] => (*unit, true),
        [unit] => (*unit, false),
        [] => (b'b', false),
        _ => return None,
    };
    let shift = match unit.to_ascii_lowercase() {
        b'b' if !long => 0,
        b'k' => 10,
        b'm' => 20,
        b'g' => 30,
        b't' => 40,
        _ => return None,
    };
    let Some(dot) = amount.iter().position(|&b| b == b'.') else {
        let bytes = u128::from(number(amount)?) << shift;
        return Some(u64::try_from(bytes).unwrap_or(u64::MAX));
    };
    let (whole, fraction) = (&amount[..dot], &amount[dot + 1..]);
    if shift == 0 || fraction.len() > 6 {
        return None;
    }
    let scale = 10u128.pow(u32::try_from(fraction.len()).ok()?);
    let bytes = (u128::from(number(whole)?) << shift) + ((u128::from(number(fraction)?) << shift) / scale);
    Some(u64::try_from(bytes).unwrap_or(u64::MAX))
}

/// `1`, `1,3`, `1-3,5`.
fn nodes(text: &[u8]) -> Option<NodeMask> {
    const LAST: u64 = 1023;
    let mut mask = NodeMask::EMPTY;
    for part in text.split(|&b| b == b',') {
        let part = part.trim_ascii();
        let (first, last) = match part.iter().position(|&b| b == b'-') {
            Some(dash) => (number(&part[..dash])?, number(&part[dash + 1..])?),
            None => (number(part)?, number(part)?),
        };
        if first > last || last > LAST {
            return None;
        }
        (first..=last).for_each(|node| mask.set(u32::try_from(node).unwrap_or(0)));
    }
    Some(mask)
}

/// `98,95`, with or without percent signs.
fn watermarks(text: &[u8]) -> Result<Value, Reason> {
    let not = Reason::NotA("two percentages, high,low, such as 98,95");
    let percent = |text: &[u8]| {
        let text = text.trim_ascii();
        number(text.strip_suffix(b"%").unwrap_or(text)).filter(|n| (1..=100).contains(n))
    };
    let comma = text.iter().position(|&b| b == b',').ok_or(not)?;
    let high = percent(&text[..comma]).ok_or(not)?;
    let low = percent(&text[comma + 1..]).ok_or(not)?;
    if low >= high {
        return Err(Reason::LowNotBelowHigh);
    }
    Ok(Value::Watermarks(u8::try_from(high).map_err(|_| not)?, u8::try_from(low).map_err(|_| not)?))
}

fn switch(text: &[u8]) -> Option<bool> {
    let is = |words: [&[u8]; 4]| words.iter().any(|w| w.eq_ignore_ascii_case(text));
    if is([b"1", b"on", b"yes", b"true"]) {
        Some(true)
    } else if is([b"0", b"off", b"no", b"false"]) {
        Some(false)
    } else {
        None
    }
}

/// The variable whose name differs from `name` by at most a third of its own part; the nearest of them.
fn nearest(name: &[u8]) -> Option<&'static str> {
    let typed = &name[PREFIX.len()..];
    let own = |v: &Variable| &v.name.as_bytes()[PREFIX.len()..];
    let best = VARIABLES.iter().min_by_key(|v| edits(typed, own(v)))?;
    (edits(typed, own(best)) <= own(best).len().div_ceil(3)).then_some(best.name)
}

/// Levenshtein distance; `usize::MAX` where a name is longer than any of ours could be near.
fn edits(a: &[u8], b: &[u8]) -> usize {
    const LONGEST: usize = 32;
    if a.len() >= LONGEST || b.len() >= LONGEST {
        return usize::MAX;
    }
    let mut row: [usize; LONGEST] = core::array::from_fn(|i| i);
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(!x.eq_ignore_ascii_case(y));
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
