//! The tracker `writes`: asynchronous write protection, read and renewed by `PAGEMAP_SCAN`.
//!
//! Zone: control. Page-exact and cheap to read (12 to 36 ns a page), without privilege, from Linux 6.7; but blind to
//! reads, and each page's first write after a scan costs the program about 0.75 µs. The pause between scans is chosen
//! so that this stays below [`BURDEN`] of the program's time and the scan within the tracker's own duty.
//!
//! Beside a tracker that sees reads, an unwritten page is no evidence; alone, it is the only one there is.

use super::clock::{now_ns, thread_cpu_ns};
use super::duty::{Duty, Haste};
use super::map::{HeatMap, PAGE_BYTES, PAGES, Place};
use super::rate::Window;
use super::tracker::{Look, Polled, Tracker};
use crate::sys::uffd::{self, PageRun, WriteWatch};
use crate::sys::{Errno, mm};

/// Largest share of the program's time that the write faults may cost.
const BURDEN: f64 = 0.01;
/// What a program pays for the first write to a protected page, in ns.
const FAULT_NS: f64 = 750.0;
/// Bounds of the pause between scans.
const PAUSE: std::ops::RangeInclusive<u64> = 500_000_000..=10_000_000_000;

/// What the tracker needs from the system; tests play the kernel.
pub trait Kernel {
    /// Now, and the processor time this thread has used, both in ns.
    fn clock(&self) -> (u64, u64);
    /// Starts watching a range for good, or again where it was mapped anew.
    fn watch(&mut self, base: usize, bytes: usize) -> Result<(), Errno>;
    /// Reports and protects again what was written in `[start, end)`.
    fn written(&mut self, start: usize, end: usize, each: &mut dyn FnMut(PageRun)) -> Result<(), Errno>;
}

/// The running kernel.
pub struct Linux {
    watches: Vec<(usize, WriteWatch)>,
    runs: Vec<PageRun>,
}

impl Kernel for Linux {
    fn clock(&self) -> (u64, u64) {
        (now_ns(), thread_cpu_ns())
    }

    fn watch(&mut self, base: usize, bytes: usize) -> Result<(), Errno> {
        if let Some((_, watch)) = self.watches.iter().find(|(at, _)| *at == base)
            && watch.renew(base, bytes).is_ok()
        {
            return Ok(());
        }
        self.watches.retain(|(at, _)| *at != base);
        self.watches.push((base, uffd::watch_writes(base, bytes)?));
        Ok(())
    }

    fn written(&mut self, start: usize, end: usize, each: &mut dyn FnMut(PageRun)) -> Result<(), Errno> {
        uffd::written(start, end, &mut self.runs, each)
    }
}

/// Tries write protection on two pages of our own: one written, exactly one reported.
pub fn probe() -> Result<Linux, String> {
    let page = mm::page_bytes();
    if page != PAGE_BYTES {
        return Err(format!("pages are {page} bytes here, it works with {PAGE_BYTES} only"));
    }
    let mut linux = Linux { watches: Vec::new(), runs: vec![PageRun::default(); 512] };
    let test = mm::map(2 * page, mm::Access::ReadWrite).map_err(|e| format!("no address space: {e}"))?;
    let result = linux.try_on(test, page);
    linux.watches.clear();
    // SAFETY: mapped above, known to nobody else.
    unsafe { mm::unmap(test, 2 * page) };
    result.map(|()| linux)
}

impl Linux {
    fn try_on(&mut self, test: usize, page: usize) -> Result<(), String> {
        let poke = |addr: usize| {
            // SAFETY: both pages are ours.
            unsafe { core::ptr::with_exposed_provenance_mut::<u8>(addr).write_volatile(1) };
        };
        self.watch(test, 2 * page).map_err(|e| format!("userfaultfd with WP_ASYNC: {e}"))?;
        poke(test);
        poke(test + page);
        let scan = |linux: &mut Self| {
            let mut bytes = 0;
            linux
                .written(test, test + 2 * page, &mut |r| bytes += r.end - r.start)
                .map_err(|e| format!("PAGEMAP_SCAN: {e}"))?;
            Ok::<_, String>(bytes as usize / page)
        };
        let first = scan(self)?;
        poke(test + page);
        let second = scan(self)?;
        if (first, second) == (2, 1) {
            Ok(())
        } else {
            Err("PAGEMAP_SCAN does not tell written pages".into())
        }
    }
}

/// The tracker.
pub struct Writes<K> {
    kernel: K,
    reads_seen: bool,
    watched: Vec<usize>,
    scanned: u64,
    next: u64,
    duty: Duty,
}

impl<K: Kernel> Writes<K> {
    /// A tracker on a kernel that has been tried out; `reads_seen` = another tracker sees reads.
    /// `share` is what it may take of a core over time.
    pub fn new(kernel: K, reads_seen: bool, share: f64) -> Self {
        let duty = Duty::new(kernel.clock().0, share);
        Writes { kernel, reads_seen, watched: Vec::new(), scanned: 0, next: 0, duty }
    }

    fn scan(&mut self, map: &mut HeatMap, look: &Look<'_>) -> Result<u64, Errno> {
        let window = Window::new(look.now.saturating_sub(self.scanned));
        let first = self.scanned == 0;
        self.scanned = look.now;
        let mut pages = 0;
        let extents = map.extents_mut();
        let mut at = 0;
        while at < extents.len() {
            // One call for a run of neighbouring extents of one watched arena.
            let start = extents[at].view.base;
            let Some(arena) = look.arenas.iter().find(|a| (a.base..a.base + a.bytes).contains(&start)) else {
                at += 1;
                continue;
            };
            let mut to = at + 1;
            let stop = arena.base + arena.bytes;
            while to < extents.len()
                && extents[to].view.base == extents[to - 1].view.base + PAGES * PAGE_BYTES
                && extents[to].view.base < stop
            {
                to += 1;
            }
            let run = &mut extents[at..to];
            at = to;
            if !self.watched.contains(&arena.base) {
                continue;
            }
            let mut written = vec![[0u64; PAGES / 64]; run.len()];
            let mut note = |r: PageRun| {
                for page in (r.start as usize - start) / PAGE_BYTES..(r.end as usize - start) / PAGE_BYTES {
                    written[page / PAGES][page % PAGES / 64] |= 1 << (page % 64);
                    pages += 1;
                }
            };
            let end = start + run.len() * PAGES * PAGE_BYTES;
            match self.kernel.written(start, end, &mut note) {
                // The heap maps extents anew, and moves those of large blocks.
                Err(Errno(libc::EPERM)) => {
                    self.kernel.watch(arena.base, arena.bytes)?;
                    self.kernel.written(start, end, &mut note)?;
                }
                done => done?,
            }
            if first {
                continue; // everything counts as written since its birth
            }
            for (extent, bits) in run.iter_mut().zip(&written) {
                for i in 0..PAGES {
                    let there = extent.is_live(i) && extent.pages[i].place != Place::Absent;
                    if bits[i / 64] >> (i % 64) & 1 == 1 {
                        window.hit(&mut extent.pages[i].heat);
                    } else if there && !self.reads_seen {
                        window.miss(&mut extent.pages[i].heat);
                    }
                }
            }
        }
        Ok(pages)
    }
}

impl<K: Kernel> Tracker for Writes<K> {
    fn name(&self) -> &'static str {
        "writes"
    }

    fn poll(&mut self, map: &mut HeatMap, look: &Look<'_>) -> Result<Polled, Errno> {
        if look.now < self.next {
            return Ok(Polled { wake: self.next, ..Polled::default() });
        }
        let before = self.kernel.clock().1;
        for arena in look.arenas {
            if !self.watched.contains(&arena.base) {
                self.kernel.watch(arena.base, arena.bytes)?;
                self.watched.push(arena.base);
            }
        }
        let pages = self.scan(map, look)?;
        let cost = self.kernel.clock().1.saturating_sub(before);
        let burden = (pages as f64 * FAULT_NS / BURDEN) as u64;
        let haste = if look.unsettled { Haste::Hurry } else { Haste::Rest };
        let pause = self.duty.charge(look.now, cost, haste).max(burden);
        self.next = look.now + pause.clamp(*PAUSE.start(), *PAUSE.end());
        Ok(Polled { wake: self.next, answered: pages > 0, surprised: false, cost })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arena::{ArenaView, Pool};
    use crate::heat::played;

    #[derive(Default)]
    struct Fake {
        written: Vec<usize>,
        /// Mapped anew, and not watched since.
        anew: bool,
        /// It can never be watched again.
        lost: bool,
    }

    impl Kernel for Fake {
        fn clock(&self) -> (u64, u64) {
            (0, 0)
        }
        fn watch(&mut self, _: usize, _: usize) -> Result<(), Errno> {
            self.anew = self.lost;
            Ok(())
        }
        fn written(&mut self, s: usize, e: usize, each: &mut dyn FnMut(PageRun)) -> Result<(), Errno> {
            if self.anew {
                return Err(Errno(libc::EPERM));
            }
            for &a in self.written.iter().filter(|a| (s..e).contains(a)) {
                each(PageRun { start: a as u64, end: a as u64 + 4096, categories: 2 });
            }
            Ok(())
        }
    }

    fn arena() -> ArenaView {
        ArenaView {
            base: 8 << 21,
            bytes: 4 << 21,
            used: 2 << 21,
            pool: Pool::Default,
            bound: true,
            policy: None,
        }
    }

    fn polled(reads_seen: bool) -> HeatMap {
        let mut map = played::map_of(8..10);
        let fake = Fake { written: vec![(8 << 21) + 5 * 4096, (9 << 21) + 511 * 4096], ..Fake::default() };
        let mut tracker = Writes::new(fake, reads_seen, 0.03);
        let arenas = [arena()];
        let mut now = 1;
        for _ in 0..5 {
            let look = Look { now, arenas: &arenas, dram_share: 0.5, cut: 0, unsettled: true };
            now = tracker.poll(&mut map, &look).unwrap().wake;
        }
        map
    }

    #[test]
    fn alone_unwritten_pages_cool_and_written_ones_warm() {
        let map = polled(false);
        let (a, b) = (&map.extents()[0].pages, &map.extents()[1].pages);
        assert!(a[5].heat.run_of_hits(4) && b[511].heat.run_of_hits(4));
        assert!(!a[6].heat.at_work() && a[6].heat.seen() == 4);
        assert!(a[5].heat.rate > a[6].heat.rate);
    }

    #[test]
    fn beside_a_tracker_of_reads_an_unwritten_page_is_no_evidence() {
        let map = polled(true);
        assert_eq!(map.extents()[0].pages[6].heat.seen(), 0);
        assert_eq!(map.extents()[0].pages[5].heat.seen(), 4);
    }

    #[test]
    fn extents_that_were_mapped_anew_are_watched_again_and_only_a_second_refusal_is_the_end() {
        let mut map = played::map_of(8..10);
        let mut tracker = Writes::new(Fake { written: vec![8 << 21], ..Fake::default() }, false, 0.03);
        let arenas = [arena()];
        let mut now = 1;
        let mut poll = |tracker: &mut Writes<Fake>| {
            let look = Look { now, arenas: &arenas, dram_share: 0.5, cut: 0, unsettled: true };
            tracker.poll(&mut map, &look).map(|polled| now = polled.wake)
        };
        assert_eq!(poll(&mut tracker), Ok(()));
        tracker.kernel.anew = true;
        assert_eq!(poll(&mut tracker), Ok(()));
        (tracker.kernel.anew, tracker.kernel.lost) = (true, true);
        assert_eq!(poll(&mut tracker), Err(Errno(libc::EPERM)));
    }

    #[test]
    fn the_probe_finds_write_protection_or_says_why_not() {
        if let Err(why) = probe() {
            eprintln!("no write protection on this machine: {why}");
            assert!(!why.is_empty());
        }
    }
}
