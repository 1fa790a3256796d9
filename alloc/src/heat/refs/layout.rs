//! How an arena is cut into mappings, so that smaps tells its parts apart.
//!
//! Zone: control. The kernel merges neighbouring mappings whose attributes are equal. Two memory policies that mean
//! the same but do not compare equal keep them apart: segment `i` of an arena has policy `i mod 2`. Cutting a segment
//! into an odd number of parts therefore leaves the policies of all others as they were; [`make_odd`] sees to that.
//!
//! Invariant: [`Layout::bounds`] is ascending, starts with 0, and describes what the kernel was last told; after a
//! failure the whole arena is one segment again.

use crate::sys::Errno;

/// Which of the two equivalent policies.
pub(super) type Variant = bool;

/// The segments of one arena, in pages from its base.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    bounds: Vec<u32>,
}

impl Default for Layout {
    fn default() -> Self {
        Layout { bounds: vec![0] }
    }
}

impl Layout {
    /// Number of segments.
    pub(super) fn segments(&self) -> usize {
        self.bounds.len()
    }

    /// Starts of the segments.
    pub(super) fn bounds(&self) -> &[u32] {
        &self.bounds
    }

    /// Makes `wanted` the segments, `end` being the end of the arena, with as few calls of `set(from, to, variant)`
    /// as the change allows. Answers how many calls there were.
    pub(super) fn apply(
        &mut self,
        wanted: &[u32],
        end: u32,
        set: &mut dyn FnMut(u32, u32, Variant) -> Result<(), Errno>,
    ) -> Result<usize, Errno> {
        debug_assert!(wanted[0] == 0 && wanted.is_sorted_by(|a, b| a < b));
        let mut calls = 0;
        let mut old = 0; // the old segment that contains `at`
        for (i, &from) in wanted.iter().enumerate() {
            let to = wanted.get(i + 1).copied().unwrap_or(end);
            let variant = i % 2 == 1;
            let mut hull: Option<(u32, u32)> = None;
            let mut at = from;
            while at < to {
                while old + 1 < self.bounds.len() && self.bounds[old + 1] <= at {
                    old += 1;
                }
                let stop = self.bounds.get(old + 1).copied().unwrap_or(end).min(to);
                if (old % 2 == 1) != variant {
                    hull = Some((hull.map_or(at, |h| h.0), stop));
                }
                at = stop;
            }
            if let Some((a, b)) = hull {
                calls += 1;
                if let Err(e) = set(a, b, variant) {
                    // What is half done is undone in one call; if even that fails, the wrong idea of the
                    // boundaries costs resolution, never correctness: smaps says what the mappings really are.
                    let _ = set(0, end, false);
                    self.bounds.clear();
                    self.bounds.push(0);
                    return Err(e);
                }
            }
        }
        self.bounds.clear();
        self.bounds.extend_from_slice(wanted);
        Ok(calls)
    }
}

/// Makes the number of segments that start in `bounds[from..]` odd, given that the last one ends at `end`.
pub(super) fn make_odd(bounds: &mut Vec<u32>, from: usize, end: u32, turn: u32) {
    if (bounds.len() - from) % 2 == 1 {
        return;
    }
    // Split a segment of more than one page, or, where all are single pages, join two; others at each turn.
    let first = turn as usize % (bounds.len() - from).max(1);
    for i in (from..bounds.len()).cycle().skip(first).take(bounds.len() - from) {
        let stop = bounds.get(i + 1).copied().unwrap_or(end);
        if stop - bounds[i] > 1 {
            let middle = bounds[i] + (stop - bounds[i]) / 2;
            bounds.insert(i + 1, middle);
            return;
        }
    }
    let pairs = bounds.len() - from - 1;
    if pairs > 0 {
        bounds.remove(from + 1 + turn as usize % pairs);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A kernel that remembers a policy for each page and merges as Linux does.
    struct Pages(Vec<Variant>);

    impl Pages {
        fn mappings(&self) -> Vec<u32> {
            let changes = (1..self.0.len()).filter(|&i| self.0[i] != self.0[i - 1]).map(|i| i as u32);
            std::iter::once(0).chain(changes).collect()
        }

        fn apply(&mut self, layout: &mut Layout, wanted: &[u32]) -> usize {
            let end = self.0.len() as u32;
            layout
                .apply(wanted, end, &mut |a, b, v| {
                    self.0[a as usize..b as usize].fill(v);
                    Ok(())
                })
                .unwrap()
        }
    }

    #[test]
    fn the_kernels_mappings_are_exactly_the_wanted_segments() {
        let mut kernel = Pages(vec![false; 4096]);
        let mut layout = Layout::default();
        let mut seed = 12345u64;
        for _ in 0..200 {
            let mut wanted = vec![0];
            let mut at = 0;
            loop {
                seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                at += 1 + (seed >> 33) as u32 % if seed >> 60 & 1 == 0 { 3 } else { 600 };
                if at >= 4096 {
                    break;
                }
                wanted.push(at);
            }
            kernel.apply(&mut layout, &wanted);
            assert_eq!(kernel.mappings(), wanted);
            assert_eq!(layout.bounds(), wanted);
        }
    }

    #[test]
    fn zooming_one_extent_leaves_the_others_alone() {
        let mut kernel = Pages(vec![false; 8 * 512]);
        let mut layout = Layout::default();
        let coarse: Vec<u32> = (0..8).map(|i| i * 512).collect();
        assert_eq!(kernel.apply(&mut layout, &coarse), 4);
        let mut zoomed: Vec<u32> = coarse[..3].to_vec();
        let from = zoomed.len() - 1;
        zoomed.extend((1..512).map(|i| 1024 + i));
        make_odd(&mut zoomed, from, 1536, 510);
        zoomed.extend_from_slice(&coarse[3..]);
        assert_eq!(kernel.apply(&mut layout, &zoomed), 255, "every second page of one extent");
        assert_eq!(kernel.apply(&mut layout, &coarse), 1, "one call joins them again");
    }

    #[test]
    fn odd_counts_are_made_by_splitting_or_joining_one_segment() {
        let mut bounds = vec![0, 16, 32];
        make_odd(&mut bounds, 1, 48, 0);
        assert_eq!(bounds, [0, 16, 24, 32]);
        let mut bounds = vec![0, 16, 32];
        make_odd(&mut bounds, 1, 48, 1);
        assert_eq!(bounds, [0, 16, 32, 40]);
        let mut bounds = vec![4, 5, 6, 7];
        make_odd(&mut bounds, 0, 8, 2);
        assert_eq!(bounds, [4, 5, 6]);
        let mut bounds = vec![4, 5, 6, 7];
        make_odd(&mut bounds, 0, 8, 0);
        assert_eq!(bounds, [4, 6, 7]);
    }

    #[test]
    fn a_refused_cut_falls_back_to_one_segment() {
        let mut layout = Layout::default();
        let mut calls = Vec::new();
        let result = layout.apply(&[0, 8, 16, 24], 64, &mut |a, b, v| {
            calls.push((a, b, v));
            if calls.len() == 2 { Err(Errno(libc::ENOMEM)) } else { Ok(()) }
        });
        assert_eq!(result, Err(Errno(libc::ENOMEM)));
        assert_eq!(calls.last(), Some(&(0, 64, false)));
        assert_eq!(layout, Layout::default());
    }
}
