//! How long pages are watched before it is asked whether they were used.
//!
//! Zone: control. The length is right in which the marginal page, the one that just fits in DRAM, is used about once: in a longer one all pages
//! look alike. So about as many pages are to be used in it as fit.

use super::exp;

/// Shortest and longest window.
pub(super) const WINDOWS: std::ops::RangeInclusive<u64> = 1_000_000..=4_000_000_000;
/// The first window.
pub(super) const FIRST_WINDOW: u64 = 40_000_000;

/// By how much a window in which this share of pages was used is to be longer, or shorter, where so much of the heap may be in DRAM.
pub(super) fn correction(used: f64, dram_share: f64) -> f64 {
    let target = dram_share.clamp(0.1, 0.5);
    exp::pow(target / used.max(0.005), 0.8).clamp(0.4, 2.5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_corrected_towards_the_share_that_fits_and_not_too_far_at_once() {
        assert!((correction(0.2, 0.2) - 1.0).abs() < 0.01);
        assert!(correction(0.3, 0.2) < 0.8 && correction(0.15, 0.2) > 1.2);
        assert_eq!((correction(0.0, 0.2), correction(1.0, 0.1)), (2.5, 0.4));
        assert_eq!(
            (correction(0.3, 0.01), correction(0.3, 0.9)),
            (correction(0.3, 0.1), correction(0.3, 0.5))
        );
    }
}
