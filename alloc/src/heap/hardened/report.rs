//! What is said about a guarded block before the process dies: one line what happened, then who did, freed and allocated.
//!
//! Zone: cold; runs in a signal handler, with the stack that has. Addresses are printed as object and offset, as addr2line(1) takes them,
//! from `/proc/self/maps`: nothing is allocated, locked or loaded.

use super::pool::{Life, POOL, Slot, Trace, contains};
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sys::proc::{for_each_line, say};
use crate::sys::signal::Fault;
use core::cell::UnsafeCell;
use core::ptr;
use core::str;

/// How long the handler waits for the pool: its holder may be the thread that is reported on.
const PATIENCE_MS: u64 = 500;

/// Whether a refused access was to a guarded block; if so, reports it.
pub(super) fn on_fault(fault: Fault) -> bool {
    if !contains(fault.addr) {
        return false;
    }
    let taken = POOL.acquire_within(PATIENCE_MS);
    if !taken {
        say(format_args!("fault at {:#x}, in memory of guarded blocks", fault.addr));
        return true;
    }
    // SAFETY: this thread just took the lock, and keeps no reference past the release.
    let found = unsafe {
        let pool = POOL.peek_mut();
        let in_page = pool.slot_of(fault.addr).map(|(_, slot)| slot);
        let found = in_page.or_else(|| pool.nearest(fault.addr));
        POOL.release();
        found
    };
    let Some(slot) = found else { return false };
    // The page of a live block is open: what is refused there is not ours to explain.
    if slot.life == Life::Live && (slot.addr..slot.end()).contains(&fault.addr) {
        return false;
    }
    let access = match fault.write {
        Some(true) => "write to",
        Some(false) => "read of",
        None => "access to",
    };
    let (at, addr, size) = (fault.addr, slot.addr, slot.size);
    if slot.life != Life::Live {
        let offset = at.wrapping_sub(addr).cast_signed();
        say(format_args!(
            "use after free: {access} {at:#x}, {offset} bytes into a freed block of {size} at {addr:#x}"
        ));
    } else if at >= slot.end() {
        let past = at - slot.end();
        say(format_args!(
            "heap overflow: {access} {at:#x}, {past} bytes past the end of a block of {size} at {addr:#x}"
        ));
    } else {
        let before = addr - at;
        say(format_args!(
            "heap underflow: {access} {at:#x}, {before} bytes before a block of {size} at {addr:#x}"
        ));
    }
    let here = Trace::here();
    // Frames of the handler stand before the one that was interrupted.
    let frames = here.stack.frames();
    let first = frames.iter().position(|&frame| frame == fault.pc).unwrap_or(0);
    stack("accessed", here.thread, &frames[first..]);
    histories(&slot);
    true
}

/// Says what is wrong with a free and ends the process. `stray`: a byte beside the block that was written.
#[cold]
#[inline(never)]
pub(super) fn bad_free(addr: usize, slot: Option<Slot>, stray: Option<usize>, at: &Trace) -> ! {
    match (slot, stray) {
        (Some(slot), Some(stray)) if stray < slot.addr => say(format_args!(
            "heap underflow before {addr:#x}: {} bytes before a block of {} were written",
            addr - stray,
            slot.size
        )),
        (Some(slot), Some(stray)) => say(format_args!(
            "heap overflow past {addr:#x}: byte {} of a block of {} was written",
            stray - addr,
            slot.size
        )),
        (Some(slot), None) if slot.life != Life::Live && slot.addr == addr => {
            say(format_args!("double free of {addr:#x}"));
        }
        _ => say(format_args!("free of {addr:#x}: not the start of a block")),
    }
    stack("freed now", at.thread, at.stack.frames());
    if let Some(slot) = slot {
        histories(&slot);
    }
    // SAFETY: abort never returns and needs no state of ours.
    unsafe { libc::abort() }
}

/// Who freed and who allocated the block.
fn histories(slot: &Slot) {
    if slot.life != Life::Live {
        stack("freed", slot.freed.thread, slot.freed.stack.frames());
    }
    stack("allocated", slot.allocated.thread, slot.allocated.stack.frames());
}

/// Prints a stack, from the first frame outside this library on.
fn stack(what: &str, thread: u32, frames: &[usize]) {
    say(format_args!("{what} by thread {thread}:"));
    // Alone in the signal handler of one of two threads that fault at once; the other prints addresses.
    let alone = !BUSY.swap(true, Ordering::Acquire);
    let own = if alone { object_base(on_fault as fn(Fault) -> bool as usize) } else { None };
    let mut number = 0;
    for &frame in frames {
        let known = if alone { locate(frame) } else { None };
        let internal = known.as_ref().is_some_and(|object| object.library && Some(object.base) == own);
        if internal && number == 0 {
            continue;
        }
        match known {
            Some(object) => say(format_args!("  #{number} {}+{:#x}", object.path(), object.offset)),
            None => say(format_args!("  #{number} {frame:#x}")),
        }
        number += 1;
    }
    if number == 0 {
        say(format_args!("  (not known)"));
    }
    if alone {
        BUSY.store(false, Ordering::Release);
    }
}

/// What lies where, as far as one address goes.
struct Object {
    path: [u8; PATH],
    len: usize,
    /// Where the file's first byte is mapped.
    base: usize,
    /// The address as the file's symbols count.
    offset: usize,
    /// Whether it is position-independent and not the program itself.
    library: bool,
}

/// Most bytes kept of an object's path, its last ones.
const PATH: usize = 160;

impl Object {
    fn path(&self) -> &str {
        str::from_utf8(&self.path[..self.len]).unwrap_or("?")
    }
}

/// Whether `BUFFER` is in use.
static BUSY: AtomicBool = AtomicBool::new(false);

/// Room for lines of `/proc/self/maps`: more than a small signal stack has.
struct Buffer(UnsafeCell<[u8; 8192]>);

// SAFETY: used by the thread that set `BUSY` alone.
unsafe impl Sync for Buffer {}

static BUFFER: Buffer = Buffer(UnsafeCell::new([0; 8192]));

fn object_base(addr: usize) -> Option<usize> {
    locate(addr).map(|object| object.base)
}

/// The object that is mapped at `addr`. By the thread that set `BUSY`.
fn locate(addr: usize) -> Option<Object> {
    // SAFETY: `BUSY` is this thread's.
    let buffer = unsafe { &mut *BUFFER.0.get() };
    let mut object = Object { path: [0; PATH], len: 0, base: 0, offset: 0, library: false };
    let mut found = false;
    // SAFETY: getauxval only reads the auxiliary vector.
    let program = unsafe { libc::getauxval(libc::AT_PHDR) } as usize;
    for_each_line(c"/proc/self/maps", buffer, &mut |line| {
        let Some(map) = Mapping::parse(line) else { return true };
        if map.file_offset == 0 {
            (object.base, object.len) = (map.start, map.path.len().min(PATH));
            object.path[..object.len].copy_from_slice(&map.path[map.path.len() - object.len..]);
            // The program is where the program headers are that the kernel names.
            object.library = !(map.start..map.end).contains(&program);
        }
        found = (map.start..map.end).contains(&addr);
        !found
    });
    let named = object.len > 0 && object.path[0] != b'[';
    if !found || !named {
        return None;
    }
    // SAFETY: the first bytes of an object that is mapped from its beginning; the type is at offset 16.
    let kind = unsafe { ptr::with_exposed_provenance::<u16>(object.base + 16).read_volatile() };
    const ET_EXEC: u16 = 2;
    // The symbols of a program that is not position-independent count from 0, not from where it lies.
    object.offset = if kind == ET_EXEC { addr } else { addr - object.base };
    Some(object)
}

/// A line of `/proc/self/maps`.
struct Mapping<'a> {
    start: usize,
    end: usize,
    file_offset: usize,
    path: &'a [u8],
}

impl<'a> Mapping<'a> {
    /// `start-end perms offset device inode path`
    fn parse(line: &'a [u8]) -> Option<Self> {
        let mut words = line.split(|&b| b == b' ').filter(|word| !word.is_empty());
        let range = words.next()?;
        let dash = range.iter().position(|&b| b == b'-')?;
        let (start, end) = (hex(&range[..dash])?, hex(&range[dash + 1..])?);
        let file_offset = hex(words.nth(1)?)?;
        let path = line.iter().position(|&b| b == b'/' || b == b'[').map_or(&[][..], |at| &line[at..]);
        Some(Mapping { start, end, file_offset, path })
    }
}

fn hex(text: &[u8]) -> Option<usize> {
    usize::from_str_radix(str::from_utf8(text).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_maps_are_read_with_and_without_a_path() {
        let line = b"7f00a000-7f00c000 r-xp 00002000 fe:00 1234                       /lib/a file.so";
        let map = Mapping::parse(line).unwrap();
        assert_eq!((map.start, map.end, map.file_offset), (0x7f00_a000, 0x7f00_c000, 0x2000));
        assert_eq!(map.path, b"/lib/a file.so");
        assert_eq!(Mapping::parse(b"1000-2000 rw-p 00000000 00:00 0").unwrap().path, b"");
        assert!(Mapping::parse(b"junk").is_none());
    }

    #[test]
    fn an_address_of_this_program_is_found_in_it() {
        let here = an_address_of_this_program_is_found_in_it as fn() as usize;
        let object = locate(here).unwrap();
        assert!(!object.library && object.path().contains("terrace"), "{}", object.path());
        assert_eq!(object.offset, here - object.base);
        assert!(locate(8).is_none());
    }
}
