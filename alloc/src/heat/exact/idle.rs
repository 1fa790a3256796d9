//! The tracker `idle`: idle page tracking, `/sys/kernel/mm/page_idle/bitmap` (kernel: admin-guide/mm/idle_page_tracking).
//!
//! Zone: control. Sees reads and writes, page by page, by the processor's accessed bits; a frame's bit is set to mark it idle and is cleared when
//! it is used. Needs the superuser: the frames of our pages are told to nobody else. Costs the program nothing, and us a walk of each page's
//! mappings to arm it and one to read it. Anybody may mark the same frames idle; who else does so takes answers from us.
//!
//! The kernel does not flush translations when it clears an accessed bit, and a cached one hides the next use; so they are flushed here. Of a huge
//! page only the head has a bit; it answers for all. Pages that are shared with a forked child answer for both.
//!
//! An answer is one of a page, not of a frame: a page that has another frame when it is read was moved, or given back and used again, and does not
//! answer. One that came into memory since it was to be armed was used.

use super::frames::{WordArray, frame_of, is_present, mark_idle, speakers, still_idle};
use super::{Exact, Kernel};
use crate::heat::clock::{now_ns, thread_cpu_ns};
use crate::heat::map::PAGE_BYTES;
use crate::sys::uffd::words::Words;
use crate::sys::{Errno, mm, uffd};
use std::ops::Range;

/// Pages of the probe. The kernel puts new pages into its lists by the dozen, and does not track the last few before that.
const PAGES: usize = 128;
/// So often the probe is tried: a page may be looked at by somebody else meanwhile.
const ATTEMPTS: u32 = 3;
/// Pages of the span by which translations are flushed.
const SPAN: usize = 64;

/// The tracker on the running kernel.
pub type Idle = Exact<Frames<Linux>>;

/// The files of the kernel's; tests play them.
pub trait Files {
    /// One of them, open.
    type Array: WordArray;
    /// Page table entries, by page.
    fn pagemap(&self) -> Result<Self::Array, Errno>;
    /// Flags, by frame.
    fn page_flags(&self) -> Result<Self::Array, Errno>;
    /// Idle bits, 64 frames a word.
    fn idle_bits(&self) -> Result<Self::Array, Errno>;
    /// Makes every processor forget its translations.
    fn flush(&self) -> Result<(), Errno>;
    /// Now, and the processor time this thread has used, both in ns.
    fn clock(&self) -> (u64, u64);
}

/// What is known of a page that is armed.
#[derive(Clone, Copy)]
struct Armed {
    /// The frame it had; 0 = it was not in memory.
    frame: u64,
    /// The frame whose bit answers for it; 0 = none does.
    speaker: u64,
}

/// The kernel, by frames.
pub struct Frames<F> {
    files: F,
    /// By the parts' first address.
    parts: Vec<(usize, Vec<Armed>)>,
}

impl<F: Files> Frames<F> {
    fn new(files: F) -> Self {
        Frames { files, parts: Vec::new() }
    }

    /// The pagemap words of a part; a page of which nothing is told is not in memory.
    fn words(&self, part: &Range<usize>) -> Result<Vec<u64>, Errno> {
        let mut words = vec![0; part.len() / PAGE_BYTES];
        self.files.pagemap()?.read((part.start / PAGE_BYTES) as u64, &mut words)?;
        // Who may no longer see frames cannot go on.
        if words.iter().any(|&w| is_present(w)) && words.iter().all(|&w| frame_of(w) == 0) {
            return Err(Errno(libc::EPERM));
        }
        Ok(words)
    }
}

impl<F: Files> Kernel for Frames<F> {
    fn name(&self) -> &'static str {
        "idle"
    }

    fn clock(&self) -> (u64, u64) {
        self.files.clock()
    }

    fn toll(&self) -> u64 {
        0
    }

    fn begin(&mut self) {
        self.parts.clear();
    }

    fn arm(&mut self, part: &Range<usize>, _: &Range<usize>) -> Result<(), Errno> {
        let words = self.words(part)?;
        let mut frames: Vec<u64> = words.iter().map(|&w| frame_of(w)).filter(|&frame| frame != 0).collect();
        frames.sort_unstable();
        frames.dedup();
        let speakers = speakers(&self.files.page_flags()?, &frames)?;
        let mut marked: Vec<u64> = speakers.iter().copied().filter(|&frame| frame != 0).collect();
        marked.sort_unstable();
        marked.dedup();
        let end = mark_idle(&self.files.idle_bits()?, &marked)?;
        self.files.flush()?;
        let armed = words.iter().map(|&word| {
            let frame = frame_of(word);
            let speaker = frames.binary_search(&frame).map_or(0, |i| speakers[i]);
            Armed { frame, speaker: if speaker < end { speaker } else { 0 } }
        });
        self.parts.push((part.start, armed.collect()));
        Ok(())
    }

    fn read(&mut self, part: &Range<usize>, each: &mut dyn FnMut(usize, usize, bool)) -> Result<(), Errno> {
        let Some(at) = self.parts.iter().position(|(start, _)| *start == part.start) else {
            return Err(Errno(libc::ENOENT));
        };
        let (_, armed) = self.parts.swap_remove(at);
        let words = self.words(part)?;
        let mut asked: Vec<u64> = armed.iter().map(|page| page.speaker).filter(|&frame| frame != 0).collect();
        asked.sort_unstable();
        asked.dedup();
        let idle = still_idle(&self.files.idle_bits()?, &asked)?;
        for (i, (page, &word)) in armed.iter().zip(&words).enumerate() {
            let frame = frame_of(word);
            let used = match () {
                () if frame == 0 => continue,
                () if page.frame == 0 => true,
                () if page.frame != frame => continue,
                () => match asked.binary_search(&page.speaker) {
                    Ok(i) => !idle[i],
                    Err(_) => continue,
                },
            };
            let from = part.start + i * PAGE_BYTES;
            each(from, from + PAGE_BYTES, used);
        }
        Ok(())
    }
}

/// The running kernel's files.
pub struct Linux {
    /// Private span for [`uffd::flush_translations`].
    span: usize,
}

impl Files for Linux {
    type Array = Words;

    fn pagemap(&self) -> Result<Words, Errno> {
        Words::pagemap()
    }

    fn page_flags(&self) -> Result<Words, Errno> {
        Words::page_flags()
    }

    fn idle_bits(&self) -> Result<Words, Errno> {
        Words::idle_bits()
    }

    fn flush(&self) -> Result<(), Errno> {
        uffd::flush_translations(self.span, PAGE_BYTES)
    }

    fn clock(&self) -> (u64, u64) {
        (now_ns(), thread_cpu_ns())
    }
}

impl Drop for Linux {
    fn drop(&mut self) {
        // SAFETY: the span is ours alone.
        unsafe { mm::unmap(self.span, SPAN * PAGE_BYTES) };
    }
}

/// Tries idle bits on pages of our own: every other one used, exact answers.
pub fn probe() -> Result<Frames<Linux>, String> {
    let page = mm::page_bytes();
    if page != PAGE_BYTES {
        return Err(format!("pages are {page} bytes here, it works with {PAGE_BYTES} only"));
    }
    Words::idle_bits().map_err(why_no_bits)?;
    Words::page_flags().map_err(|e| format!("/proc/kpageflags: {e}"))?;
    let map =
        |pages| mm::map(pages * page, mm::Access::ReadWrite).map_err(|e| format!("no address space: {e}"));
    let mut frames = Frames::new(Linux { span: map(SPAN)? });
    let test = map(PAGES)?;
    let mut tried = frames.try_on(test);
    for _ in 1..ATTEMPTS {
        tried = tried.or_else(|_| frames.try_on(test));
    }
    // SAFETY: mapped above, known to nobody else.
    unsafe { mm::unmap(test, PAGES * page) };
    tried.map(|()| frames)
}

/// Why the idle bits cannot be opened.
fn why_no_bits(e: Errno) -> String {
    match e.0 {
        libc::ENOENT => "this kernel has no idle page tracking (CONFIG_IDLE_PAGE_TRACKING)".into(),
        libc::EACCES | libc::EPERM => format!("the idle bitmap is the superuser's ({e})"),
        _ => format!("/sys/kernel/mm/page_idle/bitmap: {e}"),
    }
}

impl Frames<Linux> {
    fn try_on(&mut self, test: usize) -> Result<(), String> {
        // SAFETY: the pages are ours.
        let _ = unsafe { mm::no_huge_pages(test, PAGES * PAGE_BYTES) };
        let poke = |i: usize| {
            let page = core::ptr::with_exposed_provenance_mut::<u8>(test + i * PAGE_BYTES);
            // SAFETY: the page is ours.
            unsafe { page.write_volatile(1) };
        };
        (0..PAGES).for_each(poke);
        let range = test..test + PAGES * PAGE_BYTES;
        self.begin();
        self.arm(&range, &range).map_err(|e| match e.0 {
            libc::EPERM => "the numbers of page frames are withheld (needs CAP_SYS_ADMIN)".to_string(),
            _ => format!("idle page tracking: {e}"),
        })?;
        (0..PAGES).step_by(2).for_each(poke);
        let (mut answers, mut wrong) = (0, 0);
        self.read(&range, &mut |from, _, used| {
            answers += 1;
            wrong += usize::from(used != ((from - test) / PAGE_BYTES).is_multiple_of(2));
        })
        .map_err(|e| format!("idle page tracking: {e}"))?;
        match (answers, wrong) {
            (n, 0) if n >= PAGES / 4 => Ok(()),
            (n, 0) => Err(format!("of {PAGES} pages only {n} can be tracked")),
            (n, wrong) => Err(format!("{wrong} of {n} answers were wrong")),
        }
    }
}

#[cfg(test)]
mod tests;
