//! What surrounds the heap in a model: the scheduler's steps, threads that end, and a book of what the application holds.
//!
//! All threads of a model are coroutines of one thread of the system, so the world is one thread-local value and needs no locks. A
//! borrow of it never lasts across a step.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr;
use std::time::Duration;

use shuttle::current::me;
use shuttle::rand::{Rng, thread_rng};
use shuttle::sync::mpsc;
use std::sync::atomic::Ordering;
use terrace::arena::Pool;
use terrace::model::{self, Died, Hooks};
use terrace::{model_driver as driver, raw};

use crate::memory::{Memory, View};

/// Bytes of an arena: 32 extents, few enough to look at each.
const ARENA: usize = 64 << 20;

/// The most threads a model has.
const THREADS: usize = 8;

/// What a metadata block is filled with once it was given back.
const POISON: u8 = 0xdb;

struct World {
    /// What the words of the heap have held, and who knows; only if this run plays weakly ordered memory.
    memory: Option<Memory>,
    /// The thread slot of each thread, by its number.
    slots: [Cell<*mut c_void>; THREADS],
    /// The heap each thread has.
    heaps: BTreeMap<usize, usize>,
    /// Metadata blocks given back: address and length.
    gone: Vec<(usize, usize)>,
    /// Blocks in the application's hands: address and length.
    live: BTreeMap<usize, usize>,
    /// How many threads were started.
    threads: usize,
    /// The one thread that is left after a fork, and how many there were then: they have gone.
    survivor: Option<(usize, usize)>,
    /// Whether the heap is no longer to be checked.
    written_off: bool,
    /// How many calls of [`quietly`] the present thread is in.
    quiet: usize,
}

thread_local! {
    static WORLD: RefCell<World> = const {
        RefCell::new(World {
            memory: None,
            slots: [const { Cell::new(ptr::null_mut()) }; THREADS],
            heaps: BTreeMap::new(),
            gone: Vec::new(),
            live: BTreeMap::new(),
            threads: 0,
            survivor: None,
            written_off: false,
            quiet: 0,
        })
    };
}

pub(crate) static HOOKS: Hooks =
    Hooks { step, load, store, update, fence, locked, unlocking, blocked, slot, gone };

/// What ends a thread that a fork has left behind.
struct Vanished;

fn with<R>(f: impl FnOnce(&mut World) -> R) -> R {
    WORLD.with_borrow_mut(f)
}

fn this_thread() -> usize {
    usize::from(me())
}

fn step(addr: usize) {
    // Nobody comes in between the steps of a thread that unwinds: the execution is over, or it has died and only lets go of its locks.
    if std::thread::panicking() {
        return;
    }
    if with(|world| world.quiet == 0) {
        // To the scheduler this is a switch like any other; `yield_now` would make the thread the last in its order.
        shuttle::thread::sleep(Duration::ZERO);
        vanish_if_left_behind();
    }
    let stale = with(|world| world.gone.iter().any(|&(start, bytes)| addr.wrapping_sub(start) < bytes));
    assert!(!stale, "a thread touches a slab's header after it was given back");
}

/// Tells the memory, if there is one, what the present thread does.
fn remember<R>(f: impl FnOnce(&mut Memory, usize) -> R) -> Option<R> {
    with(|world| world.memory.as_mut().map(|memory| f(memory, this_thread())))
}

fn load(addr: usize, word: u64, order: Ordering, latest: bool) -> u64 {
    // Who looks from outside sees what is, and so does who only lets go of locks.
    let latest = latest || std::thread::panicking() || with(|world| world.quiet > 0);
    remember(|memory, thread| memory.load(thread, addr, word, order, latest)).unwrap_or(word)
}

fn store(addr: usize, old: u64, new: u64, order: Ordering) {
    remember(|memory, thread| memory.store(thread, addr, old, new, order));
}

fn update(addr: usize, old: u64, new: u64, order: Ordering) {
    remember(|memory, thread| memory.update(thread, addr, old, new, order));
}

fn fence(order: Ordering) {
    remember(|memory, thread| memory.fence(thread, order));
}

fn locked(lock: usize) {
    remember(|memory, thread| memory.locked(thread, lock));
}

fn unlocking(lock: usize) {
    remember(|memory, thread| memory.unlocking(thread, lock));
}

/// What the present thread has seen.
fn view() -> View {
    remember(|memory, thread| memory.view_of(thread)).unwrap_or_default()
}

fn learn(view: &View) {
    remember(|memory, thread| memory.learn(thread, view));
}

fn blocked() {
    assert!(with(|world| world.quiet == 0), "a lock is held where nobody else runs");
    shuttle::thread::yield_now();
    vanish_if_left_behind();
}

fn vanish_if_left_behind() {
    let this = this_thread();
    let gone = |(survivor, last)| this != survivor && this <= last;
    if with(|world| world.survivor.is_some_and(gone)) {
        // Every lock was the forking thread's, so there is nothing that unwinding would release.
        resume_unwind(Box::new(Vanished));
    }
}

fn slot() -> *const Cell<*mut c_void> {
    with(|world| &raw const world.slots[this_thread()])
}

fn gone(addr: usize, bytes: usize) {
    // SAFETY: the block was given back and is kept out of use: whoever still reads it shall not find what was there.
    unsafe { ptr::with_exposed_provenance_mut::<u8>(addr).write_bytes(POISON, bytes) };
    with(|world| world.gone.push((addr, bytes)));
}

/// Begins a run: an empty heap, nobody there but the present thread.
pub(crate) fn begin() {
    with(|world| {
        world.memory = None;
        world.slots.iter().for_each(|slot| slot.set(ptr::null_mut()));
        world.heaps.clear();
        world.gone.clear();
        world.live.clear();
        world.threads = 0;
        (world.survivor, world.quiet, world.written_off) = (None, 0, false);
    });
    // SAFETY: the threads of the run before have ended, or will never go on; this one has not begun.
    quietly(|| unsafe { driver::start_over(ARENA) });
    // One order of steps in two is run with loads that may be out of date.
    let weak = thread_rng().gen_range(0..2u32) == 0;
    with(|world| world.memory = weak.then(Memory::default));
}

/// Ends a run: every block was freed, so everything must have gone back to where it came from.
pub(crate) fn end() {
    assert_eq!(with(|world| world.live.len()), 0, "the model left blocks");
    end_thread();
    if !with(|world| world.written_off) {
        quietly(driver::check_empty);
    }
}

/// The process would be dead, in the middle of what it did: the heap is not looked at any more.
pub(crate) fn write_off() {
    with(|world| world.written_off = true);
}

/// Runs `f` without a step: set-up that no other thread is there to disturb, or a look at the heap as it is.
pub(crate) fn quietly<R>(f: impl FnOnce() -> R) -> R {
    with(|world| world.quiet += 1);
    let result = f();
    with(|world| world.quiet -= 1);
    result
}

/// Starts a thread, whose heap is abandoned when it ends, as it is for a thread of the system.
pub(crate) fn spawn(f: impl FnOnce() + Send + 'static) -> Thread {
    let before = view();
    with(|world| world.threads += 1);
    shuttle::thread::spawn(move || {
        learn(&before);
        let whole = AssertUnwindSafe(|| {
            vanish_if_left_behind();
            f();
            end_thread();
        });
        if let Err(end) = catch_unwind(whole)
            && !end.is::<Vanished>()
        {
            resume_unwind(end);
        }
        view()
    })
}

/// A thread, and what it has seen when it ends.
pub(crate) type Thread = shuttle::thread::JoinHandle<View>;

/// A channel, over which whoever receives learns what the sender has seen.
pub(crate) fn channel<T: Send + 'static>() -> (Sender<T>, Receiver<T>) {
    let (send, receive) = mpsc::channel();
    (Sender(send), Receiver(receive))
}

pub(crate) struct Sender<T>(mpsc::Sender<(T, View)>);
pub(crate) struct Receiver<T>(mpsc::Receiver<(T, View)>);

impl<T> Sender<T> {
    pub(crate) fn send(&self, what: T) {
        assert!(self.0.send((what, view())).is_ok(), "nobody receives");
    }
}

impl<T> Receiver<T> {
    pub(crate) fn receive(&self) -> T {
        let (what, view) = self.0.recv().expect("nobody sends");
        learn(&view);
        what
    }
}

/// Waits for threads to end.
pub(crate) fn join(threads: impl IntoIterator<Item = Thread>) {
    threads.into_iter().for_each(|thread| learn(&thread.join().expect("a thread of the model failed")));
}

/// Gives up the present thread's heap.
pub(crate) fn end_thread() {
    with(|world| world.heaps.remove(&this_thread()));
    driver::end_thread();
}

/// Forks: from here on the present thread is the only one.
pub(crate) fn fork() {
    driver::fork(|| {
        with(|world| world.survivor = Some((this_thread(), world.threads)));
        // The child has the memory as it was, all of it.
        remember(Memory::see_all);
    });
    with(|world| world.heaps.retain(|&thread, _| thread == this_thread()));
}

/// Notes which heap the present thread has.
fn check_owner() {
    let (this, heap) = (this_thread(), driver::own_heap());
    if heap != 0 {
        let other = with(|world| {
            world.heaps.insert(this, heap);
            world.heaps.iter().any(|(&thread, &its)| thread != this && its == heap)
        });
        assert!(!other, "two threads have one heap");
    }
}

/// Allocates, and enters the block in the book.
pub(crate) fn malloc_in(pool: Pool, size: usize) -> usize {
    let block = if pool == Pool::Default { raw::malloc(size) } else { raw::malloc_in(pool, size, 16, false) };
    check_owner();
    let addr = block.expose_provenance();
    assert_ne!(addr, 0, "no memory");
    with(|world| {
        let before = world.live.range(..addr + size).next_back();
        assert!(before.is_none_or(|(&start, &bytes)| start + bytes <= addr), "a block was handed out twice");
        world.live.insert(addr, size);
    });
    use_block(addr);
    addr
}

/// Uses a block, as its owner does all the time.
fn use_block(addr: usize) {
    let seen = remember(|memory, thread| memory.use_block(thread, addr));
    assert_ne!(seen, Some(false), "a block is handed on, but what was done with it before is not known yet");
}

/// As [`malloc_in`] for ordinary blocks.
pub(crate) fn malloc(size: usize) -> usize {
    malloc_in(Pool::Default, size)
}

/// Takes a block out of the book and frees it.
pub(crate) fn free(addr: usize) {
    use_block(addr);
    forget(addr);
    free_again(addr);
    check_owner();
}

/// Takes a block out of the book.
pub(crate) fn forget(addr: usize) {
    let known = with(|world| world.live.remove(&addr)).is_some();
    assert!(known, "the model frees what it does not hold");
}

/// Takes a block out of the book that a thread which is gone may have taken out before.
pub(crate) fn forget_if_known(addr: usize) {
    with(|world| world.live.remove(&addr));
}

/// Frees an address that is in no book.
fn free_again(addr: usize) {
    // SAFETY: nobody uses the block any more; whether it is live is the heap's to see.
    unsafe { raw::free(ptr::with_exposed_provenance_mut(addr)) };
}

/// Resizes a block, with its entry in the book.
pub(crate) fn realloc(addr: usize, size: usize) -> usize {
    // Until the heap is done nobody else can get a byte of the old block or the new.
    // SAFETY: the block is live, and its old address is not used again.
    let block = unsafe { raw::realloc(ptr::with_exposed_provenance_mut(addr), size) };
    let now = block.expose_provenance();
    assert_ne!(now, 0, "no memory");
    with(|world| {
        world.live.remove(&addr);
        world.live.insert(now, size);
    });
    now
}

/// Frees what may be free already; whether that was found out.
pub(crate) fn dies(f: impl FnOnce()) -> bool {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(()) => false,
        Err(end) if end.is::<Died>() => true,
        Err(end) => resume_unwind(end),
    }
}

/// A free of a program that is in error.
pub(crate) fn wild_free(addr: usize) {
    free_again(addr);
}

/// The block at `addr`.
pub(crate) fn at(addr: usize) -> *mut u8 {
    ptr::with_exposed_provenance_mut(addr)
}

/// Makes the heap's clock jump past a purge period.
pub(crate) fn let_time_pass() {
    model::advance_clock(3_600_000);
}
