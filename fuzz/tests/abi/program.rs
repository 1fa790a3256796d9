//! Runs a byte string as a program over the ABI, beside the model.

use super::block::{Block, check_zero};
use super::bytes::{Bytes, hint_exists, is_possible, only_device};
use super::library::{Library, Pointer, Stats, errno, library, set_errno};
use super::model::Model;
use super::release::{self, Resized, UNTOUCHED};
use super::workers::{Crew, Load, Pending};
use std::ptr;

/// How many operations other threads' work goes on beside.
const BESIDE: usize = 12;

pub(crate) struct Program<'a> {
    bytes: Bytes<'a>,
    pub(crate) model: Model,
    crew: &'a Crew,
    pending: Pending,
    /// Operations until the threads under way are waited for, and until calls stop failing; 0 = none under way.
    wait_in: usize,
    short_for: usize,
    lib: &'static Library,
    has_device: bool,
    pub(crate) operations: u64,
}

/// What an allocation was to be.
struct Wanted {
    size: usize,
    align: usize,
    zero: bool,
    /// Whether there can be as much, at all.
    possible: bool,
    /// Names of what happened: got, and no memory.
    events: [&'static str; 2],
}

impl Wanted {
    fn new(size: usize, events: [&'static str; 2]) -> Wanted {
        Wanted { size, align: 1, zero: false, possible: is_possible(size), events }
    }
}

impl<'a> Program<'a> {
    pub(crate) fn new(bytes: &'a [u8], crew: &'a Crew) -> Program<'a> {
        let lib = library();
        // SAFETY: a null array is only counted. After a program that failed, calls may still be failing.
        let has_device = unsafe {
            (lib.terrace_test_faults)(0, 0);
            (lib.terrace_tiers)(ptr::null_mut(), 0) > 1
        };
        Program {
            bytes: Bytes::new(bytes),
            model: Model::default(),
            crew,
            pending: Pending::default(),
            wait_in: 0,
            short_for: 0,
            lib,
            has_device,
            operations: 0,
        }
    }

    /// Runs to the end of the bytes, frees everything, and has the walkers look.
    pub(crate) fn run(&mut self) {
        // SAFETY: no precondition.
        let before = unsafe { (self.lib.terrace_test_live_blocks)() };
        while !self.bytes.is_empty() {
            self.operation();
            self.operations += 1;
            self.wait_in = self.wait_in.saturating_sub(1);
            if self.wait_in == 0 {
                self.wait();
            }
            if self.short_for == 1 {
                self.calls_succeed();
            }
            self.short_for = self.short_for.saturating_sub(1);
        }
        self.wait();
        self.calls_succeed();
        // SAFETY: no precondition.
        let live = unsafe { (self.lib.terrace_test_live_blocks)() };
        assert_eq!(live - before, self.model.len(), "blocks that the heap counts as live");
        self.walk(true);
        while let Some(block) = self.model.remove(self.model.len() / 2) {
            release::free(block, self.model.len());
            self.operations += 1;
        }
        // SAFETY: no precondition.
        assert_eq!(unsafe { (self.lib.terrace_test_live_blocks)() }, before, "blocks that nobody has");
        self.walk(true);
    }

    fn walk(&self, still: bool) {
        // SAFETY: no other thread is inside the library, if `still` says so.
        assert_eq!(
            unsafe { (self.lib.terrace_test_check)(still.into()) },
            0,
            "the walkers found a contradiction"
        );
    }

    fn short(&self) -> bool {
        self.short_for > 0
    }

    fn operation(&mut self) {
        let code = self.bytes.byte();
        match code {
            0..=95 => self.allocate(code),
            96..=127 => self.reallocate(code),
            128..=207 => {
                let way = code - 128;
                if let Some(block) = self.model.remove(self.bytes.short()) {
                    release::free(block, way);
                    self.model.note("free");
                }
            }
            208..=215 => self.free_many(),
            216..=223 => self.measure(),
            224..=231 => self.advise(),
            232..=239 => self.hand_over(),
            240..=243 => self.ask(code),
            244..=246 => self.nothing(),
            247 => self.fork(),
            248 | 249 => self.calls_fail(),
            250..=252 => {
                // SAFETY: no precondition.
                let gone = unsafe { (self.lib.malloc_trim)(0) };
                self.model.note(if gone == 1 { "trim: some" } else { "trim: none" });
            }
            253 => self.walk(false),
            _ => self.model.check_all(),
        }
    }

    /// Enters what an allocation returned, or looks whether it may be refused.
    fn got(&mut self, at: Pointer, wanted: &Wanted) {
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

    fn allocate(&mut self, code: usize) {
        let (lib, full) = (self.lib, self.model.is_full());
        // No precondition for any of the calls below but for posix_memalign's place, which is a local.
        match code {
            0..=29 => {
                let wanted = Wanted::new(self.bytes.size(full), ["malloc", "malloc: ENOMEM"]);
                let other = self.bytes.byte() % 8 == 0;
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
    fn hinted(&mut self, hint: u32, mut wanted: Wanted, call: impl FnOnce(u32) -> Pointer) {
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

    fn allocate_aligned(&mut self, code: usize) {
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
    fn construct(&mut self) {
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

    fn reallocate(&mut self, code: usize) {
        let (lib, full) = (self.lib, self.model.is_full());
        let old = if self.bytes.byte() < 16 { None } else { self.model.remove(self.bytes.short()) };
        let array = (112..=119).contains(&code);
        let (count, each) = if array { self.bytes.product(full) } else { (1, self.bytes.size(full)) };
        let hint = if code >= 120 { self.bytes.hint() } else { 0 };
        let product = count.checked_mul(each);
        let size = product.unwrap_or(usize::MAX);
        // SAFETY: null or a live block, which the model no longer has.
        let call = |at: Pointer| unsafe {
            match code {
                111 => (lib.__libc_realloc)(at, size),
                112..=119 => (lib.reallocarray)(at, count, each),
                120.. => (lib.terrace_realloc)(at, size, hint),
                _ => (lib.realloc)(at, size),
            }
        };
        let Some(old) = old else {
            let wanted = Wanted::new(size, ["realloc of null", "realloc of null: ENOMEM"]);
            return self.hinted(hint, wanted, |_| call(ptr::null_mut()));
        };
        if !hint_exists(hint) {
            set_errno(UNTOUCHED);
            assert!(call(old.ptr()).is_null() && errno() == libc::EINVAL, "hint {hint} does not exist");
            old.check();
            self.model.note("terrace_realloc: EINVAL");
            return self.model.insert(old);
        }
        let short = self.short() || only_device(hint);
        match release::resize(old, size, self.operations, is_possible(size), short, call) {
            Resized::Freed => self.model.note("realloc: freed"),
            Resized::Refused(block) => {
                self.model.insert(block);
                self.model.note("realloc: ENOMEM");
            }
            Resized::To(block) => {
                self.model.insert(block);
                let large = |size: usize| size > 256 << 10;
                let event = match (block.addr == old.addr, large(old.usable), large(size)) {
                    (true, false, _) => "realloc: in place",
                    (true, true, true) if size > old.usable => "realloc: large, grown in place",
                    (true, true, _) => "realloc: large, cut in place",
                    (false, false, false) => "realloc: moved",
                    (false, false, true) => "realloc: small to large",
                    (false, true, false) => "realloc: large to small",
                    (false, true, true) if old.usable >= 1 << 20 => "realloc: large, pages moved",
                    (false, true, true) => "realloc: large, bytes moved",
                };
                self.model.note_size(event, size);
            }
        }
    }

    fn free_many(&mut self) {
        let (count, first) = (self.bytes.byte() % 64, self.bytes.short());
        for i in 0..count {
            let Some(block) = self.model.remove(first.wrapping_add(i)) else { break };
            release::free(block, i);
        }
        self.model.note("free: many");
    }

    /// Usable sizes, of blocks and of null; errno stays as it is.
    fn measure(&mut self) {
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

    fn advise(&mut self) {
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
            assert!(
                expected.contains(&errno()) && (result == 0) == (errno() == UNTOUCHED),
                "advise {hint}: {}",
                errno()
            );
            // Its first bytes were written, so there is a page.
            let tier = (lib.terrace_tier_of)(block.ptr());
            assert!(tier >= 0 && tier < (lib.terrace_tiers)(ptr::null_mut(), 0), "tier {tier}");
            block.check();
            self.model.note(if result == 0 { "advise" } else { "advise: refused" });
        }
    }

    /// Some blocks go to other threads.
    fn hand_over(&mut self) {
        let (how, count, seed) = (self.bytes.byte(), self.bytes.byte() % 48, self.bytes.short() as u64);
        self.wait();
        let threads = 1 + how % 3;
        for thread in 0..threads {
            let blocks: Vec<Block> =
                (0..count / threads).map_while(|i| self.model.remove(i * 7 + seed as usize)).collect();
            let load = Load { blocks, seed: seed << 8 | thread as u64, short: self.short() };
            if how / 3 % 4 == 0 {
                self.pending.to_new_thread(load);
            } else {
                self.pending.to_worker(self.crew, thread, load);
            }
        }
        self.model.note(if how / 3 % 4 == 0 { "to new threads" } else { "to other threads" });
        self.wait_in = BESIDE;
    }

    /// Takes back what other threads have left.
    fn wait(&mut self) {
        for block in self.pending.wait(self.crew) {
            block.check();
            self.model.insert(block);
        }
    }

    /// Statistics: what is live by the library's count and by the model's.
    fn ask(&mut self, code: usize) {
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
    fn nothing(&mut self) {
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

    /// A forked child finds every block whole, and its heap too.
    fn fork(&mut self) {
        // SAFETY: the child ends in `_exit` and takes no lock of another thread's.
        match unsafe { libc::fork() } {
            0 => {
                let fine = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                    self.walk(false);
                    self.model.check_all();
                    while let Some(block) = self.model.remove(0) {
                        release::free(block, 99);
                    }
                    let wanted = Wanted::new(100_000, ["", ""]);
                    set_errno(UNTOUCHED);
                    // SAFETY: no precondition.
                    self.got(unsafe { (self.lib.malloc)(wanted.size) }, &wanted);
                    self.walk(false);
                }));
                // SAFETY: ends the child without running what the parent has registered.
                unsafe { libc::_exit(i32::from(fine.is_err())) }
            }
            child => {
                let mut status = 0;
                // SAFETY: `status` is a live int.
                assert!(child > 0 && unsafe { libc::waitpid(child, &raw mut status, 0) } == child);
                assert_eq!(status, 0, "a forked child found its heap broken");
                self.model.note("fork");
            }
        }
    }

    /// From now on some calls into the system fail.
    fn calls_fail(&mut self) {
        let (seed, one_in, length) = (self.bytes.short(), 2 + self.bytes.byte() % 24, self.bytes.byte());
        self.wait();
        // SAFETY: no precondition.
        unsafe { (self.lib.terrace_test_faults)(seed as u64, one_in as u64) };
        self.short_for = 2 + length;
        self.model.note("calls fail");
    }

    fn calls_succeed(&mut self) {
        self.wait();
        // SAFETY: no precondition.
        unsafe { (self.lib.terrace_test_faults)(0, 0) };
        self.short_for = 0;
    }
}

extern "C" fn append(context: Pointer, text: *const std::ffi::c_char, length: usize) {
    // SAFETY: the context is the vector that `ask` passes, and the text has that length.
    unsafe {
        (*context.cast::<Vec<u8>>()).extend_from_slice(std::slice::from_raw_parts(text.cast(), length))
    };
}

fn page_bytes() -> usize {
    // SAFETY: no memory is involved.
    unsafe { libc::sysconf(libc::_SC_PAGESIZE) }.unsigned_abs() as usize
}
