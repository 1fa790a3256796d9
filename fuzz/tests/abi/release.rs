//! Every way to give a block back or to resize it.

use super::block::Block;
use super::library::{Pointer, errno, library, set_errno};
use std::ptr;

/// A value of errno that no function sets.
pub(crate) const UNTOUCHED: i32 = 4242;

/// How many ways [`free`] knows.
pub(crate) const WAYS: usize = 20;

/// Frees the block in one of [`WAYS`], having looked whether it is whole; errno stays as it is.
pub(crate) fn free(block: Block, way: usize) {
    block.check();
    let (lib, at, size, align) = (library(), block.ptr(), block.size, block.align);
    let nothrow = ptr::null_mut();
    set_errno(UNTOUCHED);
    // SAFETY: the block is live, and forgotten after this; any of these frees any block.
    unsafe {
        match way % WAYS {
            0 => (lib.cfree)(at),
            1 => (lib.free_sized)(at, size),
            2 => (lib.free_aligned_sized)(at, align, size),
            3 => (lib.__libc_free)(at),
            4 => (lib.__libc_cfree)(at),
            5 => (lib.terrace_free)(at),
            6 => (lib._ZdlPv)(at),
            7 => (lib._ZdaPv)(at),
            8 => (lib._ZdlPvm)(at, size),
            9 => (lib._ZdaPvm)(at, size),
            10 => (lib._ZdlPvSt11align_val_t)(at, align),
            11 => (lib._ZdaPvSt11align_val_t)(at, align),
            12 => (lib._ZdlPvmSt11align_val_t)(at, size, align),
            13 => (lib._ZdaPvmSt11align_val_t)(at, size, align),
            14 => (lib._ZdlPvRKSt9nothrow_t)(at, nothrow),
            15 => (lib._ZdaPvRKSt9nothrow_t)(at, nothrow),
            16 => (lib._ZdlPvSt11align_val_tRKSt9nothrow_t)(at, align, nothrow),
            17 => (lib._ZdaPvSt11align_val_tRKSt9nothrow_t)(at, align, nothrow),
            _ => (lib.free)(at),
        }
    }
    assert_eq!(errno(), UNTOUCHED, "free, way {way}, changed errno");
}

/// What became of a block that was resized.
pub(crate) enum Resized {
    /// It is this block now.
    To(Block),
    /// It is as it was.
    Refused(Block),
    /// It is free.
    Freed,
}

/// Resizes `block` by `call`, which returns what realloc returns. `possible`: that much memory can be had. `short`: it may be refused.
pub(crate) fn resize(
    block: Block,
    size: usize,
    seed: u64,
    possible: bool,
    short: bool,
    call: impl FnOnce(Pointer) -> Pointer,
) -> Resized {
    block.check();
    set_errno(UNTOUCHED);
    let at = call(block.ptr());
    let errno = errno();
    if at.is_null() && size == 0 {
        assert_eq!(errno, UNTOUCHED, "a block that realloc frees is not a failure");
        return Resized::Freed;
    }
    if at.is_null() {
        assert_eq!(errno, libc::ENOMEM);
        assert!(!possible || short, "{block:?} refused {size} bytes");
        assert!(size > block.usable, "{block:?} not shrunk to {size} bytes");
        block.check();
        return Resized::Refused(block);
    }
    assert!(possible, "{size} bytes cannot be had");
    assert_eq!(errno, UNTOUCHED, "a realloc that succeeds leaves errno alone");
    block.check_prefix(at, block.usable.min(size));
    Resized::To(Block::stamp(at, size, 1, seed))
}
