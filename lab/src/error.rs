//! The one error type of the lab. Every variant prints as a single line a person can act on.

use std::fmt;
use std::io;

/// Why a virtual machine could not be set up or booted.
///
/// A command that ran and failed, or that did not finish, is not an error: see
/// [`Outcome::status`](crate::Outcome).
#[derive(Debug)]
pub enum LabError {
    /// The host lacks something the lab needs and could not get it; says what, and what to do.
    Setup(String),
    /// The request makes no sense (a file that is not there, an odd size, an unknown name).
    Usage(String),
    /// A host file or process operation failed.
    Io {
        /// What was being done, with the path.
        what: String,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The guest did not reach its command, several times in a row.
    Boot {
        /// How often it was tried.
        attempts: u32,
        /// What QEMU said and the end of the guest's console.
        console: String,
    },
}

impl LabError {
    /// For `map_err`: wraps an I/O error with what was being done.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> LabError {
        let what = what.into();
        move |source| LabError::Io { what, source }
    }
}

impl fmt::Display for LabError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LabError::Setup(why) | LabError::Usage(why) => f.write_str(why),
            LabError::Io { what, source } => write!(f, "{what}: {source}"),
            LabError::Boot { attempts, console } => {
                write!(f, "the guest did not boot in {attempts} attempts; the end of its console:\n{console}")
            }
        }
    }
}

impl std::error::Error for LabError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            LabError::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}
