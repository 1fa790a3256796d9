//! The Rust workload: collections of the standard library over the system's allocator, which is `malloc` wherever the
//! loader found it. The runner starts itself for this (`terrace-benches --collections PERCENT`), so that it needs no second
//! program to be built and found.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt::Write as _;
use std::hash::BuildHasherDefault;
use std::rc::Rc;

/// As in `workloads/workload.h`.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, bound: u64) -> u64 {
        ((self.next() >> 32) * bound) >> 32
    }

    fn word(&mut self) -> String {
        (0..3 + self.below(40)).map(|_| char::from(b'a' + self.below(26) as u8)).collect()
    }
}

/// FNV-1a: the standard hasher is seeded at random, and the order of its maps with it.
#[derive(Default)]
struct Fnv(u64);

impl std::hash::Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for b in bytes {
            self.0 = (self.0 ^ u64::from(*b)).wrapping_mul(0x100_0000_01B3);
        }
    }
}

/// A document as parsers make them: small nodes that own others.
enum Node {
    Text(Box<str>),
    Number(u64),
    List(Vec<Node>),
    Object(BTreeMap<String, Node>),
}

impl Node {
    fn grow(random: &mut Random, depth: u64) -> Node {
        match random.below(if depth == 0 { 2 } else { 4 }) {
            0 => Node::Text(random.word().into_boxed_str()),
            1 => Node::Number(random.next()),
            2 => Node::List((0..random.below(6)).map(|_| Node::grow(random, depth - 1)).collect()),
            _ => Node::Object(
                (0..random.below(5)).map(|_| (random.word(), Node::grow(random, depth - 1))).collect(),
            ),
        }
    }

    fn write(&self, out: &mut String) {
        match self {
            Node::Text(text) => out.push_str(text),
            // Writing to a String cannot fail.
            Node::Number(n) => drop(write!(out, "{n}")),
            Node::List(nodes) => nodes.iter().for_each(|node| node.write(out)),
            Node::Object(map) => map.iter().for_each(|(key, node)| {
                out.push_str(key);
                node.write(out);
            }),
        }
    }
}

/// Does `percent` of the nominal work and returns its checksum.
pub(crate) fn run(percent: u64) -> u64 {
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let mut index: HashMap<String, Vec<u32>, BuildHasherDefault<Fnv>> = HashMap::default();
    let mut ordered: BTreeMap<u64, Rc<String>> = BTreeMap::new();
    let mut recent: VecDeque<Box<Node>> = VecDeque::new();
    let mut sum = 0u64;
    for round in 0..percent.max(1) {
        for i in 0..2000 {
            let word = Rc::new(random.word());
            index.entry(word.to_string()).or_default().push(i);
            index.entry(word.chars().take(3).collect()).or_default().push(round as u32);
            ordered.insert(random.next() % 65536, Rc::clone(&word));
        }
        for _ in 0..100 {
            recent.push_back(Box::new(Node::grow(&mut random, 6)));
            if recent.len() > 400 {
                let mut text = String::new();
                recent.pop_front().into_iter().for_each(|node| node.write(&mut text));
                sum = text.bytes().fold(sum, |sum, b| sum.wrapping_mul(31).wrapping_add(u64::from(b)));
            }
        }
        for _ in 0..1500 {
            let from = random.next() % 65536;
            if let Some(key) = ordered.range(from..).next().map(|(key, _)| *key) {
                sum += ordered.remove(&key).map_or(0, |word| word.len() as u64);
            }
        }
        if index.len() > 30_000 {
            sum += index.drain().map(|(word, rounds)| (word.len() + rounds.len()) as u64).sum::<u64>();
        }
    }
    sum + (index.len() + ordered.len()) as u64
}

#[cfg(test)]
mod tests {
    #[test]
    fn equal_work_has_equal_checksums() {
        assert_eq!(super::run(2), super::run(2));
        assert_ne!(super::run(2), super::run(3));
    }
}
