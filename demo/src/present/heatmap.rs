//! The heap by tier over time: one row an extent of 2 MiB in address order, one column a moment.
//!
//! Zone: control (a program of its own).

use std::collections::BTreeMap;

use super::chart::Frame;
use super::run::Map;
use super::svg::Svg;

/// Shades between "all on the device" and "all in DRAM". Few, so that neighbours in time merge into one rectangle.
const SHADES: usize = 12;

/// Colour of device memory and of DRAM, as red, green, blue.
const DEVICE: [f64; 3] = [245.0, 158.0, 11.0];
const DRAM: [f64; 3] = [37.0, 99.0, 235.0];

/// The colour for a share of pages in DRAM, from 0 to 1.
pub fn shade(share: f64) -> String {
    let share = (share * (SHADES - 1) as f64).round() / (SHADES - 1) as f64;
    let mix = |i: usize| (DEVICE[i] + (DRAM[i] - DEVICE[i]) * share).round() as u8;
    format!("#{:02x}{:02x}{:02x}", mix(0), mix(1), mix(2))
}

/// Draws `maps` into `frame`; the vertical axis of the frame is not used. Returns the number of extents.
pub fn draw(svg: &mut Svg, frame: &Frame, maps: &[Map]) -> usize {
    // Extents that were never used have no row: reservations are huge and far apart.
    let mut rows: BTreeMap<u64, usize> = maps.iter().flat_map(|m| &m.cells).map(|c| (c.0, 0)).collect();
    for (number, row) in rows.values_mut().enumerate() {
        *row = number;
    }
    let height = (frame.bottom - frame.top) / rows.len().max(1) as f64;
    for (extent, row) in &rows {
        // The lowest address is at the bottom, as on the other charts small values are.
        let y = frame.bottom - (*row + 1) as f64 * height;
        for (begin, end, colour) in stretches(maps, *extent, frame.seconds) {
            let (x, right) = (frame.x(begin), frame.x(end));
            // A little larger than the cell: no background shines through between two cells.
            svg.rect(x, y, right - x + 0.3, height + 0.3, &format!(r#"fill="{colour}""#));
        }
    }
    rows.len()
}

/// Times during which one extent had one colour.
fn stretches(maps: &[Map], extent: u64, end: f64) -> Vec<(f64, f64, String)> {
    let mut found: Vec<(f64, f64, String)> = Vec::new();
    for (i, map) in maps.iter().enumerate() {
        let until = maps.get(i + 1).map_or(end, |next| next.seconds);
        let cell = map.cells.binary_search_by_key(&extent, |c| c.0).ok().map(|at| map.cells[at]);
        let Some((_, pages, dram)) = cell else { continue };
        let colour = shade(dram as f64 / pages as f64);
        match found.last_mut() {
            Some(last) if last.1 == map.seconds && last.2 == colour => last.1 = until,
            _ => found.push((map.seconds, until, colour)),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_of_one_colour_are_one_rectangle_and_gaps_stay_gaps() {
        let map = |seconds, cells: &[(u64, u64, u64)]| Map { seconds, cells: cells.to_vec() };
        let maps = [
            map(0.0, &[(3, 10, 10), (9, 10, 0)]),
            map(2.0, &[(3, 10, 10)]),
            map(4.0, &[(3, 10, 0), (9, 10, 0)]),
        ];
        let found = stretches(&maps, 3, 6.0);
        assert_eq!(found, [(0.0, 4.0, shade(1.0)), (4.0, 6.0, shade(0.0))]);
        let found = stretches(&maps, 9, 6.0);
        assert_eq!(found, [(0.0, 2.0, shade(0.0)), (4.0, 6.0, shade(0.0))]);
        assert!(stretches(&maps, 4, 6.0).is_empty());
    }

    #[test]
    fn the_ends_of_the_scale_are_the_two_tiers() {
        assert_eq!(shade(0.0), "#f59e0b");
        assert_eq!(shade(1.0), "#2563eb");
    }
}
