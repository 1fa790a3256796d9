//! Allocation sites across runs: named by file and offset, which stay, instead of by address, which does not.
//!
//! Zone: control.

use crate::arena::{Pool, sites};
use crate::class::{CLASSES, class_bytes, class_of};
use crate::heap;
use crate::heat::map::{Extent, HeatMap, PAGES, Place, SLICE_PAGES};
use crate::heat::profile::Site;
use crate::heat::rate::hz_of_code;
use std::fs;

/// What lies in the blocks of one class and pool.
#[derive(Clone, Copy, Default)]
struct Stock {
    pages: u64,
    dram: u64,
    known: u64,
    hz: f64,
    sharers: usize,
}

impl Stock {
    fn add(&mut self, extent: &Extent, i: usize) {
        if !extent.is_there(i) {
            return;
        }
        let page = &extent.pages[i];
        self.pages += 1;
        self.dram += u64::from(page.place == Place::Dram);
        if !page.heat.is_blank() {
            self.known += 1;
            self.hz += hz_of_code(page.heat.rate);
        }
    }
}

/// A stretch of code in this process.
#[derive(Debug, PartialEq, Eq)]
struct Module {
    start: usize,
    end: usize,
    /// Where in `file` it begins.
    offset: u64,
    file: String,
}

/// The sites known by now and what lies in their blocks.
pub(super) fn take_stock(map: &HeatMap) -> Vec<Site> {
    let mut known = Vec::new();
    sites::for_each(&mut |site| known.push(site));
    if known.is_empty() {
        return Vec::new();
    }
    let mut stocks = vec![Stock::default(); CLASSES * Pool::COUNT];
    for extent in map.extents().iter().filter(|e| e.view.pool == Pool::Default || e.view.pool.is_group()) {
        for slice in (0..PAGES).step_by(SLICE_PAGES).filter(|&i| extent.is_live(i)) {
            if let Some(class) = heap::class_at(extent.address(slice)).filter(|&class| class < CLASSES) {
                let stock = &mut stocks[class * Pool::COUNT + extent.view.pool as usize];
                (slice..slice + SLICE_PAGES).for_each(|i| stock.add(extent, i));
            }
        }
    }
    let at = |site: &sites::Site| {
        site.class * Pool::COUNT + site.group.map_or(Pool::Default, Pool::group) as usize
    };
    known.iter().for_each(|site| stocks[at(site)].sharers += 1);
    let modules = modules();
    let name = |site: &sites::Site| {
        let module = modules.iter().find(|m| (m.start..m.end).contains(&site.address))?;
        let Stock { pages, dram, known, hz, sharers } = stocks[at(site)];
        Some(Site {
            group: site.group,
            bytes: class_bytes(site.class),
            pages,
            dram,
            hz: if known > 0 { hz / known as f64 } else { 0.0 },
            sharers,
            offset: module.offset + (site.address - module.start) as u64,
            file: module.file.clone(),
        })
    };
    known.iter().filter_map(name).collect()
}

/// Gives the sites of an earlier run the groups that they had, as far as their code is loaded.
pub(super) fn recall(known: &[Site]) {
    if known.is_empty() {
        return;
    }
    let modules = modules();
    for site in known {
        let holds = |m: &&Module| {
            m.file == site.file && (m.offset..m.offset + (m.end - m.start) as u64).contains(&site.offset)
        };
        if let Some(module) = modules.iter().find(holds) {
            let address = module.start + (site.offset - module.offset) as usize;
            sites::preset(&sites::Site { address, class: class_of(site.bytes), group: site.group });
        }
    }
}

fn modules() -> Vec<Module> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    maps.lines().filter_map(module).collect()
}

/// What a line of /proc/PID/maps says, if it is of a file's code.
fn module(line: &str) -> Option<Module> {
    let mut words = line.splitn(6, ' ');
    let (start, end) = words.next()?.split_once('-')?;
    let executable = words.next()?.contains('x');
    let offset = u64::from_str_radix(words.next()?, 16).ok()?;
    let file = words.nth(2)?.trim_start();
    let number = |text| usize::from_str_radix(text, 16).ok();
    (executable && file.starts_with('/')).then_some(Module {
        start: number(start)?,
        end: number(end)?,
        offset,
        file: file.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_of_files_is_found_in_the_map_of_the_process() {
        let line =
            "55d0c0a01000-55d0c0a9f000 r-xp 00002000 fe:01 1234                      /usr/bin/a program";
        let file = "/usr/bin/a program".to_owned();
        assert_eq!(
            module(line),
            Some(Module { start: 0x55d0_c0a0_1000, end: 0x55d0_c0a9_f000, offset: 0x2000, file })
        );
        for other in [
            "55d0c0a01000-55d0c0a9f000 r--p 00002000 fe:01 1234 /usr/bin/python3",
            "7ffd1c5f0000-7ffd1c5f2000 r-xp 00000000 00:00 0                          [vdso]",
            "7f0000000000-7f0000001000 rwxp 00000000 00:00 0",
            "",
        ] {
            assert_eq!(module(other), None, "{other}");
        }
        let here = code_of_files_is_found_in_the_map_of_the_process as *const () as usize;
        assert!(modules().iter().any(|m| (m.start..m.end).contains(&here)));
    }
}
