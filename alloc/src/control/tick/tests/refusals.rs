//! A system that refuses, and a tracker that fails.

use super::*;

#[test]
fn a_system_that_refuses_moves_is_asked_once_and_the_program_runs_on() {
    struct Refusing(World, u64);
    impl PageMover for Refusing {
        fn move_pages(
            &mut self,
            pages: &[usize],
            nodes: Option<&[i32]>,
            status: &mut [i32],
        ) -> Result<usize, Errno> {
            if nodes.is_some() {
                self.1 += 1;
                return Err(Errno(libc::EPERM));
            }
            self.0.move_pages(pages, nodes, status)
        }
        fn touch(&mut self, _: usize) -> Result<(), Errno> {
            Ok(())
        }
        fn pagemap(&mut self, _: usize) -> Option<u64> {
            None
        }
    }
    impl System for Refusing {
        fn now(&self) -> u64 {
            World::now(&self.0)
        }
        fn extents(&self, f: &mut dyn FnMut(ExtentView)) {
            World::extents(&self.0, f);
        }
        fn extent(&self, index: u32) -> Option<ExtentView> {
            System::extent(&self.0, index)
        }
        fn births(&self, _: u32) -> [u32; SLICES] {
            Default::default()
        }
        fn set_in_dram(&self, _: u32, _: u32) {}
        fn arenas(&self, f: &mut dyn FnMut(ArenaView)) {
            f(self.0.arena());
        }
        fn heap_bytes(&self) -> u64 {
            self.0.heap_bytes()
        }
        fn resident_bytes(&self) -> u64 {
            self.0.resident_bytes()
        }
        fn nodes(&self) -> (NodeMask, NodeMask) {
            System::nodes(&self.0)
        }
        fn node_bytes(&self, nodes: &NodeMask) -> (u64, u64) {
            System::node_bytes(&self.0, nodes)
        }
        fn latency(&mut self, _: u32) -> Option<u64> {
            None
        }
        fn cgroup_limit(&self) -> Option<u64> {
            None
        }
        fn press(&self, _: bool, _: bool) {}
        fn say(&self, _: &str) {}
    }
    let mut run = Run::new(zipf(3), |_| 0, |_| ());
    let mut refusing = Refusing(run.world.clone(), 0);
    for _ in 0..50 {
        let wake = run.plane.tick(&mut refusing);
        run.world.sleep_until(wake);
    }
    assert_eq!((refusing.1, run.moves()), (1, 0));
    assert!(run.plane.disabled);
}

/// Fails so many times, and then answers that nothing was seen.
struct Failing(u32);

impl Tracker for Failing {
    fn name(&self) -> &'static str {
        "failing"
    }
    fn poll(&mut self, _: &mut HeatMap, look: &Look<'_>) -> Result<Polled, Errno> {
        if self.0 > 0 {
            self.0 -= 1;
            return Err(Errno(libc::ENOMEM));
        }
        Ok(Polled { wake: look.now + S, ..Polled::default() })
    }
}

#[test]
fn a_tracker_that_fails_is_asked_again_and_given_up_when_it_keeps_failing() {
    let name_after = |failures: u32| {
        let mut run = Run::new(zipf(7), |_| 0, |_| ());
        run.plane.tracker = Box::new(Failing(failures));
        run.seconds(120);
        run.plane.tracker.name()
    };
    assert_eq!((name_after(FAILURES - 1), name_after(FAILURES)), ("failing", "alloc"));
}
