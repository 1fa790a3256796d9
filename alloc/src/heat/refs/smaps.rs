//! Reading `/proc/self/smaps` fast: of some 750 bytes a mapping, about 60 are looked at.
//!
//! Zone: control. The lines between a mapping's header and its `VmFlags` have fixed widths on a given kernel, so their
//! offsets are learned from the first mapping and checked (by their names) on every other one; where the check fails,
//! the record is read line by line. Nothing is allocated per line or per mapping.

/// What smaps says about one mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
    /// KiB of it that are in memory.
    pub rss_kb: u32,
    /// KiB of it that were referenced since the last clearing.
    pub referenced_kb: u32,
}

/// Offsets from the end of a header line to the lines that matter.
#[derive(Clone, Copy)]
struct Offsets {
    rss: usize,
    referenced: usize,
    flags: usize,
}

/// Reassembles records from pieces of any size.
#[derive(Default)]
pub(super) struct Parser {
    carry: Vec<u8>,
    learned: Option<Offsets>,
}

/// A record in a piece of text, or why there is none.
enum Step {
    Record(Mapping, usize),
    Incomplete,
    Garbage,
}

impl Parser {
    /// Takes the next piece; calls `each` for every mapping completed by it until that answers `false`.
    /// Answers `false` when it should not be fed further (`each` has enough, or the text is not smaps).
    pub(super) fn feed(&mut self, piece: &[u8], each: &mut dyn FnMut(Mapping) -> bool) -> bool {
        if self.carry.is_empty() {
            let (used, more) = self.parse(piece, each);
            self.carry.extend_from_slice(&piece[used..]);
            return more;
        }
        let mut text = std::mem::take(&mut self.carry);
        text.extend_from_slice(piece);
        let (used, more) = self.parse(&text, each);
        text.drain(..used);
        self.carry = text;
        more
    }

    /// Forgets an unfinished record, to start on a newly opened file.
    pub(super) fn restart(&mut self) {
        self.carry.clear();
    }

    fn parse(&mut self, text: &[u8], each: &mut dyn FnMut(Mapping) -> bool) -> (usize, bool) {
        let mut at = 0;
        while at < text.len() {
            match self.record(&text[at..]) {
                Step::Record(mapping, len) => {
                    at += len;
                    if !each(mapping) {
                        return (at, false);
                    }
                }
                Step::Incomplete => break,
                Step::Garbage => return (text.len(), false),
            }
        }
        (at, true)
    }

    fn record(&mut self, text: &[u8]) -> Step {
        let Some((start, n)) = hex(text) else {
            return if text.len() < 64 { Step::Incomplete } else { Step::Garbage };
        };
        let Some((end, _)) = text.get(n + 1..).and_then(hex) else {
            return if text.len() < 64 { Step::Incomplete } else { Step::Garbage };
        };
        let Some(header) = newline(text) else { return Step::Incomplete };
        let body = &text[header..];
        if let Some(o) = self.learned
            && body.len() > o.flags
            && body[o.flags..].starts_with(b"VmFlags:")
            && body[o.rss..].starts_with(b"Rss:")
            && body[o.referenced..].starts_with(b"Referenced:")
        {
            let Some(tail) = newline(&body[o.flags..]) else { return Step::Incomplete };
            let (rss_kb, referenced_kb) = (number(&body[o.rss..]), number(&body[o.referenced..]));
            return Step::Record(Mapping { start, end, rss_kb, referenced_kb }, header + o.flags + tail);
        }
        self.by_lines(start, end, header, body)
    }

    fn by_lines(&mut self, start: usize, end: usize, header: usize, body: &[u8]) -> Step {
        let (mut rss, mut referenced, mut at) = (None, None, 0);
        loop {
            let Some(len) = newline(&body[at..]) else { return Step::Incomplete };
            let line = &body[at..at + len];
            if line.starts_with(b"Rss:") {
                rss = Some((at, number(line)));
            } else if line.starts_with(b"Referenced:") {
                referenced = Some((at, number(line)));
            } else if line.starts_with(b"VmFlags:") {
                let (Some(r), Some(f)) = (rss, referenced) else { return Step::Garbage };
                self.learned = Some(Offsets { rss: r.0, referenced: f.0, flags: at });
                let mapping = Mapping { start, end, rss_kb: r.1, referenced_kb: f.1 };
                return Step::Record(mapping, header + at + len);
            }
            at += len;
        }
    }
}

/// Length of the first line with its newline.
fn newline(text: &[u8]) -> Option<usize> {
    text.iter().position(|&b| b == b'\n').map(|n| n + 1)
}

/// A hexadecimal number and how many digits it has.
fn hex(text: &[u8]) -> Option<(usize, usize)> {
    let mut value = 0usize;
    for (n, &b) in text.iter().enumerate() {
        let digit = match b {
            b'0'..=b'9' => b - b'0',
            b'a'..=b'f' => b - b'a' + 10,
            b'-' | b' ' if n > 0 => return Some((value, n)),
            _ => return None,
        };
        value = value << 4 | usize::from(digit);
    }
    None
}

/// The first decimal number of a line.
fn number(line: &[u8]) -> u32 {
    let mut value = 0u32;
    let mut seen = false;
    for &b in line {
        match b {
            b'0'..=b'9' => {
                value = value.saturating_mul(10).saturating_add(u32::from(b - b'0'));
                seen = true;
            }
            _ if seen || b == b'\n' => break,
            _ => {}
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(start: usize, end: usize, rss: u32, referenced: u32, name: &str) -> String {
        format!(
            "{start:x}-{end:x} rw-p 00000000 00:00 0 {name}\nSize:           {:>8} kB\nKernelPageSize:        4 kB\n\
             Rss:            {rss:>8} kB\nPss:                   0 kB\nReferenced:     {referenced:>8} kB\n\
             Anonymous:             0 kB\nTHPeligible:           0\nVmFlags: rd wr mr mw me nr sd \n",
            (end - start) / 1024
        )
    }

    fn all(text: &str, piece: usize) -> Vec<Mapping> {
        let (mut parser, mut got) = (Parser::default(), Vec::new());
        for chunk in text.as_bytes().chunks(piece) {
            assert!(parser.feed(chunk, &mut |m| {
                got.push(m);
                true
            }));
        }
        got
    }

    #[test]
    fn every_record_is_found_whatever_the_size_of_the_pieces() {
        let mut text = String::new();
        let mut expect = Vec::new();
        for i in 0..50usize {
            let (start, end) = (0x1000_0000_0000 + i * 0x3000, 0x1000_0000_1000 + i * 0x3000);
            let (rss_kb, referenced_kb) =
                ((i as u32).wrapping_mul(100_000_003) % 200_000_000, i as u32 % 5 * 4);
            text += &record(start, end, rss_kb, referenced_kb, if i % 7 == 0 { "[heap name]" } else { "" });
            expect.push(Mapping { start, end, rss_kb, referenced_kb });
        }
        for piece in [1, 7, 100, 750, 4096, 1 << 20] {
            assert_eq!(all(&text, piece), expect, "pieces of {piece} bytes");
        }
    }

    #[test]
    fn reading_stops_when_the_caller_has_enough() {
        let text = record(0x1000, 0x2000, 4, 4, "") + &record(0x2000, 0x3000, 4, 0, "");
        let mut n = 0;
        assert!(!Parser::default().feed(text.as_bytes(), &mut |_| {
            n += 1;
            false
        }));
        assert_eq!(n, 1);
    }

    #[test]
    fn text_that_is_not_smaps_is_refused() {
        let text = "Permission denied: this is certainly not what the kernel writes into smaps\n".repeat(2);
        assert!(!Parser::default().feed(text.as_bytes(), &mut |_| true));
    }

    #[test]
    fn the_real_file_can_be_read() {
        let (mut parser, mut buf, mut rss) = (Parser::default(), vec![0; 65536], 0u64);
        let mut last = 0;
        let mut file = crate::sys::uffd::Smaps::open().expect("smaps is there");
        while let Ok(n) = file.read(&mut buf)
            && n > 0
        {
            let more = parser.feed(&buf[..n], &mut |m| {
                assert!(m.start >= last && m.end > m.start && m.referenced_kb <= m.rss_kb);
                last = m.end;
                rss += u64::from(m.rss_kb);
                true
            });
            assert!(more);
        }
        assert!(rss > 500, "{rss} KiB resident is too little to be true");
    }
}
