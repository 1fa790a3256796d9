//! The tracker on a played processor: what it finds, what it takes, and what it does when refused.

use super::*;
use crate::arena::{ArenaView, Pool};
use crate::heat::played;
use std::cell::RefCell;
use std::rc::Rc;

const S: u64 = 1_000_000_000;
/// The heap's first extent, and how many there are.
const FIRST: usize = 8;
const EXTENTS: usize = 8;

/// A program whose threads use the pages of its heap at given rates, and a processor that samples them.
struct State {
    now: u64,
    cpu: u64,
    sampled_to: u64,
    /// Accesses a second up to and with each page, all threads together.
    until: Vec<f64>,
    threads: usize,
    watched: Vec<(u32, u64)>,
    /// Part of a sample that is left over.
    rest: f64,
    random: u64,
    /// Room in all rings together.
    room: usize,
    refuse: Option<i32>,
    /// Processor time of reading the rings, and of each look at the clock.
    draining: u64,
    working: u64,
    /// Samples that were taken, of the stack too, with those that were lost.
    taken: u64,
}

#[derive(Clone)]
struct World(Rc<RefCell<State>>);

impl World {
    fn new(rates: &[f64], threads: usize) -> World {
        let state = State {
            now: S,
            cpu: 0,
            sampled_to: S,
            until: Vec::new(),
            threads,
            watched: Vec::new(),
            rest: 0.0,
            random: 88_172_645_463_325_252,
            room: 100_000,
            refuse: None,
            draining: 20_000,
            working: 0,
            taken: 0,
        };
        let world = World(Rc::new(RefCell::new(state)));
        world.run_like(rates);
        world
    }

    fn run_like(&self, rates: &[f64]) {
        let sum = |sum: &mut f64, rate: &f64| {
            *sum += rate;
            Some(*sum)
        };
        self.0.borrow_mut().until = rates.iter().scan(0.0, sum).collect();
    }

    fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.0.borrow_mut());
    }

    fn now(&self) -> u64 {
        self.0.borrow().now
    }
}

impl State {
    fn uniform(&mut self) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) as f64 / (1u64 << 53) as f64
    }
}

impl Sampler for World {
    fn clock(&self) -> (u64, u64) {
        let mut state = self.0.borrow_mut();
        state.cpu += state.working;
        (state.now, state.cpu)
    }

    fn limits(&self) -> Limits {
        Limits { threads: 8, first: 20_000, least: 100, multiple: 1, mappings: 2 }
    }

    fn threads(&mut self, into: &mut Vec<u32>) -> Result<(), Errno> {
        *into = (1..=self.0.borrow().threads as u32).collect();
        Ok(())
    }

    fn watch(&mut self, thread: u32, period: u64) -> Result<(), Errno> {
        let mut state = self.0.borrow_mut();
        match state.refuse {
            Some(e) => Err(Errno(e)),
            None => {
                state.watched.push((thread, period));
                Ok(())
            }
        }
    }

    fn forget(&mut self, thread: u32) {
        self.set(|state| state.watched.retain(|(t, _)| *t != thread));
    }

    fn drain(&mut self, each: &mut dyn FnMut(Record)) {
        let mut state = self.0.borrow_mut();
        let seconds = (state.now - state.sampled_to) as f64 / 1e9;
        state.sampled_to = state.now;
        state.cpu += state.draining;
        let accesses = seconds * state.until.last().copied().unwrap_or(0.0) / state.threads.max(1) as f64;
        let samples: f64 = state.watched.iter().map(|(_, period)| accesses / *period as f64).sum();
        let samples = samples + state.rest;
        state.rest = samples.fract();
        state.taken += 2 * samples as u64;
        let kept = (samples as usize).min(state.room);
        for _ in 0..kept {
            let at = state.uniform() * state.until.last().unwrap();
            let page = state.until.partition_point(|&u| u <= at).min(state.until.len() - 1);
            each(Record::Sample(((FIRST << 21) + page * PAGE_BYTES + 24) as u64));
            each(Record::Sample(0x10)); // of the stack, say
        }
        if kept < samples as usize {
            each(Record::Lost(2 * (samples as usize - kept) as u64));
        }
    }
}

fn map() -> HeatMap {
    let mut map = played::map_of(FIRST..FIRST + EXTENTS);
    map.extents_mut().iter_mut().flat_map(|e| &mut e.pages).for_each(|p| p.place = Place::Dram);
    map
}

/// A tenth of the pages, scattered, is used 50 times as often as the others; `shift` says which.
fn rates(hz: f64, shift: usize) -> Vec<f64> {
    let pages = EXTENTS * PAGES;
    let weight = |i: usize| if (i * 7 + shift).is_multiple_of(10) { 50.0 } else { 1.0 };
    let sum: f64 = (0..pages).map(weight).sum();
    (0..pages).map(|i| hz * weight(i) / sum).collect()
}

/// The pages that the map holds to be the hottest tenth, as a share of those that are.
fn found(map: &HeatMap, rates: &[f64]) -> f64 {
    let mut order: Vec<usize> = (0..rates.len()).collect();
    order.sort_by_key(|&i| std::cmp::Reverse(map.extents()[i / PAGES].pages[i % PAGES].heat.rate));
    let hottest = rates.iter().copied().fold(0.0, f64::max);
    let tenth = rates.iter().filter(|&&r| r == hottest).count();
    order[..tenth].iter().filter(|&&i| rates[i] == hottest).count() as f64 / tenth as f64
}

/// The rate code that a tenth of the pages has at least.
fn cut(map: &HeatMap) -> u16 {
    let mut rates: Vec<u16> =
        map.extents().iter().flat_map(|e| e.pages.iter().map(|p| p.heat.rate)).collect();
    let at = rates.len() * 9 / 10;
    *rates.select_nth_unstable(at).1
}

/// The arena of so many extents.
fn arena(extents: usize) -> ArenaView {
    let (base, bytes) = (FIRST << 21, extents << 21);
    ArenaView { base, bytes, used: bytes, pool: Pool::Default, bound: true, policy: None }
}

/// Runs the tracker for `seconds`; answers how often it was surprised.
fn run(world: &World, tracker: &mut Perf<World>, map: &mut HeatMap, seconds: u64, unsettled: bool) -> u32 {
    let until = world.now() + seconds * S;
    let arenas = [arena(EXTENTS)];
    let mut surprised = 0;
    while world.now() < until {
        let look = Look { now: world.now(), arenas: &arenas, dram_share: 0.1, cut: cut(map), unsettled };
        let polled = tracker.poll(map, &look).unwrap();
        surprised += u32::from(polled.surprised);
        world.set(|state| state.now = polled.wake.max(state.now + 1_000_000));
    }
    surprised
}

#[test]
fn a_scattered_hot_tenth_is_found() {
    let rates = rates(20e6, 0);
    let (world, mut map) = (World::new(&rates, 4), map());
    let mut tracker = Perf::new(world.clone(), 0.03);
    assert_eq!(run(&world, &mut tracker, &mut map, 30, true), 0);
    assert!(found(&map, &rates) > 0.95, "{}", found(&map, &rates));
    // Rates are in accesses a second, whatever the period.
    let hot: Vec<f64> = (0..rates.len())
        .filter(|i| (i * 7) % 10 == 0)
        .map(|i| {
            (crate::heat::rate::hz_of_code(map.extents()[i / PAGES].pages[i % PAGES].heat.rate) / rates[i])
                .log2()
        })
        .collect();
    let bias = hot.iter().sum::<f64>() / hot.len() as f64;
    assert!(bias.abs() < 0.5, "{bias} octaves off");
    assert_eq!(tracker.segments(), 8, "four threads, two mappings each");
}

#[test]
fn samples_stay_within_their_bound_whatever_the_program_does() {
    for hz in [2e6, 50e6, 5e9] {
        let world = World::new(&rates(hz, 0), 4);
        let (mut map, mut tracker) = (map(), Perf::new(world.clone(), 0.03));
        run(&world, &mut tracker, &mut map, 30, false);
        let before = world.0.borrow().taken;
        run(&world, &mut tracker, &mut map, 60, false);
        let each = (world.0.borrow().taken - before) / 60;
        assert!((300..=1600).contains(&each), "{each} a second at {hz}");
    }
}

#[test]
fn a_burst_after_a_quiet_time_is_cut_short() {
    let world = World::new(&rates(1e6, 0), 4);
    let (mut map, mut tracker) = (map(), Perf::new(world.clone(), 0.03));
    run(&world, &mut tracker, &mut map, 30, false);
    let before = world.0.borrow().taken;
    world.run_like(&rates(200e6, 0));
    run(&world, &mut tracker, &mut map, 10, false);
    let taken = world.0.borrow().taken - before;
    // One poll's worth at the old period, then as always.
    assert!(taken < 120_000, "{taken}");
}

#[test]
fn its_processor_time_stays_within_its_share() {
    for working in [0, 3_000_000, 30_000_000] {
        let world = World::new(&rates(20e6, 0), 4);
        // Looks at the clock come before and after what takes time: digesting an interval, among others.
        world.set(|state| state.working = working);
        let (mut map, mut tracker) = (map(), Perf::new(world.clone(), 0.03));
        run(&world, &mut tracker, &mut map, 60, false);
        let (now, cpu) = (world.now(), world.0.borrow().cpu);
        run(&world, &mut tracker, &mut map, 600, false);
        let share = (world.0.borrow().cpu - cpu) as f64 / (world.now() - now) as f64;
        assert!(share < 0.045, "{share} of a core at {working}");
    }
}

#[test]
fn what_an_interval_has_cost_is_paid_off_before_the_next_one_ends() {
    let world = World::new(&rates(20e6, 0), 4);
    let (mut map, mut tracker) = (map(), Perf::new(world.clone(), 0.03));
    run(&world, &mut tracker, &mut map, 60, false);
    assert!(tracker.earliest < world.now() + 5 * S);
    // As if digesting a large heap took two seconds.
    tracker.cost += 2 * S;
    run(&world, &mut tracker, &mut map, 25, false);
    assert!(tracker.earliest > world.now() + 60 * S, "a fiftieth of a core: after 98 s");
}

#[test]
fn a_shift_of_the_hot_set_is_noticed_and_followed() {
    let world = World::new(&rates(20e6, 0), 4);
    let (mut map, mut tracker) = (map(), Perf::new(world.clone(), 0.03));
    assert_eq!(run(&world, &mut tracker, &mut map, 90, false), 0, "nothing happens");
    let other = rates(20e6, 5);
    world.run_like(&other);
    assert!(found(&map, &other) < 0.1);
    let seen = |map: &HeatMap| map.extents().iter().flat_map(|e| e.pages.iter().map(|p| p.heat.seen())).max();
    assert_eq!(seen(&map), Some(15));
    assert!((0..30).any(|_| run(&world, &mut tracker, &mut map, 1, false) == 1));
    assert!(seen(&map) < Some(5), "what was known is a guess");
    assert_eq!(run(&world, &mut tracker, &mut map, 20, false), 0, "once");
    assert!(found(&map, &other) > 0.9, "{}", found(&map, &other));
}

#[test]
fn a_program_that_sleeps_or_slows_down_has_not_changed() {
    let (rates, slow) = (rates(20e6, 0), rates(1e6, 0));
    let (world, mut map) = (World::new(&rates, 4), map());
    let mut tracker = Perf::new(world.clone(), 0.03);
    run(&world, &mut tracker, &mut map, 60, false);
    let before: Vec<u16> = map.extents().iter().flat_map(|e| e.pages.iter().map(|p| p.heat.rate)).collect();
    world.run_like(&[]);
    assert_eq!(run(&world, &mut tracker, &mut map, 60, false), 0);
    let after: Vec<u16> = map.extents().iter().flat_map(|e| e.pages.iter().map(|p| p.heat.rate)).collect();
    let moved = before.iter().zip(&after).filter(|(a, b)| a.abs_diff(**b) > OCTAVE as u16).count();
    assert!(moved < before.len() / 50, "{moved} of {} pages", before.len());
    world.run_like(&slow);
    assert_eq!(run(&world, &mut tracker, &mut map, 60, false), 0);
    assert!(found(&map, &rates) > 0.9, "{}", found(&map, &rates));
}

#[test]
fn with_more_threads_than_can_be_watched_rates_are_the_same() {
    let rates = rates(20e6, 0);
    let (world, mut map) = (World::new(&rates, 40), map());
    let mut tracker = Perf::new(world.clone(), 0.03);
    run(&world, &mut tracker, &mut map, 60, true);
    assert_eq!(world.0.borrow().watched.len(), 8);
    let log = |i: usize| {
        (crate::heat::rate::hz_of_code(map.extents()[i / PAGES].pages[i % PAGES].heat.rate) / rates[i]).log2()
    };
    let hot: Vec<f64> = (0..rates.len()).filter(|i| (i * 7) % 10 == 0).map(log).collect();
    let bias = hot.iter().sum::<f64>() / hot.len() as f64;
    assert!(bias.abs() < 0.5, "{bias} octaves off");
}

#[test]
fn samples_that_found_no_room_are_made_up_for() {
    let rates = rates(20e6, 0);
    let (world, mut map) = (World::new(&rates, 4), map());
    world.set(|state| state.room = 60);
    let mut tracker = Perf::new(world.clone(), 0.03);
    run(&world, &mut tracker, &mut map, 90, true);
    let log = |i: usize| {
        (crate::heat::rate::hz_of_code(map.extents()[i / PAGES].pages[i % PAGES].heat.rate) / rates[i]).log2()
    };
    let hot: Vec<f64> = (0..rates.len()).filter(|i| (i * 7) % 10 == 0).map(log).collect();
    let bias = hot.iter().sum::<f64>() / hot.len() as f64;
    assert!(bias.abs() < 0.7, "{bias} octaves off");
}

#[test]
fn a_refusal_in_the_middle_is_lived_with_and_one_for_good_is_an_error() {
    let rates = rates(20e6, 0);
    let (world, mut map) = (World::new(&rates, 4), map());
    let mut tracker = Perf::new(world.clone(), 0.03);
    run(&world, &mut tracker, &mut map, 20, true);
    world.set(|state| {
        state.refuse = Some(libc::EMFILE);
        state.watched.clear();
        state.threads = 5;
    });
    run(&world, &mut tracker, &mut map, 3, true);
    world.set(|state| state.refuse = None);
    world.run_like(&rates);
    run(&world, &mut tracker, &mut map, 20, true);
    assert!(found(&map, &rates) > 0.9);

    let world = World::new(&rates, 4);
    world.set(|state| state.refuse = Some(libc::EPERM));
    let (mut map, mut tracker) = (super::tests::map(), Perf::new(world.clone(), 0.03));
    let mut last = Ok(Polled::default());
    for s in 1..20 {
        let look = Look { now: s * S, arenas: &[], dram_share: 0.1, cut: 0, unsettled: true };
        last = tracker.poll(&mut map, &look);
        if last.is_err() {
            break;
        }
    }
    assert_eq!(last, Err(Errno(libc::EPERM)));
}

#[test]
fn samples_outside_the_arenas_and_of_pages_that_are_not_there_count_for_nothing() {
    let rates = rates(20e6, 0);
    let (world, mut map) = (World::new(&rates, 4), map());
    map.extents_mut()[0].pages[1].place = Place::Absent;
    let mut one = rates.clone();
    one[1] = 0.0;
    world.run_like(&one);
    let mut tracker = Perf::new(world.clone(), 0.03);
    let arenas = [arena(2)];
    while world.now() < 20 * S {
        let look = Look { now: world.now(), arenas: &arenas, dram_share: 0.1, cut: 0, unsettled: true };
        let wake = tracker.poll(&mut map, &look).unwrap().wake;
        assert!(tracker.interval.pages.iter().all(|&p| p as usize / PAGES - FIRST < 2));
        world.set(|state| state.now = wake);
    }
    let seen = |e: usize| map.extents()[e].pages.iter().filter(|p| p.heat.seen() > 0).count();
    assert_eq!((seen(0), seen(1)), (PAGES - 1, PAGES));
    assert!((2..EXTENTS).all(|e| map.extents()[e].pages.iter().all(|p| p.heat.is_blank())));
}

#[test]
fn what_the_rings_held_while_nobody_asked_is_out_of_date() {
    let rates = rates(20e6, 0);
    let (world, mut map) = (World::new(&rates, 4), map());
    let mut tracker = Perf::new(world.clone(), 0.03);
    run(&world, &mut tracker, &mut map, 30, true);
    let period = tracker.period.get();
    world.set(|state| state.now += 600 * S);
    let look = Look { now: world.now(), arenas: &[arena(EXTENTS)], dram_share: 0.1, cut: 0, unsettled: true };
    assert!(!tracker.poll(&mut map, &look).unwrap().answered);
    assert!(tracker.interval.pages.is_empty() && tracker.interval.began == world.now());
    assert_eq!(tracker.period.get(), period, "ten minutes of samples are no burst");
    assert_eq!(run(&world, &mut tracker, &mut map, 30, true), 0);
}

#[test]
fn samples_that_are_not_kept_are_made_up_for() {
    let interval =
        |lost, dropped| Interval { records: 100, lost, dropped, pages: vec![1; 30], ..Interval::default() };
    assert!((interval(0, 0).kept() - 1.0).abs() < 1e-9);
    assert!((interval(50, 0).kept() - 0.5).abs() < 1e-9, "half were lost");
    assert!((interval(20, 10).kept() - 0.6).abs() < 1e-9, "of the others a quarter of those of the heap");
    assert!(Interval::default().kept() == 0.0);
}

#[test]
fn a_page_is_judged_by_the_time_since_it_came_into_use() {
    let (world, mut map) = (World::new(&rates(20e6, 0), 4), map());
    let mut views: Vec<_> = map.extents().iter().map(|e| e.view).collect();
    views[1].birth += 1;
    map.sync(99 * S, |f| views.into_iter().for_each(f));
    let mut tracker = Perf::new(world, 0.03);
    let page = |extent: usize| ((FIRST + extent) * PAGES) as u64;
    let pages = [vec![page(0); 20], vec![page(1); 20]].concat();
    tracker.interval = Interval { began: 90 * S, exposure: 0.001, pages, records: 40, lost: 0, dropped: 0 };
    let look = Look { now: 100 * S, arenas: &[arena(EXTENTS)], dram_share: 0.1, cut: 0, unsettled: true };
    assert_eq!(tracker.digest(&mut map, &look), Some(false));
    let rate = |extent: usize| i32::from(map.extents()[extent].pages[0].heat.rate);
    assert!((rate(1) - rate(0)).abs_diff(octaves(10.0)) < OCTAVE as u32 / 2, "in a tenth of the time");
}
