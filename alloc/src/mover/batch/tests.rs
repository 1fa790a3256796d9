//! The mover on a played kernel whose pages misbehave.

use super::*;
use std::collections::HashMap;

/// A kernel of two nodes whose pages misbehave on request.
#[derive(Default)]
struct Fake {
    node: HashMap<usize, i32>,
    /// Status to answer instead of moving.
    refuse: HashMap<usize, i32>,
    /// Pages hidden by a NUMA hint until touched.
    hidden: HashMap<usize, i32>,
    /// Stop a batch at this page as the kernel does when a migration fails: its status and the rest stay untouched.
    stop_at: Option<usize>,
    call_error: Option<i32>,
    shared: Vec<usize>,
    calls: usize,
}

impl Fake {
    fn of(pages: usize) -> Fake {
        Fake { node: (0..pages).map(|i| (i * PAGE_BYTES, 0)).collect(), ..Fake::default() }
    }
}

impl PageMover for Fake {
    fn move_pages(
        &mut self,
        pages: &[usize],
        nodes: Option<&[i32]>,
        status: &mut [i32],
    ) -> Result<usize, Errno> {
        self.calls += 1;
        let Some(nodes) = nodes else {
            for (s, p) in status.iter_mut().zip(pages) {
                *s = self.node.get(p).copied().unwrap_or(-libc::ENOENT);
            }
            return Ok(0);
        };
        if let Some(e) = self.call_error {
            return Err(Errno(e));
        }
        for (i, p) in pages.iter().enumerate() {
            if self.stop_at == Some(*p) {
                return Ok(pages.len() - i);
            }
            status[i] = if let Some(&e) = self.refuse.get(p) {
                -e
            } else if self.hidden.contains_key(p) || !self.node.contains_key(p) {
                -libc::ENOENT
            } else if self.shared.contains(p) {
                -libc::EACCES
            } else {
                self.node.insert(*p, nodes[i]);
                nodes[i]
            };
        }
        Ok(0)
    }

    fn touch(&mut self, page: usize) -> Result<(), Errno> {
        self.hidden.remove(&page);
        Ok(())
    }

    fn pagemap(&mut self, page: usize) -> Option<u64> {
        let present = if self.node.contains_key(&page) { PAGEMAP_PRESENT } else { 0 };
        Some(present | if self.shared.contains(&page) { 0 } else { PAGEMAP_EXCLUSIVE })
    }
}

fn pages(n: usize) -> Vec<usize> {
    (0..n).map(|i| i * PAGE_BYTES).collect()
}

fn run(mover: &mut Mover, fake: &mut Fake, n: usize, now: u64) -> Result<HashMap<usize, Outcome>, Stop> {
    let mut got = HashMap::new();
    mover.run(fake, &pages(n), 1, now, &mut |p, o| {
        assert!(got.insert(p / PAGE_BYTES, o).is_none(), "a page was reported twice");
    })?;
    assert_eq!(got.len(), n, "every page is reported");
    Ok(got)
}

#[test]
fn a_batch_moves_all_its_pages_in_one_call() {
    let (mut mover, mut fake) = (Mover::default(), Fake::of(512));
    let got = run(&mut mover, &mut fake, 512, 0).unwrap();
    assert!(got.values().all(|&o| o == Outcome::Moved));
    assert_eq!(fake.calls, 1);
}

#[test]
fn statuses_the_kernel_left_untouched_are_asked_for_not_guessed() {
    let (mut mover, mut fake) = (Mover::default(), Fake::of(10));
    fake.stop_at = Some(6 * PAGE_BYTES);
    let got = run(&mut mover, &mut fake, 10, 0).unwrap();
    assert!((0..6).all(|i| got[&i] == Outcome::Moved));
    assert!((6..10).all(|i| got[&i] == Outcome::Again));
    assert!(!mover.blocked(0, 1) && mover.blocked(7 * PAGE_BYTES, 1));
}

#[test]
fn a_busy_page_is_tried_again_ever_later() {
    let (mut mover, mut fake) = (Mover::default(), Fake::of(1));
    fake.refuse.insert(0, libc::EBUSY);
    let mut now = 0;
    let mut pauses = Vec::new();
    for _ in 0..10 {
        assert_eq!(run(&mut mover, &mut fake, 1, now).unwrap()[&0], Outcome::Busy);
        let from = now;
        while mover.blocked(0, now) {
            now += 100_000_000;
        }
        pauses.push(now - from);
    }
    assert!(pauses.windows(2).all(|w| w[1] >= w[0]));
    assert_eq!(*pauses.last().unwrap(), 64_000_000_000);
    fake.refuse.clear();
    assert_eq!(run(&mut mover, &mut fake, 1, now).unwrap()[&0], Outcome::Moved);
    assert!(!mover.backs_off());
}

#[test]
fn after_a_fork_only_pages_mapped_once_are_tried() {
    let (mut mover, mut fake) = (Mover::default(), Fake::of(8));
    fake.shared = (0..6).map(|i| i * PAGE_BYTES).collect();
    let got = run(&mut mover, &mut fake, 8, 0).unwrap();
    assert_eq!(got.values().filter(|&&o| o == Outcome::Shared).count(), 6);
    assert!(!mover.ready(SHARED_PAUSE - 1) && mover.ready(SHARED_PAUSE));
    // The next batch does not even offer the shared pages to the kernel.
    fake.refuse = (0..6).map(|i| (i * PAGE_BYTES, libc::EIO)).collect();
    let got = run(&mut mover, &mut fake, 8, SHARED_PAUSE).unwrap();
    assert!((0..6).all(|i| got[&i] == Outcome::Shared));
    // Those wait, and no others.
    let blocked = |i: usize| mover.blocked(i * PAGE_BYTES, SHARED_PAUSE + 1);
    assert!(mover.ready(SHARED_PAUSE + 1) && (0..8).all(|i| blocked(i) == (i < 6)));
    // When the child is gone all of them move.
    fake.shared.clear();
    fake.refuse.clear();
    assert!(run(&mut mover, &mut fake, 8, 2 * SHARED_PAUSE).unwrap().values().all(|&o| o == Outcome::Moved));
}

#[test]
fn a_page_hidden_by_a_numa_hint_is_touched_and_moved() {
    let (mut mover, mut fake) = (Mover::default(), Fake::of(4));
    fake.hidden.insert(2 * PAGE_BYTES, 1);
    assert!(run(&mut mover, &mut fake, 4, 0).unwrap().values().all(|&o| o == Outcome::Moved));
}

#[test]
fn a_page_that_is_not_there_is_not_touched_into_being() {
    let (mut mover, mut fake) = (Mover::default(), Fake::of(1));
    let got = run(&mut mover, &mut fake, 2, 0).unwrap();
    assert_eq!(got[&1], Outcome::Absent);
    assert_eq!(fake.calls, 1);
}

#[test]
fn a_full_node_is_told_apart_from_pages_that_would_not_go() {
    let (mut mover, mut fake) = (Mover::default(), Fake::of(3));
    fake.call_error = Some(libc::ENOMEM);
    assert!(run(&mut mover, &mut fake, 3, 0).unwrap().values().all(|&o| o == Outcome::NoMemory));
    assert!(!mover.backs_off());
}

#[test]
fn refusal_of_the_call_and_loss_of_the_node_stop_the_mover() {
    let (mut mover, mut fake) = (Mover::default(), Fake::of(3));
    for e in [libc::EPERM, libc::ENOSYS] {
        fake.call_error = Some(e);
        assert_eq!(run(&mut mover, &mut fake, 3, 0), Err(Stop::Refused(e)));
    }
    fake.call_error = Some(libc::ENODEV);
    assert_eq!(run(&mut mover, &mut fake, 3, 0), Err(Stop::NodeGone(1, libc::ENODEV)));
}

#[test]
fn memory_for_back_off_is_bounded() {
    let mut back_off = BackOff::default();
    (0..3 * MOST_BACKING_OFF).for_each(|i| back_off.failed(i * PAGE_BYTES, 0));
    assert!(back_off.pages.len() <= MOST_BACKING_OFF);
}

#[test]
fn a_real_page_moves_to_the_node_it_is_on() {
    let page = crate::sys::mm::map(PAGE_BYTES, crate::sys::mm::Access::ReadWrite).unwrap();
    Linux.touch(page).unwrap();
    // SAFETY: the page was mapped above and is ours.
    unsafe { core::ptr::with_exposed_provenance_mut::<u8>(page).write_volatile(7) };
    let node = numa::node_of(page).expect("the page is somewhere");
    let mut got = None;
    Mover::default().run(&mut Linux, &[page], node, 0, &mut |_, o| got = Some(o)).unwrap();
    assert_eq!(got, Some(Outcome::Moved));
    // SAFETY: as above.
    assert_eq!(unsafe { core::ptr::with_exposed_provenance::<u8>(page).read_volatile() }, 7);
}
