//! A snapshot as a person reads it, and the change between two.

use std::io::{self, Write};

use super::snapshot::{Moves, Snapshot};
use crate::table::{Table, bytes};

/// Prints `now`; with an earlier snapshot and the seconds between, also what moved per second.
pub(super) fn print(
    out: &mut impl Write,
    now: &Snapshot,
    before: Option<(&Snapshot, f64)>,
) -> io::Result<()> {
    let Snapshot { pid, name, mode, tracker, ticks, .. } = now;
    writeln!(out, "process {pid} ({name})  mode {mode}  tracker {tracker}  tick {ticks}\n")?;
    let mut tiers = Table::new(&["tier", "bytes", "budget", "used", "high", "low", "a load", "at least"]);
    for tier in &now.tiers {
        let used = if tier.budget_bytes == 0 { "-".to_owned() } else { share(tier.bytes, tier.budget_bytes) };
        let [held, budget, high, low] =
            [tier.bytes, tier.budget_bytes, tier.high_bytes, tier.low_bytes].map(bytes);
        let [load, least] = [tier.latency_ns, tier.idle_latency_ns].map(|ns| ns.map_or("-".to_owned(), time));
        tiers.row([tier.kind.clone(), held, budget, used, high, low, load, least]);
    }
    tiers.print(out)?;
    writeln!(out)?;
    let Moves { promoted, demoted, evicted, failed, ping_pong, dropped, bytes: moved } = &now.moves;
    let rate = |pick: fn(&Moves) -> u64| {
        before.map_or_else(String::new, |(earlier, seconds)| {
            let pages = pick(&now.moves).saturating_sub(pick(&earlier.moves));
            format!("{:.0}/s", pages as f64 / seconds)
        })
    };
    let mut moves = Table::new(&["pages", "count", if before.is_some() { "now" } else { "" }, ""]);
    let failures: u64 = failed.values().sum();
    let by_errno: Vec<String> = failed
        .iter()
        .filter(|(_, count)| **count > 0)
        .map(|(errno, count)| format!("{errno} {count}"))
        .collect();
    let all_moves = promoted + demoted + evicted;
    let back =
        if all_moves == 0 { String::new() } else { format!("{} of the moves", share(*ping_pong, all_moves)) };
    moves.row(["promoted".into(), promoted.to_string(), rate(|m| m.promoted), String::new()]);
    moves.row(["demoted".into(), demoted.to_string(), rate(|m| m.demoted), String::new()]);
    moves.row(["evicted".into(), evicted.to_string(), rate(|m| m.evicted), String::new()]);
    moves.row([
        "failed".into(),
        failures.to_string(),
        rate(|m| m.failed.values().sum()),
        by_errno.join(", "),
    ]);
    moves.row(["ping-pong".into(), ping_pong.to_string(), rate(|m| m.ping_pong), back]);
    moves.row([
        "dropped".into(),
        dropped.to_string(),
        rate(|m| m.dropped),
        "free: given back, not copied".into(),
    ]);
    moves.print(out)?;
    let rate = before.map_or_else(String::new, |(earlier, seconds)| {
        format!(", {}/s", bytes((moved.saturating_sub(earlier.moves.bytes) as f64 / seconds) as u64))
    });
    writeln!(out, "\nmoved {}{rate}", bytes(*moved))?;
    let Snapshot { extents, arenas, vmas, tracker_ns, tick_ns, .. } = now;
    writeln!(out, "extents {extents}  arenas {arenas}  VMAs {vmas}")?;
    writeln!(out, "last tick {}, of which the tracker {}", time(*tick_ns), time(*tracker_ns))
}

/// `part` of `whole` in percent.
fn share(part: u64, whole: u64) -> String {
    format!("{:.1} %", part as f64 * 100.0 / whole as f64)
}

/// A duration given in ns.
fn time(ns: u64) -> String {
    match ns {
        0..10_000 => format!("{ns} ns"),
        10_000..10_000_000 => format!("{:.1} us", ns as f64 / 1e3),
        _ => format!("{:.1} ms", ns as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::super::snapshot::TierUse;
    use super::*;

    fn snapshot() -> Snapshot {
        let tier = |kind: &str, bytes, budget| TierUse {
            kind: kind.into(),
            bytes,
            budget_bytes: budget,
            high_bytes: budget / 100 * 98,
            low_bytes: budget / 100 * 95,
            latency_ns: (kind == "dram").then_some(130),
            idle_latency_ns: (kind == "dram").then_some(95),
        };
        Snapshot {
            pid: 77,
            name: "redis-server".into(),
            mode: "auto".into(),
            tracker: "refs".into(),
            ticks: 12,
            tick_ms: 200,
            page_bytes: 4096,
            tiers: vec![tier("dram", 96 << 20, 100 << 20), tier("device", 3 << 30, 0)],
            moves: Moves {
                promoted: 1000,
                demoted: 3000,
                evicted: 0,
                failed: [("EBUSY".to_owned(), 5), ("ENOMEM".to_owned(), 0)].into(),
                ping_pong: 40,
                dropped: 7,
                bytes: 4000 << 12,
            },
            extents: 50,
            arenas: 2,
            vmas: 90,
            tracker_ns: 12_000,
            tick_ns: 34_000_000,
        }
    }

    fn printed(now: &Snapshot, before: Option<(&Snapshot, f64)>) -> String {
        let mut out = Vec::new();
        print(&mut out, now, before).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_snapshot_reads_as_a_page() {
        let expect = "\
process 77 (redis-server)  mode auto  tracker refs  tick 12

tier    bytes    budget   used    high     low       a load  at least
dram    96.0 MiB  100 MiB  96.0 %  98.0 MiB  95.0 MiB  130 ns  95 ns
device  3.0 GiB  0 B      -       0 B      0 B       -       -

pages      count
promoted   1000
demoted    3000
evicted    0
failed     5             EBUSY 5
ping-pong  40            1.0 % of the moves
dropped    7             free: given back, not copied

moved 15.6 MiB
extents 50  arenas 2  VMAs 90
last tick 34.0 ms, of which the tracker 12.0 us
";
        let words = |text: &str| -> Vec<Vec<String>> {
            text.lines().map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
        };
        assert_eq!(words(&printed(&snapshot(), None)), words(expect), "{}", printed(&snapshot(), None));
    }

    #[test]
    fn a_watch_shows_rates() {
        let (before, mut now) = (snapshot(), snapshot());
        now.moves.promoted += 500;
        now.moves.bytes += 500 << 12;
        let text = printed(&now, Some((&before, 2.0)));
        assert!(text.contains("promoted   1500   250/s"), "{text}");
        assert!(text.contains("demoted    3000   0/s"), "{text}");
        assert!(text.contains("moved 17.5 MiB, 1000 KiB/s"), "{text}");
    }
}
