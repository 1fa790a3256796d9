//! Base-2 logarithm and exponential, good to about twelve digits.
//!
//! Zone: control. Pure arithmetic. The C library's would make `libterrace.so` need `libm.so.6`, which the loader would then find, open and
//! map in every process that is preloaded, for an estimator that most of them never run: a sixth more start-up time.

use std::f64::consts::{LN_2, LOG2_E, SQRT_2};

/// log₂ of a normal positive number.
pub(crate) fn log2(x: f64) -> f64 {
    debug_assert!(x >= f64::MIN_POSITIVE && x.is_finite());
    let bits = x.to_bits();
    let mut exponent = (bits >> 52) as i32 - 1023;
    // The mantissa as a number in [1, 2), then in [√½, √2).
    let mut m = f64::from_bits(bits & ((1 << 52) - 1) | 1023 << 52);
    if m > SQRT_2 {
        m /= 2.0;
        exponent += 1;
    }
    // ln m = 2 artanh s; |s| < 0.172, so the terms left out add up to less than 1e-14.
    let s = (m - 1.0) / (m + 1.0);
    let odd = (0..9).rev().fold(0.0, |sum, k| sum * s * s + 1.0 / f64::from(2 * k + 1));
    f64::from(exponent) + 2.0 * s * odd * LOG2_E
}

/// Natural logarithm of a normal positive number.
pub(crate) fn ln(x: f64) -> f64 {
    log2(x) * LN_2
}

/// 2 to the power of `x`, which counts as at most 1000 either way.
pub(crate) fn exp2(x: f64) -> f64 {
    let x = x.clamp(-1000.0, 1000.0);
    // To the nearest integer; `round` would be a call into libm.
    let n = (x + if x < 0.0 { -0.5 } else { 0.5 }) as i64;
    let t = (x - n as f64) * LN_2;
    // |t| < 0.347, so the terms left out add up to less than 1e-15.
    let fraction = (1..14).rev().fold(1.0, |sum, k| 1.0 + sum * t / f64::from(k));
    fraction * f64::from_bits(((n + 1023) as u64) << 52)
}

/// e to the power of `x`.
pub(crate) fn exp(x: f64) -> f64 {
    exp2(x * LOG2_E)
}

/// `x`, a normal positive number, to the power of `y`.
pub(crate) fn pow(x: f64, y: f64) -> f64 {
    exp2(y * log2(x))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_c_library() {
        let near = |ours: f64, theirs: f64, x: f64| {
            assert!((ours - theirs).abs() <= 1e-12 * theirs.abs().max(1.0), "{x}: {ours} {theirs}");
        };
        for i in -4000..4000 {
            let x = f64::from(i) / 97.0;
            near(exp2(x) / x.exp2(), 1.0, x);
            near(exp(x) / x.exp(), 1.0, x);
            near(log2(x.exp2()), x, x);
            near(ln(x.exp2()), x.exp2().ln(), x);
            near(pow(x.exp2(), 0.8) / x.exp2().powf(0.8), 1.0, x);
        }
        assert_eq!((exp2(0.0), log2(1.0), exp2(-3.0), log2(1024.0)), (1.0, 0.0, 0.125, 10.0));
        assert!(exp2(-1e9) > 0.0 && exp2(1e9).is_finite());
    }
}
