//! Differential fuzzing of the C ABI: byte strings are programs, and a model that knows every live block says what each operation may do.
//!
//! * `fuzz/corpus/` is replayed, and must cover every kind of event in [`EVENTS`].
//! * Random programs run for `TERRACE_TEST_FUZZ_SECONDS` (30), or for `TERRACE_TEST_FUZZ_OPERATIONS` operations.
//! * `TERRACE_TEST_FUZZ_INPUT=file` replays one program instead of the corpus: a failure leaves such a file, of the
//!   bytes up to the operation that failed, and says where.
//! * `TERRACE_TEST_FUZZ_KEEP=directory` keeps each random program that saw something new: what the corpus was made with.
//!
//! Blocks do not overlap, are aligned, hold what was written to the end of their usable size, whoever frees or resizes them in whatever
//! thread; calloc's are zero; return values and errno are as documented; the heap counts the blocks the model has, and after each
//! program its walkers find no contradiction.

#[path = "abi/allocate.rs"]
mod allocate;
#[path = "abi/ask.rs"]
mod ask;
#[path = "abi/block.rs"]
mod block;
#[path = "abi/bytes.rs"]
mod bytes;
#[path = "abi/failed.rs"]
mod failed;
#[path = "abi/library.rs"]
mod library;
#[path = "abi/model.rs"]
mod model;
#[path = "abi/program.rs"]
mod program;
#[path = "abi/release.rs"]
mod release;
#[path = "abi/workers.rs"]
mod workers;

use program::Program;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use workers::Crew;

/// Tests count the live blocks of one heap, so they take turns.
static TURN: Mutex<()> = Mutex::new(());

/// The longest random program, in bytes.
const LONGEST: usize = 4096;
/// The longest that is worth keeping.
const KEPT: usize = 600;

/// Everything the corpus must have happen.
const EVENTS: [&str; 48] = [
    "advise",
    "advise: refused",
    "aligned",
    "aligned: EINVAL",
    "aligned: ENOMEM",
    "calloc",
    "calloc: ENOMEM",
    "calls fail",
    "fork",
    "free",
    "free of null",
    "free: many",
    "hint: EINVAL",
    "malloc",
    "malloc: ENOMEM",
    "only device: ENOMEM",
    "operator new",
    "operator new: null",
    "posix_memalign",
    "posix_memalign: EINVAL",
    "posix_memalign: ENOMEM",
    "pvalloc",
    "pvalloc: ENOMEM",
    "realloc of null",
    "realloc of null: ENOMEM",
    "realloc: ENOMEM",
    "realloc: freed",
    "realloc: in place",
    "realloc: large to small",
    "realloc: large, bytes moved",
    "realloc: large, cut in place",
    "realloc: large, grown in place",
    "realloc: large, pages moved",
    "realloc: moved",
    "realloc: small to large",
    "statistics",
    "terrace_aligned_alloc",
    "terrace_malloc",
    "terrace_malloc: ENOMEM",
    "terrace_realloc: EINVAL",
    "to new threads",
    "to other threads",
    "trim: none",
    "trim: some",
    "usable size",
    "usable size of null",
    "valloc",
    "valloc: ENOMEM",
];

/// How much was run.
#[derive(Default)]
struct Run {
    programs: u64,
    operations: u64,
    /// What has happened, and to sizes of about which magnitude.
    events: BTreeSet<(&'static str, u32)>,
    crew: Option<Crew>,
}

impl Run {
    /// Runs one program; whether something happened that had not before.
    fn program(&mut self, bytes: &[u8]) -> bool {
        // Taken out while it is used: after a failure its threads may still be at work for a program that is gone.
        let crew = self.crew.take().unwrap_or_else(Crew::new);
        let (operations, events) = failed::kept_if_it_fails(bytes, || {
            let mut program = Program::new(bytes, &crew);
            program.run();
            (program.operations, program.model.events)
        });
        self.crew = Some(crew);
        self.programs += 1;
        self.operations += operations;
        let known = self.events.len();
        self.events.extend(events);
        self.events.len() > known
    }
}

impl Run {
    fn saw(&self, event: &str) -> bool {
        self.events.iter().any(|(seen, _)| *seen == event)
    }
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is a number, not {text}")))
}

fn path(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).map(PathBuf::from)
}

#[test]
fn the_corpus_finds_nothing_and_covers_every_event() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut run = Run::default();
    if let Some(input) = path("TERRACE_TEST_FUZZ_INPUT") {
        run.program(&std::fs::read(&input).expect("the input can be read"));
        return println!("{}: {:?}", input.display(), run.events);
    }
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let entries = std::fs::read_dir(&corpus).expect("there is a corpus");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    for file in &files {
        run.program(&std::fs::read(file).expect("a file of the corpus"));
    }
    println!("{} programs of the corpus, {} operations", run.programs, run.operations);
    let missing: Vec<&str> = EVENTS.into_iter().filter(|event| !run.saw(event)).collect();
    assert!(missing.is_empty(), "the corpus no longer covers {missing:?}");
}

#[test]
fn random_programs_agree_with_the_model() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let most = number("TERRACE_TEST_FUZZ_OPERATIONS");
    let seconds = number("TERRACE_TEST_FUZZ_SECONDS").unwrap_or(30);
    let keep = path("TERRACE_TEST_FUZZ_KEEP");
    let (run, start) = (Mutex::new(Run::default()), Instant::now());
    let locked = || run.lock().unwrap_or_else(PoisonError::into_inner);
    let done = || match most {
        Some(most) => locked().operations >= most,
        None => start.elapsed() > Duration::from_secs(seconds),
    };
    while !done() {
        bolero::check!()
            .with_iterations(20)
            // Shorter ones that fail, too, are tried by the thousand, and each takes as long. What is kept ends where it failed.
            .with_shrink_time(Duration::ZERO)
            .with_max_len(2 * LONGEST)
            .with_generator(
                bolero::produce::<Vec<u8>>().with().len(..=if keep.is_some() { KEPT } else { LONGEST }),
            )
            .for_each(|bytes: &Vec<u8>| {
                let new = locked().program(bytes);
                if let Some(directory) = keep.as_ref().filter(|_| new) {
                    let number = locked().programs;
                    std::fs::write(directory.join(format!("{number:08}")), bytes)
                        .expect("a program can be kept");
                }
            });
    }
    let run = run.into_inner().expect("no program failed");
    let elapsed = start.elapsed().as_secs_f64();
    // SAFETY: no precondition.
    let injected = unsafe { (library::library().terrace_test_injected)() };
    println!(
        "{} programs, {} operations, {injected} injected failures, {elapsed:.1} s, {:.0} operations a second",
        run.programs,
        run.operations,
        run.operations as f64 / elapsed
    );
    let seen: BTreeSet<&str> = run.events.iter().map(|(event, _)| *event).collect();
    let unknown: Vec<&&str> = seen.iter().filter(|event| !EVENTS.contains(event)).collect();
    assert!(unknown.is_empty(), "for EVENTS: {unknown:?}");
    // What did not happen was not tested.
    assert!(run.operations > 10_000, "{} operations in {elapsed} s", run.operations);
}
