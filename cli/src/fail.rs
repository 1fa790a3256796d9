//! How the command fails: one line on standard error and an exit status.

use std::fmt::Display;
use std::io;
use std::process::ExitCode;

/// What a subcommand could not do.
#[derive(Debug)]
pub(crate) struct Fail {
    /// The line, without `terrace: `.
    message: String,
    status: u8,
}

impl Fail {
    /// The user asked for something that makes no sense: status 2.
    pub(crate) fn usage(message: impl Display) -> Self {
        Self::with_status(message, 2)
    }

    /// It made sense but could not be done: status 1.
    pub(crate) fn cannot(message: impl Display) -> Self {
        Self::with_status(message, 1)
    }

    /// Any other status.
    pub(crate) fn with_status(message: impl Display, status: u8) -> Self {
        Self { message: message.to_string(), status }
    }

    /// Says the line and gives the status for `main` to return.
    pub(crate) fn report(self) -> ExitCode {
        if !self.message.is_empty() {
            eprintln!("terrace: {}", self.message);
        }
        ExitCode::from(self.status)
    }
}

impl From<io::Error> for Fail {
    /// Errors of our own output. A reader that went away (`terrace stat | head -1`) is no error to talk about.
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::with_status("", 0)
        } else {
            Self::cannot(format_args!("standard output: {error}"))
        }
    }
}
