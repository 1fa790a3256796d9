//! JSON, as much of it as a run's record needs: one flat object a line.
//!
//! The driver writes the record, the presenter and the tests read it, possibly on another machine; a text
//! format with names keeps the file useful to anybody's script as well.
//!
//! Zone: control (a program of its own).

use std::collections::BTreeMap;
use std::fmt::Write;

/// A JSON value. Numbers are `f64`: every count in a record stays far below 2^53.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// any number
    Number(f64),
    /// a string
    Text(String),
    /// an array
    List(Vec<Value>),
    /// an object
    Object(BTreeMap<String, Value>),
}

impl Value {
    /// The member `name` of an object.
    pub fn get(&self, name: &str) -> Option<&Value> {
        match self {
            Value::Object(members) => members.get(name),
            _ => None,
        }
    }

    /// The number `name` of an object, or 0 when it is absent: a record grows, its readers stay.
    pub fn number(&self, name: &str) -> f64 {
        match self.get(name) {
            Some(Value::Number(n)) => *n,
            _ => 0.0,
        }
    }

    /// The string `name` of an object, or "" when it is absent.
    pub fn text(&self, name: &str) -> &str {
        match self.get(name) {
            Some(Value::Text(s)) => s,
            _ => "",
        }
    }

    /// The numbers of the array `name` of an object.
    pub fn numbers(&self, name: &str) -> Vec<f64> {
        match self.get(name) {
            Some(Value::List(items)) => {
                items.iter().filter_map(|v| if let Value::Number(n) = v { Some(*n) } else { None }).collect()
            }
            _ => Vec::new(),
        }
    }
}

/// Builds one line of a record.
pub struct Line(String);

impl Line {
    /// A line of kind `kind`, `seconds` after the start of the run.
    pub fn new(kind: &str, seconds: f64) -> Line {
        let mut line = Line(String::from("{"));
        line.quoted("k");
        line.0.push(':');
        line.quoted(kind);
        line.number("t", (seconds * 1000.0).round() / 1000.0)
    }

    /// Adds a number.
    #[must_use]
    pub fn number(mut self, name: &str, value: impl Into<f64>) -> Line {
        self.name(name);
        let value: f64 = value.into();
        // f64's Display never uses an exponent and prints whole numbers without a fraction.
        write!(self.0, "{}", if value.is_finite() { value } else { 0.0 }).expect("writing to a String");
        self
    }

    /// Adds a whole number.
    #[must_use]
    pub fn count(self, name: &str, value: u64) -> Line {
        self.number(name, value as f64)
    }

    /// Adds a string.
    #[must_use]
    pub fn text(mut self, name: &str, value: &str) -> Line {
        self.name(name);
        self.quoted(value);
        self
    }

    /// Adds a truth value.
    #[must_use]
    pub fn flag(mut self, name: &str, value: bool) -> Line {
        self.name(name);
        self.0.push_str(if value { "true" } else { "false" });
        self
    }

    /// Adds an array of whole numbers.
    #[must_use]
    pub fn counts(mut self, name: &str, values: impl Iterator<Item = u64>) -> Line {
        self.name(name);
        self.0.push('[');
        for (i, value) in values.enumerate() {
            write!(self.0, "{}{value}", if i == 0 { "" } else { "," }).expect("writing to a String");
        }
        self.0.push(']');
        self
    }

    /// The finished line, without a newline.
    pub fn finish(mut self) -> String {
        self.0.push('}');
        self.0
    }

    fn name(&mut self, name: &str) {
        self.0.push(',');
        self.quoted(name);
        self.0.push(':');
    }

    fn quoted(&mut self, text: &str) {
        self.0.push('"');
        for c in text.chars() {
            match c {
                '"' | '\\' => self.0.extend(['\\', c]),
                '\n' => self.0.push_str("\\n"),
                c if c < ' ' => write!(self.0, "\\u{:04x}", c as u32).expect("writing to a String"),
                c => self.0.push(c),
            }
        }
        self.0.push('"');
    }
}

/// Parses one JSON text; `None` when it is not one.
pub fn parse(text: &str) -> Option<Value> {
    let mut reader = Reader { bytes: text.as_bytes(), at: 0 };
    let value = reader.value()?;
    reader.blanks();
    (reader.at == reader.bytes.len()).then_some(value)
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn blanks(&mut self) {
        while self.bytes.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
    }

    /// Skips blanks and takes `byte`, if that is what comes next.
    fn take(&mut self, byte: u8) -> bool {
        self.blanks();
        let found = self.bytes.get(self.at) == Some(&byte);
        self.at += usize::from(found);
        found
    }

    fn value(&mut self) -> Option<Value> {
        self.blanks();
        match *self.bytes.get(self.at)? {
            b'{' => self.object(),
            b'[' => self.list(),
            b'"' => self.string().map(Value::Text),
            b't' => self.word("true", Value::Bool(true)),
            b'f' => self.word("false", Value::Bool(false)),
            b'n' => self.word("null", Value::Null),
            _ => {
                let digits = |b: &u8| b.is_ascii_digit() || b"+-.eE".contains(b);
                let length = self.bytes[self.at..].iter().take_while(|b| digits(b)).count();
                let text = std::str::from_utf8(&self.bytes[self.at..self.at + length]).ok()?;
                self.at += length;
                text.parse().ok().map(Value::Number)
            }
        }
    }

    fn word(&mut self, word: &str, value: Value) -> Option<Value> {
        let found = self.bytes[self.at..].starts_with(word.as_bytes());
        self.at += word.len();
        found.then_some(value)
    }

    fn object(&mut self) -> Option<Value> {
        self.at += 1;
        let mut members = BTreeMap::new();
        if self.take(b'}') {
            return Some(Value::Object(members));
        }
        loop {
            self.blanks();
            let name = self.string()?;
            if !self.take(b':') {
                return None;
            }
            members.insert(name, self.value()?);
            if self.take(b'}') {
                return Some(Value::Object(members));
            }
            if !self.take(b',') {
                return None;
            }
        }
    }

    fn list(&mut self) -> Option<Value> {
        self.at += 1;
        let mut items = Vec::new();
        if self.take(b']') {
            return Some(Value::List(items));
        }
        loop {
            items.push(self.value()?);
            if self.take(b']') {
                return Some(Value::List(items));
            }
            if !self.take(b',') {
                return None;
            }
        }
    }

    fn string(&mut self) -> Option<String> {
        if self.bytes.get(self.at) != Some(&b'"') {
            return None;
        }
        self.at += 1;
        let mut text = Vec::new();
        loop {
            let byte = *self.bytes.get(self.at)?;
            self.at += 1;
            match byte {
                b'"' => return String::from_utf8(text).ok(),
                b'\\' => {
                    let escape = *self.bytes.get(self.at)?;
                    self.at += 1;
                    match escape {
                        b'n' => text.push(b'\n'),
                        b't' => text.push(b'\t'),
                        b'u' => {
                            let hex = std::str::from_utf8(self.bytes.get(self.at..self.at + 4)?).ok()?;
                            let c = char::from_u32(u32::from_str_radix(hex, 16).ok()?)?;
                            text.extend(c.encode_utf8(&mut [0; 4]).bytes());
                            self.at += 4;
                        }
                        other => text.push(other),
                    }
                }
                other => text.push(other),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_reads_back_as_it_was_written() {
        let line = Line::new("sample", 1.25)
            .count("pages", 1 << 40)
            .number("share", 0.5)
            .text("why", "a \"quoted\"\n\\ name: ≤ 5 %")
            .flag("ok", true)
            .counts("cells", [1, 2, 300].into_iter())
            .finish();
        let value = parse(&line).expect("valid JSON");
        assert_eq!(value.text("k"), "sample");
        assert_eq!(value.number("t"), 1.25);
        assert_eq!(value.number("pages"), (1u64 << 40) as f64);
        assert_eq!(value.text("why"), "a \"quoted\"\n\\ name: ≤ 5 %");
        assert_eq!(value.get("ok"), Some(&Value::Bool(true)));
        assert_eq!(value.numbers("cells"), [1.0, 2.0, 300.0]);
    }

    #[test]
    fn nonsense_is_refused_and_never_panics() {
        for text in
            ["", "{", "{\"a\"", "{\"a\":}", "[1,", "[1 2]", "\"\\", "\"\\u12", "tru", "{} x", "-", "nul"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn nested_values_are_read() {
        let value =
            parse(" { \"a\" : [ 1 , {\"b\":null} , \"\\u0041\" ] , \"c\":false } ").expect("valid JSON");
        let Some(Value::List(items)) = value.get("a") else { panic!("no list") };
        assert_eq!(items[1].get("b"), Some(&Value::Null));
        assert_eq!(items[2], Value::Text("A".into()));
    }
}
