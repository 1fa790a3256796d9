//! A chart over the time of a run: a frame with axes, and what is drawn into it.
//!
//! Zone: control (a program of its own).

use super::svg::{Anchor, Svg};

/// One panel: a box on the page, seconds across, some unit upwards.
pub struct Frame {
    /// Left edge in pixels.
    pub left: f64,
    /// Right edge.
    pub right: f64,
    /// Upper edge.
    pub top: f64,
    /// Lower edge.
    pub bottom: f64,
    /// Seconds at the right edge; 0 is at the left.
    pub seconds: f64,
    /// Values at the lower and the upper edge.
    pub range: (f64, f64),
}

impl Frame {
    /// Pixels from the left for a moment.
    pub fn x(&self, seconds: f64) -> f64 {
        self.left + (self.right - self.left) * seconds / self.seconds
    }

    /// Pixels from the top for a value, which may lie outside the range and is then put on its edge.
    pub fn y(&self, value: f64) -> f64 {
        let (low, high) = self.range;
        let share = ((value - low) / (high - low)).clamp(0.0, 1.0);
        self.bottom - (self.bottom - self.top) * share
    }

    /// Grid lines with their values on the left, in steps that a person would choose.
    pub fn grid(&self, svg: &mut Svg, label: impl Fn(f64) -> String) {
        let (low, high) = self.range;
        let step = nice_step((high - low) / ((self.bottom - self.top) / 44.0));
        let mut value = (low / step).ceil() * step;
        while value <= high + step / 1e6 {
            let y = self.y(value);
            svg.line((self.left, y), (self.right, y), r##"stroke="#e2e8f0""##);
            svg.text((self.left - 10.0, y + 5.0), Anchor::End, "soft", &label(value));
            value += step;
        }
    }

    /// Seconds along the lower edge.
    pub fn time_axis(&self, svg: &mut Svg) {
        let step = nice_step(self.seconds / 16.0);
        let mut at = 0.0;
        while at <= self.seconds {
            let x = self.x(at);
            svg.line((x, self.bottom), (x, self.bottom + 6.0), r##"stroke="#94a3b8""##);
            svg.text((x, self.bottom + 22.0), Anchor::Middle, "soft", &format!("{at:.0} s"));
            at += step;
        }
    }

    /// The area between two curves.
    pub fn area(&self, svg: &mut Svg, curve: &[(f64, f64, f64)], fill: &str) {
        let upper = curve.iter().map(|(t, _, high)| (self.x(*t), self.y(*high)));
        let lower = curve.iter().rev().map(|(t, low, _)| (self.x(*t), self.y(*low)));
        svg.path(upper.chain(lower), true, &format!(r#"fill="{fill}""#));
    }

    /// A curve.
    pub fn curve(&self, svg: &mut Svg, points: &[(f64, f64)], style: &str) {
        svg.path(
            points.iter().map(|(t, v)| (self.x(*t), self.y(*v))),
            false,
            &format!(r#"fill="none" {style}"#),
        );
    }

    /// A bar from `low` to `high` over the time from `begin` to `end`.
    pub fn bar(&self, svg: &mut Svg, time: (f64, f64), low: f64, high: f64, fill: &str) {
        let (x, y) = (self.x(time.0), self.y(high));
        let width = (self.x(time.1) - x - 0.6).max(0.6);
        let height = self.y(low) - y;
        if height > 0.0 {
            svg.rect(x, y, width, height, &format!(r#"fill="{fill}""#));
        }
    }

    /// A horizontal line across the frame.
    pub fn level(&self, svg: &mut Svg, value: f64, style: &str) {
        let y = self.y(value);
        svg.line((self.left, y), (self.right, y), style);
    }
}

/// The smallest of 1, 2, 5 × 10^n that is at least `least`.
fn nice_step(least: f64) -> f64 {
    let power = 10f64.powf(least.max(1e-9).log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * power).find(|s| *s >= least * 0.999).unwrap_or(power)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame() -> Frame {
        Frame { left: 100.0, right: 300.0, top: 10.0, bottom: 110.0, seconds: 50.0, range: (0.0, 10.0) }
    }

    #[test]
    fn time_goes_right_and_values_go_up() {
        assert_eq!((frame().x(0.0), frame().x(50.0)), (100.0, 300.0));
        assert_eq!((frame().y(0.0), frame().y(10.0), frame().y(5.0)), (110.0, 10.0, 60.0));
        assert_eq!((frame().y(-1.0), frame().y(99.0)), (110.0, 10.0));
    }

    #[test]
    fn steps_are_round() {
        for (least, step) in [(0.7, 1.0), (1.0, 1.0), (1.1, 2.0), (3.0, 5.0), (6.0, 10.0), (230.0, 500.0)] {
            assert!((nice_step(least) - step).abs() < 1e-9, "{least} gave {}", nice_step(least));
        }
    }

    #[test]
    fn a_bar_of_no_height_is_not_drawn() {
        let mut svg = Svg::new(10.0);
        frame().bar(&mut svg, (1.0, 2.0), 3.0, 3.0, "red");
        assert!(!svg.finish(10.0).contains("red"));
    }
}
