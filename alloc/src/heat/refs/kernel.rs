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
    /// Gives `[from, to)` this policy or its twin, which means the same.
    fn set(&mut self, policy: &Policy, from: usize, to: usize, variant: Variant) -> Result<(), Errno>;
    /// Most mappings to make.
    fn most_segments(&self) -> usize;
}

/// The running kernel.
pub struct Linux {
    parser: Parser,
    buf: Vec<u8>,
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
    let mut linux = Linux { parser: Parser::default(), buf: vec![0; 32 << 10], span, most };
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
        let mut seen = Vec::new();
        self.mappings(test + 2 * page, &mut |m, _| {
            if m.start >= test && m.start < test + 2 * page {
                seen.push(*m);
            }
            true
        })
        .map_err(|e| format!("/proc/self/smaps: {e}"))?;
        match seen[..] {
            [a, b] if a.referenced_kb == 0 && b.referenced_kb == 4 => Ok(()),
            [_, _] => Err("the processor's accessed bits are not visible in smaps".into()),
            _ => Err("the kernel merges mappings with different memory policies".into()),
        }
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
        self.parser.restart();
        let parser = &mut self.parser;
        uffd::read_smaps(&mut self.buf, &mut |piece| {
            let now = now_ns();
            parser.feed(piece, &mut |m| m.start < until && each(&m, now) && m.end < until)
        })
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
