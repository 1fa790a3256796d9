//! The page from both sides. The tests share the process's one page, so they take turns.

use super::*;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, MutexGuard, PoisonError};

fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn me() -> u32 {
    std::process::id()
}

fn exists() -> bool {
    fs::exists(path(me())).unwrap()
}

#[test]
fn what_is_published_is_read_and_goes_with_its_page() {
    let _turn = turn();
    let mut page = StatsPage::create().unwrap();
    assert_eq!(StatsPage::read_pid(me()).unwrap(), StatsSnapshot::default());
    let mut snapshot = StatsSnapshot { pid: u64::from(me()), promoted: 3, ..StatsSnapshot::default() };
    snapshot.set_tracker("refs");
    page.publish(&snapshot);
    assert_eq!(StatsPage::read_pid(me()).unwrap(), snapshot);
    assert_eq!(fs::metadata(path(me())).unwrap().permissions().mode() & 0o777, 0o600);
    drop(page);
    assert!(!exists());
    assert_eq!(StatsPage::read_pid(me()).unwrap_err().kind(), io::ErrorKind::NotFound);
}

#[test]
fn a_reader_never_sees_half_of_a_snapshot() {
    let _turn = turn();
    let mut page = StatsPage::create().unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut seen = 0;
            while !done.load(Ordering::Relaxed) {
                let words = *StatsPage::read_pid(me()).unwrap().as_words();
                assert!(words.iter().all(|&word| word == words[0]), "torn: {words:?}");
                seen += u64::from(words[0] > 0);
            }
            assert!(seen > 0, "the reader never saw a snapshot");
        });
        for round in 0..20_000 {
            page.publish(&StatsSnapshot::from_words(&[round; WORDS]));
            // A seqlock's reader needs a gap now and then; the control thread leaves milliseconds.
            (0..500).for_each(|_| std::hint::spin_loop());
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_page_of_an_earlier_process_is_replaced_and_a_link_is_not_followed() {
    let _turn = turn();
    let target = std::env::temp_dir().join(format!("terrace-link-target-{}", me()));
    fs::write(&target, "precious").unwrap();
    std::os::unix::fs::symlink(&target, path(me())).unwrap();
    assert!(StatsPage::read_pid(me()).is_err());
    let page = StatsPage::create().unwrap();
    assert!(!fs::symlink_metadata(path(me())).unwrap().is_symlink());
    assert_eq!(fs::read_to_string(&target).unwrap(), "precious");
    drop(page);
    fs::remove_file(target).unwrap();
}

#[test]
fn what_is_no_page_is_refused() {
    let _turn = turn();
    for (bytes, why) in [
        (vec![], "not a statistics page"),
        (vec![0; 100], "not a statistics page"),
        (vec![1; BYTES], "not a statistics page"),
        (
            [MAGIC, 999].iter().flat_map(|w| w.to_le_bytes()).chain(vec![0; BYTES - 16]).collect(),
            "another version",
        ),
    ] {
        fs::write(path(me()), bytes).unwrap();
        let error = StatsPage::read_pid(me()).unwrap_err();
        assert!(error.kind() == io::ErrorKind::InvalidData && error.to_string().contains(why), "{error}");
    }
    fs::remove_file(path(me())).unwrap();
}

#[test]
fn a_writer_that_stopped_halfway_is_told_from_an_endless_loop() {
    let _turn = turn();
    let page = StatsPage::create().unwrap();
    page.word(SEQUENCE).store(5, Ordering::Release);
    assert_eq!(StatsPage::read_pid(me()).unwrap_err().kind(), io::ErrorKind::WouldBlock);
}

#[test]
fn a_forked_child_neither_writes_nor_removes() {
    let _turn = turn();
    let mut page = StatsPage::create().unwrap();
    let before = StatsSnapshot { ticks: 1, ..StatsSnapshot::default() };
    page.publish(&before);
    // SAFETY: the child makes no use of other threads' state: it publishes, drops and exits without unwinding.
    let child = unsafe { libc::fork() };
    if child == 0 {
        page.publish(&StatsSnapshot { ticks: 2, ..before });
        drop(page);
        // SAFETY: ends the child without running the test harness's destructors.
        unsafe { libc::_exit(0) };
    }
    let mut status = 0;
    // SAFETY: waits for the child made above.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert_eq!(status, 0, "the child died");
    assert_eq!(StatsPage::read_pid(me()).unwrap(), before);
    drop(page);
    assert!(!exists());
}
