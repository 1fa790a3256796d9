//! What each mode lets the control plane do.
//!
//! Zone: control.

use crate::config::Mode;

/// Whether the control thread has anything to do: in `isolate` the memory policies say it all.
#[must_use]
pub fn needs_control(mode: Mode) -> bool {
    mode != Mode::Isolate
}

/// Whether pages are moved; in `spill` they are only counted, and new ones directed.
#[must_use]
pub fn migrates(mode: Mode) -> bool {
    mode == Mode::Auto || mode == Mode::Assist
}

/// Whether hot pages are moved to DRAM because they are hot; in `assist` the kernel does that.
#[must_use]
pub fn promotes(mode: Mode) -> bool {
    mode == Mode::Auto
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mode_does_more_than_the_one_before() {
        let modes = [Mode::Isolate, Mode::Spill, Mode::Assist, Mode::Auto];
        assert_eq!(modes.map(needs_control), [false, true, true, true]);
        assert_eq!(modes.map(migrates), [false, false, true, true]);
        assert_eq!(modes.map(promotes), [false, false, false, true]);
    }
}
