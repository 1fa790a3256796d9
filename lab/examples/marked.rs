//! A guest program with marks: 10,000 stores to memory in Terrace's window of addresses, for the access counter to find.
//!
//! `cargo build -p lab --example marked && cargo run -p lab -- --count --file target/debug/examples/marked -- ./marked`

use lab::HEAP_WINDOW;
use lab::marks::mark;
use std::io;
use std::ptr;

const WORDS: usize = 10_000;

fn main() -> io::Result<()> {
    let want = ptr::without_provenance_mut(HEAP_WINDOW.start as usize);
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
    // SAFETY: a new private mapping; MAP_FIXED_NOREPLACE fails rather than replace anything.
    let at = unsafe { libc::mmap(want, WORDS * 8, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
    if at == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    let words: *mut u64 = at.cast();
    mark::<1>();
    for i in 0..WORDS {
        // SAFETY: the mapping holds WORDS words and nothing else uses it.
        unsafe { words.add(i).write_volatile(i as u64) };
    }
    mark::<2>();
    println!("marked: {WORDS} stores");
    Ok(())
}
