//! Plans for maps made by hand.

use super::*;
use crate::arena::ExtentView;
use crate::heat::map::Moved;
use crate::heat::rate::{Estimate, OCTAVE, ONE_HZ};

/// A map of one extent a pool; `f(page)` gives place and rate in octaves above 1 Hz.
fn map_of(pools: &[Pool], f: impl Fn(usize, usize) -> (Place, i32)) -> HeatMap {
    let mut map = HeatMap::new();
    map.sync(0, |add| {
        for (i, &pool) in pools.iter().enumerate() {
            add(ExtentView {
                index: i as u32,
                base: (i + 1) << 21,
                pool,
                live: u32::MAX,
                birth: 1,
                emptied: 0,
            });
        }
    });
    for (e, extent) in map.extents_mut().iter_mut().enumerate() {
        for i in 0..PAGES {
            let (place, octave) = f(e, i);
            extent.pages[i].place = place;
            extent.pages[i].heat = Estimate::known((ONE_HZ + octave * OCTAVE) as u16, true);
        }
        extent.recount();
    }
    map
}

fn rules(blocked: &dyn Fn(usize) -> bool) -> Rules<'_> {
    Rules {
        now: 100_000_000_000,
        hold: 30_000_000_000,
        typical: u16::MAX,
        hysteresis: OCTAVE as u16,
        blocked,
    }
}

fn needs(demote: u64, promote: u64, evict: u64, swap: bool) -> Needs {
    let p = PAGE_BYTES as u64;
    Needs { demote: demote * p, promote: promote * p, evict: evict * p, swap, ..Needs::default() }
}

const BASE: usize = 1 << 21;

#[test]
fn the_coldest_are_demoted_first() {
    let map = map_of(&[Pool::Default], |_, i| (Place::Dram, (i % 16) as i32));
    let mut planner = Planner::default();
    let plan = planner.plan(&map, &needs(40, 0, 0, true), &rules(&|_| false), 1000);
    assert_eq!(plan.demote.len(), 40);
    assert!(plan.demote.windows(2).all(|w| w[0].rate <= w[1].rate));
    let warmest = plan.demote.last().unwrap().rate;
    assert!(warmest <= (ONE_HZ + 3 * OCTAVE / 2) as u16, "two octaves and their margin");
    assert!(plan.promote.is_empty() && plan.evict.is_empty());
}

#[test]
fn hot_device_pages_take_the_place_of_colder_ones_and_of_no_others() {
    // Extent 0 in DRAM: half of it cold. Extent 1 on the device: 100 pages hot, the rest lukewarm.
    let map = map_of(&[Pool::Default, Pool::Default], |e, i| match e {
        0 => (Place::Dram, if i < 256 { -3 } else { 3 }),
        _ => (Place::Device, if i < 100 { 5 } else { -3 }),
    });
    let mut planner = Planner::default();
    let plan = planner.plan(&map, &needs(0, 0, 0, true), &rules(&|_| false), 1000);
    assert_eq!((plan.promote.len(), plan.demote.len()), (100, 100));
    assert!(plan.demote.iter().all(|c| c.page < BASE + 256 * PAGE_BYTES));
    assert!(plan.promote.iter().all(|c| c.page < 2 * BASE + 100 * PAGE_BYTES));
}

#[test]
fn when_dram_already_holds_the_hottest_nothing_moves() {
    let map = map_of(&[Pool::Default, Pool::Default], |e, _| match e {
        0 => (Place::Dram, 2),
        _ => (Place::Device, 2),
    });
    let mut planner = Planner::default();
    assert!(planner.plan(&map, &needs(0, 0, 0, true), &rules(&|_| false), 1000).is_empty());
}

#[test]
fn pinned_pools_never_move_and_the_device_pool_only_leaves_when_the_device_is_over_full() {
    let pools = [Pool::Dram, Pool::DramStrict, Pool::Device, Pool::DeviceStrict];
    let map = map_of(&pools, |e, _| (if e < 2 { Place::Dram } else { Place::Device }, 4));
    let mut planner = Planner::default();
    assert!(planner.plan(&map, &needs(100, 100, 0, true), &rules(&|_| false), 1000).is_empty());
    let plan = planner.plan(&map, &needs(0, 0, 70, false), &rules(&|_| false), 1000);
    assert_eq!(plan.evict.len(), 70);
    assert!(plan.evict.iter().all(|c| (3 * BASE..4 * BASE).contains(&c.page)));
}

#[test]
fn free_slices_are_never_in_a_plan() {
    let mut map = map_of(&[Pool::Default], |_, _| (Place::Dram, -3));
    map.sync(0, |f| {
        f(ExtentView { index: 0, base: BASE, pool: Pool::Default, live: 0b10, birth: 1, emptied: 0 });
    });
    for p in &mut map.extents_mut()[0].pages {
        p.place = Place::Dram;
    }
    let mut planner = Planner::default();
    let plan = planner.plan(&map, &needs(500, 0, 0, true), &rules(&|_| false), 1000);
    assert_eq!(plan.demote.len(), 16);
    assert!(plan.demote.iter().all(|c| (BASE + 65536..BASE + 131072).contains(&c.page)));
}

#[test]
fn a_plan_is_never_larger_than_the_rate_limit_allows() {
    let map =
        map_of(
            &[Pool::Default, Pool::Default],
            |e, _| {
                if e == 0 { (Place::Dram, -4) } else { (Place::Device, 6) }
            },
        );
    let mut planner = Planner::default();
    let plan = planner.plan(&map, &needs(300, 0, 0, true), &rules(&|_| false), 64);
    assert!(plan.demote.len() <= 64 && plan.promote.len() <= 64);
    assert!(planner.plan(&map, &needs(300, 0, 0, true), &rules(&|_| false), 0).is_empty());
}

#[test]
fn under_pressure_recently_promoted_pages_may_leave_again() {
    let mut map = map_of(&[Pool::Default], |_, _| (Place::Dram, 1));
    for p in &mut map.extents_mut()[0].pages {
        p.note_move(Place::Dram, Moved::Up, 99_000_000_000);
    }
    let mut planner = Planner::default();
    let plan = planner.plan(&map, &needs(30, 0, 0, true), &rules(&|_| false), 1000);
    assert_eq!(plan.demote.len(), 30);
}

#[test]
fn evicted_pages_are_not_promoted_in_the_same_plan() {
    let map = map_of(&[Pool::Default], |_, i| (Place::Device, (i % 8) as i32));
    let mut planner = Planner::default();
    let plan = planner.plan(&map, &needs(0, 60, 60, false), &rules(&|_| false), 1000);
    let evicted: std::collections::HashSet<_> = plan.evict.iter().map(|c| c.page).collect();
    assert_eq!(evicted.len(), 60);
    assert!(plan.promote.iter().all(|c| !evicted.contains(&c.page)));
}

#[test]
fn a_page_demoted_by_mistake_need_not_be_hotter_than_half_of_dram() {
    // More than half of DRAM is as hot as what was demoted a moment ago; the rest is cold.
    let mut map = map_of(&[Pool::Default, Pool::Default], |e, i| match e {
        0 => (Place::Dram, if i < 200 { -6 } else { 5 }),
        _ => (Place::Device, if i < 100 { 5 } else { -6 }),
    });
    let now = rules(&|_| false).now;
    map.extents_mut()[1].pages.iter_mut().for_each(|p| p.note_move(Place::Device, Moved::Down, now));
    let mut planner = Planner::default();
    let promoted = |planner: &mut Planner| {
        planner.plan(&map, &needs(0, 0, 0, true), &rules(&|_| false), 1000).promote.len()
    };
    // What is typical of DRAM is known from the second plan on.
    promoted(&mut planner);
    assert_eq!(promoted(&mut planner), 100);
}
