//! What the model knows: every live block, by address; and what has happened.

use super::block::Block;
use std::collections::{BTreeMap, BTreeSet};

/// With more than this live, nothing large is asked for.
const FULL: usize = 96 << 20;

#[derive(Default)]
pub(crate) struct Model {
    by_addr: BTreeMap<usize, Block>,
    /// Addresses in an order of the model's own, for choosing one at random.
    order: Vec<usize>,
    bytes: usize,
    /// What has happened, for the corpus to cover, and to sizes of about which magnitude.
    pub(crate) events: BTreeSet<(&'static str, u32)>,
}

impl Model {
    /// Enters a block; panics if it overlaps another.
    pub(crate) fn insert(&mut self, block: Block) {
        let end = block.addr + block.usable.max(1);
        if let Some((_, before)) = self.by_addr.range(..=block.addr).next_back() {
            assert!(before.addr + before.usable.max(1) <= block.addr, "{block:?} overlaps {before:?}");
        }
        if let Some((_, after)) = self.by_addr.range(block.addr..).next() {
            assert!(end <= after.addr, "{block:?} overlaps {after:?}");
        }
        self.bytes += block.usable;
        self.by_addr.insert(block.addr, block);
        self.order.push(block.addr);
    }

    /// Takes out block `choice` modulo how many there are.
    pub(crate) fn remove(&mut self, choice: usize) -> Option<Block> {
        if self.order.is_empty() {
            return None;
        }
        let index = choice % self.order.len();
        let addr = self.order.swap_remove(index);
        let block = self.by_addr.remove(&addr).expect("what is in order is a block");
        self.bytes -= block.usable;
        Some(block)
    }

    /// Block `choice` modulo how many there are.
    pub(crate) fn get(&self, choice: usize) -> Option<Block> {
        let addr = self.order.get(choice.checked_rem(self.order.len())?)?;
        self.by_addr.get(addr).copied()
    }

    pub(crate) fn len(&self) -> usize {
        self.order.len()
    }

    /// Bytes that may be used of all blocks.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn is_full(&self) -> bool {
        self.bytes > FULL
    }

    pub(crate) fn check_all(&self) {
        self.by_addr.values().for_each(Block::check);
    }

    pub(crate) fn note(&mut self, event: &'static str) {
        self.note_size(event, 0);
    }

    pub(crate) fn note_size(&mut self, event: &'static str, size: usize) {
        self.events.insert((event, size.checked_ilog2().map_or(0, |bits| bits / 3)));
    }
}
