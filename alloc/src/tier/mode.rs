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
    mode == Mode::Auto
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_auto_moves_pages_and_only_isolate_needs_nobody() {
        assert_eq!([Mode::Isolate, Mode::Spill, Mode::Auto].map(migrates), [false, false, true]);
        assert_eq!([Mode::Isolate, Mode::Spill, Mode::Auto].map(needs_control), [false, true, true]);
    }
}
