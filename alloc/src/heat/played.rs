//! Heat maps for tests. Zone: control.

use super::map::HeatMap;
use crate::arena::{ExtentView, Pool};
use std::ops::Range;

/// The map of a heap of extents of the default pool, all of whose slices are live; extent `i` of `numbers` lies at `i << 21`.
pub(crate) fn map_of(numbers: Range<usize>) -> HeatMap {
    let mut map = HeatMap::new();
    let view = |i: usize| ExtentView {
        index: i as u32,
        base: i << 21,
        pool: Pool::Default,
        live: u32::MAX,
        birth: 1,
        emptied: 0,
    };
    map.sync(0, |f| numbers.for_each(|i| f(view(i))));
    map
}
