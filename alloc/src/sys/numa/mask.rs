//! A set of NUMA nodes, in the form the kernel takes.

/// The nodes a [`NodeMask`] can name (the kernel's largest `MAX_NUMNODES`).
pub const MAX_NODES: u32 = 1024;

/// A set of NUMA nodes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct NodeMask([u64; 16]);

impl NodeMask {
    /// The set with no node.
    pub const EMPTY: NodeMask = NodeMask([0; 16]);

    /// The set with no node.
    #[must_use]
    pub const fn new() -> Self {
        Self::EMPTY
    }

    /// The set with one node.
    #[must_use]
    pub fn of(node: u32) -> Self {
        let mut mask = Self::EMPTY;
        mask.set(node);
        mask
    }

    /// Adds `node`; nodes past [`MAX_NODES`] are ignored.
    pub fn set(&mut self, node: u32) {
        if let Some(word) = self.0.get_mut(node as usize / 64) {
            *word |= 1 << (node % 64);
        }
    }

    /// Whether `node` is in the set.
    #[must_use]
    pub fn has(&self, node: u32) -> bool {
        self.0.get(node as usize / 64).is_some_and(|word| word >> (node % 64) & 1 == 1)
    }

    /// Whether the set is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0 == [0; 16]
    }

    /// How many nodes are in the set.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }

    /// The lowest node in the set.
    #[must_use]
    pub fn first(&self) -> Option<u32> {
        self.iter().next()
    }

    /// The nodes in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        (0..MAX_NODES).filter(|&node| self.has(node))
    }

    /// The nodes in either set.
    #[must_use]
    pub fn union(&self, other: &NodeMask) -> NodeMask {
        self.zip(other, |a, b| a | b)
    }

    /// The nodes in both sets.
    #[must_use]
    pub fn intersect(&self, other: &NodeMask) -> NodeMask {
        self.zip(other, |a, b| a & b)
    }

    /// The nodes in `self` that are not in `other`.
    #[must_use]
    pub fn minus(&self, other: &NodeMask) -> NodeMask {
        self.zip(other, |a, b| a & !b)
    }

    fn zip(&self, other: &NodeMask, f: impl Fn(u64, u64) -> u64) -> NodeMask {
        let mut out = [0; 16];
        for ((o, a), b) in out.iter_mut().zip(self.0).zip(other.0) {
            *o = f(a, b);
        }
        NodeMask(out)
    }

    /// The set as the kernel's array of words, 64 nodes each.
    #[must_use]
    pub fn words(&self) -> &[u64; 16] {
        &self.0
    }

    pub(super) fn words_mut(&mut self) -> &mut [u64; 16] {
        &mut self.0
    }

    /// Parses the kernel's list form, such as `0-1,4`; `None` if it is not of that form or names a node too high.
    #[must_use]
    pub fn parse(list: &[u8]) -> Option<NodeMask> {
        let mut mask = NodeMask::EMPTY;
        let list = list.trim_ascii();
        if list.is_empty() {
            return Some(mask);
        }
        for part in list.split(|&b| b == b',') {
            let mut ends = part.splitn(2, |&b| b == b'-');
            let low = parse_node(ends.next()?)?;
            let high = ends.next().map_or(Some(low), parse_node)?;
            if low > high || high >= MAX_NODES {
                return None;
            }
            (low..=high).for_each(|node| mask.set(node));
        }
        Some(mask)
    }
}

impl Default for NodeMask {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl core::fmt::Display for NodeMask {
    /// The kernel's list form with ranges, such as `0-1,4`; the empty set prints nothing.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let mut node = 0;
        let mut comma = "";
        while node < MAX_NODES {
            if !self.has(node) {
                node += 1;
                continue;
            }
            let low = node;
            while self.has(node + 1) {
                node += 1;
            }
            write!(f, "{comma}{low}")?;
            if node > low {
                write!(f, "-{node}")?;
            }
            comma = ",";
            node += 1;
        }
        Ok(())
    }
}

impl core::fmt::Debug for NodeMask {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{{{self}}}")
    }
}

fn parse_node(text: &[u8]) -> Option<u32> {
    core::str::from_utf8(text.trim_ascii()).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_prints_as_the_list_it_was_parsed_from() {
        for list in ["", "0", "0-1,4", "3,5,7-9", "63-64", "1023"] {
            assert_eq!(NodeMask::parse(list.as_bytes()).unwrap().to_string(), list);
        }
        for bad in ["x", "1-", "4-2", "1024", "1,,2", "-1"] {
            assert_eq!(NodeMask::parse(bad.as_bytes()), None, "{bad}");
        }
    }
}
