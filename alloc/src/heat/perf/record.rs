//! The records that the kernel writes into a ring (perf_event_open(2), "MMAP layout").
//!
//! Zone: control. Pure parsing: whatever the bytes are, it ends, and nothing is read beyond them.

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record {
    /// An access to this address; 0 = the sampled instruction made none.
    Sample(u64),
    /// An access that a cache close to the processor answered: no matter of where the page is.
    Cached,
    /// So many records found no room.
    Lost(u64),
    /// The kernel stops sampling for a while, as there were too many.
    Throttled,
}

const LOST: u32 = 2;
const THROTTLE: u32 = 5;
const SAMPLE: u32 = 9;
const LOST_SAMPLES: u32 = 13;
/// Type (4 bytes), miscellaneous (2), size (2).
const HEADER: usize = 8;

/// Calls `each` for the records in `bytes`; `source` = samples tell where their data came from. What is cut off or has a size that cannot
/// be ends it, as one lost record: nothing says where the next begins.
pub(super) fn parse(bytes: &[u8], source: bool, each: &mut dyn FnMut(Record)) {
    let mut rest = bytes;
    while !rest.is_empty() {
        let size = rest.get(6..HEADER).map_or(0, |s| usize::from(u16::from_ne_bytes([s[0], s[1]])));
        if size < HEADER || size > rest.len() {
            return each(Record::Lost(1));
        }
        let (record, next) = rest.split_at(size);
        rest = next;
        let word = |i: usize| {
            let at = HEADER + 8 * i;
            record.get(at..at + 8).and_then(|w| w.try_into().ok()).map(u64::from_ne_bytes)
        };
        let kind = u32::from_ne_bytes([record[0], record[1], record[2], record[3]]);
        match kind {
            SAMPLE => match (word(0), word(1)) {
                (Some(_), Some(from)) if source && is_near(from) => each(Record::Cached),
                (Some(address), _) => each(Record::Sample(address)),
                _ => each(Record::Lost(1)),
            },
            LOST => each(Record::Lost(word(1).unwrap_or(1))),
            LOST_SAMPLES => each(Record::Lost(word(0).unwrap_or(1))),
            THROTTLE => each(Record::Throttled),
            _ => {}
        }
    }
}

/// Whether data of this source (`perf_mem_data_src`) came from the first or second cache. Kernels tell it in either of two fields.
fn is_near(source: u64) -> bool {
    const HIT: u64 = 1 << 1;
    const LEVEL_1: u64 = 1 << 3;
    const LEVEL_2: u64 = 1 << 5;
    let (level, number) = (source >> 5 & 0x3fff, source >> 33 & 0xf);
    (level & HIT != 0 && level & (LEVEL_1 | LEVEL_2) != 0) || matches!(number, 1 | 2)
}

#[cfg(test)]
mod tests {
    use super::Record::{Cached, Lost, Sample, Throttled};
    use super::*;

    fn record(kind: u32, words: &[u64]) -> Vec<u8> {
        let mut bytes = kind.to_ne_bytes().to_vec();
        bytes.extend(0u16.to_ne_bytes());
        bytes.extend(((HEADER + 8 * words.len()) as u16).to_ne_bytes());
        words.iter().for_each(|w| bytes.extend(w.to_ne_bytes()));
        bytes
    }

    fn all(bytes: &[u8], source: bool) -> Vec<Record> {
        let mut found = Vec::new();
        parse(bytes, source, &mut |r| found.push(r));
        found
    }

    #[test]
    fn samples_losses_and_throttling_are_told_apart() {
        let bytes = [
            record(SAMPLE, &[0x7000]),
            record(LOST, &[99, 17]),
            record(THROTTLE, &[1, 2, 3]),
            record(LOST_SAMPLES, &[4]),
            record(SAMPLE, &[0]),
        ]
        .concat();
        assert_eq!(all(&bytes, false), [Sample(0x7000), Lost(17), Throttled, Lost(4), Sample(0)]);
        assert_eq!(all(&[], false), []);
    }

    #[test]
    fn records_of_other_types_are_skipped_by_their_size() {
        let bytes = [
            record(77, &[1; 9]),
            record(SAMPLE, &[5]),
            record(u32::MAX, &[]),
            record(6, &[1, 2, 3]),
            record(SAMPLE, &[6]),
        ]
        .concat();
        assert_eq!(all(&bytes, false), [Sample(5), Sample(6)]);
    }

    #[test]
    fn what_is_cut_off_or_cannot_be_ends_it_as_one_loss() {
        let good = record(SAMPLE, &[5]);
        for cut in 1..good.len() {
            assert_eq!(
                all(&[good.clone(), good[..cut].to_vec()].concat(), false),
                [Sample(5), Lost(1)],
                "{cut}"
            );
        }
        for size in [0u16, 1, 7, 24, 0xffff] {
            let mut bad = good.clone();
            bad[6..8].copy_from_slice(&size.to_ne_bytes());
            assert_eq!(all(&bad, false), [Lost(1)], "size {size}");
        }
        assert_eq!(
            all(&[record(SAMPLE, &[]), good].concat(), false),
            [Lost(1), Sample(5)],
            "no room for an address"
        );
        assert_eq!(all(&record(LOST, &[1]), false), [Lost(1)]);
    }

    #[test]
    fn any_bytes_at_all_are_parsed_to_an_end() {
        let mut state = 88172645463325252u64;
        for length in 0..400 {
            let bytes: Vec<u8> = (0..length)
                .map(|_| {
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    (state % 12) as u8
                })
                .collect();
            assert!(all(&bytes, true).len() <= length / HEADER + 1);
        }
    }

    #[test]
    fn what_the_first_two_caches_answered_is_no_matter_of_placement() {
        let level = |bits: u64| bits << 5;
        let number = |n: u64| n << 33;
        for (source, near) in [
            (level(1 << 1 | 1 << 3), true),  // hit, first
            (level(1 << 1 | 1 << 5), true),  // hit, second
            (level(1 << 2 | 1 << 3), false), // a miss of the first
            (level(1 << 1 | 1 << 6), false), // third
            (level(1 << 1 | 1 << 7), false), // memory
            (level(1), false),               // unknown
            (number(1), true),
            (number(2), true),
            (number(3), false),
            (number(13), false),
            (0, false),
        ] {
            let expected = if near { Cached } else { Sample(8) };
            assert_eq!(all(&record(SAMPLE, &[8, source]), true), [expected], "{source:#x}");
            assert_eq!(all(&record(SAMPLE, &[8, source]), false), [Sample(8)], "not asked for");
        }
    }
}
