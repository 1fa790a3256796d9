//! Batches: up to 512 pages to one node in one call, with back-off for pages that would not go.
//!
//! Zone: control. The state machine of a page:
//!
//! ```text
//!   wanted --move_pages--> Moved
//!      |                   Busy, Again, Other  --> back-off 0.5 s, doubling to 64 s --> wanted
//!      |                   Shared              --> all moves wait 1 s; for 30 s only pages mapped once are tried, the others backed off from
//!      |                   NoMemory            --> the caller lowers the node's budget
//!      |                   Absent, but pagemap says present --touch--> once more (a NUMA hint hides it on Linux 6.1)
//!      `-- statuses the kernel left untouched --> asked for their node --> Moved or Again
//! ```

use super::outcome::{Outcome, Stop, UNTOUCHED};
use crate::sys::uffd::{PAGEMAP_EXCLUSIVE, PAGEMAP_PRESENT};
use crate::sys::{Errno, numa, uffd};
use std::collections::HashMap;

/// Pages in one call: large enough that the fixed cost of a call vanishes, small enough to take well under 10 ms.
pub const BATCH: usize = 512;
#[cfg(test)]
const PAGE_BYTES: usize = 4096;
const FIRST_PAUSE: u64 = 500_000_000;
const DOUBLINGS: u8 = 7;
const SHARED_PAUSE: u64 = 1_000_000_000;
const SHARED_MEMORY: u64 = 30_000_000_000;
/// Most pages remembered as backing off.
const MOST_BACKING_OFF: usize = 1 << 16;

/// What the mover needs from the system; tests play the kernel.
pub trait PageMover {
    /// As [`numa::move_pages`].
    fn move_pages(
        &mut self,
        pages: &[usize],
        nodes: Option<&[i32]>,
        status: &mut [i32],
    ) -> Result<usize, Errno>;
    /// As [`uffd::touch`].
    fn touch(&mut self, page: usize) -> Result<(), Errno>;
    /// The pagemap word of a page, if it can be had.
    fn pagemap(&mut self, page: usize) -> Option<u64>;
}

/// The running kernel.
pub struct Linux;

impl PageMover for Linux {
    fn move_pages(
        &mut self,
        pages: &[usize],
        nodes: Option<&[i32]>,
        status: &mut [i32],
    ) -> Result<usize, Errno> {
        numa::move_pages(pages, nodes, status)
    }

    fn touch(&mut self, page: usize) -> Result<(), Errno> {
        uffd::touch(page)
    }

    fn pagemap(&mut self, page: usize) -> Option<u64> {
        let mut word = [0];
        (uffd::pagemap(page, &mut word) == Ok(1)).then_some(word[0])
    }
}

/// Pages waiting to be tried again.
#[derive(Default)]
struct BackOff {
    /// Failures so far, and until when to leave the page alone.
    pages: HashMap<usize, (u8, u64)>,
    swept: u64,
}

impl BackOff {
    fn blocked(&self, page: usize, now: u64) -> bool {
        self.pages.get(&page).is_some_and(|&(_, until)| now < until)
    }

    fn failed(&mut self, page: usize, now: u64) {
        if self.pages.len() >= MOST_BACKING_OFF && now >= self.swept + FIRST_PAUSE {
            self.swept = now;
            self.pages.retain(|_, &mut (_, until)| now < until);
        }
        if self.pages.len() < MOST_BACKING_OFF || self.pages.contains_key(&page) {
            let entry = self.pages.entry(page).or_insert((0, 0));
            entry.1 = now + (FIRST_PAUSE << entry.0.min(DOUBLINGS));
            entry.0 = entry.0.saturating_add(1);
        }
    }
}

/// The mover's state between batches.
#[derive(Default)]
pub struct Mover {
    back_off: BackOff,
    /// All moves wait until then.
    paused_until: u64,
    /// Until then a child process may share pages: only pages mapped once are tried.
    shared_until: u64,
    status: Vec<i32>,
    nodes: Vec<i32>,
    tried: Vec<usize>,
}

impl Mover {
    /// Whether moves are allowed at all just now.
    pub fn ready(&self, now: u64) -> bool {
        now >= self.paused_until
    }

    /// Whether this page is being backed off from.
    pub fn blocked(&self, page: usize, now: u64) -> bool {
        self.back_off.blocked(page, now)
    }

    /// Whether any page is being backed off from (to spare the look-ups).
    pub fn backs_off(&self) -> bool {
        !self.back_off.pages.is_empty()
    }

    /// Moves `pages` (at most [`BATCH`]) to `target` and reports each page once.
    pub fn run(
        &mut self,
        kernel: &mut dyn PageMover,
        pages: &[usize],
        target: u32,
        now: u64,
        each: &mut dyn FnMut(usize, Outcome),
    ) -> Result<(), Stop> {
        debug_assert!(pages.len() <= BATCH);
        let careful = now < self.shared_until;
        let mut tried = std::mem::take(&mut self.tried);
        tried.clear();
        for &page in pages {
            if careful && kernel.pagemap(page).is_some_and(|w| w & PAGEMAP_EXCLUSIVE == 0) {
                // Not at every tick: asking is a system call, and others wait behind it.
                self.back_off.failed(page, now);
                each(page, Outcome::Shared);
            } else {
                tried.push(page);
            }
        }
        let result = self.run_tried(kernel, &tried, target, now, each);
        self.tried = tried;
        result
    }

    fn run_tried(
        &mut self,
        kernel: &mut dyn PageMover,
        pages: &[usize],
        target: u32,
        now: u64,
        each: &mut dyn FnMut(usize, Outcome),
    ) -> Result<(), Stop> {
        if pages.is_empty() {
            return Ok(());
        }
        self.call(kernel, pages, target)?;
        let mut shared = 0;
        let statuses = std::mem::take(&mut self.status);
        for (&page, &status) in pages.iter().zip(&statuses) {
            let mut outcome = Outcome::of_status(status, target as i32).unwrap_or(Outcome::Again);
            if outcome == Outcome::Absent && kernel.pagemap(page).is_some_and(|w| w & PAGEMAP_PRESENT != 0) {
                outcome = self.retry_hidden(kernel, page, target);
            }
            match outcome {
                Outcome::Moved => {
                    self.back_off.pages.remove(&page);
                }
                Outcome::Busy | Outcome::Again | Outcome::Other(_) => self.back_off.failed(page, now),
                Outcome::Shared => shared += 1,
                Outcome::NoMemory | Outcome::Absent => {}
            }
            each(page, outcome);
        }
        self.status = statuses;
        if shared > 0 {
            self.shared_until = now + SHARED_MEMORY;
            if shared * 4 >= pages.len() {
                self.paused_until = now + SHARED_PAUSE;
            }
        }
        Ok(())
    }

    /// One system call; afterwards `self.status` has an answer for every page, unless even the query failed.
    fn call(&mut self, kernel: &mut dyn PageMover, pages: &[usize], target: u32) -> Result<(), Stop> {
        self.nodes.clear();
        self.nodes.resize(pages.len(), target as i32);
        self.status.clear();
        self.status.resize(pages.len(), UNTOUCHED);
        let mut out_of_memory = false;
        match kernel.move_pages(pages, Some(&self.nodes), &mut self.status) {
            Ok(_) => {}
            Err(Errno(e @ (libc::EPERM | libc::ENOSYS))) => return Err(Stop::Refused(e)),
            // The node is offline, has no memory, or lies outside the cpuset.
            Err(Errno(e @ (libc::ENODEV | libc::EACCES | libc::EINVAL))) => {
                return Err(Stop::NodeGone(target, e));
            }
            Err(Errno(libc::ENOMEM)) => out_of_memory = true,
            Err(_) => {}
        }
        let open: Vec<usize> = (0..pages.len()).filter(|&i| self.status[i] == UNTOUCHED).collect();
        if open.is_empty() {
            return Ok(());
        }
        let asked: Vec<usize> = open.iter().map(|&i| pages[i]).collect();
        let mut answer = vec![UNTOUCHED; asked.len()];
        if kernel.move_pages(&asked, None, &mut answer).is_ok() {
            for (&i, &status) in open.iter().zip(&answer) {
                let elsewhere = status >= 0 && status != target as i32;
                self.status[i] = if out_of_memory && elsewhere { -libc::ENOMEM } else { status };
            }
        }
        Ok(())
    }

    /// A page that is present but was answered `ENOENT`: let a read resolve the hint, and try once more.
    fn retry_hidden(&mut self, kernel: &mut dyn PageMover, page: usize, target: u32) -> Outcome {
        if kernel.touch(page).is_err() {
            return Outcome::Absent;
        }
        let mut status = [UNTOUCHED];
        match kernel.move_pages(&[page], Some(&[target as i32]), &mut status) {
            Ok(_) => Outcome::of_status(status[0], target as i32).unwrap_or(Outcome::Again),
            Err(Errno(libc::ENOMEM)) => Outcome::NoMemory,
            Err(_) => Outcome::Again,
        }
    }
}

#[cfg(test)]
mod tests;
