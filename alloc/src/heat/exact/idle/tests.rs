//! Idle bits on played files, and the probe on the running kernel.

use super::*;
use crate::heat::exact::frames::tests::{Played, file};

const LRU: u64 = 1 << 5;
const HEAD: u64 = 1 << 15;
const TAIL: u64 = 1 << 16;
const PRESENT: u64 = 1 << 63;
/// The part's first page.
const FIRST: usize = 100;

struct Fake {
    pagemap: Played,
    flags: Played,
    bits: Played,
    refuse: Option<Errno>,
}

impl Files for Fake {
    type Array = Played;
    fn pagemap(&self) -> Result<Played, Errno> {
        Ok(self.pagemap.clone())
    }
    fn page_flags(&self) -> Result<Played, Errno> {
        Ok(self.flags.clone())
    }
    fn idle_bits(&self) -> Result<Played, Errno> {
        self.refuse.map_or(Ok(self.bits.clone()), Err)
    }
    fn flush(&self) -> Result<(), Errno> {
        Ok(())
    }
    fn clock(&self) -> (u64, u64) {
        (0, 0)
    }
}

/// Pages from [`FIRST`] on that have these frames; 0 = not in memory.
fn kernel(frames: &[u64]) -> Frames<Fake> {
    let mut pagemap = vec![0; FIRST];
    pagemap.extend(frames.iter().map(|&f| if f == 0 { 0 } else { PRESENT | f }));
    let (flags, bits) = (file(vec![LRU; 4096]), file(vec![0; 64]));
    Frames::new(Fake { pagemap: file(pagemap), flags, bits, refuse: None })
}

fn part(pages: usize) -> Range<usize> {
    FIRST * PAGE_BYTES..(FIRST + pages) * PAGE_BYTES
}

fn use_frame(kernel: &Frames<Fake>, frame: u64) {
    kernel.files.bits.words.borrow_mut()[frame as usize / 64] &= !(1 << (frame % 64));
}

fn answers(kernel: &mut Frames<Fake>, pages: usize) -> Vec<Option<bool>> {
    let mut all = vec![None; pages];
    kernel
        .read(&part(pages), &mut |from, to, used| {
            assert_eq!(to - from, PAGE_BYTES);
            all[from / PAGE_BYTES - FIRST] = Some(used);
        })
        .unwrap();
    all
}

#[test]
fn frames_answer_for_their_pages_wherever_they_lie() {
    let mut kernel = kernel(&[700, 3, 0, 702, 64]);
    kernel.arm(&part(5), &part(5)).unwrap();
    use_frame(&kernel, 3);
    use_frame(&kernel, 702);
    assert_eq!(answers(&mut kernel, 5), [Some(false), Some(true), None, Some(true), Some(false)]);
    assert_eq!(kernel.read(&part(5), &mut |_, _, _| ()), Err(Errno(libc::ENOENT)), "no longer armed");
}

#[test]
fn a_page_that_moved_or_went_does_not_answer_and_one_that_came_was_used() {
    let mut kernel = kernel(&[700, 701, 0, 703]);
    kernel.arm(&part(4), &part(4)).unwrap();
    let change = |page: usize, word| kernel.files.pagemap.words.borrow_mut()[FIRST + page] = word;
    change(0, PRESENT | 900); // moved; the frame may be anybody's now
    change(1, 1 << 62 | 0x12340); // swapped out
    change(2, PRESENT | 700); // came in, and got the frame that was left
    assert_eq!(answers(&mut kernel, 4), [None, None, Some(true), Some(false)]);
}

#[test]
fn pages_that_cannot_be_marked_do_not_answer_and_the_head_answers_for_a_huge_page() {
    let mut kernel = kernel(&[5, 1024, 1025, 1026, 9000]);
    {
        let mut flags = kernel.files.flags.words.borrow_mut();
        flags[5] = 0; // in no list
        flags[1024] = HEAD | LRU;
        flags[1025..1536].fill(TAIL);
    }
    kernel.files.flags.words.borrow_mut().resize(9001, LRU); // a frame beyond the last idle bit
    kernel.arm(&part(5), &part(5)).unwrap();
    assert_eq!(kernel.files.bits.words.borrow()[16], 1, "the head alone was marked");
    assert_eq!(answers(&mut kernel, 5), [None, Some(false), Some(false), Some(false), None]);
    kernel.arm(&part(5), &part(5)).unwrap();
    use_frame(&kernel, 1024);
    assert_eq!(answers(&mut kernel, 5), [None, Some(true), Some(true), Some(true), None]);
}

#[test]
fn frames_that_are_withheld_and_a_bitmap_that_is_refused_are_errors() {
    let mut kernel = kernel(&[700, 701]);
    kernel.files.refuse = Some(Errno(libc::EACCES));
    assert_eq!(kernel.arm(&part(2), &part(2)), Err(Errno(libc::EACCES)));
    kernel.files.pagemap.words.borrow_mut()[FIRST..].fill(PRESENT);
    assert_eq!(kernel.arm(&part(2), &part(2)), Err(Errno(libc::EPERM)));
    kernel.files.pagemap.words.borrow_mut()[FIRST..].fill(0);
    kernel.files.refuse = None;
    assert_eq!(kernel.arm(&part(2), &part(2)), Ok(()), "nothing in memory is no error");
    assert_eq!(answers(&mut kernel, 2), [None, None]);
}

#[test]
fn the_probe_finds_idle_bits_or_says_why_not() {
    if let Err(why) = probe() {
        eprintln!("no idle page tracking on this machine: {why}");
        assert!(!why.is_empty());
    }
}

#[test]
fn each_way_to_have_no_idle_bits_has_its_reason() {
    for (e, why) in [
        (libc::ENOENT, "no idle page tracking"),
        (libc::EACCES, "superuser's (EACCES)"),
        (libc::EROFS, "bitmap: errno 30"),
    ] {
        assert!(why_no_bits(Errno(e)).contains(why), "{}", why_no_bits(Errno(e)));
    }
}
