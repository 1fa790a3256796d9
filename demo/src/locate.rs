//! Where in a server's memory the values of given keys lie.
//!
//! The server itself tells the address of a key's object (`DEBUG OBJECT`, "Value at:0x…"); the object, 16 bytes
//! read through `/proc/PID/mem`, holds the address of the value; the value opens with its key's number
//! ([`keyspace::opens`]), and only an address where that is so counts as found. Values of 256 bytes and more are
//! always objects of their own ("raw" encoding).
//!
//! Looking costs heat: the server reads the value's first bytes, and so do we. Ask for a key seldom compared with
//! the load's own accesses, and read the placement right after.
//!
//! Zone: control (a program of its own).

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::keyspace;
use crate::outside::PAGE;
use crate::resp::{Client, Reply};

/// Commands in one pipeline.
const BATCH: usize = 64;

/// The pages, sorted and each once, that hold the values of `keys` in process `pid`, which `client` talks to.
/// Keys without a value, and those whose value moved while we looked, are left out.
///
/// # Errors
/// When the server does not answer or its memory cannot be read at all.
pub fn pages_of_values(client: &mut Client, pid: i32, keys: &[usize]) -> io::Result<Vec<usize>> {
    let memory = File::open(format!("/proc/{pid}/mem"))?;
    let mut pages = Vec::new();
    for batch in keys.chunks(BATCH) {
        for key in batch {
            client.queue(&[b"DEBUG", b"OBJECT", &keyspace::name(*key)]);
        }
        client.send()?;
        for key in batch {
            let object = match client.reply() {
                Ok(Reply::Bytes(line)) => object_address(line),
                Ok(Reply::Nil) => None,
                // "ERR no such key"
                Err(e) if e.kind() == io::ErrorKind::InvalidData => None,
                Err(e) => return Err(e),
            };
            let Some(value) = object.and_then(|o| value_address(&memory, o)) else { continue };
            let mut head = [0u8; keyspace::HEADER_BYTES];
            if memory.read_exact_at(&mut head, value as u64).is_ok() && keyspace::opens(*key, &head) {
                let last = value + keyspace::value_len(*key) - 1;
                pages.extend((value / PAGE..=last / PAGE).map(|p| p * PAGE));
            }
        }
    }
    pages.sort_unstable();
    pages.dedup();
    Ok(pages)
}

/// Reads "Value at:0x7f12 refcount:1 …".
fn object_address(line: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(line).ok()?;
    let word = text.split_whitespace().find_map(|w| w.strip_prefix("at:0x"))?;
    usize::from_str_radix(word, 16).ok()
}

/// Reads the third word of an object: `struct { type and clock: 4 bytes; refcount: 4; void *value }`.
fn value_address(memory: &File, object: usize) -> Option<usize> {
    let mut bytes = [0u8; 16];
    memory.read_exact_at(&mut bytes, object as u64).ok()?;
    Some(usize::from_le_bytes(bytes[8..].try_into().expect("8 bytes")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_found_in_the_answer() {
        let line =
            b"Value at:0x7fdc7160d2c0 refcount:1 encoding:raw serializedlength:301 lru:1 lru_seconds_idle:0";
        assert_eq!(object_address(line), Some(0x7fdc_7160_d2c0));
        assert_eq!(object_address(b"OK"), None);
    }
}
