//! The whole loop on a played world: convergence, rest, adaptation, budgets.

use super::*;
use crate::arena::ExtentView;
use crate::config::Amount;
use crate::heat::map::{PAGES, SLICES};
use crate::heat::refs::Refs;
use crate::heat::refs::world_tests::World;
use crate::mover::batch::PageMover;

mod refusals;
mod store;

impl System for World {
    fn now(&self) -> u64 {
        World::now(self)
    }
    fn extents(&self, f: &mut dyn FnMut(ExtentView)) {
        World::extents(self, f);
    }
    fn extent(&self, index: u32) -> Option<ExtentView> {
        let mut found = None;
        World::extents(self, &mut |v| {
            if v.index == index {
                found = Some(v);
            }
        });
        found
    }
    fn births(&self, index: u32) -> [u32; SLICES] {
        World::births(self, index)
    }
    fn set_in_dram(&self, index: u32, slices: u32) {
        self.0.borrow_mut().in_dram[index as usize] = slices;
    }
    fn arenas(&self, f: &mut dyn FnMut(ArenaView)) {
        f(self.arena());
    }
    fn heap_bytes(&self) -> u64 {
        (self.0.borrow().rate.len() * PAGE_BYTES) as u64
    }
    fn resident_bytes(&self) -> u64 {
        self.heap_bytes()
    }
    fn nodes(&self) -> (NodeMask, NodeMask) {
        (NodeMask::of(0), NodeMask::of(1))
    }
    fn node_bytes(&self, nodes: &NodeMask) -> (u64, u64) {
        let on = |n: i32| self.0.borrow().node.iter().filter(|&&x| x == n).count() * PAGE_BYTES;
        let (total, others) = (1u64 << 30, [self.0.borrow().others.0, 0]);
        let free = |n: u32| total - on(n as i32) as u64 - others[n as usize];
        nodes.iter().fold((0, 0), |(sum, all), n| (sum + free(n), all + total))
    }
    fn stalled_us(&self) -> Option<u64> {
        Some((World::now(self) as f64 / 1e3 * self.0.borrow().others.1) as u64)
    }
    fn latency(&mut self, node: u32) -> Option<u64> {
        Some([100, 250][node as usize])
    }
    fn cgroup_limit(&self) -> Option<u64> {
        None
    }
    fn press(&self, _: bool, _: bool) {}
    fn say(&self, _: &str) {}
}

const EXTENTS: usize = 24;
const N: usize = EXTENTS * PAGES;

struct Run {
    world: World,
    plane: Plane,
}

impl Run {
    fn new(rates: Vec<f64>, node: impl Fn(usize) -> i32, edit: impl FnOnce(&mut Config)) -> Run {
        Run::on(World::new(rates, node), 0.03, edit)
    }

    /// A run in which the tracker may take `share` of a core.
    fn on(world: World, share: f64, edit: impl FnOnce(&mut Config)) -> Run {
        let mut config =
            Config { dram: Amount::Bytes((N / 3 * PAGE_BYTES) as u64), tick_ms: 100, ..Config::DEFAULT };
        edit(&mut config);
        let tracker: Box<dyn Tracker> = Box::new(Refs::new(world.clone(), share));
        let plane = Plane::new(&config, Mode::Auto, (tracker, Vec::new()), &world);
        Run { world, plane }
    }

    fn seconds(&mut self, seconds: u64) {
        self.advance(seconds * S);
    }

    fn advance(&mut self, ns: u64) {
        let until = World::now(&self.world) + ns;
        while World::now(&self.world) < until {
            let wake = self.plane.tick(&mut self.world.clone());
            self.world.sleep_until(wake.min(until));
        }
    }

    fn fraction_of_oracle(&self) -> f64 {
        let (got, best) = self.world.shares();
        got / best
    }

    fn dram_pages(&self) -> usize {
        self.world.0.borrow().node.iter().filter(|&&n| n == 0).count()
    }

    fn moves(&self) -> u64 {
        let s = &self.plane.stats;
        s.promoted + s.demoted + s.evicted
    }
}

fn zipf(seed: u64) -> Vec<f64> {
    World::zipf(N, 0.99, 300_000.0, seed)
}

#[test]
fn a_zipf_heap_converges_to_nine_tenths_of_the_oracle_and_rests() {
    // Everything in DRAM, as after loading: three times the budget.
    let mut run = Run::new(zipf(7), |_| 0, |_| ());
    run.seconds(60);
    let reached = run.fraction_of_oracle();
    assert!(reached > 0.93, "{reached} of the oracle");
    let budget = N / 3;
    assert!((budget * 94 / 100..=budget).contains(&run.dram_pages()), "{} of {budget}", run.dram_pages());
    run.seconds(240);
    let (before, returned) = (run.moves(), run.plane.stats.ping_pong);
    run.seconds(120);
    let (moved, returned) = (run.moves() - before, run.plane.stats.ping_pong - returned);
    // What still moves makes the placement better, as more is learnt; none of it is taken back.
    assert!(moved < N as u64 / 16, "{moved} pages moved at rest");
    assert!(returned * 100 <= moved, "{returned} of {moved} came back");
    assert!(run.fraction_of_oracle() >= reached, "{reached} of the oracle, then less");
}

#[test]
fn while_others_wait_for_dram_that_is_short_the_coldest_makes_room() {
    let mut run = Run::new(zipf(7), |_| 0, |config| config.dram = Amount::Auto);
    // 2 % are left free, and these are not ours.
    run.world.0.borrow_mut().others.0 = (1 << 30) / 100 * 98 - (N * PAGE_BYTES) as u64;
    run.seconds(60);
    assert!(run.dram_pages() * 100 > N * 90, "{} of {N}", run.dram_pages());
    run.world.0.borrow_mut().others.1 = 0.3;
    let moves = run.moves();
    for _ in 0..600 {
        run.advance(S / 10);
        assert!(run.dram_pages() * 100 > N * 50, "{} of {N} are left", run.dram_pages());
    }
    assert!(run.moves() < moves + N as u64, "{} moves", run.moves() - moves);
    // Until 4 % are free.
    let (kept, served) = (run.dram_pages(), run.fraction_of_oracle());
    assert!((N * 50..N * 70).contains(&(kept * 100)), "{kept} of {N}");
    assert!(served > 0.93, "{served} of what the best {kept} pages would serve");
    run.world.0.borrow_mut().others.1 = 0.0;
    run.seconds(180);
    assert!(run.dram_pages() * 100 > N * 90, "{} of {N} came back", run.dram_pages());
}

#[test]
fn when_the_hot_set_shifts_it_is_found_again_within_a_minute() {
    let hot = N / 4;
    let rates = |from: usize| -> Vec<f64> {
        // A tenth of accesses everywhere, the rest on a scattered quarter.
        (0..N).map(|i| if (i * 7919 + from) % N < hot { 30.0 } else { 0.3 }).collect()
    };
    let mut run = Run::new(rates(0), |_| 0, |_| ());
    run.seconds(120);
    run.world.0.borrow_mut().rate = rates(N / 2);
    run.seconds(60);
    let w = run.world.0.borrow();
    let found = (0..N).filter(|&i| w.rate[i] > 1.0 && w.node[i] == 0).count();
    assert!(found * 10 > hot * 8, "{found} of {hot}");
}

#[test]
fn an_over_full_device_is_relieved_into_dram_and_no_further_than_the_budget() {
    let device = (N / 2 * PAGE_BYTES) as u64;
    let edit = |c: &mut Config| {
        c.device = Amount::Bytes(device);
        c.dram = Amount::Bytes((N * PAGE_BYTES) as u64);
    };
    let mut run = Run::new(zipf(3), |_| 1, edit);
    run.seconds(30);
    let on_device = N - run.dram_pages();
    assert!(on_device <= N / 2, "{on_device} pages still on the device");
    assert!(run.plane.stats.evicted > 0);
}

#[test]
fn below_its_budget_a_process_is_left_alone() {
    let mut run = Run::new(zipf(3), |_| 0, |c| c.dram = Amount::Bytes((2 * N * PAGE_BYTES) as u64));
    run.seconds(20);
    assert_eq!(run.moves(), 0);
    assert_eq!(run.world.0.borrow().most_mappings, 0, "nothing was tracked");
}

/// The numbers up to `n` in an order that `seed` shuffles.
fn shuffled(n: usize, seed: u64) -> Vec<usize> {
    let order = World::zipf(n, 1.0, 1.0, seed);
    let mut numbers: Vec<usize> = (0..n).collect();
    numbers.sort_by(|&a, &b| order[b].total_cmp(&order[a]));
    numbers
}

/// `n` pages in blocks of 256 neighbours, in an order that `seed` shuffles; accesses by a Zipf law of the pages' ranks, or nine of
/// ten to the first fifth; `total` Hz together.
fn blocks(n: usize, seed: u64, total: f64, hot: bool) -> Vec<f64> {
    let by_rank: Vec<f64> = (0..n)
        .map(|rank| match (hot, rank < n / 5) {
            (false, _) => ((rank + 1) as f64).powf(-0.99),
            (true, is_hot) => 0.1 / n as f64 + if is_hot { 0.9 / (n / 5) as f64 } else { 0.0 },
        })
        .collect();
    let sum: f64 = by_rank.iter().sum();
    let mut rates = vec![0.0; n];
    for (ranks, block) in by_rank.chunks(256).zip(shuffled(n / 256, seed)) {
        rates[block * 256..][..256].iter_mut().zip(ranks).for_each(|(rate, w)| *rate = total * w / sum);
    }
    rates
}

#[test]
fn each_new_distribution_is_found_within_a_quarter_of_a_minute_at_any_pace() {
    let n = 48 * PAGES;
    for total in [100_000.0, 1_000_000.0, 4_000_000.0] {
        let edit = |config: &mut Config| config.dram = Amount::Bytes((n / 3 * PAGE_BYTES) as u64);
        let mut run = Run::new(blocks(n, 1, total, false), |i| i32::from(i >= n / 3), edit);
        for (seed, hot) in [(1, false), (2, true), (3, false), (4, true)] {
            run.world.0.borrow_mut().rate = blocks(n, seed, total, hot);
            run.seconds(15);
            let found = run.fraction_of_oracle();
            assert!(found > 0.9, "{found} of the oracle after 15 s: {total} Hz, number {seed}");
            run.seconds(45);
            let (moves, returned) = (run.moves(), run.plane.stats.ping_pong);
            run.seconds(15);
            let (moves, returned) = (run.moves() - moves, run.plane.stats.ping_pong - returned);
            assert!(moves < n as u64 / 50, "{moves} moves at rest: {total} Hz, number {seed}");
            assert!(returned <= moves / 50 + 8, "{returned} of {moves} came back: {total} Hz, number {seed}");
        }
    }
}

#[test]
fn a_second_run_begins_with_what_the_first_has_learnt() {
    let mut first = Run::new(zipf(11), |_| 0, |_| ());
    first.seconds(120);
    let steady = first.fraction_of_oracle();
    let text = first.plane.next_profile(|_| Vec::new()).unwrap();
    let after_ten_ticks = |profile: Option<Profile>| {
        let mut run = Run::new(zipf(11), |_| 0, |_| ());
        run.plane.set_profile(profile.unwrap_or_default());
        for _ in 0..10 {
            let wake = run.plane.tick(&mut run.world.clone());
            run.world.sleep_until(wake);
        }
        run.fraction_of_oracle()
    };
    let (with, without) = (after_ten_ticks(Profile::parse(&text).ok()), after_ten_ticks(None));
    assert!(
        with > 0.95 * steady && without < 0.9 * steady,
        "{with}, {without} without, {steady} after two minutes"
    );
}

/// A heap of 256 MiB, one in `parts` of which may be in DRAM, and is at first whatever comes first. `slow`: on a machine on which all that the
/// tracker does costs five times as much, and which therefore lets it have more of a core.
fn one_in(parts: usize, rates: Vec<f64>, slow: bool) -> Run {
    let n = rates.len();
    let world = World::new(rates, |i| i32::from(i >= n / parts));
    if slow {
        world.0.borrow_mut().cost = [50_000, 25_000, 300, 20_000];
    }
    let edit = |config: &mut Config| config.dram = Amount::Bytes((n / parts * PAGE_BYTES) as u64);
    Run::on(world, if slow { 0.1 } else { 0.03 }, edit)
}

fn eighth(rates: Vec<f64>, slow: bool) -> Run {
    one_in(8, rates, slow)
}

/// `n` pages in blocks of `size` neighbours, a tenth of which gets nine of ten of `total` accesses a second; `seed` says which.
fn hot_tenth(n: usize, size: usize, seed: u64, total: f64) -> Vec<f64> {
    let mut rates = vec![0.1 * total / (n as f64 * 0.9); n];
    for b in shuffled(n / size, seed).into_iter().take(n / size / 10) {
        rates[b * size..][..size].fill(0.9 * total / (n as f64 * 0.1));
    }
    rates
}

#[test]
fn a_hot_tenth_in_blocks_is_found_in_seconds_and_once_found_costs_little() {
    let n = 128 * PAGES;
    for (slow, first, shifted) in [(true, 5, 12), (false, 2, 5)] {
        let mut run = eighth(hot_tenth(n, 64, 1, 5e6), slow);
        run.seconds(first);
        assert!(run.fraction_of_oracle() > 0.9, "{} of the oracle, slow: {slow}", run.fraction_of_oracle());
        run.seconds(60);
        run.world.0.borrow_mut().rate = hot_tenth(n, 64, 2, 5e6);
        run.seconds(shifted);
        assert!(run.fraction_of_oracle() > 0.9, "{} after a shift, slow: {slow}", run.fraction_of_oracle());
        run.seconds(60);
        let (cpu, moves) = (run.world.0.borrow().cpu, run.moves());
        run.seconds(60);
        let (cpu, moves) = (run.world.0.borrow().cpu - cpu, run.moves() - moves);
        assert!(cpu < 60 * S * if slow { 11 } else { 4 } / 100, "{cpu} ns of 60 s, slow: {slow}");
        assert!(moves < n as u64 / 200, "{moves} moves at rest, slow: {slow}");
    }
}

#[test]
fn hot_pages_among_cold_ones_are_found_and_so_are_those_that_take_their_place() {
    let n = 128 * PAGES;
    let mut run = eighth(hot_tenth(n, 1, 1, 5e6), false);
    run.seconds(15);
    assert!(run.fraction_of_oracle() > 0.9, "{} of the oracle", run.fraction_of_oracle());
    run.seconds(60);
    run.world.0.borrow_mut().rate = hot_tenth(n, 1, 2, 5e6);
    run.seconds(20);
    assert!(run.fraction_of_oracle() > 0.85, "{} after a shift", run.fraction_of_oracle());
}

/// The windows are shorter than the program runs, or does not run, at a time.
#[test]
fn a_program_that_stops_every_few_milliseconds_is_followed_all_the_same() {
    let n = 128 * PAGES;
    let mut run = eighth(hot_tenth(n, 64, 1, 5e6), false);
    run.world.0.borrow_mut().stalls = [5_000_000; 2];
    run.seconds(10);
    assert!(run.fraction_of_oracle() > 0.9, "{} of the oracle", run.fraction_of_oracle());
    run.seconds(30);
    run.world.0.borrow_mut().rate = hot_tenth(n, 64, 2, 5e6);
    run.seconds(10);
    assert!(run.fraction_of_oracle() > 0.9, "{} after a shift", run.fraction_of_oracle());
}

/// Each second a block that was hot and one that was cold change places.
#[test]
fn a_hot_set_that_drifts_is_followed() {
    let (n, size) = (128 * PAGES, 64);
    let (order, hot) = (shuffled(n / size, 1), n / size / 10);
    for slow in [false, true] {
        let mut run = eighth(hot_tenth(n, size, 1, 5e6), slow);
        run.seconds(20);
        let mut sum = 0.0;
        for second in 0..60 {
            let (leaves, comes) = (order[second % hot] * size, order[hot + second] * size);
            let mut world = run.world.0.borrow_mut();
            (0..size).for_each(|i| world.rate.swap(leaves + i, comes + i));
            drop(world);
            run.seconds(1);
            sum += if second < 30 { 0.0 } else { run.fraction_of_oracle() / 30.0 };
        }
        assert!(sum > 0.9, "{sum} of the oracle on average, slow: {slow}");
    }
}

/// In the window in which the page that just fits is touched once, half of all pages are: those that have become hot hardly stand out.
#[test]
fn where_half_of_the_heap_fits_or_a_quarter_a_hot_set_that_shifts_is_noticed_too() {
    let n = 128 * PAGES;
    let half = [(2, 64, false, 9), (2, 64, true, 18), (2, 1, false, 15), (2, 1, true, 36)];
    for (parts, size, slow, within) in half.into_iter().chain([(4, 1, false, 15)]) {
        let mut run = one_in(parts, hot_tenth(n, size, 1, 5e6), slow);
        run.seconds(40);
        run.world.0.borrow_mut().rate = hot_tenth(n, size, 2, 5e6);
        run.seconds(within);
        let fraction = run.fraction_of_oracle();
        assert!(fraction > 0.9, "{fraction} with {size}, 1:{parts}, slow: {slow}");
    }
}

#[test]
fn of_a_zipf_heap_the_hottest_pages_are_found_first() {
    let mut run = eighth(World::zipf(128 * PAGES, 0.99, 5e6, 5), false);
    run.seconds(5);
    assert!(run.fraction_of_oracle() > 0.7, "{} of the oracle after 5 s", run.fraction_of_oracle());
    run.seconds(15);
    assert!(run.fraction_of_oracle() > 0.9, "{} of the oracle", run.fraction_of_oracle());
}

/// Objects that are born one after the other, read a few times and left alone: each page is in use for a moment, often, and seldom seen to be.
#[test]
fn pages_where_blocks_are_born_come_to_dram_although_others_are_seen_in_use_more_often() {
    let n = 32 * PAGES;
    let is_young = |i: usize| i / PAGES % 4 == 1;
    let mut run = eighth((0..n).map(|i| if is_young(i) { 2.0 } else { 5.0 }).collect(), false);
    run.world.0.borrow_mut().births = (0..n).map(|i| if is_young(i) { 40.0 } else { 0.0 }).collect();
    run.seconds(60);
    let w = run.world.0.borrow();
    let young = (0..n).filter(|&i| w.node[i] == 0 && is_young(i)).count();
    assert!(young > n / 8 * 8 / 10, "{young} of {}", n / 8);
}

#[test]
fn a_program_that_fills_its_heap_and_then_walks_through_it_is_followed() {
    // Half of the heap fits in DRAM. While it is filled all of it is in use, and all alike.
    let half = |config: &mut Config| config.dram = Amount::Bytes((N / 2 * PAGE_BYTES) as u64);
    let mut run = Run::on(World::new(vec![20.0; N], |i| i32::from(i >= N / 2)), 0.10, half);
    run.seconds(5);
    let hot = N - N / 32..N;
    {
        let mut world = run.world.0.borrow_mut();
        world.rate = (0..N).map(|i| if hot.contains(&i) { 20_000.0 } else { 0.0 }).collect();
        world.walked = (0..hot.start, 1_400_000_000);
    }
    let in_dram = |run: &Run| hot.clone().filter(|&i| run.world.0.borrow().node[i] == 0).count();
    run.seconds(6);
    assert!(in_dram(&run) > hot.len() * 9 / 10, "{} of {}", in_dram(&run), hot.len());
    run.seconds(60);
    assert!(in_dram(&run) > hot.len() * 98 / 100, "{} of {}", in_dram(&run), hot.len());
}
