//! Byte strings as programs: what each byte decides.

use super::failed;

/// Bytes that are taken from the front; no more come after the last.
pub(crate) struct Bytes<'a> {
    rest: &'a [u8],
    used: usize,
}

const PTRDIFF_MAX: usize = isize::MAX as usize;

/// From here on sizes and alignments are absurd: 47 bits of addresses are all there is.
const ABSURD: usize = 1 << 47;

/// Whether there can be as much. Programs ask for less than 100 MiB, or for about [`ABSURD`] at least.
pub(crate) fn is_possible(size: usize) -> bool {
    size < ABSURD / 2
}

impl<'a> Bytes<'a> {
    pub(crate) fn new(rest: &'a [u8]) -> Bytes<'a> {
        Bytes { rest, used: 0 }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn byte(&mut self) -> usize {
        let (first, rest) = self.rest.split_first().unwrap_or((&0, &[]));
        self.used += self.rest.len() - rest.len();
        self.rest = rest;
        failed::used(self.used);
        usize::from(*first)
    }

    /// A number below 2^16.
    pub(crate) fn short(&mut self) -> usize {
        self.byte() | self.byte() << 8
    }

    /// A size: mostly small, often at an edge, seldom absurd. `full`: nothing large.
    pub(crate) fn size(&mut self, full: bool) -> usize {
        let band = self.byte();
        let number = self.short();
        match band {
            0..=127 => number % 1025,
            128..=159 => number >> 1,
            // A size class and its neighbours.
            160..=199 => (((9 + number % 8) << (number / 8 % 16)) + number / 128 % 3).saturating_sub(1),
            // Whole pages and their neighbours.
            200..=219 => ((number % 80) * 4096 + number / 80 % 3).saturating_sub(1),
            220..=247 if full => number,
            220..=239 => (number % 256) * 1024 + (number / 256 % 3) * 255,
            240..=246 => number * 64,
            247 => (number % 40) << 20 | number,
            _ => self.absurd(number),
        }
    }

    fn absurd(&mut self, number: usize) -> usize {
        match number % 6 {
            0 => usize::MAX - number / 6,
            1 => PTRDIFF_MAX - number / 6,
            2 => PTRDIFF_MAX + number / 6,
            3 => ABSURD << (number / 6 % 17),
            4 => PTRDIFF_MAX - (number << 12),
            _ => usize::MAX - (number << 12),
        }
    }

    /// Two numbers whose product is a size, or overflows.
    pub(crate) fn product(&mut self, full: bool) -> (usize, usize) {
        let (how, size) = (self.byte(), self.size(full));
        match how {
            0..=99 => (1, size),
            100..=199 => {
                let count = 1 + how % 16;
                (count, size / count)
            }
            200..=219 => (size, 1),
            220..=229 => (0, size),
            230..=239 => (size, 0),
            // Just over 2^64, so that the product taken modulo that is small.
            240..=247 => (1 << (32 + how % 8), (1 << (32 - how % 8)) + size % 4096),
            _ => (usize::MAX / (2 + size % 8), 3 + size % 8),
        }
    }

    /// An alignment: a power of two up to 32 MiB, sometimes none, sometimes absurd.
    pub(crate) fn align(&mut self) -> usize {
        let byte = self.byte();
        match byte {
            0..=199 => 1 << (byte % 17),
            200..=227 => 1 << (byte % 26),
            228..=231 => ABSURD << (byte % 17),
            232 => 0,
            _ => (byte * 24) | 1 | 2,
        }
    }

    /// A hint of terrace.h; one in six does not exist.
    pub(crate) fn hint(&mut self) -> u32 {
        const HINTS: [u32; 12] = [0, 1, 2, 4, 8, 257, 258, 260, 264, 0, 1, 2];
        const NONE: [u32; 6] = [3, 256, 512, 16, u32::MAX, 12];
        let byte = self.byte();
        if byte % 6 == 5 { NONE[byte / 6 % 6] } else { HINTS[byte / 6 % 12] }
    }
}

/// Whether the hint exists, by terrace.h.
pub(crate) fn hint_exists(hint: u32) -> bool {
    match hint & !256 {
        0 => hint == 0,
        place => [1, 2, 4, 8].contains(&place),
    }
}

/// Whether the hint asks for device memory and nothing else.
pub(crate) fn only_device(hint: u32) -> bool {
    hint == 258 || hint == 264
}
