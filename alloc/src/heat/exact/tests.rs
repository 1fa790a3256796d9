//! The state machine on a played kernel: what it finds, what it costs, and what it does when refused.

use super::world_tests::{BASE, World};
use super::*;
use crate::heat::rate::code_of_hz;

const S: u64 = 1_000_000_000;
const FIRST: usize = BASE;

struct Run {
    world: World,
    map: HeatMap,
    tracker: Exact<World>,
    /// When the program was said to have changed.
    surprises: Vec<u64>,
    answered: u32,
}

impl Run {
    fn new(rate: Vec<f64>) -> Run {
        Run::costing(rate, [30, 30, 0])
    }

    fn costing(rate: Vec<f64>, cost: [u64; 3]) -> Run {
        let world = World::new(rate);
        world.0.borrow_mut().cost = cost;
        let mut map = HeatMap::new();
        world.sync(&mut map);
        let tracker = Exact::new(world.clone(), 0.03);
        Run { world, map, tracker, surprises: Vec::new(), answered: 0 }
    }

    /// Goes on for `seconds`; answers the processor time that took.
    fn go_on(&mut self, seconds: f64) -> Result<u64, Errno> {
        let (until, before) = (self.world.now() + (seconds * 1e9) as u64, self.world.clock().1);
        while self.world.now() < until {
            let (now, arenas) = (self.world.now(), [self.world.arena()]);
            let look = Look { now, arenas: &arenas, dram_share: 0.12, cut: 0, unsettled: false };
            let polled = self.tracker.poll(&mut self.map, &look)?;
            if polled.surprised {
                self.surprises.push(now);
            }
            self.answered += u32::from(polled.answered);
            let mut w = self.world.0.borrow_mut();
            w.now = w.now.max(polled.wake.min(until));
        }
        Ok(self.world.clock().1 - before)
    }

    /// What the pages that the map holds to be the hottest tenth are used, as a share of what the hottest tenth is.
    fn worth(&self) -> f64 {
        let rate = self.world.0.borrow().rate.clone();
        let tenth = rate.len() / 10;
        let used_by_top = |key: &dyn Fn(usize) -> f64| -> f64 {
            let mut order: Vec<usize> = (0..rate.len()).collect();
            order.sort_by(|&a, &b| key(b).total_cmp(&key(a)));
            order[..tenth].iter().map(|&i| rate[i]).sum()
        };
        let now = self.world.now();
        let held = |i: usize| f64::from(self.map.extents()[i / PAGES].raw_rate(i % PAGES, now));
        used_by_top(&held) / used_by_top(&|i| rate[i])
    }

    fn looks(&self) -> u64 {
        self.world.0.borrow().looks
    }
}

#[test]
fn a_hot_tenth_is_found_within_seconds() {
    for toll in [0, 750] {
        let mut run = Run::costing(World::hot_tenth(64, 0), [30, 30, toll]);
        run.go_on(5.0).unwrap();
        assert!(run.worth() > 0.97, "{} where a fault costs {toll} ns", run.worth());
    }
}

#[test]
fn the_window_finds_the_length_in_which_about_as_many_pages_are_used_as_fit() {
    for hz in [3.0, 100.0, 5_000.0] {
        // Rates over four decades.
        let rate = (0..32 * PAGES).map(|i| hz * 0.01_f64.powf((i * 7919 % 1000) as f64 / 500.0));
        let mut run = Run::new(rate.collect());
        run.go_on(60.0).unwrap();
        let dt = run.tracker.window as f64 / 1e9;
        let rate = &run.world.0.borrow().rate;
        let share = rate.iter().map(|l| 1.0 - (-l * dt).exp()).sum::<f64>() / rate.len() as f64;
        assert!((0.08..0.25).contains(&share) && run.tracker.calibrated, "{hz} Hz: {share} in {dt} s");
    }
}

#[test]
fn the_trackers_share_of_a_core_is_bounded_on_a_slow_kernel() {
    let mut run = Run::costing(World::hot_tenth(128, 0), [3_000, 3_000, 0]);
    let start = run.go_on(400.0).unwrap();
    assert!((start as f64) < 0.02 * 400e9 + 12.5e9, "{start}");
    let rest = run.go_on(400.0).unwrap();
    assert!((rest as f64) < 0.021 * 400e9, "{rest}");
}

/// The share of a core that faults cost the program in these `seconds`.
fn faulting(run: &mut Run, seconds: f64) -> f64 {
    let before = run.world.0.borrow().faults;
    run.go_on(seconds).unwrap();
    let faults = run.world.0.borrow().faults - before;
    faults as f64 * 750.0 / (seconds * 1e9)
}

fn faster(rate: Vec<f64>) -> Vec<f64> {
    rate.into_iter().map(|hz| hz * 100.0).collect()
}

#[test]
fn what_faults_cost_the_program_is_bounded() {
    for rate in [World::hot_tenth(512, 0), faster(World::hot_tenth(512, 0))] {
        let mut run = Run::costing(rate, [2, 2, 750]);
        let (start, rest) = (faulting(&mut run, 1.0), faulting(&mut run, 300.0));
        assert!(start < BURDEN_HURRY && rest < BURDEN, "{start} of a core at first, {rest} later");
    }
}

/// Rates of 64 extents that fall off slowly, in an order that depends on `seed`.
fn zipf(seed: u64) -> Vec<f64> {
    crate::heat::refs::world_tests::World::zipf(64 * PAGES, 0.99, 400_000.0, seed)
}

#[test]
fn a_program_that_goes_on_as_ever_costs_less_and_less_and_surprises_nobody() {
    for rate in [World::hot_tenth(64, 0), zipf(7)] {
        let mut run = Run::new(rate);
        let start = run.go_on(3.0).unwrap() / 3;
        run.go_on(110.0).unwrap();
        let (before, all) = (run.looks(), 64 * PAGES as u64);
        let rest = run.go_on(640.0).unwrap() / 640;
        assert!(rest * 16 < start, "{rest} ns a second at rest, {start} at first");
        let times = (run.looks() - before) as f64 / all as f64;
        assert!((15.0..40.0).contains(&times), "each page was looked at {times} times in twenty times 32 s");
        assert_eq!(run.surprises, [], "nothing has changed");
        assert!(run.worth() > 0.97);
    }
}

#[test]
fn a_shift_of_the_hot_set_is_noticed_at_rest_and_the_new_one_found() {
    let (tenth, other) = (World::hot_tenth(64, 0), World::hot_tenth(64, 5));
    for (rate, shifted, learns) in [(tenth, other, 20.0), (zipf(7), zipf(99), 40.0)] {
        let mut run = Run::new(rate);
        run.go_on(120.0).unwrap();
        let (at, before) = (run.world.now(), run.worth());
        assert_eq!(run.surprises, []);
        run.world.0.borrow_mut().rate = shifted;
        assert!(run.worth() < 0.5);
        run.go_on(learns).unwrap();
        assert!(run.surprises.len() == 1 && run.surprises[0] < at + 10 * S, "{at}: {:?}", run.surprises);
        assert!(run.worth() > before - 0.02, "{} now, {before} before", run.worth());
    }
}

#[test]
fn a_change_in_one_extent_is_learnt_without_a_surprise() {
    let mut run = Run::new(World::hot_tenth(64, 0));
    run.go_on(120.0).unwrap();
    run.world.0.borrow_mut().rate[..PAGES].reverse();
    let wrong = |run: &Run| {
        let (extent, rate) = (&run.map.extents()[0], &run.world.0.borrow().rate);
        (0..PAGES).filter(|&i| (extent.raw_rate(i, 0) > code_of_hz(2.0)) != (rate[i] > 2.0)).count()
    };
    let before = wrong(&run);
    run.go_on(60.0).unwrap();
    let after = wrong(&run);
    assert!(before > PAGES / 8 && after < PAGES / 50, "{before} pages, {after} later");
    assert_eq!(run.surprises, []);
}

#[test]
fn a_program_that_stalls_has_not_changed_and_one_that_sleeps_is_remembered() {
    let mut run = Run::new(World::hot_tenth(64, 0));
    run.go_on(60.0).unwrap();
    let mut sleep = |seconds: f64| {
        let awake = std::mem::replace(&mut run.world.0.borrow_mut().rate, vec![0.0; 64 * PAGES]);
        run.go_on(seconds).unwrap();
        run.world.0.borrow_mut().rate = awake;
        assert!(run.worth() > 0.97, "{} after {seconds} s", run.worth());
        run.go_on(60.0).unwrap();
        assert!(run.worth() > 0.97, "{} after {seconds} s and again", run.worth());
        run.surprises.len()
    };
    assert_eq!(sleep(2.5), 0);
    sleep(30.0);
}

#[test]
fn a_program_that_slows_down_for_good_is_not_taken_for_another_and_rates_follow() {
    let mut run = Run::new(World::hot_tenth(64, 0));
    run.go_on(60.0).unwrap();
    let (window, looks) = (run.tracker.window, run.looks());
    run.world.0.borrow_mut().rate.iter_mut().for_each(|hz| *hz /= 8.0);
    run.go_on(120.0).unwrap();
    assert_eq!(run.surprises, []);
    assert!(run.worth() > 0.97, "{}", run.worth());
    assert!(run.tracker.window > 3 * window, "the window has followed: {}", run.tracker.window);
    let times = (run.looks() - looks) / (64 * PAGES) as u64;
    assert!(times < 10, "it was looked at {times} times");
}

#[test]
fn memory_that_is_new_is_looked_at_at_once() {
    let mut run = Run::new(World::hot_tenth(32, 0));
    run.go_on(120.0).unwrap();
    run.world.grow(World::hot_tenth(40, 0));
    run.world.sync(&mut run.map);
    run.go_on(8.0).unwrap();
    assert!(run.map.extents()[32..].iter().all(|e| e.pages.iter().all(|p| p.heat.seen() >= 4)));
    assert!(run.worth() > 0.97, "{}", run.worth());
}

#[test]
fn what_fails_for_a_while_is_gone_on_with_and_what_is_forbidden_is_the_end() {
    for reading in [false, true] {
        let mut run = Run::new(World::hot_tenth(16, 0));
        run.go_on(2.0).unwrap();
        let refuse: [fn(usize, bool) -> Option<i32>; 2] =
            [|_, reading| (!reading).then_some(libc::ENOMEM), |_, reading| reading.then_some(libc::ENOMEM)];
        run.world.0.borrow_mut().refuse = Some(refuse[usize::from(reading)]);
        let answered = run.answered;
        assert!(run.go_on(4.0).is_ok() && run.answered <= answered + 1, "reading: {reading}");
        run.world.0.borrow_mut().refuse = None;
        run.go_on(20.0).unwrap();
        assert!(run.answered > answered + 2 && run.worth() > 0.97);
        run.world.0.borrow_mut().refuse = Some(|_, _| Some(libc::ENOMEM));
        assert_eq!(run.go_on(600.0), Err(Errno(libc::ENOMEM)), "not for ever");
    }
    for e in [|_, _| Some(libc::EPERM), |_, reading: bool| reading.then_some(libc::EACCES)] {
        let mut run = Run::new(World::hot_tenth(16, 0));
        run.go_on(2.0).unwrap();
        run.world.0.borrow_mut().refuse = Some(e);
        assert!(matches!(run.go_on(60.0), Err(Errno(libc::EPERM | libc::EACCES))));
        assert_eq!(run.tracker.failures, 0, "at once");
    }
}

#[test]
fn one_extent_that_cannot_be_watched_keeps_no_other_from_it() {
    let mut run = Run::new(World::hot_tenth(16, 0));
    run.world.0.borrow_mut().refuse =
        Some(|at, reading| (!reading && at == FIRST + 5 * PAGES * PAGE_BYTES).then_some(libc::ENOENT));
    run.go_on(60.0).unwrap();
    for (i, extent) in run.map.extents().iter().enumerate() {
        let known = extent.pages.iter().all(|p| p.heat.seen() >= 8);
        assert_eq!(known, i != 5, "extent {i}");
    }
    let before = run.looks();
    run.go_on(60.0).unwrap();
    assert!(run.looks() - before < 60 * 2 * PAGES as u64, "nor keeps the tracker busy");
}
