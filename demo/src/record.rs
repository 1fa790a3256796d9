//! The record of a run: JSON lines on standard output, progress in words on standard error.
//!
//! Zone: control (a program of its own).

use std::io::{self, Write};
use std::time::Instant;

use parking_lot::Mutex;

use crate::json::Line;

/// Where the lines go. Shared by the threads of the driver.
pub struct Record {
    begin: Instant,
    out: Mutex<Box<dyn Write + Send>>,
}

impl Record {
    /// A record whose time begins now.
    pub fn new(out: Box<dyn Write + Send>) -> Record {
        Record { begin: Instant::now(), out: Mutex::new(out) }
    }

    /// Seconds since the record began.
    pub fn seconds(&self) -> f64 {
        self.begin.elapsed().as_secs_f64()
    }

    /// Begins a line of kind `kind` at the present time.
    pub fn line(&self, kind: &str) -> Line {
        Line::new(kind, self.seconds())
    }

    /// Writes a finished line.
    ///
    /// # Errors
    /// When nobody reads any more.
    pub fn put(&self, line: Line) -> io::Result<()> {
        let mut out = self.out.lock();
        writeln!(out, "{}", line.finish())?;
        out.flush()
    }

    /// Tells a person, on standard error.
    pub fn say(&self, text: &str) {
        // In one write: another program's words may go to the same place.
        let text = format!("{:7.1} s  {text}\n", self.seconds());
        let _ = io::stderr().write_all(text.as_bytes());
    }
}
