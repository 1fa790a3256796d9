//! What was learnt in one run, written down for the next, and for people.
//!
//! Zone: control. Pure: text from the map, and estimates from the text. A page is known by its place in an extent and by the extent's
//! birth, which counts the extents of each pool as the heap hands them out: a program that does the same things in the same order gets the
//! same extents for the same data. Where it does not, what is recalled is wrong, and answers correct it as they correct any estimate: it
//! comes with a doubt.
//!
//! ```text
//! terrace profile 1
//! program NAME
//! pages LIVE IN-DRAM
//! site GROUP BLOCK-BYTES PAGES IN-DRAM HZ SHARERS OFFSET FILE     one a line; GROUP is - for the only site of a size
//! extent POOL.NUMBER SLICES RATES                                 slices in use, in hexadecimal; a character a page
//! later POOL.NUMBER SLICES RATES                                  the same, of an earlier run that went further than the last
//! ```
//!
//! Invariant: a slice is recalled once, when it first comes into use. What follows there in the same run is other data.

use super::map::{HeatMap, PAGES, Place, SLICE_PAGES};
use super::rate::{Estimate, OCTAVE, ONE_HZ, hz_of_code};
use crate::arena::parts_of_birth;
use crate::class::FINE_MAX;
use std::collections::BTreeMap;
use std::fmt::{self, Write};

/// The first line of the text; the number changes with the format.
pub const TITLE: &str = "terrace profile 1";

/// A rate is one character: half octaves from 2⁻¹⁶ Hz, `0`, to above 2²² Hz, `~`; [`UNKNOWN`] where nothing is known.
const LEAST: i32 = ONE_HZ - 16 * OCTAVE;
const UNIT: i32 = OCTAVE / 2;
const FIRST: u8 = b'0';
const LAST: u8 = b'~';
const UNKNOWN: u8 = b'.';

/// What is remembered of an extent.
#[derive(Clone, Debug)]
struct Memory {
    /// Slices that were in use then and have not been recalled.
    left: u32,
    /// As in the text.
    rates: [u8; PAGES],
    /// Whether the last run did not come to it.
    later: bool,
}

/// An allocation site and what lies in the blocks it has allocated.
#[derive(Clone, Debug, PartialEq)]
pub struct Site {
    /// The number of its group, if it has one.
    pub group: Option<usize>,
    /// The size of its blocks, bytes.
    pub bytes: usize,
    /// Pages that hold such blocks, and how many of them are in DRAM.
    pub pages: u64,
    /// See `pages`.
    pub dram: u64,
    /// Accesses a page and second, on average.
    pub hz: f64,
    /// How many sites have their blocks in those pages.
    pub sharers: usize,
    /// Where in `file` the allocation function returns to.
    pub offset: u64,
    /// The program or library.
    pub file: String,
}

/// A line, counted from 1, that is not one of a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadLine(pub usize);

impl fmt::Display for BadLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} is not one of a profile of Terrace", self.0)
    }
}

/// A run of a program: what was learnt in it, less what has been recalled.
#[derive(Clone, Debug, Default)]
pub struct Profile {
    /// The program, by the name of its file.
    pub program: String,
    /// Live pages of the heap, and those in DRAM.
    pub pages: (u64, u64),
    /// Its allocation sites.
    pub sites: Vec<Site>,
    /// By pool and number.
    extents: BTreeMap<(u8, u32), Memory>,
}

impl Profile {
    /// That of the first run of `program`.
    #[must_use]
    pub fn new(program: &str) -> Profile {
        Profile { program: program.to_owned(), ..Profile::default() }
    }

    /// Reads what [`Profile::next`] wrote.
    ///
    /// # Errors
    /// The first line that is not one of a profile.
    pub fn parse(text: &str) -> Result<Profile, BadLine> {
        let mut profile = Profile::default();
        let mut lines = text.lines().zip(1..);
        if lines.next().is_none_or(|(line, _)| line != TITLE) {
            return Err(BadLine(1));
        }
        profile.program =
            lines.next().and_then(|(line, _)| line.strip_prefix("program ")).ok_or(BadLine(2))?.to_owned();
        for (line, number) in lines {
            profile.take(line).ok_or(BadLine(number))?;
        }
        Ok(profile)
    }

    fn take(&mut self, line: &str) -> Option<()> {
        let (kind, rest) = line.split_once(' ')?;
        match kind {
            "pages" => {
                let (live, dram) = rest.split_once(' ')?;
                self.pages = (live.parse().ok()?, dram.parse().ok()?);
            }
            "site" => self.sites.push(site(rest)?),
            "extent" | "later" => {
                let (key, memory) = extent(rest, kind == "later")?;
                self.extents.insert(key, memory);
            }
            _ => return None,
        }
        Some(())
    }

    /// How the text of this program's profiles begins.
    #[must_use]
    pub fn head(&self) -> String {
        format!("{TITLE}\nprogram {}\n", self.program)
    }

    /// How many extents are remembered and not wholly recalled.
    #[must_use]
    pub fn extents(&self) -> usize {
        self.extents.len()
    }

    /// The rates of all pages of the last run of which something was known, in accesses a second.
    pub fn rates(&self) -> impl Iterator<Item = f64> {
        let last = self.extents.values().filter(|memory| !memory.later);
        last.flat_map(|memory| memory.rates).filter_map(rate_of).map(hz_of_code)
    }

    /// Gives pages that have come into use the estimates they had.
    pub fn recall(&mut self, map: &mut HeatMap) {
        if self.extents.is_empty() {
            return;
        }
        for extent in map.extents_mut() {
            let key = parts_of_birth(extent.view.birth);
            let Some(memory) = self.extents.get_mut(&key) else { continue };
            let fresh = memory.left & extent.view.live;
            memory.left &= !fresh;
            for i in (0..PAGES).filter(|i| fresh >> (i / SLICE_PAGES) & 1 == 1) {
                let heat = &mut extent.pages[i].heat;
                if let Some(rate) = rate_of(memory.rates[i]).filter(|_| heat.seen() == 0) {
                    *heat = Estimate::recalled(rate);
                }
            }
            if memory.left == 0 {
                self.extents.remove(&key);
            }
        }
    }

    /// The next profile of the same program: what `map` knows, and what of this one the run has not come to yet. `None` while little is known.
    #[must_use]
    pub fn next(&self, map: &HeatMap, sites: &[Site]) -> Option<String> {
        let mut extents: Vec<_> = map.extents().iter().filter(|e| e.view.pool.is_tiered()).collect();
        extents.sort_unstable_by_key(|e| parts_of_birth(e.view.birth));
        let (mut live, mut known, mut dram) = (0u64, 0u64, 0u64);
        let mut lines = String::new();
        let mut newest: BTreeMap<u8, u32> = BTreeMap::new();
        for extent in extents {
            let key = parts_of_birth(extent.view.birth);
            newest.insert(key.0, key.1);
            let rates = extent.pages.iter().enumerate().map(|(i, page)| {
                let is_there = extent.is_there(i);
                let is_known = is_there && !page.heat.is_blank() && !page.heat.is_guess();
                live += u64::from(is_there);
                dram += u64::from(is_there && page.place == Place::Dram);
                known += u64::from(is_known);
                is_known.then_some(page.heat.rate)
            });
            write_extent(&mut lines, "extent", key, extent.view.live, rates.map(char_of));
        }
        if known == 0 || known * 2 < live {
            return None;
        }
        let to_come = |key: &(u8, u32)| newest.get(&key.0).is_none_or(|newest| key.1 > *newest);
        for (key, memory) in self.extents.iter().filter(|(key, _)| to_come(key)) {
            write_extent(&mut lines, "later", *key, memory.left, memory.rates.into_iter());
        }
        let mut text = format!("{}pages {live} {dram}\n", self.head());
        sites.iter().for_each(|site| write_site(&mut text, site));
        Some(text + &lines)
    }
}

fn write_site(text: &mut String, site: &Site) {
    let Site { bytes, pages, dram, hz, sharers, offset, file, .. } = site;
    let group = site.group.map_or("-".to_owned(), |group| group.to_string());
    let _ = writeln!(text, "site {group} {bytes} {pages} {dram} {hz:.4} {sharers} {offset:x} {file}");
}

fn site(text: &str) -> Option<Site> {
    let mut words = text.splitn(8, ' ');
    let mut word = || words.next();
    let group = match word()? {
        "-" => None,
        number => Some(number.parse().ok()?),
    };
    Some(Site {
        group,
        bytes: word()?.parse().ok().filter(|bytes| (1..=FINE_MAX).contains(bytes))?,
        pages: word()?.parse().ok()?,
        dram: word()?.parse().ok()?,
        hz: word()?.parse().ok()?,
        sharers: word()?.parse().ok()?,
        offset: u64::from_str_radix(word()?, 16).ok()?,
        file: word()?.to_owned(),
    })
}

fn write_extent(text: &mut String, kind: &str, key: (u8, u32), live: u32, rates: impl Iterator<Item = u8>) {
    let _ = write!(text, "{kind} {}.{} {live:x} ", key.0, key.1);
    text.extend(rates.map(char::from));
    text.push('\n');
}

fn extent(text: &str, later: bool) -> Option<((u8, u32), Memory)> {
    let mut words = text.split(' ');
    let (pool, number) = words.next()?.split_once('.')?;
    let key = (pool.parse().ok()?, number.parse().ok()?);
    let left = u32::from_str_radix(words.next()?, 16).ok()?;
    let rates: [u8; PAGES] = words.next()?.as_bytes().try_into().ok()?;
    let is_rate = |&c: &u8| c == UNKNOWN || (FIRST..=LAST).contains(&c);
    (words.next().is_none() && rates.iter().all(is_rate)).then_some((key, Memory { left, rates, later }))
}

fn char_of(rate: Option<u16>) -> u8 {
    rate.map_or(UNKNOWN, |rate| {
        let units = (i32::from(rate) - LEAST + UNIT / 2).div_euclid(UNIT);
        FIRST + units.clamp(0, i32::from(LAST - FIRST)) as u8
    })
}

fn rate_of(c: u8) -> Option<u16> {
    (c != UNKNOWN).then(|| (LEAST + i32::from(c - FIRST) * UNIT) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arena::{ExtentView, Pool};
    use crate::heat::map::Page;
    use crate::heat::rate::code_of_hz;

    fn view(number: u32, live: u32) -> ExtentView {
        let (base, birth) = ((number as usize) << 21, number << 4);
        ExtentView { index: number, base, pool: Pool::Default, live, birth, emptied: 0 }
    }

    fn map_of(extents: &[(u32, u32)]) -> HeatMap {
        let mut map = HeatMap::new();
        map.sync(0, |f| extents.iter().for_each(|&(number, live)| f(view(number, live))));
        map
    }

    fn known() -> HeatMap {
        let mut map = map_of(&[(3, u32::MAX), (5, 0b11)]);
        for (e, extent) in map.extents_mut().iter_mut().enumerate() {
            for (i, page) in extent.pages.iter_mut().enumerate() {
                page.heat = Estimate::known(code_of_hz(2f64.powi((e * 7 + i) as i32 % 30 - 12)), true);
                page.place = Place::Device;
            }
        }
        map
    }

    fn text_of(map: &HeatMap) -> String {
        Profile::new("p").next(map, &[]).unwrap()
    }

    #[test]
    fn what_is_written_is_recalled_to_a_quarter_of_an_octave() {
        let before = known();
        let mut profile = Profile::parse(&text_of(&before)).unwrap();
        assert_eq!((profile.program.as_str(), profile.pages), ("p", (544, 0)));
        assert_eq!(profile.rates().count(), 544);
        let mut after = map_of(&[(3, u32::MAX), (4, u32::MAX), (5, 0b11)]);
        profile.recall(&mut after);
        assert_eq!(profile.extents(), 0);
        for i in 0..PAGES {
            let (was, is) = (before.extents()[0].pages[i].heat, after.extents()[0].pages[i].heat);
            assert!(was.rate.abs_diff(is.rate) <= UNIT as u16 / 2, "{} for {}", is.rate, was.rate);
            assert!(after.extents()[1].pages[i].heat.is_blank(), "of another birth");
            assert_eq!(after.extents()[2].pages[i].heat.is_blank(), i >= 2 * SLICE_PAGES);
        }
    }

    #[test]
    fn a_slice_is_recalled_when_it_first_comes_into_use_and_only_then() {
        let mut profile = Profile::parse(&text_of(&known())).unwrap();
        let mut map = map_of(&[(5, 0b01)]);
        profile.recall(&mut map);
        let blank = |map: &HeatMap, slice: usize| map.extents()[0].pages[slice * SLICE_PAGES].heat.is_blank();
        assert!(!blank(&map, 0) && blank(&map, 1));
        map.sync(1, |f| f(view(5, 0b10)));
        profile.recall(&mut map);
        assert!(!blank(&map, 1));
        map.sync(2, |f| f(view(5, 0b11)));
        profile.recall(&mut map);
        assert!(blank(&map, 0), "what is there now is something else");
    }

    #[test]
    fn what_this_run_has_not_come_to_is_kept_and_what_it_has_is_written_anew() {
        let mut earlier = Profile::parse(&text_of(&known())).unwrap();
        let mut map = map_of(&[(4, u32::MAX)]);
        assert!(earlier.next(&map, &[]).is_none(), "nothing is known of what is there");
        let (mut page, mut guess) = (Page::default(), Page::default());
        (page.heat, page.place) = (Estimate::known(ONE_HZ as u16, true), Place::Dram);
        (guess.heat, guess.place) = (Estimate::expected(ONE_HZ as u16), Place::Device);
        map.extents_mut()[0].pages[..400].fill(guess);
        assert!(earlier.next(&map, &[]).is_none(), "guesses are no knowledge");
        map.extents_mut()[0].pages[..300].fill(page);
        earlier.recall(&mut map);
        let text = earlier.next(&map, &[]).unwrap();
        let keys: Vec<_> = text.lines().skip(2).map(|line| &line[..9]).collect();
        assert_eq!(keys, ["pages 400", "extent 0.", "later 0.5"]);
        assert_eq!(Profile::parse(&text).unwrap().rates().count(), 300, "of what this run had");
    }

    #[test]
    fn sites_are_read_as_they_were_written() {
        let site = Site {
            group: Some(3),
            bytes: 128,
            pages: 10,
            dram: 4,
            hz: 0.25,
            sharers: 1,
            offset: 0x12ab,
            file: "/opt/a program/of spaces".into(),
        };
        let sites = [Site { group: None, file: String::new(), ..site.clone() }, site];
        let text = Profile::default().next(&known(), &sites).unwrap();
        assert_eq!(Profile::parse(&text).unwrap().sites, sites);
    }

    #[test]
    fn a_text_that_is_not_ours_is_refused_by_its_line() {
        let good = text_of(&known());
        let refused = |text: &str| Profile::parse(text).err().map(|BadLine(line)| line);
        assert_eq!(refused(&good), None);
        assert_eq!(refused(""), Some(1));
        assert_eq!(refused("terrace profile 2\nprogram p\n"), Some(1));
        assert_eq!(refused("terrace profile 1\n"), Some(2));
        for bad in [
            "extent 0.7 1 000",
            "extent x 1 .",
            "extents",
            "",
            "site 0 1025 0 0 0 0 0 /bin/p",
            "site 1 2 3",
            "pages 1",
        ] {
            assert_eq!(refused(&format!("{good}{bad}\n")), Some(6), "{bad}");
        }
        assert_eq!(refused(&good[..good.len() - 20]), Some(5), "cut short");
    }
}
