//! How slowly the program ran during a window, against its usual pace.
//!
//! Zone: control. A program that waited for input, or for a processor, touched less in the window than its pages' rates
//! foretell. Taken at its word, such a window makes hot pages look cold and the program look changed. So the windows of a
//! round are shortened by the one factor that makes the expected number of touched pages, over all that was seen, equal to the
//! number found. When the program has changed, pages that used to be cold are touched, which no slowness explains: that
//! is still noticed. Nothing is done about a program that runs faster; its rates rise.

use super::map::HeatMap;
use super::rate::{Estimate, OCTAVE, Window};

/// Pages of known rate that it takes to tell the pace.
const ENOUGH: usize = 200;
/// An estimate at least this good counts as known, in code units.
const KNOWN: i32 = 3 * OCTAVE / 2;
/// A pace that differs by less is the usual one: rates stay tied to the clock.
const USUAL: i32 = 3 * OCTAVE / 4;
/// Fewer touches than this foretold in a round, and nothing is a sign of slowness.
const FEW: f64 = 20.0;
/// Slowest pace that is made out.
const SLOWEST: i32 = -6 * OCTAVE;
/// A pace is made out to half an octave or so; a round that was slower than this would set its pages apart from all others.
const USEFUL: i32 = -5 * OCTAVE / 4;
/// Rounds in a row at a slower pace after which that pace is the usual one.
const ACCUSTOMED: u8 = 4;

/// The pace of one round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// The usual one, or nobody knows.
    Usual,
    /// Slower by so many code units, a negative number.
    Slow(i32),
    /// The program hardly ran: the round tells nothing.
    Asleep,
}

impl Pace {
    /// Whether answers of such a round are worth having.
    pub(super) fn is_useful(self) -> bool {
        match self {
            Pace::Usual => true,
            Pace::Slow(by) => by >= USEFUL,
            Pace::Asleep => false,
        }
    }

    /// The window that a window of this length amounts to.
    pub(super) fn apply(self, window: Window) -> Window {
        match self {
            Pace::Slow(by) => window.stretched(by),
            Pace::Usual | Pace::Asleep => window,
        }
    }
}

/// What there is to tell the pace by: pages of known rate, the window each was watched for, and how many of them were touched.
#[derive(Default)]
pub(super) struct Witnesses {
    known: Vec<(Estimate, Window)>,
    touched: f64,
    /// Pages looked at, known or not.
    looked: usize,
}

impl Witnesses {
    /// A page of which this is known was touched in the window with probability `touched`.
    pub(super) fn hear(&mut self, heat: &Estimate, window: Window, touched: f64) {
        self.looked += 1;
        if !heat.is_blank() && heat.deviation() <= KNOWN {
            self.known.push((*heat, window));
            self.touched += touched;
        }
    }

    /// The pace of the round.
    pub(super) fn pace(&self) -> Pace {
        let known = &self.known;
        if known.len() < ENOUGH || known.len() * 4 < self.looked {
            return Pace::Usual;
        }
        let expected =
            |by: i32| known.iter().map(|(e, w)| f64::from(w.stretched(by).probability(e))).sum::<f64>();
        if expected(0) < FEW {
            return Pace::Usual;
        }
        if self.touched <= expected(SLOWEST) {
            return Pace::Asleep;
        }
        if self.touched >= expected(-USUAL) {
            return Pace::Usual;
        }
        let (mut low, mut high) = (SLOWEST, -USUAL);
        while high - low > OCTAVE / 8 {
            let middle = low.midpoint(high);
            if expected(middle) < self.touched { low = middle } else { high = middle }
        }
        Pace::Slow(low.midpoint(high))
    }
}

/// Rounds in a row that were slower than usual, and by how much on average.
#[derive(Default)]
pub(super) struct Slowness {
    rounds: u8,
    mean: i32,
    /// Whether the last of them told nothing.
    useless: bool,
}

impl Slowness {
    /// Whether the last round was so much slower than usual that it told nothing: the next ones are to tell whether that lasts.
    pub(super) fn is_settling(&self) -> bool {
        self.useless
    }

    /// When the program has been slow for a while, that is its pace: rates follow, and so will the window.
    pub(super) fn get_used_to(&mut self, pace: Pace, map: &mut HeatMap) {
        let by = match pace {
            Pace::Usual => {
                *self = Slowness::default();
                return;
            }
            Pace::Slow(by) => by,
            Pace::Asleep => SLOWEST,
        };
        self.rounds += 1;
        self.useless = !pace.is_useful();
        self.mean += (by - self.mean) / i32::from(self.rounds);
        if self.rounds >= ACCUSTOMED {
            let pages = map.extents_mut().iter_mut().flat_map(|e| &mut e.pages);
            pages.for_each(|p| p.heat.slow_down(self.mean));
            *self = Slowness::default();
        }
    }
}
