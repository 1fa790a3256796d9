//! At most so many virtual machines at a time on one computer, whatever starts them: test threads, other
//! processes, other checkouts.

use crate::error::LabError;
use std::env;
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::thread;
use std::time::Duration;

/// The right to run a virtual machine, given back when dropped or when the process dies.
pub(crate) struct Slot {
    _locked: Vec<File>,
}

impl Slot {
    /// Waits for a free slot of `LAB_JOBS` (2 unless set); `alone`: for all of them, so that no other machine runs meanwhile.
    pub(crate) fn take(alone: bool) -> Result<Slot, LabError> {
        let jobs = match env::var("LAB_JOBS") {
            Ok(text) => text.parse().ok().filter(|n| *n > 0).ok_or_else(|| {
                LabError::Usage(format!("LAB_JOBS={text}: a number of virtual machines was expected"))
            })?,
            Err(_) => 2,
        };
        // One directory a user, not one a checkout. Its name is known to all, so it must be ours before a file
        // is made in it.
        let uid = fs::metadata("/proc/self").map_err(LabError::io("read /proc/self"))?.uid();
        let dir = env::temp_dir().join(format!("terrace-lab-{uid}"));
        let what = || format!("lock a slot in {}", dir.display());
        match DirBuilder::new().mode(0o700).create(&dir) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(LabError::io(what())(e)),
            _ => {}
        }
        let meta = fs::symlink_metadata(&dir).map_err(LabError::io(what()))?;
        if !meta.is_dir() || meta.uid() != uid {
            return Err(LabError::Setup(format!(
                "{}: exists and is not a directory of yours",
                dir.display()
            )));
        }
        let open = |n: usize| File::create(dir.join(format!("slot.{n}"))).map_err(LabError::io(what()));
        if alone {
            // One after the other in ascending order: two that want all of them do not wait for each other.
            let all = (0..jobs).map(|n| {
                let file = open(n)?;
                file.lock().map_err(LabError::io(what()))?;
                Ok(file)
            });
            return Ok(Slot { _locked: all.collect::<Result<_, LabError>>()? });
        }
        loop {
            for n in 0..jobs {
                let file = open(n)?;
                match file.try_lock() {
                    Ok(()) => return Ok(Slot { _locked: vec![file] }),
                    Err(TryLockError::WouldBlock) => {}
                    Err(TryLockError::Error(e)) => return Err(LabError::io(what())(e)),
                }
            }
            thread::sleep(Duration::from_millis(50));
        }
    }
}
