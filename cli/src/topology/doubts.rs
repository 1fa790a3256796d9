//! Where the sources contradict each other. Nothing is smoothed over: each finding is one sentence for the user.

use super::facts::{Facts, Node};

/// Latencies this much apart (in percent of the lower) are different tiers; below it tables merely round.
const SAME_PERCENT: u32 = 20;

/// Every contradiction found, in no order of weight.
pub(super) fn contradictions(facts: &Facts) -> Vec<String> {
    let mut found = Vec::new();
    let memory: Vec<&Node> = facts.nodes.iter().filter(|n| n.total_bytes > 0).collect();
    for (i, a) in memory.iter().enumerate() {
        for b in &memory[i + 1..] {
            found.extend(hmat_against_distance(facts, a, b));
            found.extend(hmat_against_kernel_tiers(facts, a, b));
        }
    }
    found.extend(gaps(&memory));
    found.extend(strange_initiators(facts));
    found
}

fn latency(node: &Node) -> Option<u32> {
    node.access.as_ref()?.read_latency_ns
}

/// Whether two latencies belong to one tier.
pub(super) fn about_equal(a: u32, b: u32) -> bool {
    rank(a, b) == 0
}

/// `-1`, `0`, `1` as `a` is below, about equal to, above `b`.
fn rank(a: u32, b: u32) -> i32 {
    let near = u64::from(a.min(b)) * u64::from(SAME_PERCENT) / 100;
    if u64::from(a.abs_diff(b)) <= near { 0 } else { if a < b { -1 } else { 1 } }
}

/// Seen from the first node with CPUs: does the SLIT order two nodes as the HMAT does?
fn hmat_against_distance(facts: &Facts, a: &Node, b: &Node) -> Option<String> {
    let (near, far) = (latency(a)?, latency(b)?);
    let from = facts.nodes.iter().find(|n| !n.cpus.is_empty())?;
    let distance = |to: &Node| from.distances.get(facts.nodes.iter().position(|n| n.id == to.id)?).copied();
    let (to_a, to_b) = (distance(a)?, distance(b)?);
    let (by_latency, by_distance) = (rank(near, far), (to_a.cmp(&to_b)) as i32);
    let both_have_cpus = !a.cpus.is_empty() && !b.cpus.is_empty();
    // Each socket's HMAT figure is its own local one, so equal latencies at unequal distances are no contradiction.
    if by_latency == by_distance || both_have_cpus {
        return None;
    }
    let says = match by_distance {
        0 => "the distance table calls them equally far",
        _ if by_latency == 0 => "the distance table calls one farther",
        _ => "the distance table orders them the other way",
    };
    let (a, b, from) = (a.id, b.id, from.id);
    Some(format!(
        "nodes {a} and {b}: HMAT says {near} ns and {far} ns, {says} (from node {from}: {to_a} and {to_b})"
    ))
}

/// Does the kernel keep two nodes in one tier that the firmware calls different, or in the opposite order?
fn hmat_against_kernel_tiers(facts: &Facts, a: &Node, b: &Node) -> Option<String> {
    let (near, far) = (latency(a)?, latency(b)?);
    let tier = |node: &Node| facts.kernel_tiers.iter().find(|(_, nodes)| nodes.has(node.id)).map(|(n, _)| *n);
    let (tier_a, tier_b) = (tier(a)?, tier(b)?);
    let by_latency = rank(near, far);
    let by_tier = tier_a.cmp(&tier_b) as i32;
    if by_latency == 0 || by_latency == by_tier {
        return None;
    }
    let (a, b) = (a.id, b.id);
    Some(if by_tier == 0 {
        format!(
            "nodes {a} and {b}: HMAT says {near} ns and {far} ns, the kernel has them in one memory tier ({tier_a}) \
             and will not demote between them"
        )
    } else {
        format!(
            "nodes {a} and {b}: HMAT says {near} ns and {far} ns, the kernel's memory tiers {tier_a} and {tier_b} \
             order them the other way"
        )
    })
}

/// Figures for some nodes only cannot order the rest.
fn gaps(memory: &[&Node]) -> Option<String> {
    let (known, unknown): (Vec<&Node>, Vec<&Node>) = memory.iter().partition(|n| latency(n).is_some());
    if known.is_empty() || unknown.is_empty() {
        return None;
    }
    let names = |nodes: &[&Node]| nodes.iter().map(|n| n.id.to_string()).collect::<Vec<_>>().join(", ");
    Some(format!("HMAT gives a latency for node {} but none for node {}", names(&known), names(&unknown)))
}

/// Figures seen from something that is no CPU say nothing about `malloc`.
fn strange_initiators(facts: &Facts) -> Vec<String> {
    let has_cpus = |id: &u32| facts.nodes.iter().any(|n| n.id == *id && !n.cpus.is_empty());
    let strange = facts.nodes.iter().filter(|node| {
        node.access.as_ref().is_some_and(|a| !a.initiators.is_empty() && !a.initiators.iter().any(has_cpus))
    });
    strange
        .map(|node| format!("node {}: HMAT's figures are seen from an initiator without CPUs", node.id))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::facts::Access;
    use super::*;
    use terrace::sys::numa::NodeMask;

    fn node(id: u32, cpus: &str, latency: Option<u32>, distances: &[u32]) -> Node {
        let access =
            latency.map(|ns| Access { read_latency_ns: Some(ns), initiators: vec![0], ..Access::default() });
        Node {
            id,
            cpus: cpus.into(),
            total_bytes: 1 << 30,
            access,
            distances: distances.into(),
            ..Node::default()
        }
    }

    fn facts(nodes: Vec<Node>, tiers: &[(u32, &[u32])]) -> Facts {
        let mask = |nodes: &[u32]| {
            let mut mask = NodeMask::EMPTY;
            nodes.iter().for_each(|&n| mask.set(n));
            mask
        };
        Facts { nodes, kernel_tiers: tiers.iter().map(|(number, nodes)| (*number, mask(nodes))).collect() }
    }

    #[test]
    fn agreeing_tables_raise_no_doubt() {
        let two = vec![node(0, "0-1", Some(100), &[10, 40]), node(1, "", Some(600), &[40, 10])];
        assert_eq!(contradictions(&facts(two, &[(4, &[0]), (225, &[1])])), [""; 0]);
        let sockets = vec![node(0, "0", Some(100), &[10, 21]), node(1, "1", Some(100), &[21, 10])];
        assert_eq!(contradictions(&facts(sockets, &[(4, &[0, 1])])), [""; 0]);
        assert_eq!(contradictions(&facts(vec![node(0, "0", None, &[10])], &[])), [""; 0]);
    }

    #[test]
    fn distances_that_disagree_are_shown() {
        let equal = vec![
            node(0, "0", Some(100), &[10, 20, 20]),
            node(1, "", Some(300), &[20, 10, 20]),
            node(2, "", Some(900), &[20, 20, 10]),
        ];
        assert_eq!(
            contradictions(&facts(equal, &[])),
            [
                "nodes 1 and 2: HMAT says 300 ns and 900 ns, the distance table calls them equally far (from node 0: 20 \
              and 20)"
            ]
        );
        let opposite = vec![node(0, "0", Some(100), &[10, 20]), node(1, "", Some(60), &[20, 10])];
        assert_eq!(
            contradictions(&facts(opposite, &[])),
            [
                "nodes 0 and 1: HMAT says 100 ns and 60 ns, the distance table orders them the other way (from node 0: \
              10 and 20)"
            ]
        );
    }

    #[test]
    fn one_kernel_tier_for_unequal_nodes_is_shown() {
        let two = vec![node(0, "0", Some(100), &[10, 40]), node(1, "", Some(600), &[40, 10])];
        let found = contradictions(&facts(two.clone(), &[(4, &[0, 1])]));
        assert_eq!(found.len(), 1);
        assert!(found[0].contains("one memory tier (4) and will not demote between them"), "{found:?}");
        let found = contradictions(&facts(two, &[(4, &[1]), (22, &[0])]));
        assert!(found[0].contains("memory tiers 22 and 4 order them the other way"), "{found:?}");
    }

    #[test]
    fn missing_and_misplaced_figures_are_shown() {
        let mut two = vec![node(0, "0", Some(100), &[10, 40]), node(1, "", None, &[40, 10])];
        let found = contradictions(&facts(two.clone(), &[]));
        assert_eq!(found, ["HMAT gives a latency for node 0 but none for node 1"]);
        two[1].access = Some(Access { initiators: vec![1], read_latency_ns: Some(900), ..Access::default() });
        let found = contradictions(&facts(two, &[]));
        assert_eq!(found, ["node 1: HMAT's figures are seen from an initiator without CPUs"]);
    }
}
