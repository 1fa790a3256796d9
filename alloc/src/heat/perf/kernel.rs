//! The kernel's side of sampling: what the tracker asks of it, and the probe that tries it out.
//!
//! Zone: control.

use super::event::{Recipe, recipes};
use super::record::{Record, parse};
use crate::heat::clock::{now_ns, thread_cpu_ns};
use crate::sys::perf::{Stream, thread_id};
use crate::sys::proc::read_file;
use crate::sys::{Errno, mm};
use std::ffi::CString;

/// Most threads watched at a time: each takes 20 KiB of locked memory and a mapping (24 KiB and two with an event beside it).
const MOST_THREADS: usize = 32;

/// What holds for the event in use.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most threads to watch at a time.
    pub threads: usize,
    /// The first period.
    pub first: u64,
    /// The least period.
    pub least: u64,
    /// Periods are multiples of this.
    pub multiple: u64,
    /// Mappings that a watched thread takes.
    pub mappings: usize,
}

/// What the tracker needs from the system; tests play it.
pub trait Sampler {
    /// Now, and the processor time this thread has used, both in ns.
    fn clock(&self) -> (u64, u64);
    /// What holds here.
    fn limits(&self) -> Limits;
    /// The threads of the process but the caller.
    fn threads(&mut self, into: &mut Vec<u32>) -> Result<(), Errno>;
    /// Starts sampling every `period`-th event of a thread that is not watched.
    fn watch(&mut self, thread: u32, period: u64) -> Result<(), Errno>;
    /// Ends that. What was not read is lost.
    fn forget(&mut self, thread: u32);
    /// Calls `each` for what was sampled since the last call.
    fn drain(&mut self, each: &mut dyn FnMut(Record));
}

/// The running kernel.
pub struct Linux {
    recipe: Recipe,
    streams: Vec<(u32, Stream)>,
    buf: Vec<u8>,
}

impl Sampler for Linux {
    fn clock(&self) -> (u64, u64) {
        (now_ns(), thread_cpu_ns())
    }

    fn limits(&self) -> Limits {
        let Recipe { first, least, multiple, .. } = self.recipe;
        Limits {
            threads: MOST_THREADS,
            first,
            least,
            multiple,
            mappings: 1 + self.recipe.beside.iter().len(),
        }
    }

    fn threads(&mut self, into: &mut Vec<u32>) -> Result<(), Errno> {
        into.clear();
        let failed = |e: std::io::Error| Errno(e.raw_os_error().unwrap_or(libc::EIO));
        let own = thread_id();
        for entry in std::fs::read_dir("/proc/self/task").map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            into.extend(name.to_str().and_then(|n| n.parse::<u32>().ok()).filter(|&thread| thread != own));
        }
        Ok(())
    }

    fn watch(&mut self, thread: u32, period: u64) -> Result<(), Errno> {
        let stream = Stream::open(&self.recipe.event, self.recipe.beside.as_ref(), thread, period)?;
        self.streams.push((thread, stream));
        Ok(())
    }

    fn forget(&mut self, thread: u32) {
        self.streams.retain(|(of, _)| *of != thread);
    }

    fn drain(&mut self, each: &mut dyn FnMut(Record)) {
        for (_, stream) in &mut self.streams {
            read(stream, &mut self.buf, self.recipe.event.source, each);
        }
    }
}

fn read(stream: &mut Stream, buf: &mut [u8], source: bool, each: &mut dyn FnMut(Record)) {
    match stream.take(buf) {
        Some(length) => parse(&buf[..length], source, each),
        None => each(Record::Lost(1)),
    }
}

/// Finds an event that samples addresses and tries it out: accesses of our own to memory of our own must be among what it takes.
pub fn probe() -> Result<Linux, String> {
    let file = |name: &str| read_text(&format!("/sys/bus/event_source/devices/{name}"));
    let mut why = String::new();
    for recipe in recipes(&file)? {
        match try_out(&recipe) {
            Ok(()) => return Ok(Linux { recipe, streams: Vec::new(), buf: vec![0; Stream::ring_bytes()] }),
            // What the better ways failed for is what can be helped.
            Err(reason) if why.is_empty() => why = reason,
            Err(_) => {}
        }
    }
    Err(why)
}

/// Samples reads of our own.
fn try_out(recipe: &Recipe) -> Result<(), String> {
    /// Enough that some of the reads are sampled.
    const ROUNDS: usize = 16;
    let bytes = 256 << 10;
    let span = mm::map(bytes, mm::Access::ReadWrite).map_err(|e| format!("no address space: {e}"))?;
    let result = Stream::open(&recipe.event, recipe.beside.as_ref(), 0, recipe.brief)
        .map_err(|e| refusal(recipe.name, e, &paranoid))
        .and_then(|mut stream| {
            let (mut found, mut buf) = (0, vec![0; Stream::ring_bytes()]);
            for _ in 0..ROUNDS {
                // SAFETY: mapped above, known to nobody else.
                unsafe { crate::sys::perf::read_from_memory(span, bytes) };
                // What the processor holds back comes when the thread sleeps.
                std::thread::sleep(std::time::Duration::from_micros(100));
                read(&mut stream, &mut buf, recipe.event.source, &mut |record| {
                    found += u32::from(
                        matches!(record, Record::Sample(at) if (span..span + bytes).contains(&(at as usize))),
                    );
                });
            }
            if found > 0 {
                Ok(())
            } else {
                Err(format!("{}: none of our own accesses was sampled", recipe.name))
            }
        });
    // SAFETY: mapped above, known to nobody else.
    unsafe { mm::unmap(span, bytes) };
    result
}

/// Why an event was not to be had, in one clause.
fn refusal(name: &str, e: Errno, paranoid: &dyn Fn() -> Option<String>) -> String {
    let why = match e.0 {
        libc::EACCES => match paranoid() {
            Some(level) => format!("kernel.perf_event_paranoid is {level}, which forbids it to this user"),
            None => "this user may not".into(),
        },
        libc::EPERM => {
            "a sandbox forbids it, or the user's programs have locked all the memory they may".into()
        }
        libc::ENOENT | libc::ENODEV => "the processor has no such event".into(),
        libc::EOPNOTSUPP => "the processor cannot sample it".into(),
        libc::EINVAL => "the kernel does not take it so".into(),
        libc::ENOSYS => "the kernel has no perf_event_open, or a sandbox forbids it".into(),
        libc::EBUSY | libc::ENOSPC => "others use the counters".into(),
        libc::EMFILE | libc::ENFILE => "no file descriptor is left".into(),
        _ => return format!("{name}: {e}"),
    };
    format!("{name}: {why}")
}

fn paranoid() -> Option<String> {
    read_text("/proc/sys/kernel/perf_event_paranoid")
}

fn read_text(path: &str) -> Option<String> {
    let mut buf = [0; 256];
    let n = read_file(&CString::new(path).ok()?, &mut buf).ok()?;
    Some(std::str::from_utf8(&buf[..n]).ok()?.trim_end().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::perf::Event;
    use std::sync::mpsc;

    #[test]
    fn the_probe_finds_an_event_or_says_why_not() {
        match probe() {
            Ok(linux) => assert!(linux.limits().least > 0),
            Err(why) => {
                eprintln!("no samples with addresses on this machine: {why}");
                assert!(!why.is_empty() && !why.contains('\n'));
            }
        }
    }

    #[test]
    fn every_refusal_is_one_clause_that_names_its_cause() {
        let three = || Some("3".to_string());
        for (e, part) in [
            (libc::EACCES, "perf_event_paranoid is 3"),
            (libc::EPERM, "sandbox"),
            (libc::ENOENT, "no such event"),
            (libc::EOPNOTSUPP, "cannot sample"),
            (libc::ENOSYS, "perf_event_open"),
            (libc::EBUSY, "others"),
            (libc::EMFILE, "descriptor"),
            (libc::ENOMEM, "ENOMEM"),
        ] {
            let why = refusal("mem-loads", Errno(e), &three);
            assert!(why.starts_with("mem-loads: ") && why.contains(part) && !why.contains('\n'), "{why}");
        }
        assert!(refusal("x", Errno(libc::EACCES), &|| None).contains("may not"));
    }

    /// Page faults, which every machine can sample with their addresses: all but the processor's part is as with accesses.
    fn faults(beside: bool) -> Linux {
        let software =
            |number| Event { unit: 1, config: [number, 0, 0], user_only: true, ..Event::default() };
        let (event, beside) = (software(2), beside.then(|| software(3)));
        let recipe = Recipe { name: "page-faults", event, beside, first: 1, least: 1, multiple: 1, brief: 1 };
        Linux { recipe, streams: Vec::new(), buf: vec![0; Stream::ring_bytes()] }
    }

    /// A thread that touches so many new pages whenever it is told to.
    struct Toucher {
        thread: u32,
        span: usize,
        touched: usize,
        tell: Option<mpsc::Sender<(usize, usize)>>,
        told: mpsc::Receiver<u32>,
        handle: Option<std::thread::JoinHandle<()>>,
    }

    impl Toucher {
        const PAGES: usize = 8192;

        fn new() -> Toucher {
            let bytes = Toucher::PAGES * mm::page_bytes();
            let span = mm::map(bytes, mm::Access::ReadWrite).unwrap();
            // SAFETY: mapped one line above.
            unsafe { mm::no_huge_pages(span, bytes).unwrap() };
            let ((tell, hear), (say, told)) = (mpsc::channel::<(usize, usize)>(), mpsc::channel());
            let handle = std::thread::spawn(move || {
                say.send(thread_id()).unwrap();
                for (from, to) in hear {
                    for page in from..to {
                        let at = span + page * mm::page_bytes();
                        // SAFETY: a page of the test's own span.
                        unsafe { core::ptr::with_exposed_provenance_mut::<u8>(at).write_volatile(1) };
                    }
                    say.send(0).unwrap();
                }
            });
            let thread = told.recv().unwrap();
            Toucher { thread, span, touched: 0, tell: Some(tell), told, handle: Some(handle) }
        }

        fn touch(&mut self, pages: usize) {
            let to = self.touched + pages;
            self.tell.as_ref().unwrap().send((self.touched, to)).unwrap();
            self.told.recv().unwrap();
            self.touched = to;
        }

        fn end(&mut self) {
            drop(self.tell.take());
            self.handle.take().map(std::thread::JoinHandle::join);
        }

        /// The pages of the span that samples fell on, in order, and how many were lost.
        fn seen(&self, linux: &mut Linux) -> (Vec<usize>, u64) {
            let (mut pages, mut lost) = (Vec::new(), 0);
            linux.drain(&mut |record| match record {
                Record::Sample(at) => {
                    pages.extend((at as usize).checked_sub(self.span).map(|o| o / mm::page_bytes()));
                }
                Record::Lost(n) => lost += n,
                Record::Cached | Record::Throttled => {}
            });
            pages.retain(|&page| page < Toucher::PAGES);
            (pages, lost)
        }
    }

    impl Drop for Toucher {
        fn drop(&mut self) {
            self.end();
            // SAFETY: its thread has ended.
            unsafe { mm::unmap(self.span, Toucher::PAGES * mm::page_bytes()) };
        }
    }

    /// A watched thread, or nothing where the system refuses that.
    fn watched(beside: bool) -> Option<(Linux, Toucher)> {
        let (mut linux, toucher) = (faults(beside), Toucher::new());
        match linux.watch(toucher.thread, 1) {
            Ok(()) => Some((linux, toucher)),
            Err(e) => {
                eprintln!("skipped: {}", refusal("page-faults", e, &paranoid));
                None
            }
        }
    }

    #[test]
    fn what_another_thread_does_is_sampled_though_no_descriptor_stays_open() {
        for beside in [false, true] {
            let Some((mut linux, mut toucher)) = watched(beside) else { return };
            let is_ours = |fd: &std::fs::DirEntry| {
                std::fs::read_link(fd.path()).is_ok_and(|to| to.to_string_lossy().contains("perf_event"))
            };
            let any = || std::fs::read_dir("/proc/self/fd").unwrap().flatten().any(|fd| is_ours(&fd));
            // Other tests may be opening one.
            let free = (0..500).any(|_| {
                std::thread::sleep(std::time::Duration::from_millis(2));
                !any()
            });
            assert!(free, "a descriptor stays open");
            toucher.touch(100);
            assert_eq!(toucher.seen(&mut linux), ((0..100).collect(), 0));
            assert_eq!(toucher.seen(&mut linux), (vec![], 0), "once");
            linux.forget(toucher.thread);
            toucher.touch(5);
            assert_eq!(toucher.seen(&mut linux), (vec![], 0), "forgotten");
            toucher.end();
            assert_eq!(linux.watch(toucher.thread, 1), Err(Errno(libc::ESRCH)));
        }
    }

    #[test]
    fn nothing_is_lost_where_a_ring_begins_anew_and_what_finds_no_room_is_counted() {
        let Some((mut linux, mut toucher)) = watched(false) else { return };
        for round in 0..5 {
            toucher.touch(700);
            assert_eq!(toucher.seen(&mut linux), ((round * 700..(round + 1) * 700).collect(), 0));
        }
        toucher.touch(3000);
        let (pages, mut lost) = toucher.seen(&mut linux);
        assert!((900..=1024).contains(&pages.len()), "{}", pages.len());
        toucher.touch(1);
        let (last, counted) = toucher.seen(&mut linux);
        lost += counted;
        assert_eq!((pages.len() + last.len()) as u64 + lost, 3001);
    }

    #[test]
    fn other_threads_are_listed_and_the_caller_is_not() {
        let mut linux = faults(false);
        let (say, hear) = std::sync::mpsc::channel();
        let (end, wait) = std::sync::mpsc::channel::<()>();
        let other = std::thread::spawn(move || {
            say.send(thread_id()).unwrap();
            let _ = wait.recv();
        });
        let number = hear.recv().unwrap();
        let mut threads = Vec::new();
        linux.threads(&mut threads).unwrap();
        assert!(threads.contains(&number) && !threads.contains(&thread_id()));
        drop(end);
        other.join().unwrap();
    }
}
