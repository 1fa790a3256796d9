//! The rates that separate hot from cold, from a histogram of all pages (MEMTIS: the hot set is what fills DRAM).
//!
//! Zone: control. Bins of an eighth of an octave; 64 octaves in 512 bins.

use crate::heat::rate::OCTAVE;

const SHIFT: u32 = 7;
const BINS: usize = 65536 >> SHIFT;
const _: () = assert!(1 << SHIFT == OCTAVE / 8);

/// How many pages there are of each rate.
pub struct Histogram {
    bins: [u32; BINS],
    total: usize,
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram { bins: [0; BINS], total: 0 }
    }
}

/// A bin at which a selection stops (the bin itself belongs to it).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut(usize);

impl Cut {
    /// The bin's rate.
    pub fn rate(self) -> u16 {
        (self.0 << SHIFT) as u16
    }

    /// Whether a rate is in this bin or a colder one.
    pub fn at_most(self, rate: u16) -> bool {
        usize::from(rate) >> SHIFT <= self.0
    }

    /// Whether a rate is in this bin or a hotter one.
    pub fn at_least(self, rate: u16) -> bool {
        usize::from(rate) >> SHIFT >= self.0
    }
}

impl Histogram {
    /// Counts one page.
    pub fn add(&mut self, rate: u16) {
        self.bins[usize::from(rate) >> SHIFT] += 1;
        self.total += 1;
    }

    fn add_many(&mut self, bin: usize, count: u32) {
        self.bins[bin] += count;
        self.total += count as usize;
    }

    /// Empties it.
    pub fn clear(&mut self) {
        self.bins.fill(0);
        self.total = 0;
    }

    /// The rate above which half of the pages are; the greatest if there are none.
    pub fn median(&self) -> u16 {
        self.coldest(self.total / 2).map_or(u16::MAX, Cut::rate)
    }

    /// The rate up to which a tenth of the pages are; the greatest if there are too few to tell.
    pub fn coldest_tenth(&self) -> u16 {
        self.coldest(self.total / 10).map_or(u16::MAX, Cut::rate)
    }

    /// The bin up to which the `n` coldest pages reach; `None` if `n` is 0 or there are no pages.
    pub fn coldest(&self, n: usize) -> Option<Cut> {
        self.reach(n, 0..BINS)
    }

    /// The bin down to which the `n` hottest pages reach.
    pub fn hottest(&self, n: usize) -> Option<Cut> {
        self.reach(n, (0..BINS).rev())
    }

    fn reach(&self, n: usize, order: impl Iterator<Item = usize>) -> Option<Cut> {
        let (mut left, mut last) = (n, None);
        for bin in order {
            if left == 0 {
                break;
            }
            if self.bins[bin] > 0 {
                last = Some(Cut(bin));
                left = left.saturating_sub(self.bins[bin] as usize);
            }
        }
        last
    }
}

/// Deviations are kept in quarters of an octave, up to this many.
const LEVELS: usize = 16;
/// The middles of eight equally likely parts of a normal distribution, in thousandths of its deviation.
const EIGHTHS: [i32; 8] = [-1534, -887, -489, -157, 157, 489, 887, 1534];

/// How many pages there are of each rate, for all that is known: each is spread over the rates that it may have.
pub struct Beliefs {
    counts: Vec<[u32; BINS]>,
    spread: Histogram,
}

impl Default for Beliefs {
    fn default() -> Self {
        Beliefs { counts: vec![[0; BINS]; LEVELS], spread: Histogram::default() }
    }
}

impl Beliefs {
    /// Counts one page of this rate, give or take a deviation, in code units.
    pub fn add(&mut self, rate: u16, deviation: i32) {
        let level = (deviation / (OCTAVE / 4)).clamp(0, LEVELS as i32 - 1);
        self.counts[level as usize][usize::from(rate) >> SHIFT] += 1;
    }

    /// Empties it.
    pub fn clear(&mut self) {
        self.counts.iter_mut().for_each(|level| level.fill(0));
    }

    /// The rate above which `n` pages are to be expected; `None` if `n` is 0 or there are no pages.
    pub fn hottest(&mut self, n: usize) -> Option<Cut> {
        self.spread.clear();
        for (level, counts) in self.counts.iter().enumerate() {
            let deviation = (level as i32 * (OCTAVE / 4)) >> SHIFT;
            for (bin, &count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
                for part in EIGHTHS {
                    let at = (bin as i32 + part * deviation / 1000).clamp(0, BINS as i32 - 1);
                    self.spread.add_many(at as usize, count);
                }
            }
        }
        self.spread.hottest(n * EIGHTHS.len())
    }
}

/// How many of the hottest waiting pages, after the first `room` of them, are hotter by `hysteresis` (in code units)
/// than the coldest staying pages, after the first `leaving` of those.
pub fn swaps(
    waiting: &Histogram,
    staying: &Histogram,
    mut room: usize,
    mut leaving: usize,
    hysteresis: u16,
) -> usize {
    let gap = usize::from(hysteresis) >> SHIFT;
    let (mut hot, mut cold) = (BINS - 1, 0);
    let (mut n_hot, mut n_cold) = (waiting.bins[hot] as usize, staying.bins[cold] as usize);
    let mut count = 0;
    loop {
        while n_hot == 0 {
            if hot == 0 {
                return count;
            }
            hot -= 1;
            n_hot = waiting.bins[hot] as usize;
        }
        while n_cold == 0 {
            if cold == BINS - 1 {
                return count;
            }
            cold += 1;
            n_cold = staying.bins[cold] as usize;
        }
        if room > 0 {
            let n = room.min(n_hot);
            (room, n_hot) = (room - n, n_hot - n);
        } else if leaving > 0 {
            let n = leaving.min(n_cold);
            (leaving, n_cold) = (leaving - n, n_cold - n);
        } else if hot >= cold + gap.max(1) {
            let n = n_hot.min(n_cold);
            count += n;
            (n_hot, n_cold) = (n_hot - n, n_cold - n);
        } else {
            return count;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(rates: &[u16]) -> Histogram {
        let mut h = Histogram::default();
        rates.iter().for_each(|&r| h.add(r));
        h
    }

    const O: u16 = OCTAVE as u16;

    #[test]
    fn a_cut_selects_at_least_as_many_as_asked_and_not_a_bin_more() {
        let h = of(&[O, 2 * O, 2 * O, 5 * O, 9 * O]);
        let cut = h.coldest(2).unwrap();
        assert!(cut.at_most(2 * O) && !cut.at_most(5 * O));
        let cut = h.hottest(1).unwrap();
        assert!(cut.at_least(9 * O) && !cut.at_least(5 * O));
        assert_eq!(h.coldest(0), None);
        assert_eq!(of(&[]).hottest(3), None);
    }

    #[test]
    fn swaps_stop_where_the_hysteresis_is_no_longer_kept() {
        let waiting = of(&[20 * O, 10 * O, 6 * O, 3 * O]);
        let staying = of(&[2 * O, 4 * O, 5 * O, 30 * O]);
        // 20 against 2 and 10 against 4 are worth it; 6 against 5 is only one octave.
        assert_eq!(swaps(&waiting, &staying, 0, 0, 2 * O), 2);
        assert_eq!(swaps(&waiting, &staying, 0, 0, O), 3);
    }

    #[test]
    fn pages_that_move_anyway_are_not_counted_as_swaps() {
        let waiting = of(&[20 * O, 10 * O]);
        let staying = of(&[2 * O, 4 * O]);
        assert_eq!(swaps(&waiting, &staying, 1, 0, O), 1);
        assert_eq!(swaps(&waiting, &staying, 2, 0, O), 0);
        assert_eq!(swaps(&waiting, &staying, 0, 2, O), 0);
    }

    #[test]
    fn of_pages_nobody_knows_some_are_expected_to_be_hot() {
        let mut known = Beliefs::default();
        (0..80).for_each(|_| known.add(20 * O, 0));
        assert_eq!(known.hottest(10).map(Cut::rate), Some(20 * O));
        let mut unknown = Beliefs::default();
        (0..80).for_each(|_| unknown.add(20 * O, 2 * OCTAVE));
        assert!(unknown.hottest(10).unwrap().rate() > 22 * O && unknown.hottest(80).unwrap().rate() < 18 * O);
        assert_eq!(unknown.hottest(0), None);
    }

    #[test]
    fn the_median_halves_the_pages() {
        assert_eq!(of(&[O, 2 * O, 3 * O, 4 * O, 9 * O, 9 * O]).median(), 3 * O);
        assert_eq!(of(&[]).median(), u16::MAX);
        let rates: Vec<u16> = (1..=20).map(|i| i * O).collect();
        assert_eq!((of(&rates).coldest_tenth(), of(&rates[..9]).coldest_tenth()), (2 * O, u16::MAX));
    }

    #[test]
    fn equal_rates_are_never_swapped() {
        assert_eq!(swaps(&of(&[5 * O]), &of(&[5 * O]), 0, 0, 0), 0);
    }
}
