//! The data set, and the client's own knowledge of it.
//!
//! A value opens with its key's number and its version, and goes on with a stretch of noise that depends on both; so
//! no two values are alike, and a torn, stale or foreign one shows. The client keeps a checksum of the bytes it really
//! sent, which is what read-backs are compared with.
//!
//! Zone: control (a program of its own).

use std::sync::OnceLock;

/// Bytes of the text that opens every value and names its key and version.
pub const HEADER_BYTES: usize = 20;

/// Sizes of the values, in bytes, by key. An update keeps the size.
///
/// A page or so: what a server in the emulator can touch in a second is counted in commands, not in bytes.
pub const VALUE_BYTES: std::ops::RangeInclusive<usize> = 2048..=6144;

/// Bytes of noise that values are cut from.
const NOISE_BYTES: usize = 1 << 20;

/// What the client knows of one key.
#[derive(Clone, Copy)]
struct Known {
    sum: u64,
    version: u32,
    alive: bool,
}

/// Every key's version and the checksum of its present value.
#[derive(Clone)]
pub struct KeySpace {
    known: Vec<Known>,
}

impl KeySpace {
    /// `keys` keys, none of them written yet.
    pub fn new(keys: usize) -> KeySpace {
        KeySpace { known: vec![Known { sum: 0, version: 0, alive: false }; keys] }
    }

    /// Number of keys, written or not.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// True when there is no key at all.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Number of keys that hold a value now.
    pub fn alive(&self) -> usize {
        self.known.iter().filter(|k| k.alive).count()
    }

    /// Makes the next version of `key` in `value`, and from then on expects it.
    pub fn write(&mut self, key: usize, value: &mut Vec<u8>) {
        let known = &mut self.known[key];
        known.version += 1;
        fill(key, known.version, value);
        known.sum = checksum(value);
        known.alive = true;
    }

    /// From now on `key` is expected to be gone.
    pub fn forget(&mut self, key: usize) {
        self.known[key].alive = false;
    }

    /// What a read of `key` must return at this moment: the checksum of its value, or `None`.
    pub fn expect(&self, key: usize) -> Option<u64> {
        let known = &self.known[key];
        known.alive.then_some(known.sum)
    }
}

/// The name of key number `key`.
pub fn name(key: usize) -> [u8; 12] {
    let mut name = *b"key:00000000";
    digits(key, &mut name[4..]);
    name
}

/// The number of bytes in the values of `key`.
pub fn value_len(key: usize) -> usize {
    let span = VALUE_BYTES.end() - VALUE_BYTES.start() + 1;
    VALUE_BYTES.start() + (mix(key as u64 ^ 0x5eed) % span as u64) as usize
}

/// True when `bytes` open a value of `key`, of whatever version.
pub fn opens(key: usize, bytes: &[u8]) -> bool {
    let mut head = *b"k00000000v";
    digits(key, &mut head[1..9]);
    bytes.starts_with(&head)
}

/// A 64-bit checksum: every bit of `bytes`, and their number, decides.
pub fn checksum(bytes: &[u8]) -> u64 {
    let mut sum = mix(bytes.len() as u64);
    let mut words = bytes.chunks_exact(8);
    for word in &mut words {
        sum = (sum.rotate_left(23) ^ u64::from_le_bytes(word.try_into().expect("8 bytes")))
            .wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
    for byte in words.remainder() {
        sum = (sum.rotate_left(23) ^ u64::from(*byte)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
    mix(sum)
}

/// Fills `value` with version `version` of `key`.
fn fill(key: usize, version: u32, value: &mut Vec<u8>) {
    let length = value_len(key);
    value.clear();
    value.extend_from_slice(b"k00000000v00000000: ");
    digits(key, &mut value[1..9]);
    digits(version as usize, &mut value[10..18]);
    let rest = length - HEADER_BYTES;
    let start = mix(((key as u64) << 32) | u64::from(version)) as usize % (NOISE_BYTES - rest);
    value.extend_from_slice(&noise()[start..start + rest]);
}

fn noise() -> &'static [u8] {
    static NOISE: OnceLock<Vec<u8>> = OnceLock::new();
    NOISE.get_or_init(|| (0..NOISE_BYTES as u64 / 8).flat_map(|i| mix(i).to_le_bytes()).collect())
}

/// Writes `number` in decimal, zero-padded, over all of `out`.
fn digits(mut number: usize, out: &mut [u8]) {
    for place in out.iter_mut().rev() {
        *place = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood 2014): a bijection that spreads every bit.
pub fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_names_its_key_and_changes_with_its_version() {
        let mut keys = KeySpace::new(100);
        let (mut first, mut second) = (Vec::new(), Vec::new());
        keys.write(42, &mut first);
        let expected = keys.expect(42);
        assert_eq!(expected, Some(checksum(&first)));
        keys.write(42, &mut second);
        assert!(opens(42, &first) && opens(42, &second) && !opens(43, &first));
        assert_eq!(&first[..HEADER_BYTES], b"k00000042v00000001: ");
        assert_eq!(first.len(), value_len(42));
        assert_eq!(first.len(), second.len());
        assert_ne!(keys.expect(42), expected);
    }

    #[test]
    fn a_forgotten_key_is_expected_gone() {
        let mut keys = KeySpace::new(2);
        assert_eq!((keys.expect(1), keys.alive()), (None, 0));
        keys.write(1, &mut Vec::new());
        assert_eq!(keys.alive(), 1);
        keys.forget(1);
        assert_eq!((keys.expect(1), keys.alive()), (None, 0));
    }

    #[test]
    fn one_flipped_bit_or_a_lost_byte_changes_the_checksum() {
        let mut value = Vec::new();
        KeySpace::new(8).write(7, &mut value);
        let sum = checksum(&value);
        for at in 0..value.len() {
            for bit in [0, 3, 7] {
                value[at] ^= 1 << bit;
                assert_ne!(checksum(&value), sum);
                value[at] ^= 1 << bit;
            }
        }
        assert_ne!(checksum(&value[..value.len() - 1]), sum);
    }

    #[test]
    fn sizes_span_the_whole_range() {
        let sizes: Vec<usize> = (0..10_000).map(value_len).collect();
        assert!(sizes.iter().all(|n| VALUE_BYTES.contains(n)));
        assert!(sizes.iter().any(|n| *n < 2100) && sizes.iter().any(|n| *n > 6000));
        let mean = sizes.iter().sum::<usize>() / sizes.len();
        assert!((4000..4200).contains(&mean), "{mean}");
    }
}
