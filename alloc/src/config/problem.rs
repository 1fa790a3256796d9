//! What is said about a variable that cannot be used as written: one line, whatever its bytes. Zone: cold; `core` only.

use core::fmt::{self, Write};

use super::variables::{Kind, VARIABLES};

/// A variable that was not used as written. Displays as `NAME=VALUE: why; using DEFAULT`.
#[derive(Clone, Copy, Debug)]
pub struct Problem<'a> {
    /// The variable's name as found.
    pub name: &'a [u8],
    /// Its value as found.
    pub value: &'a [u8],
    /// Why it was not used.
    pub reason: Reason,
    /// What is used instead; empty for a variable that does not exist.
    pub instead: &'static str,
}

/// Why a value was not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// No variable has this name; the nearest one, if any is near.
    Unknown(Option<&'static str>),
    /// Not a value of the variable's type: what the type accepts is in the table.
    NotA(&'static str),
    /// A value of the right type, out of range or not among the words: index into [`VARIABLES`].
    OutOfRange(usize),
    /// Both watermarks are percentages, but the low one is not below the high one.
    LowNotBelowHigh,
    /// The head-room would leave nothing of the device budget.
    HeadroomNotBelowDevice,
    /// Tiering would start above the DRAM budget it is to keep.
    StartAboveDram,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Reason::Unknown(Some(near)) => write!(f, "no such variable, ignored; did you mean {near}?"),
            Reason::Unknown(None) => f.write_str("no such variable, ignored"),
            Reason::NotA(what) => write!(f, "not {what}"),
            Reason::OutOfRange(index) => {
                let kind = VARIABLES[index].kind;
                let what = if matches!(kind, Kind::Word(_)) { "not one of" } else { "out of range:" };
                write!(f, "{what} {kind}")
            }
            Reason::LowNotBelowHigh => f.write_str("the low watermark is not below the high one"),
            Reason::HeadroomNotBelowDevice => f.write_str("not below TERRACE_DEVICE"),
            Reason::StartAboveDram => f.write_str("above TERRACE_DRAM"),
        }
    }
}

impl fmt::Display for Problem<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}: {}", Printable(self.name), Printable(self.value), self.reason)?;
        match self.reason {
            Reason::Unknown(_) => Ok(()),
            _ => write!(f, "; using {}", if self.instead.is_empty() { "the default" } else { self.instead }),
        }
    }
}

/// Bytes from outside, made safe for a terminal: at most 48 of them, anything but printable ASCII as `?`.
struct Printable<'a>(&'a [u8]);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 48;
        for &byte in self.0.iter().take(SHOWN) {
            f.write_char(if (b' '..=b'~').contains(&byte) { char::from(byte) } else { '?' })?;
        }
        if self.0.len() > SHOWN { f.write_str("...") } else { Ok(()) }
    }
}
