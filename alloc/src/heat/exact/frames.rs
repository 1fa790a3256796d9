//! Frames: what the words of pagemap, of the page flags and of the idle bits mean.
//!
//! Zone: control. All three are arrays of 64-bit words in files; frames are scattered, so neighbouring words are read and written together.

use crate::sys::Errno;
use crate::sys::uffd::words::Words;

/// Bits of a pagemap word: the frame's number, and that there is one.
const FRAME: u64 = (1 << 55) - 1;
const PRESENT: u64 = 1 << 63;
/// Bits of a frame's flags (admin-guide/mm/pagemap).
const LRU: u64 = 1 << 5;
const HEAD: u64 = 1 << 15;
const TAIL: u64 = 1 << 16;
/// The largest huge page has 2⁹ frames.
const ORDERS: u32 = 9;
/// Words of one call: a page of them, which is what the kernel takes at once.
const CALL: usize = 512;
/// Flags are read together if no more than so many that nobody asks for lie between them.
const GAP: u64 = 32;

/// An array of words, by number.
pub trait WordArray {
    /// Reads on from `first`; answers how many words there were.
    fn read(&self, first: u64, words: &mut [u64]) -> Result<usize, Errno>;
    /// Writes on from `first`; answers how many words were taken.
    fn write(&self, first: u64, words: &[u64]) -> Result<usize, Errno>;
}

impl WordArray for Words {
    fn read(&self, first: u64, words: &mut [u64]) -> Result<usize, Errno> {
        Words::read(self, first, words)
    }

    fn write(&self, first: u64, words: &[u64]) -> Result<usize, Errno> {
        Words::write(self, first, words)
    }
}

/// Whether a page is in memory, by its pagemap word.
pub(super) fn is_present(word: u64) -> bool {
    word & PRESENT != 0
}

/// The frame of a page that is in memory, by its pagemap word; 0 = none, or it is withheld.
pub(super) fn frame_of(word: u64) -> u64 {
    if is_present(word) { word & FRAME } else { 0 }
}

/// The stretches of ascending `numbers` in which no more than `gap` are left out between two, and which are no longer than a call.
fn stretches(numbers: &[u64], gap: u64) -> impl Iterator<Item = &[u64]> {
    let mut rest = numbers;
    std::iter::from_fn(move || {
        let &first = rest.first()?;
        let within = |pair: &[u64]| pair[1] - pair[0] <= gap + 1 && pair[1] - first < CALL as u64;
        let len = 1 + rest.windows(2).take_while(|pair| within(pair)).count();
        let (stretch, after) = rest.split_at(len);
        rest = after;
        Some(stretch)
    })
}

/// The words of these numbers, which ascend; a word that there is not is 0.
fn words_at(array: &impl WordArray, numbers: &[u64], gap: u64) -> Result<Vec<u64>, Errno> {
    let mut all = Vec::with_capacity(numbers.len());
    let mut buf = [0; CALL];
    for stretch in stretches(numbers, gap) {
        let (first, last) = (stretch[0], stretch[stretch.len() - 1]);
        let wanted = &mut buf[..(last - first) as usize + 1];
        wanted.fill(0);
        array.read(first, wanted)?;
        all.extend(stretch.iter().map(|number| wanted[(number - first) as usize]));
    }
    Ok(all)
}

/// For each of `frames`, which ascend, the one whose idle bit speaks for it: its own or, in a huge page, that of the head; 0 = none does,
/// because only pages that the kernel has in its lists of what may be reclaimed are tracked.
pub(super) fn speakers(flags: &impl WordArray, frames: &[u64]) -> Result<Vec<u64>, Errno> {
    let words = words_at(flags, frames, GAP)?;
    let mut all: Vec<u64> = Vec::with_capacity(frames.len());
    let mut head = 0;
    for (i, (&frame, &word)) in frames.iter().zip(&words).enumerate() {
        // The tail frames of a page lie next to each other, after its head.
        let goes_on = i > 0 && frames[i - 1] + 1 == frame && head != 0;
        head = match () {
            () if word & TAIL == 0 && word & HEAD != 0 => frame,
            () if word & TAIL == 0 => 0,
            () if goes_on => head,
            () => head_of(flags, frame)?,
        };
        let speaks = match () {
            () if word & TAIL == 0 => word & LRU != 0,
            () if goes_on => all[i - 1] != 0,
            () => head != 0 && words_at(flags, &[head], 0)?[0] & LRU != 0,
        };
        all.push(match () {
            () if !speaks => 0,
            () if word & TAIL != 0 => head,
            () => frame,
        });
    }
    Ok(all)
}

/// The head of the huge page that a tail frame belongs to: huge pages are aligned to their size. 0 = it has been split meanwhile.
fn head_of(flags: &impl WordArray, frame: u64) -> Result<u64, Errno> {
    for order in 1..=ORDERS {
        let first = frame & !((1 << order) - 1);
        if first != frame && words_at(flags, &[first], 0)?[0] & HEAD != 0 {
            return Ok(first);
        }
    }
    Ok(0)
}

/// Marks these frames, which ascend, as idle. Answers from which frame on nothing was marked: those beyond the last whole word are not tracked.
pub(super) fn mark_idle(bits: &impl WordArray, frames: &[u64]) -> Result<u64, Errno> {
    let mut numbers: Vec<u64> = frames.iter().map(|frame| frame / 64).collect();
    numbers.dedup();
    let mut frames = frames.iter().peekable();
    for stretch in stretches(&numbers, 0) {
        let first = stretch[0];
        let mut words = vec![0; stretch.len()];
        while let Some(frame) = frames.next_if(|frame| **frame / 64 - first < stretch.len() as u64) {
            words[(frame / 64 - first) as usize] |= 1 << (frame % 64);
        }
        let taken = bits.write(first, &words)?;
        if taken < words.len() {
            return Ok((first + taken as u64) * 64);
        }
    }
    Ok(u64::MAX)
}

/// Whether these frames, which ascend, still are idle.
pub(super) fn still_idle(bits: &impl WordArray, frames: &[u64]) -> Result<Vec<bool>, Errno> {
    let mut numbers: Vec<u64> = frames.iter().map(|frame| frame / 64).collect();
    numbers.dedup();
    let words = words_at(bits, &numbers, 0)?;
    let mut at = 0;
    let idle = frames.iter().map(|frame| {
        while numbers[at] < frame / 64 {
            at += 1;
        }
        words[at] >> (frame % 64) & 1 == 1
    });
    Ok(idle.collect())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::rc::Rc;

    /// A played file, and the calls made: first word and number of words.
    #[derive(Clone, Default)]
    pub(in super::super) struct Played {
        pub(in super::super) words: Rc<RefCell<Vec<u64>>>,
        pub(in super::super) calls: Rc<RefCell<Vec<(u64, usize)>>>,
    }

    impl WordArray for Played {
        fn read(&self, first: u64, words: &mut [u64]) -> Result<usize, Errno> {
            self.calls.borrow_mut().push((first, words.len()));
            let all = self.words.borrow();
            let there = all.get(first as usize..).unwrap_or(&[]);
            let n = there.len().min(words.len());
            words[..n].copy_from_slice(&there[..n]);
            Ok(n)
        }

        fn write(&self, first: u64, words: &[u64]) -> Result<usize, Errno> {
            self.calls.borrow_mut().push((first, words.len()));
            let mut all = self.words.borrow_mut();
            let n = all.len().saturating_sub(first as usize).min(words.len());
            (0..n).for_each(|i| all[first as usize + i] |= words[i]); // "OR-ed with the current bitmap value"
            Ok(n)
        }
    }

    pub(in super::super) fn file(words: Vec<u64>) -> Played {
        Played { words: Rc::new(RefCell::new(words)), ..Played::default() }
    }

    #[test]
    fn a_pagemap_word_tells_the_frame_of_a_page_in_memory_and_no_swap_offset() {
        // As read on Linux 6.18 as root: exclusively mapped and soft-dirty; the same as `nobody` sees it; in swap; never touched.
        for (word, frame, present) in [
            (0x8180_0000_0007_a2c1, 0x7_a2c1, true),
            (0x8180_0000_0000_0000, 0, true),
            (0x4000_0000_0012_3460, 0, false),
            (0, 0, false),
        ] {
            assert_eq!((frame_of(word), is_present(word)), (frame, present), "{word:#x}");
        }
    }

    #[test]
    fn frames_are_marked_and_read_by_their_bit_with_one_call_for_neighbouring_words() {
        let bits = file(vec![0; 2000]);
        let frames = [1, 63, 64, 190, 700, 701, 64 * 600, 64 * 601 + 5];
        assert_eq!(mark_idle(&bits, &frames), Ok(u64::MAX));
        assert_eq!(*bits.calls.borrow(), [(0, 3), (10, 1), (600, 2)]);
        assert_eq!(bits.words.borrow()[0], 1 << 1 | 1 << 63);
        assert_eq!(bits.words.borrow()[1..3], [1, 1 << 62]);
        assert_eq!(bits.words.borrow()[10], 0b11 << 60);
        assert_eq!(bits.words.borrow()[601], 1 << 5);
        bits.words.borrow_mut()[10] &= !(1 << 61); // frame 701 was used
        assert_eq!(still_idle(&bits, &frames).unwrap(), [true, true, true, true, true, false, true, true]);
    }

    #[test]
    fn frames_beyond_the_last_word_are_not_marked_and_that_is_said() {
        let bits = file(vec![0; 2]);
        assert_eq!(mark_idle(&bits, &[5, 64, 127, 128, 300]), Ok(128));
        assert_eq!(*bits.words.borrow(), [1 << 5, 1 | 1 << 63]);
        assert_eq!(still_idle(&bits, &[5, 128]).unwrap(), [true, false]);
        assert_eq!(mark_idle(&bits, &[]), Ok(u64::MAX));
    }

    #[test]
    fn no_call_asks_for_more_than_a_page_of_words() {
        let flags = file((0..3000).map(|i| i * 7).collect());
        let numbers: Vec<u64> = (0..1500).map(|i| 2 * i).collect();
        let words = words_at(&flags, &numbers, 1).unwrap();
        assert!(words.iter().zip(&numbers).all(|(word, number)| *word == number * 7));
        assert!(flags.calls.borrow().iter().all(|(_, n)| *n <= CALL));
        assert_eq!(flags.calls.borrow().len(), 6);
    }

    #[test]
    fn the_head_speaks_for_all_frames_of_a_huge_page_and_nobody_for_what_is_not_tracked() {
        let mut words = vec![0; 2048];
        words[700] = LRU; // an ordinary page
        words[701] = 0; // one that is in no list yet
        words[1024] = HEAD | LRU; // 2 MiB
        words[1025..1536].fill(TAIL);
        words[1536] = HEAD; // 64 KiB, isolated by somebody
        words[1537..1552].fill(TAIL | LRU);
        words[1600] = TAIL; // of a page that has just been split
        let flags = file(words);
        let frames = [700, 701, 1024, 1025, 1300, 1301, 1535, 1536, 1537, 1551, 1600, 5000];
        assert_eq!(speakers(&flags, &frames).unwrap(), [700, 0, 1024, 1024, 1024, 1024, 1024, 0, 0, 0, 0, 0]);
    }
}
