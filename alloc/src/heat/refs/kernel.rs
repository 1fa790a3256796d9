//! The kernel's side of accessed bits: what the tracker asks of it, and the probe that tries it out.
//!
//! Zone: control.

use super::layout::Variant;
use super::smaps::{Mapping, Parser};
use crate::heat::clock::{now_ns, thread_cpu_ns};
use crate::sys::numa::{MPOL_BIND, MPOL_F_STATIC_NODES, NodeMask, mbind, mems_allowed};
use crate::sys::{Errno, mm, uffd};

/// Most mappings this tracker makes, unless the system allows fewer.
const MOST_SEGMENTS: usize = 8192;

/// A memory policy as mbind(2) takes it: mode and nodes.
pub type Policy = (u32, NodeMask);

/// What the tracker needs from the system; tests play the kernel.
pub trait Kernel {
    /// Now, and the processor time this thread has used, both in ns.
    fn clock(&self) -> (u64, u64);
    /// Forgets all references of the process.
    fn clear(&mut self) -> Result<(), Errno>;
    /// Calls `each(mapping, now)` for the mappings below `until`, by ascending address, until it answers `false`.
    fn mappings(&mut self, until: usize, each: &mut dyn FnMut(&Mapping, u64) -> bool) -> Result<(), Errno>;
    /// Whether it has the three functions below, which let a round go through the heap part by part.
    fn has_parts(&self) -> bool {
        false
    }
    /// Forgets the references of `[from, to)`.
    fn clear_part(&mut self, _from: usize, _to: usize) -> Result<(), Errno> {
        Err(Errno(libc::ENOSYS))
    }
    /// As [`Kernel::mappings`]: from the first one on if `again`, else from where the last call ended.
    fn mappings_on(
        &mut self,
        _again: bool,
        _until: usize,
        _each: &mut dyn FnMut(&Mapping, u64) -> bool,
    ) -> Result<(), Errno> {
        Err(Errno(libc::ENOSYS))
    }
    /// Waits for so many ns.
    fn pause(&mut self, _ns: u64) {}
    /// Gives `[from, to)` this policy or its twin, which means the same.
    fn set(&mut self, policy: &Policy, from: usize, to: usize, variant: Variant) -> Result<(), Errno>;
    /// Most mappings to make.
    fn most_segments(&self) -> usize;
}

/// The running kernel.
pub struct Linux {
    parser: Parser,
    buf: Vec<u8>,
    /// What is being read; `None` at its end.
    file: Option<uffd::Smaps>,
    /// When it was read last, and a mapping read then that nobody has asked for yet.
    read_at: u64,
    early: Option<Mapping>,
    /// Whether the kernel forgets references of parts of the address space.
    parts: bool,
    /// Private span for [`uffd::flush_translations`].
    span: usize,
    most: usize,
}

/// Tries accessed bits on two pages of our own: two mappings that do not merge, one page touched, exact answers.
pub fn probe() -> Result<Linux, String> {
    let page = mm::page_bytes();
    if page != 4096 {
        return Err(format!("pages are {page} bytes here, it works with 4096 only"));
    }
    let span = mm::map(64 * page, mm::Access::ReadWrite).map_err(|e| format!("no address space: {e}"))?;
    let most = max_map_count().map_or(MOST_SEGMENTS, |n| MOST_SEGMENTS.min(n / 4));
    let mut linux = Linux {
        parser: Parser::default(),
        buf: vec![0; 32 << 10],
        file: None,
        read_at: 0,
        early: None,
        parts: false,
        span,
        most,
    };
    linux.try_out().inspect_err(|_| {
        // SAFETY: the span was mapped above and is known to nobody else.
        unsafe { mm::unmap(span, 64 * page) };
    })?;
    Ok(linux)
}

impl Linux {
    fn try_out(&mut self) -> Result<(), String> {
        let page = mm::page_bytes();
        let test = mm::map(2 * page, mm::Access::ReadWrite).map_err(|e| format!("no address space: {e}"))?;
        let result = self.try_on(test, page);
        // SAFETY: mapped above, known to nobody else.
        unsafe { mm::unmap(test, 2 * page) };
        result
    }

    fn try_on(&mut self, test: usize, page: usize) -> Result<(), String> {
        let allowed = mems_allowed().map_err(|e| format!("get_mempolicy: {e}"))?;
        mbind(test, page, MPOL_BIND, &allowed, 0).map_err(|e| format!("mbind: {e}"))?;
        mbind(test + page, page, MPOL_BIND | MPOL_F_STATIC_NODES, &allowed, 0)
            .map_err(|e| format!("mbind with static nodes: {e}"))?;
        let poke = |addr: usize| {
            // SAFETY: both pages are ours.
            unsafe { core::ptr::with_exposed_provenance_mut::<u8>(addr).write_volatile(1) };
        };
        poke(test);
        poke(test + page);
        self.clear().map_err(|e| format!("/proc/self/clear_refs: {e}"))?;
        poke(test + page);
        let range = test..test + 2 * page;
        match self.seen_in(&range)?[..] {
            [0, 4] => {}
            [_, _] => return Err("the processor's accessed bits are not visible in smaps".into()),
            _ => return Err("the kernel merges mappings with different memory policies".into()),
        }
        poke(test);
        self.parts = uffd::clear_refs_of(test + page, page).is_ok() && self.seen_in(&range)? == [4, 0];
        Ok(())
    }

    /// KiB that were referenced of each mapping in `range`.
    fn seen_in(&mut self, range: &std::ops::Range<usize>) -> Result<Vec<u32>, String> {
        let mut seen = Vec::new();
        self.mappings(range.end, &mut |m, _| {
            if range.contains(&m.start) {
                seen.push(m.referenced_kb);
            }
            true
        })
        .map_err(|e| format!("/proc/self/smaps: {e}"))?;
        Ok(seen)
    }
}

impl Drop for Linux {
    fn drop(&mut self) {
        // SAFETY: the span is ours alone.
        unsafe { mm::unmap(self.span, 64 * mm::page_bytes()) };
    }
}

impl Kernel for Linux {
    fn clock(&self) -> (u64, u64) {
        (now_ns(), thread_cpu_ns())
    }

    fn clear(&mut self) -> Result<(), Errno> {
        uffd::clear_refs()?;
        uffd::flush_translations(self.span, mm::page_bytes())
    }

    fn mappings(&mut self, until: usize, each: &mut dyn FnMut(&Mapping, u64) -> bool) -> Result<(), Errno> {
        let done = self.mappings_on(true, until, each);
        self.file = None;
        done
    }

    fn has_parts(&self) -> bool {
        self.parts
    }

    fn clear_part(&mut self, from: usize, to: usize) -> Result<(), Errno> {
        uffd::clear_refs_of(from, to - from)
    }

    fn mappings_on(
        &mut self,
        again: bool,
        until: usize,
        each: &mut dyn FnMut(&Mapping, u64) -> bool,
    ) -> Result<(), Errno> {
        if again {
            self.parser.restart();
            (self.file, self.early) = (Some(uffd::Smaps::open()?), None);
        }
        let Some(file) = &mut self.file else { return Ok(()) };
        if !file.is_open() {
            return Err(Errno(libc::EBADF));
        }
        let mut early = self.early.take();
        let mut ended = false;
        let mut take = |m: Mapping, now: u64, early: &mut Option<Mapping>| {
            if m.start >= until {
                *early = Some(m);
                return false;
            }
            each(&m, now) && m.end < until
        };
        if let Some(m) = early.take() {
            ended = !take(m, self.read_at, &mut early);
        }
        // First what was read beyond the end of the last call.
        let (parser, mut now) = (&mut self.parser, self.read_at);
        ended = ended || !parser.feed(&[], &mut |m| take(m, now, &mut early));
        while !ended {
            let n = file.read(&mut self.buf)?;
            if n == 0 {
                self.file = None;
                break;
            }
            now = now_ns();
            ended = !parser.feed(&self.buf[..n], &mut |m| take(m, now, &mut early));
        }
        (self.read_at, self.early) = (now, early);
        Ok(())
    }

    fn pause(&mut self, ns: u64) {
        std::thread::sleep(std::time::Duration::from_nanos(ns));
    }

    fn set(&mut self, policy: &Policy, from: usize, to: usize, variant: Variant) -> Result<(), Errno> {
        let mode = if variant { policy.0 ^ MPOL_F_STATIC_NODES } else { policy.0 };
        mbind(from, to - from, mode, &policy.1, 0)
    }

    fn most_segments(&self) -> usize {
        self.most
    }
}

fn max_map_count() -> Option<usize> {
    let mut buf = [0; 32];
    let n = crate::sys::proc::read_file(c"/proc/sys/vm/max_map_count", &mut buf).ok()?;
    std::str::from_utf8(&buf[..n]).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_probe_finds_accessed_bits_or_says_why_not() {
        match probe() {
            Ok(linux) => assert!((1000..=MOST_SEGMENTS).contains(&linux.most_segments())),
            Err(why) => {
                eprintln!("no accessed bits on this machine: {why}");
                assert!(!why.is_empty());
            }
        }
    }
}
