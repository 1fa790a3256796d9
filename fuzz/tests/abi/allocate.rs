//! Operations that allocate.

use super::block::{Block, check_zero};
use super::bytes::{hint_exists, is_possible, only_device};
use super::library::{Pointer, errno, set_errno};
use super::program::Program;
use super::release::UNTOUCHED;
use std::ptr;

/// What an allocation was to be.
pub(crate) struct Wanted {
    pub(crate) size: usize,
    pub(crate) align: usize,
    pub(crate) zero: bool,
    /// Whether there can be as much, at all.
    pub(crate) possible: bool,
    /// Names of what happened: got, and no memory.
    pub(crate) events: [&'static str; 2],
}

impl Wanted {
    pub(crate) fn new(size: usize, events: [&'static str; 2]) -> Wanted {
        Wanted { size, align: 1, zero: false, possible: is_possible(size), events }
    }
}

impl Program<'_> {
    /// Enters what an allocation returned, or looks whether it may be refused.
    pub(crate) fn got(&mut self, at: Pointer, wanted: &Wanted) {
        let errno = errno();
        if at.is_null() {
            assert_eq!(errno, libc::ENOMEM);
            assert!(!wanted.possible || self.short(), "{} bytes refused", wanted.size);
            self.model.note_size(wanted.events[1], wanted.size);
            return;
        }
        assert!(wanted.possible, "{} bytes cannot be had", wanted.size);
        assert_eq!(errno, UNTOUCHED, "an allocation that succeeds leaves errno alone");
        if wanted.zero {
            check_zero(at, wanted.size);
        }
        self.model.insert(Block::stamp(at, wanted.size, wanted.align, self.operations));
        self.model.note_size(wanted.events[0], wanted.size.max(wanted.align));
    }

    pub(crate) fn allocate(&mut self, code: usize) {
        let (lib, full) = (self.lib, self.model.is_full());
        // No precondition for any of the calls below but for posix_memalign's place, which is a local.
        match code {
            0..=29 => {
                let wanted = Wanted::new(self.bytes.size(full), ["malloc", "malloc: ENOMEM"]);
                let other = self.bytes.byte().is_multiple_of(8);
                set_errno(UNTOUCHED);
                // SAFETY: as above.
                let at = unsafe {
                    if other { (lib.__libc_malloc)(wanted.size) } else { (lib.malloc)(wanted.size) }
                };
                self.got(at, &wanted);
            }
            30..=45 => {
                let (count, size) = self.bytes.product(full);
                let bytes = count.checked_mul(size);
                let mut wanted = Wanted::new(bytes.unwrap_or(usize::MAX), ["calloc", "calloc: ENOMEM"]);
                wanted.zero = true;
                let hint = if code < 38 { 0 } else { self.bytes.hint() };
                self.hinted(hint, wanted, |way| {
                    // SAFETY: as above.
                    unsafe {
                        match (code, way) {
                            (30..=36, _) => (lib.calloc)(count, size),
                            (37, _) => (lib.__libc_calloc)(count, size),
                            _ => (lib.terrace_calloc)(count, size, hint),
                        }
                    }
                });
            }
            46..=57 => {
                let (size, hint) = (self.bytes.size(full), self.bytes.hint());
                let wanted = Wanted::new(size, ["terrace_malloc", "terrace_malloc: ENOMEM"]);
                // SAFETY: as above.
                self.hinted(hint, wanted, |_| unsafe { (lib.terrace_malloc)(size, hint) });
            }
            58..=85 => self.allocate_aligned(code),
            _ => self.construct(),
        }
    }

    /// An allocation with a hint: EINVAL if there is no such hint.
    pub(crate) fn hinted(&mut self, hint: u32, mut wanted: Wanted, call: impl FnOnce(u32) -> Pointer) {
        set_errno(UNTOUCHED);
        let at = call(hint);
        if !hint_exists(hint) {
            assert!(at.is_null() && errno() == libc::EINVAL, "hint {hint} does not exist");
            return self.model.note("hint: EINVAL");
        }
        if only_device(hint) {
            if !self.has_device {
                assert!(at.is_null() && errno() == libc::ENOMEM, "there is no device");
                return self.model.note("only device: ENOMEM");
            }
            wanted.possible &= !at.is_null();
        }
        self.got(at, &wanted);
    }

    pub(crate) fn allocate_aligned(&mut self, code: usize) {
        let (lib, full) = (self.lib, self.model.is_full());
        let (size, align) = (self.bytes.size(full), self.bytes.align());
        let page = page_bytes();
        let aligned = |size: usize, align: usize, events| {
            let mut wanted = Wanted::new(size, events);
            wanted.align = align;
            wanted.possible &= is_possible(align);
            wanted
        };
        set_errno(UNTOUCHED);
        let mut out = ptr::without_provenance_mut(0x5eed);
        // SAFETY: no precondition, but that `out` is a place for a pointer.
        unsafe {
            match code {
                58..=69 => {
                    let at = match code {
                        58..=62 => (lib.aligned_alloc)(align, size),
                        63..=65 => (lib.memalign)(align, size),
                        66 => (lib.__libc_memalign)(align, size),
                        _ => {
                            let hint = self.bytes.hint();
                            if align.is_power_of_two() {
                                let wanted =
                                    aligned(size, align, ["terrace_aligned_alloc", "aligned: ENOMEM"]);
                                return self.hinted(hint, wanted, |_| {
                                    (lib.terrace_aligned_alloc)(align, size, hint)
                                });
                            }
                            (lib.terrace_aligned_alloc)(align, size, hint)
                        }
                    };
                    if align.is_power_of_two() {
                        self.got(at, &aligned(size, align, ["aligned", "aligned: ENOMEM"]));
                    } else {
                        assert!(at.is_null() && errno() == libc::EINVAL, "{align} is no alignment");
                        self.model.note("aligned: EINVAL");
                    }
                }
                70..=79 => {
                    let other = code == 70;
                    let call = if other { lib.__posix_memalign } else { lib.posix_memalign };
                    let result = call(&raw mut out, align, size);
                    assert_eq!(errno(), UNTOUCHED, "posix_memalign leaves errno alone");
                    if result != 0 {
                        assert_eq!(out.addr(), 0x5eed, "posix_memalign that fails leaves the pointer alone");
                    }
                    if !align.is_power_of_two() || align < 8 {
                        assert_eq!(result, libc::EINVAL, "{align} is no alignment");
                        return self.model.note("posix_memalign: EINVAL");
                    }
                    assert!(result == 0 || result == libc::ENOMEM);
                    if result == libc::ENOMEM {
                        out = ptr::null_mut();
                        set_errno(libc::ENOMEM);
                    }
                    self.got(out, &aligned(size, align, ["posix_memalign", "posix_memalign: ENOMEM"]));
                }
                80..=82 => {
                    let at = if code == 80 { (lib.__libc_valloc)(size) } else { (lib.valloc)(size) };
                    self.got(at, &aligned(size, page, ["valloc", "valloc: ENOMEM"]));
                }
                _ => {
                    let at = if code == 83 { (lib.__libc_pvalloc)(size) } else { (lib.pvalloc)(size) };
                    let whole = size.checked_next_multiple_of(page).unwrap_or(usize::MAX);
                    self.got(at, &aligned(whole, page, ["pvalloc", "pvalloc: ENOMEM"]));
                }
            }
        }
    }

    /// operator new. Those that throw have nobody to catch it here, so they are asked for what can be had.
    pub(crate) fn construct(&mut self) {
        let (lib, way, align) = (self.lib, self.bytes.byte() % 8, 1usize << (self.bytes.byte() % 16));
        let nothrow = ptr::null_mut();
        let throws = way < 4;
        let size = match self.bytes.size(self.model.is_full()) {
            size if throws => size % (4 << 20),
            size => size,
        };
        if throws && self.short() {
            return;
        }
        let mut wanted = Wanted::new(size, ["operator new", "operator new: null"]);
        wanted.align = if way % 2 == 1 { align } else { 1 };
        set_errno(UNTOUCHED);
        // SAFETY: the size can be had, or the operator does not throw.
        let at = unsafe {
            match way {
                0 => (lib._Znwm)(size),
                1 => (lib._ZnwmSt11align_val_t)(size, align),
                2 => (lib._Znam)(size),
                3 => (lib._ZnamSt11align_val_t)(size, align),
                4 => (lib._ZnwmRKSt9nothrow_t)(size, nothrow),
                5 => (lib._ZnwmSt11align_val_tRKSt9nothrow_t)(size, align, nothrow),
                6 => (lib._ZnamRKSt9nothrow_t)(size, nothrow),
                _ => (lib._ZnamSt11align_val_tRKSt9nothrow_t)(size, align, nothrow),
            }
        };
        if at.is_null() {
            // operator new promises nothing about errno.
            set_errno(libc::ENOMEM);
        }
        self.got(at, &wanted);
    }
}

fn page_bytes() -> usize {
    // SAFETY: no memory is involved.
    unsafe { libc::sysconf(libc::_SC_PAGESIZE) }.unsigned_abs() as usize
}
