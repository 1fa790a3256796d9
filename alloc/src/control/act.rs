//! Acting on a plan: batches to nodes, each page checked against the heap once more, everything counted.
//!
//! Zone: control.

use super::stats::StatsSnapshot;
use super::system::System;
use crate::heat::map::{HeatMap, Moved, PAGE_BYTES, Place, SLICE_PAGES};
use crate::heat::rate::OCTAVE;
use crate::mover::batch::{BATCH, Mover};
use crate::mover::outcome::{Outcome, Stop};
use crate::policy::admission::PING_PONG;
use crate::policy::{Candidate, Plan};

/// Answers about a page after which a move that is taken back was a mistake of the policy, not of ignorance.
const SETTLED: u8 = 4;
/// Answers about a page that make its demotion a judgement.
const KNOWN: u8 = 2;
/// Or the doubt about it is less than this, in code units.
const VAGUE: i32 = 2 * OCTAVE;

/// Where pages go: the node and the direction.
#[derive(Clone, Copy)]
struct Way {
    node: u32,
    to: Place,
    direction: Moved,
}

/// What a plan's execution needs to know.
#[derive(Clone, Copy)]
pub(crate) struct Targets {
    /// The DRAM node with most room.
    pub(crate) dram: u32,
    /// The nearest device node with room, if any.
    pub(crate) device: Option<u32>,
    /// Pages that may be promoted before any is demoted.
    pub(crate) room: usize,
}

/// What came of it.
#[derive(Default, Debug, PartialEq, Eq)]
pub(crate) struct Done {
    /// Pages that changed sides.
    pub(crate) moved: u64,
    /// The device had no room although its budget had.
    pub(crate) device_refused: bool,
    /// Pages that came back soon although their last move was made knowingly.
    pub(crate) regrets: u64,
    /// Why the mover stopped, if it did.
    pub(crate) stop: Option<Stop>,
}

/// Carries out `plan`: evictions first, then demotions and promotions in turn, so that DRAM never holds more than
/// `targets.room` pages above where it was.
pub(crate) fn carry_out(
    plan: &Plan,
    targets: Targets,
    map: &mut HeatMap,
    mover: &mut Mover,
    system: &mut dyn System,
    stats: &mut StatsSnapshot,
) -> Done {
    let mut done = Done::default();
    let up = Way { node: targets.dram, to: Place::Dram, direction: Moved::Up };
    let out = Way { direction: Moved::Evicted, ..up };
    let mut act = Act { map, mover, system, stats, done: &mut done };
    for batch in plan.evict.chunks(BATCH) {
        if !act.batch(batch, out).1 {
            return done;
        }
    }
    let mut promote = plan.promote.as_slice();
    let mut room = targets.room;
    let mut demote = plan.demote.chunks(BATCH);
    loop {
        let batch = promote.split_at(promote.len().min(room).min(BATCH)).0;
        if !batch.is_empty() {
            promote = &promote[batch.len()..];
            let (moved, go_on) = act.batch(batch, up);
            room -= moved;
            if !go_on {
                return done;
            }
            continue;
        }
        let (Some(batch), Some(node)) = (demote.next(), targets.device) else { return done };
        let (moved, go_on) = act.batch(batch, Way { node, to: Place::Device, direction: Moved::Down });
        room += moved;
        if !go_on {
            return done;
        }
    }
}

struct Act<'a> {
    map: &'a mut HeatMap,
    mover: &'a mut Mover,
    system: &'a mut dyn System,
    stats: &'a mut StatsSnapshot,
    done: &'a mut Done,
}

impl Act<'_> {
    /// Moves one batch; answers how many pages moved and whether to go on.
    fn batch(&mut self, batch: &[Candidate], way: Way) -> (usize, bool) {
        let now = self.system.now();
        if !self.mover.ready(now) {
            return (0, false);
        }
        // What was freed or handed out again since the map was made must not be copied.
        let mut pages = Vec::with_capacity(batch.len());
        for c in batch {
            if self.still_live(c.page) {
                pages.push(c.page);
            } else {
                self.stats.dropped += 1;
            }
        }
        let (map, stats, done) = (&mut *self.map, &mut *self.stats, &mut *self.done);
        let mut moved = 0;
        let result = self.mover.run(&mut *self.system, &pages, way.node, now, &mut |page, outcome| {
            let failed = match outcome {
                Outcome::Moved => {
                    moved += 1;
                    done.regrets += u64::from(count_move(map, page, way, now, stats));
                    return;
                }
                Outcome::Busy => 0,
                Outcome::Again => 1,
                Outcome::Shared => 2,
                Outcome::NoMemory => {
                    done.device_refused |= way.to == Place::Device;
                    3
                }
                Outcome::Absent => {
                    if let Some(p) = map.page_mut(page) {
                        p.place = Place::Absent;
                    }
                    4
                }
                Outcome::Other(_) => 5,
            };
            stats.failed[failed] += 1;
        });
        done.moved += moved as u64;
        if let Err(stop) = result {
            done.stop = Some(stop);
        }
        (moved, done.stop.is_none() && !done.device_refused)
    }

    fn still_live(&self, page: usize) -> bool {
        let Some(i) = self.map.find(page) else { return false };
        let known = self.map.extents()[i].view;
        let slice = (page - known.base) / (SLICE_PAGES * PAGE_BYTES);
        self.system
            .extent(known.index)
            .is_some_and(|view| view.birth == known.birth && view.live >> slice & 1 == 1)
    }
}

/// Notes a move; answers whether it takes back a recent one that was made knowingly.
fn count_move(map: &mut HeatMap, page: usize, way: Way, now: u64, stats: &mut StatsSnapshot) -> bool {
    match way.direction {
        Moved::Up => stats.promoted += 1,
        Moved::Down | Moved::Spilled => stats.demoted += 1,
        Moved::Evicted => stats.evicted += 1,
        Moved::Never => {}
    }
    stats.bytes_moved += PAGE_BYTES as u64;
    let Some(i) = map.find(page) else { return false };
    let extent = &mut map.extents_mut()[i];
    let record = &mut extent.pages[(page - extent.view.base) / PAGE_BYTES];
    let came_from = match record.moved {
        Moved::Never => None,
        Moved::Down | Moved::Spilled => Some(Place::Device),
        Moved::Up | Moved::Evicted => Some(Place::Dram),
    };
    let back = came_from.is_some_and(|last| last != way.to);
    let returned = back && record.since_move(now).is_some_and(|t| t < PING_PONG);
    stats.ping_pong += u64::from(returned);
    let regret = returned && record.moved != Moved::Spilled && record.heat.seen() >= SETTLED;
    if record.place != way.to {
        match way.to {
            Place::Dram => (extent.dram, extent.device) = (extent.dram + 1, extent.device.saturating_sub(1)),
            _ => (extent.dram, extent.device) = (extent.dram.saturating_sub(1), extent.device + 1),
        }
    }
    let blind =
        way.direction == Moved::Down && record.heat.seen() < KNOWN && record.heat.deviation() >= VAGUE;
    record.note_move(way.to, if blind { Moved::Spilled } else { way.direction }, now);
    regret
}
