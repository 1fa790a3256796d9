//! SVG, as much of it as the picture needs.
//!
//! Coordinates are pixels with one decimal. Colours and sizes are given where things are drawn; fonts and weights
//! come from the few classes of [`STYLE`], which both a browser and librsvg understand.
//!
//! Zone: control (a program of its own).

use std::fmt::Write;

/// Classes for text.
const STYLE: &str = "\
text{font-family:'DejaVu Sans','Helvetica Neue',Arial,sans-serif;font-size:14px;fill:#334155}\
.title{font-size:30px;font-weight:bold;fill:#0f172a}\
.panel{font-size:17px;font-weight:bold;fill:#0f172a}\
.figure{font-size:30px;font-weight:bold}\
.soft{fill:#64748b;font-size:13px}\
.bold{font-weight:bold}";

/// Where a text is anchored.
#[derive(Clone, Copy)]
pub enum Anchor {
    /// At its start.
    Start,
    /// At its middle.
    Middle,
    /// At its end.
    End,
}

/// A drawing.
pub struct Svg {
    body: String,
    width: f64,
}

impl Svg {
    /// An empty drawing of `width` pixels; its height is told when it is finished.
    pub fn new(width: f64) -> Svg {
        Svg { body: String::new(), width }
    }

    /// A filled rectangle.
    pub fn rect(&mut self, x: f64, y: f64, width: f64, height: f64, style: &str) {
        self.add(format_args!(
            r#"<rect x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}" {style}/>"#
        ));
    }

    /// A straight line.
    pub fn line(&mut self, from: (f64, f64), to: (f64, f64), style: &str) {
        let ((x1, y1), (x2, y2)) = (from, to);
        self.add(format_args!(r#"<line x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}" {style}/>"#));
    }

    /// A dot.
    pub fn dot(&mut self, at: (f64, f64), radius: f64, style: &str) {
        self.add(format_args!(r#"<circle cx="{:.1}" cy="{:.1}" r="{radius:.1}" {style}/>"#, at.0, at.1));
    }

    /// A line through points, closed when `close`.
    pub fn path(&mut self, points: impl IntoIterator<Item = (f64, f64)>, close: bool, style: &str) {
        let mut data = String::new();
        for (x, y) in points {
            let command = if data.is_empty() { 'M' } else { 'L' };
            write!(data, "{command}{x:.1} {y:.1}").expect("writing to a String");
        }
        if !data.is_empty() {
            self.add(format_args!(r#"<path d="{data}{}" {style}/>"#, if close { "Z" } else { "" }));
        }
    }

    /// A line of text. `class` is one or more of the classes above, or "".
    pub fn text(&mut self, at: (f64, f64), anchor: Anchor, class: &str, text: &str) {
        self.styled_text(at, anchor, class, "", text);
    }

    /// A line of text with attributes of its own.
    pub fn styled_text(&mut self, at: (f64, f64), anchor: Anchor, class: &str, style: &str, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        self.add(format_args!(
            r#"<text x="{:.1}" y="{:.1}" text-anchor="{anchor}" class="{class}" {style}>{}</text>"#,
            at.0,
            at.1,
            escape(text)
        ));
    }

    /// The drawing, `height` pixels high.
    pub fn finish(self, height: f64) -> String {
        let width = self.width;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
             viewBox=\"0 0 {width:.0} {height:.0}\">\n<style>{STYLE}</style>\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n{}</svg>\n",
            self.body
        )
    }

    fn add(&mut self, element: std::fmt::Arguments<'_>) {
        writeln!(self.body, "{element}").expect("writing to a String");
    }
}

/// Makes `text` safe in XML and HTML.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_break_out() {
        let mut svg = Svg::new(100.0);
        svg.text((1.0, 2.0), Anchor::End, "", "<a> & \"b\"");
        let text = svg.finish(10.0);
        assert!(text.contains("&lt;a&gt; &amp; &quot;b&quot;</text>"), "{text}");
    }

    #[test]
    fn an_empty_path_draws_nothing() {
        let mut svg = Svg::new(100.0);
        svg.path([], true, "");
        svg.path([(1.0, 2.0), (3.0, 4.25)], true, "");
        let text = svg.finish(10.0);
        assert_eq!(text.matches("<path").count(), 1);
        assert!(text.contains("M1.0 2.0L3.0 4.2Z"), "{text}");
    }
}
