//! Operations that ask about blocks and about the heap, and those that do nothing.

use super::bytes::{hint_exists, only_device};
use super::library::{Pointer, Stats, errno, pretends, set_errno};
use super::program::Program;
use super::release::UNTOUCHED;
use std::ptr;

impl Program<'_> {
    /// Usable sizes, of blocks and of null; errno stays as it is.
    pub(crate) fn measure(&mut self) {
        let Some(block) = self.model.get(self.bytes.short()) else {
            // SAFETY: null has a size of 0.
            let sizes = unsafe {
                [
                    (self.lib.malloc_usable_size)(ptr::null_mut()),
                    (self.lib.terrace_usable_size)(ptr::null_mut()),
                ]
            };
            assert_eq!(sizes, [0, 0]);
            return self.model.note("usable size of null");
        };
        set_errno(UNTOUCHED);
        // SAFETY: the block is live.
        let sizes = unsafe {
            [(self.lib.malloc_usable_size)(block.ptr()), (self.lib.terrace_usable_size)(block.ptr())]
        };
        assert_eq!((sizes, errno()), ([block.usable; 2], UNTOUCHED), "{block:?}");
        block.check();
        self.model.note("usable size");
    }

    pub(crate) fn advise(&mut self) {
        let (lib, hint, local) = (self.lib, self.bytes.hint(), 0u8);
        let stack: Pointer = (&raw const local).cast_mut().cast();
        // SAFETY: any address may be asked about.
        unsafe {
            assert_eq!(((lib.terrace_tier_of)(stack), errno()), (-1, libc::EINVAL));
            assert_eq!(((lib.terrace_advise)(stack, 1, 0), errno()), (-1, libc::EINVAL));
            let Some(block) = self.model.get(self.bytes.short()) else { return };
            let from = self.bytes.short() % block.usable;
            let len = 1 + self.bytes.short() * 64 % (block.usable - from);
            set_errno(UNTOUCHED);
            let result = (lib.terrace_advise)(block.ptr().byte_add(from), len, hint);
            let expected = match hint {
                _ if !hint_exists(hint) => [libc::EINVAL, libc::EINVAL],
                _ if only_device(hint) && !self.has_device => [libc::ENOMEM, libc::ENOMEM],
                _ if self.has_device => [UNTOUCHED, libc::ENOMEM],
                _ => [UNTOUCHED, UNTOUCHED],
            };
            let refused = self.has_device
                && (self.short() && errno() == libc::EPERM || pretends() && errno() == libc::ENODEV);
            assert!(
                (expected.contains(&errno()) || refused) && (result == 0) == (errno() == UNTOUCHED),
                "advise {hint}: {}",
                errno()
            );
            // Its first bytes were written, so there is a page.
            let tier = (lib.terrace_tier_of)(block.ptr());
            let refused = tier == -1 && self.has_device && self.short();
            assert!(refused || tier >= 0 && tier < (lib.terrace_tiers)(ptr::null_mut(), 0), "tier {tier}");
            block.check();
            self.model.note(if result == 0 { "advise" } else { "advise: refused" });
        }
    }

    /// Statistics: what is live by the library's count and by the model's.
    pub(crate) fn ask(&mut self, code: usize) {
        let lib = self.lib;
        self.wait();
        let mut stats = Stats { size: size_of::<Stats>(), ..Stats::default() };
        // SAFETY: the structure is as long as it says; the rest has no precondition.
        unsafe {
            match code {
                240 => {
                    assert_eq!((lib.terrace_stats_get)(&raw mut stats), 0);
                    assert_eq!(stats.live_blocks as usize, (lib.terrace_test_live_blocks)());
                    assert!(
                        stats.live_bytes as usize >= self.model.bytes(),
                        "{} live bytes",
                        stats.live_bytes
                    );
                    assert_eq!((lib.terrace_stats_get)(ptr::null_mut()), -1);
                }
                241 => {
                    let info = (lib.mallinfo2)();
                    assert!(info.uordblks >= self.model.bytes());
                    assert_eq!(info.uordblks.min(i32::MAX as usize), (lib.mallinfo)().uordblks as usize);
                }
                242 => {
                    let mut text: Vec<u8> = Vec::new();
                    assert_eq!((lib.terrace_stats_json)(Some(append), (&raw mut text).cast()), 0);
                    assert!(text.starts_with(b"{") && text.trim_ascii_end().ends_with(b"}"));
                    assert_eq!((lib.terrace_stats_json)(None, ptr::null_mut()), -1);
                }
                _ => {
                    assert_eq!((lib.mallopt)(libc::M_MMAP_THRESHOLD, 1 << 20), 1);
                    assert_eq!((lib.mallopt)(libc::M_PERTURB, 1), 0);
                    assert_eq!(libc::strlen((lib.terrace_version)()), env!("CARGO_PKG_VERSION").len());
                }
            }
        }
        self.model.note("statistics");
    }

    /// What does nothing: freeing null, in any way.
    pub(crate) fn nothing(&mut self) {
        set_errno(UNTOUCHED);
        let (lib, null) = (self.lib, ptr::null_mut());
        // SAFETY: null is no block, and all of these accept it.
        unsafe {
            (lib.free)(null);
            (lib.cfree)(null);
            (lib.terrace_free)(null);
            (lib.free_sized)(null, 1);
            (lib.free_aligned_sized)(null, 16, 1);
            (lib._ZdlPv)(null);
            (lib._ZdaPvm)(null, 3);
        }
        assert_eq!(errno(), UNTOUCHED);
        self.model.note("free of null");
    }
}

extern "C" fn append(context: Pointer, text: *const std::ffi::c_char, length: usize) {
    // SAFETY: the context is the vector that `ask` passes, and the text has that length.
    unsafe {
        (*context.cast::<Vec<u8>>()).extend_from_slice(std::slice::from_raw_parts(text.cast(), length));
    };
}
