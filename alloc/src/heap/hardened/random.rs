//! Random numbers that an attacker who sees some of them cannot continue: SipHash of a counter under a key of the kernel's.
//!
//! Zone: cold. The key is drawn once per process and again in the child of a fork, which would otherwise make its parent's choices.

use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sys::{futex, proc};
use core::ptr;

static KEY: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];
/// What the bytes behind a block depend on. Constant, also over fork, where live blocks are inherited.
static CANARY: AtomicU64 = AtomicU64::new(0);

/// Draws the keys. Before anything else here; once per process.
pub(super) fn seed() {
    draw_key();
    CANARY.store(draw(u64::MAX, 0), Ordering::Relaxed);
}

/// Draws the key anew, in the child of a fork.
pub(super) fn reseed() {
    draw_key();
}

fn draw_key() {
    let mut bytes = [0u8; 16];
    if !proc::random(&mut bytes) {
        // The loader's random bytes are all there is then; the process's number and the time tell children apart.
        // SAFETY: AT_RANDOM is the address of 16 bytes that live as long as the process, or 0.
        unsafe {
            let at = libc::getauxval(libc::AT_RANDOM) as usize;
            if at != 0 {
                bytes = ptr::with_exposed_provenance::<[u8; 16]>(at).read_unaligned();
            }
        }
        let more = u64::from(futex::process_id()) << 32 ^ futex::now_ms();
        bytes.iter_mut().zip(more.to_ne_bytes()).for_each(|(byte, more)| *byte ^= more);
    }
    for (word, chunk) in KEY.iter().zip(bytes.chunks_exact(8)) {
        word.store(chunk.try_into().map_or(0, u64::from_ne_bytes), Ordering::Relaxed);
    }
}

/// Number `n` of `stream`.
pub(super) fn draw(stream: u64, n: u64) -> u64 {
    sip(KEY[0].load(Ordering::Relaxed), KEY[1].load(Ordering::Relaxed), [stream, n])
}

/// How many bytes behind a block are watched.
pub(super) const CANARY_BYTES: usize = 16;

/// The bytes behind a block at `addr`, none of which is zero: a string's terminator written too far must show.
pub(super) fn canary(addr: usize) -> [u8; CANARY_BYTES] {
    let mixed = (addr as u64 ^ CANARY.load(Ordering::Relaxed)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let word = u128::from(mixed ^ mixed >> 29 | 0x0101_0101_0101_0101);
    (word | word << 64).to_ne_bytes()
}

/// SipHash-2-4 of two words (Aumasson and Bernstein, 2012).
fn sip(k0: u64, k1: u64, message: [u64; 2]) -> u64 {
    let mut v = [
        k0 ^ 0x736f_6d65_7073_6575,
        k1 ^ 0x646f_7261_6e64_6f6d,
        k0 ^ 0x6c79_6765_6e65_7261,
        k1 ^ 0x7465_6462_7974_6573,
    ];
    // The last word is the length, 16, in the highest byte.
    for word in [message[0], message[1], 16 << 56] {
        v[3] ^= word;
        round(&mut v);
        round(&mut v);
        v[0] ^= word;
    }
    v[2] ^= 0xff;
    (0..4).for_each(|_| round(&mut v));
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

fn round(v: &mut [u64; 4]) {
    v[0] = v[0].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(13) ^ v[0];
    v[0] = v[0].rotate_left(32);
    v[2] = v[2].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(16) ^ v[2];
    v[0] = v[0].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(21) ^ v[0];
    v[2] = v[2].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(17) ^ v[2];
    v[2] = v[2].rotate_left(32);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The reference implementation's vector for the 16 bytes 00 01 … 0f under the key 00 01 … 0f.
    #[test]
    fn sip_is_siphash_2_4() {
        let word = |first: u8| u64::from_le_bytes(core::array::from_fn(|i| first + i as u8));
        assert_eq!(sip(word(0), word(8), [word(0), word(8)]), 0x3f2a_cc7f_57c2_9bdb);
    }

    #[test]
    fn no_byte_of_a_canary_is_zero_and_neighbours_differ() {
        seed();
        for addr in (0x1000_0000..0x1001_0000).step_by(16) {
            assert!(canary(addr).iter().all(|&byte| byte != 0));
            assert_ne!(canary(addr), canary(addr + 16));
        }
    }

    #[test]
    fn a_key_drawn_anew_gives_other_numbers() {
        seed();
        let before: [u64; 4] = core::array::from_fn(|n| draw(1, n as u64));
        reseed();
        assert_ne!(before, core::array::from_fn(|n| draw(1, n as u64)));
    }
}
