//! What a run leaves behind.

use crate::counts::Mark;
use crate::qemu::RunDir;
use std::fs;
use std::io;
use std::path::PathBuf;

/// The exit status of a run whose command did not end: out of time, or the guest crashed.
pub const UNFINISHED: i32 = 120;

/// What came of a run.
#[derive(Debug)]
pub struct Outcome {
    /// The command's exit status as the shell sees it (139 for SIGSEGV), or [`UNFINISHED`].
    pub status: i32,
    /// What the command wrote to its standard output and standard error, in order.
    pub stdout: String,
    /// Host directory with what the guest had in `/out`. Removed with this value unless
    /// [`Vm::out`](crate::Vm::out) named it.
    pub files: PathBuf,
    /// Counted accesses, if asked for: one entry a mark, in order, then one with id [`Mark::END`].
    pub counts: Vec<Mark>,
    /// Why the command did not end, with the end of the guest's console.
    pub unfinished: Option<String>,
    // Owns the directory that `files` is usually in.
    pub(crate) _run: RunDir,
}

impl Outcome {
    /// Whether the command ended with status 0.
    pub fn success(&self) -> bool {
        self.status == 0
    }

    /// A file of the guest's `/out`, as text.
    pub fn file(&self, name: &str) -> io::Result<String> {
        fs::read_to_string(self.files.join(name))
    }

    /// The counts up to the first mark of this id.
    pub fn mark(&self, id: u32) -> Option<&Mark> {
        self.counts.iter().find(|mark| mark.id == id)
    }

    /// This outcome if the command ended with status 0; panics with what it printed otherwise. For tests.
    #[track_caller]
    pub fn expect_success(self) -> Outcome {
        let why = self.unfinished.as_deref().unwrap_or("");
        assert!(self.success(), "the guest's command ended with {}\n{}\n{why}", self.status, self.stdout);
        self
    }
}
