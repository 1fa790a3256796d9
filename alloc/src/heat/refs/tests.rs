//! The tracker on a played kernel: what it finds, what it costs, and what it does when refused.

use super::world_tests::World;
use super::*;
use crate::heat::map::Place;
use crate::heat::rate::hz_of_code;

fn map_of(world: &World) -> HeatMap {
    let mut map = HeatMap::new();
    map.sync(world.now(), |f| world.extents(f));
    for e in map.extents_mut() {
        for (i, page) in e.pages.iter_mut().enumerate() {
            page.place = if i % 3 == 0 { Place::Dram } else { Place::Device };
        }
        e.recount();
    }
    map
}

/// The rate code that a third of the pages is expected to have at least, for all that is known: what a policy would tell the tracker.
fn cut(map: &HeatMap) -> u16 {
    let mut rates = Vec::new();
    for (e, i) in map.extents().iter().flat_map(|e| (0..PAGES).map(move |i| (e, i))) {
        let (rate, deviation) = (i32::from(e.raw_rate(i, 0)), e.deviation(i, 0));
        rates.extend([rate - deviation, rate, rate + deviation]);
    }
    let at = rates.len() * 2 / 3;
    *rates.select_nth_unstable(at).1 as u16
}

/// Runs the tracker for `seconds` and answers the processor time it took.
fn run(world: &World, tracker: &mut Refs<World>, map: &mut HeatMap, seconds: f64, unsettled: bool) -> u64 {
    let (until, before) = (world.now() + (seconds * 1e9) as u64, world.clock().1);
    let arenas = [world.arena()];
    while world.now() < until {
        let cut = cut(map);
        let look = Look { now: world.now(), arenas: &arenas, dram_share: 0.33, cut, unsettled };
        let polled = tracker.poll(map, &look).unwrap();
        world.sleep_until(polled.wake.min(until));
    }
    world.clock().1 - before
}

/// What the pages that the map holds to be the hottest third are used, as a share of what the hottest third is.
fn worth(world: &World, map: &HeatMap) -> f64 {
    let rate = world.0.borrow().rate.clone();
    let third = rate.len() / 3;
    let used_by_top = |key: &dyn Fn(usize) -> f64| -> f64 {
        let mut order: Vec<usize> = (0..rate.len()).collect();
        order.sort_by(|&a, &b| key(b).total_cmp(&key(a)));
        order[..third].iter().map(|&i| rate[i]).sum()
    };
    let held = |i: usize| hz_of_code(map.extents()[i / PAGES].raw_rate(i % PAGES, world.now()));
    used_by_top(&held) / used_by_top(&|i| rate[i])
}

#[test]
fn scattered_hot_pages_are_found_one_by_one() {
    let world = World::new(World::zipf(24 * PAGES, 0.99, 200_000.0, 7), |_| 0);
    let (mut map, mut tracker) = (map_of(&world), Refs::new(world.clone(), 0.03));
    run(&world, &mut tracker, &mut map, 30.0, true);
    let worth = worth(&world, &map);
    assert!(worth > 0.95, "{worth}");
}

/// A heap so large, or a kernel so slow, that looking at all of it takes twenty times as long as a page at the margin needs to be touched.
#[test]
fn in_a_large_heap_pages_are_not_watched_for_longer() {
    let world = World::new(World::zipf(128 * PAGES, 0.99, 8e6, 7), |_| 0);
    world.0.borrow_mut().cost = [25_000, 30_000, 2_000, 2_000];
    let (mut map, mut tracker) = (map_of(&world), Refs::new(world.clone(), 0.3));
    run(&world, &mut tracker, &mut map, 60.0, true);
    let found = worth(&world, &map);
    let (mut map, mut tracker) = (map_of(&world), Refs::new(world.clone(), 0.3));
    tracker.parts = false;
    run(&world, &mut tracker, &mut map, 60.0, true);
    let all_at_once = worth(&world, &map);
    // Pages that are surely on the right side are not compared with each other any further.
    assert!(found > 0.85 && found > all_at_once + 0.1, "{found}, all at once {all_at_once}");
}

#[test]
fn the_number_of_mappings_stays_within_its_budget() {
    let world = World::new(World::zipf(64 * PAGES, 0.99, 300_000.0, 9), |_| 0);
    let (mut map, mut tracker) = (map_of(&world), Refs::new(world.clone(), 0.03));
    run(&world, &mut tracker, &mut map, 20.0, true);
    let most = world.0.borrow().most_mappings;
    assert!((3000..=8192).contains(&most), "{most}");
}

#[test]
fn the_trackers_share_of_a_core_is_bounded() {
    let world = World::new(World::zipf(64 * PAGES, 0.99, 300_000.0, 9), |_| 0);
    let (mut map, mut tracker) = (map_of(&world), Refs::new(world.clone(), 0.03));
    let busy = run(&world, &mut tracker, &mut map, 400.0, true);
    assert!((busy as f64) < 0.02 * 400e9 + 12.5e9, "{busy}");
    let rest = run(&world, &mut tracker, &mut map, 400.0, false);
    assert!((rest as f64) < 0.03 * 400e9, "{rest}");
}

#[test]
fn the_window_finds_the_length_that_tells_pages_apart() {
    for total in [5_000.0, 100_000.0, 3_000_000.0] {
        let world = World::new(World::zipf(16 * PAGES, 0.99, total, 3), |_| 0);
        let (mut map, mut tracker) = (map_of(&world), Refs::new(world.clone(), 0.03));
        run(&world, &mut tracker, &mut map, 20.0, true);
        let dt = tracker.window as f64 / 1e9;
        let rate = world.0.borrow().rate.clone();
        if tracker.window < 3 * *WINDOWS.start() {
            continue; // reading takes longer than the window: it cannot be made shorter
        }
        let share = rate.iter().map(|l| 1.0 - (-l * dt).exp()).sum::<f64>() / rate.len() as f64;
        assert!((0.15..0.6).contains(&share), "{total} Hz: {share} touched in {dt} s");
    }
}

#[test]
fn a_heap_that_sleeps_costs_no_zooming() {
    let world = World::new(vec![0.0; 32 * PAGES], |_| 0);
    let (mut map, mut tracker) = (map_of(&world), Refs::new(world.clone(), 0.03));
    run(&world, &mut tracker, &mut map, 30.0, true);
    assert!(world.0.borrow().most_mappings < 100);
    assert!(map.extents().iter().all(|e| e.pages.iter().all(|p| p.heat.seen() > 0 && !p.heat.at_work())));
}

#[test]
fn a_program_that_changes_its_habits_is_noticed_at_rest() {
    let world = World::new(World::zipf(24 * PAGES, 0.99, 200_000.0, 7), |_| 0);
    let (mut map, mut tracker) = (map_of(&world), Refs::new(world.clone(), 0.03));
    run(&world, &mut tracker, &mut map, 40.0, true);
    run(&world, &mut tracker, &mut map, 60.0, false);
    assert!(!tracker.urgency.is_eager(), "a steady program is no surprise");
    world.0.borrow_mut().rate = World::zipf(24 * PAGES, 0.99, 200_000.0, 99);
    let before = worth(&world, &map);
    run(&world, &mut tracker, &mut map, 60.0, false);
    let after = worth(&world, &map);
    assert!(before < 0.5 && after > 0.95, "{before} -> {after}");
}

#[test]
fn when_the_system_refuses_mappings_the_tracker_lives_with_fewer() {
    #[derive(Clone)]
    struct Limited(World, usize);
    impl Kernel for Limited {
        fn clock(&self) -> (u64, u64) {
            self.0.clock()
        }
        fn clear(&mut self) -> Result<(), Errno> {
            self.0.clear()
        }
        fn mappings(
            &mut self,
            until: usize,
            each: &mut dyn FnMut(&smaps::Mapping, u64) -> bool,
        ) -> Result<(), Errno> {
            self.0.mappings(until, each)
        }
        fn set(&mut self, p: &Policy, from: usize, to: usize, v: layout::Variant) -> Result<(), Errno> {
            if to - from == PAGE_BYTES && self.1 == 0 {
                return Err(Errno(libc::ENOMEM));
            }
            self.1 = self.1.saturating_sub(1);
            self.0.set(p, from, to, v)
        }
        fn most_segments(&self) -> usize {
            8192
        }
    }
    let world = World::new(World::zipf(24 * PAGES, 0.99, 200_000.0, 7), |_| 0);
    let mut map = map_of(&world);
    let mut tracker = Refs::new(Limited(world.clone(), 700), 0.03);
    let arenas = [world.arena()];
    for _ in 0..200 {
        let cut = cut(&map);
        let look = Look { now: world.now(), arenas: &arenas, dram_share: 0.33, cut, unsettled: true };
        let polled = tracker.poll(&mut map, &look).expect("a refusal is not the end");
        world.sleep_until(polled.wake);
    }
    assert!(tracker.most < 8192);
}

#[test]
fn a_program_that_slows_down_for_good_is_not_taken_for_another_and_rates_follow() {
    let rates = World::zipf(24 * PAGES, 0.99, 400_000.0, 7);
    let world = World::new(rates.clone(), |_| 0);
    let (mut map, mut tracker) = (map_of(&world), Refs::new(world.clone(), 0.03));
    run(&world, &mut tracker, &mut map, 60.0, true);
    assert!(!tracker.urgency.is_eager());
    let (before, alarmed) = (worth(&world, &map), tracker.urgency.since());
    world.0.borrow_mut().rate = rates.iter().map(|r| r / 8.0).collect();
    run(&world, &mut tracker, &mut map, 120.0, false);
    assert_eq!(tracker.urgency.since(), alarmed, "the habits are the same");
    assert!(worth(&world, &map) > before - 0.02);
    assert!(tracker.window > 3 * FIRST_WINDOW, "the window has followed: {}", tracker.window);
}

/// A block of a fifth of the pages, from `start` on, gets nine of ten of `total` accesses a second.
fn hot_block(n: usize, start: usize, total: f64) -> Vec<f64> {
    let hot = n / 5;
    let cold = 0.1 * total / n as f64;
    (0..n)
        .map(|i| cold + if (start..start + hot).contains(&i) { 0.9 * total / hot as f64 } else { 0.0 })
        .collect()
}

#[test]
fn a_hot_block_that_moves_is_noticed_at_rest_and_found() {
    for total in [30_000.0, 300_000.0] {
        let n = 48 * PAGES;
        let world = World::new(hot_block(n, 3 * PAGES + 100, total), |_| 0);
        let (mut map, mut tracker) = (map_of(&world), Refs::new(world.clone(), 0.03));
        run(&world, &mut tracker, &mut map, 40.0, true);
        run(&world, &mut tracker, &mut map, 60.0, false);
        assert!(!tracker.urgency.is_eager(), "a steady program is no surprise");
        world.0.borrow_mut().rate = hot_block(n, 30 * PAGES + 100, total);
        run(&world, &mut tracker, &mut map, 20.0, false);
        let worth = worth(&world, &map);
        assert!(worth > 0.95, "{worth} at {total} Hz");
    }
}
