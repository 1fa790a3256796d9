//! Memory stalls: what tasks wait for memory, and the DRAM that this process leaves to others meanwhile.
//!
//! Zone: control. [`Squeeze`] is pure; [`stalled_us`] reads the system.
//!
//! What is available on a node counts the pages of files, which the kernel gives up when they are needed; that somebody has to read them again
//! at once it does not tell. Pressure stall information does (Linux 4.20, Documentation/accounting/psi.rst): the time in which some task
//! waited for memory. It is of the whole machine, and a control group that is short of its own limit stalls, too, however much DRAM there
//! is; so it counts only while DRAM nodes have little free, as they have when the kernel reclaims there.

use crate::sys::proc;

/// Percent of the time in which tasks wait: from the first on more DRAM is given up, below the second it comes back.
const STALLED: u64 = 10;
const CALM: u64 = 1;
/// A node has little free below so many percent of its size: the kernel's watermarks are 1 to 3 % on large ones.
const SCARCE: u64 = 4;
/// Of what could be ours, given up and taken back in a look, and the most that is given up.
const GIVEN: u64 = 32;
const TAKEN: u64 = 256;
const MOST: u64 = 2;

/// The DRAM that is given up while others wait for memory. Grows eight times as fast as it shrinks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Squeeze {
    bytes: u64,
    /// The last look: when, in nanoseconds, and the stalls until then, in microseconds.
    seen: Option<(u64, u64)>,
}

impl Squeeze {
    /// What is to be given up as of the last look.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// A look at `now` nanoseconds, when tasks have waited for `stalled_us` in all (`None`: that cannot be told), and DRAM nodes have
    /// (free, total) bytes, of which `ours` could be this process's. How many of these it is to give up.
    pub fn look(&mut self, now: u64, stalled_us: Option<u64>, dram: (u64, u64), ours: u64) -> u64 {
        let Some(us) = stalled_us else { return 0 };
        if let Some((then, was)) = self.seen.replace((now, us)) {
            let percent = us.saturating_sub(was) * 100_000 / now.saturating_sub(then).max(1);
            if percent >= STALLED && dram.0 < dram.1 / 100 * SCARCE {
                self.bytes = (self.bytes + ours / GIVEN).min(ours / MOST);
            } else if percent < CALM {
                self.bytes = self.bytes.saturating_sub(ours / TAKEN);
            }
        }
        self.bytes
    }
}

/// Microseconds since boot in which some task waited for memory; `None` without pressure stall information.
#[must_use]
pub fn stalled_us() -> Option<u64> {
    let mut buf = [0; 256];
    let n = proc::read_file(c"/proc/pressure/memory", &mut buf).ok()?;
    total_of(core::str::from_utf8(&buf[..n]).ok()?)
}

/// From `some avg10=0.00 avg60=0.00 avg300=0.00 total=12345`, and a line for `full`.
fn total_of(text: &str) -> Option<u64> {
    let some = text.lines().find_map(|line| line.strip_prefix("some "))?;
    some.split(' ').find_map(|word| word.strip_prefix("total="))?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;
    const G: u64 = 1 << 30;

    /// `seconds` looks, a second apart, with `percent` of the time waited and `free` of 100 GiB free; what is given up then.
    fn looks(squeeze: &mut Squeeze, seconds: u64, percent: u64, free: u64) -> u64 {
        let (mut now, mut us) = squeeze.seen.unwrap_or((S, 500));
        squeeze.seen = Some((now, us));
        for _ in 0..seconds {
            (now, us) = (now + S, us + percent * 10_000);
            squeeze.look(now, Some(us), (free * G, 100 * G), 64 * G);
        }
        squeeze.bytes
    }

    #[test]
    fn dram_is_given_up_while_others_wait_and_taken_back_slowly() {
        let mut squeeze = Squeeze::default();
        assert_eq!(looks(&mut squeeze, 4, 20, 1), 8 * G);
        assert_eq!(looks(&mut squeeze, 100, 20, 1), 32 * G, "half at most");
        assert_eq!(looks(&mut squeeze, 10, 5, 1), 32 * G, "neither");
        assert_eq!(looks(&mut squeeze, 16, 0, 1), 28 * G);
        assert_eq!(looks(&mut squeeze, 200, 0, 1), 0);
    }

    #[test]
    fn stalls_elsewhere_and_unknown_ones_do_not_count() {
        let mut squeeze = Squeeze::default();
        assert_eq!(looks(&mut squeeze, 100, 90, 30), 0, "DRAM is not what they wait for");
        assert_eq!(squeeze.look(S, None, (0, 100 * G), 64 * G), 0);
    }

    #[test]
    fn the_kernels_two_lines_are_read() {
        let text = "some avg10=1.53 avg60=0.10 avg300=0.00 total=987654\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=5\n";
        assert_eq!(total_of(text), Some(987_654));
        assert_eq!(
            (total_of(""), total_of("full total=3\n"), total_of("some total=x\n")),
            (None, None, None)
        );
        if std::fs::exists("/proc/pressure/memory").unwrap_or(false) {
            // A kernel booted with psi=0 has the file and refuses to read it (EOPNOTSUPP).
            assert_eq!(stalled_us().is_some(), std::fs::read_to_string("/proc/pressure/memory").is_ok());
        }
    }
}
