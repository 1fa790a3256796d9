//! What became of one page.
//!
//! Zone: control.

/// The result for a page that was to be moved.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Outcome {
    /// It is on the target node.
    Moved,
    /// In use by the kernel just now (`EBUSY`): try later.
    Busy,
    /// Not moved, and the kernel did not say why (`EAGAIN`, or a batch that it stopped early): try later.
    Again,
    /// Mapped by more than one process (`EACCES`): only a privileged process could move it.
    Shared,
    /// The target node has no room (`ENOMEM`).
    NoMemory,
    /// No page there (`ENOENT`, `EFAULT`): never touched, given back, or the shared zero page.
    Absent,
    /// Any other errno.
    Other(i32),
}

/// What the kernel is told not to write, so that statuses it never set are recognised: when a part of a batch cannot
/// be moved, it leaves the statuses from there on as they were.
pub const UNTOUCHED: i32 = i32::MIN;

impl Outcome {
    /// From a status of `move_pages`; `None` for [`UNTOUCHED`].
    pub fn of_status(status: i32, target: i32) -> Option<Outcome> {
        Some(match status {
            UNTOUCHED => return None,
            s if s == target => Outcome::Moved,
            0.. => Outcome::Again, // still on another node
            s => match -s {
                libc::EBUSY => Outcome::Busy,
                libc::EAGAIN => Outcome::Again,
                libc::EACCES => Outcome::Shared,
                libc::ENOMEM => Outcome::NoMemory,
                libc::ENOENT | libc::EFAULT => Outcome::Absent,
                e => Outcome::Other(e),
            },
        })
    }
}

/// Why the mover stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stop {
    /// The system refuses `move_pages` altogether (this errno): a sandbox, or a kernel without it.
    Refused(i32),
    /// The node cannot be moved to any more (this errno): gone, or forbidden by the cpuset.
    NodeGone(u32, i32),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_a_meaning_and_the_untouched_one_has_none() {
        assert_eq!(Outcome::of_status(UNTOUCHED, 1), None);
        assert_eq!(Outcome::of_status(1, 1), Some(Outcome::Moved));
        assert_eq!(Outcome::of_status(0, 1), Some(Outcome::Again));
        assert_eq!(Outcome::of_status(-libc::EBUSY, 1), Some(Outcome::Busy));
        assert_eq!(Outcome::of_status(-libc::EACCES, 1), Some(Outcome::Shared));
        assert_eq!(Outcome::of_status(-libc::ENOMEM, 1), Some(Outcome::NoMemory));
        assert_eq!(Outcome::of_status(-libc::EFAULT, 1), Some(Outcome::Absent));
        assert_eq!(Outcome::of_status(-libc::EIO, 1), Some(Outcome::Other(libc::EIO)));
    }
}
