//! Runs a byte string as a program over the ABI, beside the model.

use super::allocate::Wanted;
use super::block::Block;
use super::bytes::{Bytes, hint_exists, is_possible, only_device};
use super::library::{Library, Pointer, errno, library, pretends, set_errno};
use super::model::Model;
use super::release::{self, Resized, UNTOUCHED};
use super::workers::{Crew, Load, Pending};
use std::ptr;

/// How many operations other threads' work goes on beside.
const BESIDE: usize = 12;

pub(crate) struct Program<'a> {
    pub(crate) bytes: Bytes<'a>,
    pub(crate) model: Model,
    crew: &'a Crew,
    pending: Pending,
    /// Operations until the threads under way are waited for, and until calls stop failing; 0 = none under way.
    wait_in: usize,
    short_for: usize,
    pub(crate) lib: &'static Library,
    pub(crate) has_device: bool,
    pub(crate) operations: u64,
}

impl<'a> Program<'a> {
    pub(crate) fn new(bytes: &'a [u8], crew: &'a Crew) -> Program<'a> {
        let lib = library();
        // SAFETY: a null array is only counted. After a program that failed, calls may still be failing.
        let has_device = unsafe {
            (lib.terrace_test_faults)(0, 0);
            (lib.terrace_tiers)(ptr::null_mut(), 0) > 1 || pretends()
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
        let found = unsafe { (self.lib.terrace_test_check)(still.into()) };
        assert_eq!(found, 0, "the walkers found a contradiction");
    }

    pub(crate) fn short(&self) -> bool {
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
        // A block that is on the device or nowhere may have nowhere to grow.
        let short = self.short() || self.has_device || only_device(hint);
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

    /// Some blocks go to other threads.
    fn hand_over(&mut self) {
        let (how, count, seed) = (self.bytes.byte(), self.bytes.byte() % 48, self.bytes.short() as u64);
        self.wait();
        let threads = 1 + how % 3;
        for thread in 0..threads {
            let blocks: Vec<Block> =
                (0..count / threads).map_while(|i| self.model.remove(i * 7 + seed as usize)).collect();
            let load =
                Load { blocks, seed: seed << 8 | thread as u64, short: self.short() || self.has_device };
            if how / 3 % 4 == 0 {
                self.pending.give_to_new_thread(load);
            } else {
                self.pending.give_to_worker(self.crew, thread, load);
            }
        }
        self.model.note(if how / 3 % 4 == 0 { "to new threads" } else { "to other threads" });
        self.wait_in = BESIDE;
    }

    /// Takes back what other threads have left.
    pub(crate) fn wait(&mut self) {
        for block in self.pending.wait(self.crew) {
            block.check();
            self.model.insert(block);
        }
    }

    /// A forked child finds every block whole, and its heap too.
    fn fork(&mut self) {
        // SAFETY: the child ends in `_exit` and takes no lock of another thread's.
        match unsafe { libc::fork() } {
            0 => {
                // A child that hangs must not hang the test.
                // SAFETY: no memory is involved.
                unsafe { libc::alarm(30) };
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
