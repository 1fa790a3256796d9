//! Blocks that know what they must contain, and a small deterministic generator, for the tests of this folder.

#![allow(dead_code, reason = "each test uses what it needs")]
#![allow(clippy::undocumented_unsafe_blocks, reason = "a block is live until freed")]

/// A small deterministic generator (xorshift64*).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Mostly small, sometimes up to 4 MiB.
    pub(crate) fn size(&mut self) -> usize {
        let bits = match self.next() % 100 {
            0 => 22,
            1..=3 => 18,
            4..=15 => 13,
            _ => 9,
        };
        (self.next() % (1 << bits)) as usize
    }
}

/// A block filled with a pattern that depends on its address and size.
#[derive(Clone, Copy)]
pub(crate) struct Block {
    at: usize,
    size: usize,
    seed: u8,
}

impl Block {
    pub(crate) fn new(at: *mut u8, size: usize, seed: u8) -> Block {
        assert!(!at.is_null());
        assert!(at.addr().is_multiple_of(16));
        let block = Block { at: at.expose_provenance(), size, seed };
        // The ends and a page-wise sample of large blocks: enough to find an overlap, quick enough to do it often.
        block.places().for_each(|i| unsafe { block.ptr().add(i).write(block.byte(i)) });
        block
    }

    pub(crate) fn ptr(&self) -> *mut u8 {
        std::ptr::with_exposed_provenance_mut(self.at)
    }

    pub(crate) fn size(&self) -> usize {
        self.size
    }

    fn byte(&self, i: usize) -> u8 {
        (self.at >> 4) as u8 ^ self.seed ^ i as u8
    }

    fn places(&self) -> impl Iterator<Item = usize> + use<> {
        let (size, step) = (self.size, if self.size > 1 << 20 { 4093 } else { 509 });
        (0..size.min(256)).chain((256..size).step_by(step)).chain(size.checked_sub(1))
    }

    pub(crate) fn check(&self) {
        self.check_prefix_at(self.ptr(), self.size);
    }

    /// Checks that the first `size` bytes of the block are at `at` now.
    pub(crate) fn check_prefix_at(&self, at: *mut u8, size: usize) {
        for i in self.places().filter(|&i| i < size) {
            assert_eq!(
                unsafe { at.add(i).read() },
                self.byte(i),
                "block {:#x} of {} bytes, byte {i}, at {at:?}",
                self.at,
                self.size
            );
        }
    }

    pub(crate) fn free(self) {
        self.check();
        unsafe { terrace::raw::free(self.ptr()) };
    }
}
