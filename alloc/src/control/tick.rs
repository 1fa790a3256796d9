//! One tick: look, decide, move, count.
//!
//! Zone: control. [`Plane`] is everything the control thread owns. Nothing in it is shared but the page of statistics
//! and the two pressure flags; it holds no lock.

use super::act::{self, Targets};
use super::census::Census;
use super::stats::{StatsSnapshot, TierStats, mode_code};
use super::system::System;
use crate::arena::{self, ArenaView, EXTENT_BYTES, Pool};
use crate::config::{Amount, Config, Mode};
use crate::heat::map::{Extent, HeatMap, PAGE_BYTES, SLICE_PAGES};
use crate::heat::profile::{Profile, Site};
use crate::heat::tracker::{Look, Polled, Rejected, Tracker};
use crate::mover::batch::Mover;
use crate::mover::outcome::Stop;
use crate::mover::rate::TokenBucket;
use crate::policy::Planner;
use crate::policy::admission::{Brake, Rules};
use crate::policy::pressure::{Level, Needs};
use crate::policy::segregation::Segregation;
use crate::sys::Errno;
use crate::sys::numa::NodeMask;
use crate::tier::budget::{Budget, Measured};
use crate::tier::latency::Latencies;
use crate::tier::mode;
use crate::tier::stall::Squeeze;

const MS: u64 = 1_000_000;
const S: u64 = 1000 * MS;
/// Nodes, budgets and control groups are looked at this often.
const SURVEY: u64 = S;
/// After this long without a move the placement counts as settled.
const SETTLED: u64 = 10 * S;
/// A device that refused pages is taken to be full for this long.
const REFUSAL: u64 = 10 * S;
/// Latencies are measured after so many ticks.
const SETTLING: u64 = 20;
/// A tracker that fails is asked again after a second, and then after twice as long each time; so many failures running are for good.
const FAILURES: u32 = 6;
/// Shortest and longest sleep between ticks.
const SLEEP: (u64, u64) = (MS, S);
/// Pages that are not there although their extent was handed out are taken to be touched soon, for so long.
const TO_COME: u64 = S;

/// Everything the control thread owns.
pub(crate) struct Plane {
    config: Config,
    mode: Mode,
    tracker: Box<dyn Tracker>,
    tracker_wake: u64,
    /// Times in a row that the tracker has failed.
    failures: u32,
    map: HeatMap,
    /// What an earlier run has left to be recalled.
    profile: Profile,
    census: Census,
    planner: Planner,
    segregation: Segregation,
    brake: Brake,
    mover: Mover,
    bucket: TokenBucket,
    dram: NodeMask,
    device: NodeMask,
    /// Device nodes, nearest first.
    device_order: Vec<u32>,
    measured: Measured,
    squeeze: Squeeze,
    latencies: Latencies,
    surveyed: u64,
    heap_before: u64,
    resident_before: u64,
    ticked: u64,
    /// Moves taken back soon although made knowingly.
    regrets: u64,
    /// Pages moved since the last survey.
    moves_lately: u64,
    /// When moves last were more than a trickle.
    last_move: u64,
    /// The device refused pages at this many bytes; until when that is believed.
    refused: Option<(u64, u64)>,
    disabled: bool,
    said_full: bool,
    pub(crate) stats: StatsSnapshot,
}

impl Plane {
    pub(crate) fn new(
        config: &Config,
        mode: Mode,
        tracker: (Box<dyn Tracker>, Vec<Rejected>),
        system: &dyn System,
    ) -> Plane {
        let now = system.now();
        let (dram, device) = system.nodes();
        let mut stats = StatsSnapshot {
            pid: u64::from(std::process::id()),
            mode: mode_code(mode),
            tick_ms: u64::from(config.tick_ms),
            page_bytes: PAGE_BYTES as u64,
            ..StatsSnapshot::default()
        };
        stats.set_tracker(tracker.0.name());
        if config.verbose {
            system.say(&format!("control thread: DRAM nodes {dram}, device nodes {device}"));
            for r in &tracker.1 {
                system.say(&format!("tracker {} not taken: {}", r.name, r.why));
            }
            system.say(&format!("tracker: {}", tracker.0.name()));
        }
        Plane {
            config: *config,
            mode,
            tracker: tracker.0,
            tracker_wake: 0,
            failures: 0,
            map: HeatMap::new(),
            profile: Profile::default(),
            census: Census::new(now, mode == Mode::Assist),
            planner: Planner::default(),
            segregation: Segregation::default(),
            brake: Brake::default(),
            mover: Mover::default(),
            bucket: TokenBucket::new(config.move_rate_mbps, now),
            device_order: device.iter().collect(),
            dram,
            device,
            measured: Measured::default(),
            squeeze: Squeeze::default(),
            latencies: Latencies::default(),
            surveyed: 0,
            heap_before: 0,
            resident_before: 0,
            ticked: now,
            regrets: 0,
            moves_lately: 0,
            last_move: now,
            refused: None,
            disabled: false,
            said_full: false,
            stats,
        }
    }

    /// The device nodes in the order in which they are to be filled.
    pub(crate) fn set_device_order(&mut self, order: Vec<u32>) {
        self.device_order = order;
    }

    /// What was learnt in an earlier run of this program.
    pub(crate) fn set_profile(&mut self, profile: Profile) {
        self.profile = profile;
    }

    /// What is known by now, for a later run; `None` while that is too little. `sites` counts what lies in the blocks of allocation sites.
    pub(crate) fn next_profile(&self, sites: impl FnOnce(&HeatMap) -> Vec<Site>) -> Option<String> {
        self.profile.next(&self.map, &sites(&self.map))
    }

    /// One tick; answers when the next one is due.
    pub(crate) fn tick(&mut self, system: &mut dyn System) -> u64 {
        let start = system.now();
        self.map.sync(start, |f| system.extents(f));
        self.profile.recall(&mut self.map);
        let (growing, growth) = self.look_for_growth(system, start);
        let behind = self.census.take(&mut self.map, system, &self.device, growing);
        if start >= self.surveyed + SURVEY || self.surveyed == 0 {
            self.survey(system, start);
        }
        let level = self.level(start);
        let polled = self.track(system, &level, growing);
        let level = self.decide_and_move(system, level, growth);
        let end = system.now();
        let unsettled = self.unsettled(end) || growing || behind;
        self.count(system, &level, &polled, end - start);
        let tick = u64::from(self.config.tick_ms) * MS;
        let pause = if growing || behind {
            tick / 10
        } else if unsettled {
            tick
        } else {
            tick * 3
        };
        (start + pause.clamp(SLEEP.0, SLEEP.1)).min(self.tracker_wake).max(end + SLEEP.0)
    }

    /// Whether new pages have appeared, and by how many bytes the heap grows in one tick.
    fn look_for_growth(&mut self, system: &dyn System, now: u64) -> (bool, u64) {
        let (heap, resident) = (system.heap_bytes(), system.resident_bytes());
        let elapsed = (now - self.ticked).max(1);
        let grown = heap.saturating_sub(self.heap_before).max(resident.saturating_sub(self.resident_before));
        (self.heap_before, self.resident_before, self.ticked) = (heap, resident, now);
        let tick = u64::from(self.config.tick_ms) * MS / 10;
        let growth = (u128::from(grown) * u128::from(tick) / u128::from(elapsed)) as u64;
        (grown > 256 << 10, growth)
    }

    fn survey(&mut self, system: &mut dyn System, now: u64) {
        self.surveyed = now;
        let (dram, device) = system.nodes();
        if (dram, device) != (self.dram, self.device) && !dram.is_empty() {
            if self.config.verbose {
                system.say(&format!(
                    "nodes changed: DRAM {} to {dram}, device {} to {device}",
                    self.dram, self.device
                ));
            }
            (self.dram, self.device) = (dram, device);
            self.device_order = device.iter().collect();
            self.map.extents_mut().iter_mut().for_each(|e| e.asked = 0);
        }
        if mode::migrates(self.mode) && !self.device.is_empty() {
            self.map.take_births(now, |index| system.births(index));
            for extent in self.map.extents_mut() {
                if let Some(slices) = extent.placement_news() {
                    system.set_in_dram(extent.view.index, slices);
                }
            }
            // A heap that is being filled has more urgent things to do.
            if self.stats.ticks >= SETTLING {
                self.measure_latency(system);
            }
        }
        self.measure(system, now);
        let pages = self.map.placed().0 / PAGE_BYTES as u64;
        if std::mem::take(&mut self.moves_lately) > pages / 500 {
            self.last_move = now;
        }
        self.brake.adjust(now, self.stats.promoted, self.regrets, pages);
    }

    fn measure(&mut self, system: &dyn System, now: u64) {
        self.measured = system.measure(self.map.placed(), &self.dram, &self.device);
        if self.config.dram != Amount::Auto || self.device.is_empty() {
            return;
        }
        let (m, before) = (&mut self.measured, self.squeeze.bytes());
        m.squeezed =
            self.squeeze.look(now, system.stalled_us(), system.node_bytes(&self.dram), m.dram_here());
        if self.config.verbose && (before == 0) != (m.squeezed == 0) {
            system.say(if before == 0 {
                "tasks wait for memory: cold pages leave DRAM to them"
            } else {
                "nobody waits for memory any more"
            });
        }
    }

    fn measure_latency(&mut self, system: &mut dyn System) {
        let dram = self.dram.first().and_then(|node| system.latency(node));
        let device = self.device_order.first().and_then(|&node| system.latency(node));
        let before = self.latencies.dram_is_slower();
        self.latencies.take(dram, device);
        if self.config.verbose && before != self.latencies.dram_is_slower() {
            let [dram, device] = [0, 1].map(|side| self.latencies.of(side).0);
            system.say(&format!("a load takes {dram} ns from DRAM, {device} ns from the device"));
        }
    }

    fn level(&self, now: u64) -> Level {
        let own = self.map.placed();
        // With what was ours when it was looked what is free: of what has moved since then, neither is known to the other.
        let b = Budget::new(&self.config, &self.measured);
        let cap = self.refused.filter(|&(_, until)| now < until).map_or(u64::MAX, |(bytes, _)| bytes);
        Level {
            dram: own.0,
            dram_budget: b.dram,
            high: b.high,
            low: b.low,
            device: own.1,
            device_budget: if self.device.is_empty() { own.1 } else { b.device.min(cap) },
            device_free: self.measured.device.0,
            headroom: if self.device.is_empty() { 0 } else { b.headroom },
            dram_free: self.measured.dram.0,
            dram_is_slower: self.latencies.dram_is_slower(),
        }
    }

    fn unsettled(&self, now: u64) -> bool {
        now < self.last_move + SETTLED
    }

    fn track(&mut self, system: &dyn System, level: &Level, growing: bool) -> Polled {
        let now = system.now();
        // Without pressure on DRAM everything is where it should be: nothing is worth knowing.
        let worth = mode::migrates(self.mode) && !self.disabled && level.dram + level.device > level.low;
        if !worth || now < self.tracker_wake {
            if !worth {
                self.tracker_wake = now + S;
            }
            return Polled::default();
        }
        let mut arenas: Vec<ArenaView> = Vec::new();
        system.arenas(&mut |a| {
            // A spilled extent of a movable pool lies in an arena of the device pool.
            if a.used > 0 && (a.pool.is_tiered() || a.pool == Pool::Device) {
                arenas.push(a);
            }
        });
        let total = (level.dram + level.device).max(1);
        let look = Look {
            now,
            arenas: &arenas,
            dram_share: level.dram_budget as f64 / total as f64,
            cut: self.planner.cut(),
            unsettled: growing || self.unsettled(now),
        };
        match self.tracker.poll(&mut self.map, &look) {
            Ok(polled) => {
                (self.tracker_wake, self.failures) = (polled.wake, 0);
                if polled.surprised {
                    self.brake.release(now);
                    self.last_move = now;
                }
                polled
            }
            Err(e) => {
                self.note_failure(system, e, now);
                Polled::default()
            }
        }
    }

    /// The tracker has failed: memory may have been short for a moment. It is given up when it does so time and again.
    fn note_failure(&mut self, system: &dyn System, e: Errno, now: u64) {
        let name = self.tracker.name();
        self.failures += 1;
        if self.failures < FAILURES {
            self.tracker_wake = now + (S << (self.failures - 1));
            if self.config.verbose {
                system.say(&format!("tracker {name} failed ({e}): asking again later"));
            }
            return;
        }
        system.say(&format!("tracker {name} keeps failing ({e}): going on with what the allocator knows"));
        self.tracker = Box::new(crate::heat::alloc_events::AllocEvents);
        self.stats.set_tracker(self.tracker.name());
    }

    fn decide_and_move(&mut self, system: &mut dyn System, level: Level, growth: u64) -> Level {
        let now = system.now();
        let mut needs = level.needs(self.mode);
        if self.disabled {
            needs = level.needs(Mode::Spill);
        }
        let most = self.bucket.available(now) as usize / PAGE_BYTES;
        let mut after = level;
        if mode::migrates(self.mode) && !self.disabled && self.mover.ready(now) && !self.dram.is_empty() {
            let mover = &self.mover;
            let blocked = |page: usize| mover.backs_off() && mover.blocked(page, now);
            let rules = Rules {
                now,
                hold: self.brake.hold(now),
                typical: u16::MAX,
                hysteresis: self.brake.hysteresis(),
                blocked: &blocked,
            };
            let plan = self.planner.plan(&self.map, &needs, &rules, most);
            if !plan.is_empty() {
                let targets = Targets {
                    dram: roomiest(system, self.dram.iter()).unwrap_or(0),
                    device: first_with_room(system, &self.device_order, level.headroom),
                    room: (level.low.saturating_sub(level.dram) as usize) / PAGE_BYTES,
                };
                let done =
                    act::carry_out(plan, targets, &mut self.map, &mut self.mover, system, &mut self.stats);
                self.bucket.take(done.moved * PAGE_BYTES as u64);
                self.moves_lately += done.moved;
                self.regrets += done.regrets;
                self.after_moves(system, &done, now);
                after = self.level(now);
                let later = after.needs(self.mode);
                needs = Needs { device_full: needs.device_full || later.device_full, ..later };
            }
        }
        // Say "full" one step ahead, so that a program that grows fast is born on the device in time.
        let migrates = mode::migrates(self.mode);
        let step = if migrates { growth } else { 0 };
        system.press(needs.dram_full || after.dram + step > after.dram_budget, needs.device_full);
        arena::pressure::set_dram_room((!migrates).then(|| self.dram_room(system, &after, now)));
        arena::pressure::set_tight(migrates && after.dram + after.device > after.low);
        // What is born before cannot be told apart any more.
        let soon = migrates && after.dram + after.device > after.dram_budget / 2;
        arena::sites::set_apart(self.segregation.decide(now, soon, &mut self.map));
        if after.both_full() && !self.said_full {
            self.said_full = true;
            system.say(&format!(
                "DRAM ({} MiB) and device ({} MiB) are both at their budgets: pages stay where they are",
                after.dram >> 20,
                after.device >> 20
            ));
        }
        after
    }

    /// How many more extents fit in the DRAM budget, once all that is in use is touched of those that were handed out there just now, or never
    /// asked about.
    fn dram_room(&self, system: &dyn System, level: &Level, now: u64) -> usize {
        let mut elsewhere = Vec::new();
        system.arenas(&mut |a| {
            if matches!(a.pool, Pool::Device | Pool::DeviceStrict) {
                elsewhere.push(a.base..a.base + a.bytes);
            }
        });
        let to_come = |e: &&Extent| {
            (e.asked == 0 || now < e.born + TO_COME)
                && !elsewhere.iter().any(|arena| arena.contains(&e.view.base))
        };
        let extents = self.map.extents().iter().map(AsRef::as_ref).filter(to_come);
        let absent = |e: &Extent| {
            (e.view.live.count_ones() * SLICE_PAGES as u32).saturating_sub(u32::from(e.dram + e.device))
        };
        let pages: u64 = extents.map(|e| u64::from(absent(e))).sum();
        let taken = level.dram + pages * PAGE_BYTES as u64;
        (level.dram_budget.saturating_sub(taken) / EXTENT_BYTES as u64) as usize
    }

    fn after_moves(&mut self, system: &dyn System, done: &act::Done, now: u64) {
        if done.device_refused {
            self.refused = Some((self.map.placed().1, now + REFUSAL));
        }
        match done.stop {
            Some(Stop::Refused(e)) => {
                self.disabled = true;
                system.say(&format!(
                    "this system refuses to move pages ({}): memory stays where it was first touched",
                    Errno(e)
                ));
            }
            Some(Stop::NodeGone(node, e)) => {
                if self.config.verbose {
                    system.say(&format!("node {node} takes no more pages ({})", Errno(e)));
                }
                self.surveyed = 0;
                self.device_order.retain(|&n| n != node);
            }
            None => {}
        }
    }

    fn count(&mut self, system: &dyn System, level: &Level, polled: &Polled, took: u64) {
        let s = &mut self.stats;
        s.ticks += 1;
        s.tier_count = 2;
        let (latency, idle_latency) = self.latencies.of(0);
        s.tiers[0] = TierStats {
            device: 0,
            bytes: level.dram,
            budget: level.dram_budget,
            high: level.high,
            low: level.low,
            latency,
            idle_latency,
        };
        let device = level.device_budget;
        let (latency, idle_latency) = self.latencies.of(1);
        s.tiers[1] = TierStats {
            device: 1,
            bytes: level.device,
            budget: device,
            high: device,
            low: device,
            latency,
            idle_latency,
        };
        s.extents = self.map.extents().len() as u64;
        s.arenas = 0;
        system.arenas(&mut |_| s.arenas += 1);
        s.vmas = 2 * s.arenas + self.tracker.segments() as u64;
        s.tracker_ns = polled.cost;
        s.tick_ns = took;
    }
}

fn roomiest(system: &dyn System, nodes: impl Iterator<Item = u32>) -> Option<u32> {
    nodes.max_by_key(|&n| system.node_bytes(&NodeMask::of(n)).0)
}

fn first_with_room(system: &dyn System, order: &[u32], headroom: u64) -> Option<u32> {
    let free = |n: u32| system.node_bytes(&NodeMask::of(n)).0;
    order
        .iter()
        .copied()
        .find(|&n| free(n) > headroom)
        .or_else(|| order.iter().copied().max_by_key(|&n| free(n)))
}

#[cfg(test)]
mod tests;
