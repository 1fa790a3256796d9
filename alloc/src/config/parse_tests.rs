//! What the configuration accepts, refuses, and says about it.

use super::*;

fn parsed(pairs: &[(&str, &str)]) -> (Config, Vec<String>) {
    let mut said = Vec::new();
    let bytes = pairs.iter().map(|(n, v)| (n.as_bytes(), v.as_bytes()));
    let config = parse(bytes, &mut |problem| said.push(problem.to_string()));
    (config, said)
}

fn accepted(name: &str, value: &str) -> Config {
    let (config, said) = parsed(&[(name, value)]);
    assert!(said.is_empty(), "{name}={value}: {said:?}");
    config
}

/// `value` is refused with one line that contains `expect`, and changes nothing.
fn refused(name: &str, value: &str, expect: &str) {
    let (config, said) = parsed(&[(name, value)]);
    assert_eq!(config, Config::DEFAULT, "{name}={value} changed the configuration");
    assert_eq!(said.len(), 1, "{name}={value}: {said:?}");
    assert!(said[0].contains(expect), "{name}={value}: {said:?}");
    assert!(said[0].starts_with(name), "{said:?}");
}

#[test]
fn no_variable_means_the_defaults() {
    assert_eq!(parsed(&[]), (Config::DEFAULT, vec![]));
    assert_eq!(parsed(&[("PATH", "/bin"), ("TERRAC", "1"), ("TERRACE", "1")]), (Config::DEFAULT, vec![]));
}

#[test]
fn the_table_and_the_built_in_defaults_agree() {
    for variable in VARIABLES.iter().filter(|v| !v.default.is_empty()) {
        let mut config = accepted(variable.name, variable.default);
        if variable.name == "TERRACE_MODE" {
            // Not set and `auto` mean the same mode; the library tells them apart only to report it.
            assert_eq!(config.mode.take(), Some(Mode::Auto));
        }
        assert_eq!(config, Config::DEFAULT, "{}", variable.name);
    }
}

#[test]
fn every_variable_of_the_table_changes_the_configuration() {
    let other = |v: &Variable| match v.kind {
        Kind::Word(words) => words[1],
        Kind::Size { .. } => "7M",
        Kind::Number { .. } => "77",
        Kind::Nodes => "1",
        Kind::Watermarks => "90,80",
        Kind::Switch if v.default == "on" => "off",
        Kind::Switch => "on",
        Kind::Path | Kind::File => "/lib/libterrace.so",
    };
    for variable in VARIABLES {
        let changed = accepted(variable.name, other(variable)) != Config::DEFAULT;
        assert_eq!(changed, !matches!(variable.kind, Kind::Path), "{}", variable.name);
    }
}

#[test]
fn sizes_take_binary_suffixes_in_any_spelling() {
    for (text, bytes) in [
        ("1048576", 1u64 << 20),
        ("1024k", 1 << 20),
        ("3M", 3 << 20),
        ("3MB", 3 << 20),
        ("3MiB", 3 << 20),
        (" 2g ", 2 << 30),
        ("2GiB", 2 << 30),
        ("1T", 1 << 40),
        ("1.5G", 3 << 29),
        ("0.25T", 256 << 30),
        ("1.000000G", 1 << 30),
        ("2097152B", 2 << 20),
    ] {
        assert_eq!(accepted("TERRACE_DRAM", text).dram, Amount::Bytes(bytes), "{text}");
    }
    assert_eq!(accepted("TERRACE_DRAM", "AUTO").dram, Amount::Auto);
}

#[test]
fn what_is_no_size_is_refused() {
    for text in [
        "lots", "-1G", "+1G", "1X", "1 G", "1GG", "G", ".", "1.G", "1.5", ".5G", "1,5G", "0x10M", "1BB",
        "1BiB",
    ] {
        refused("TERRACE_DRAM", text, "not a size (such as 512M or 2G) or auto; using auto");
    }
    refused("TERRACE_START", "auto", "not a size (such as 512M or 2G); using 64M");
    for text in ["0", "4K", "65T", "99999999999999999999999999T"] {
        refused("TERRACE_DRAM", text, "out of range: 1M to 64T, or auto; using auto");
    }
}

#[test]
fn a_file_name_is_kept_as_it_is_and_not_too_long() {
    assert_eq!(accepted("TERRACE_PROFILE", " /tmp/my profile ").profile.as_bytes(), b"/tmp/my profile");
    assert_eq!(accepted("TERRACE_PROFILE", &"x".repeat(255)).profile.as_bytes().len(), 255);
    refused(
        "TERRACE_PROFILE",
        &"x".repeat(256),
        "out of range: a file name of at most 255 bytes; using the default",
    );
}

#[test]
fn numbers_are_whole_and_in_range() {
    assert_eq!(accepted("TERRACE_MOVE_RATE", "250").move_rate_mbps, 250);
    assert_eq!(accepted("TERRACE_TICK_MS", "50").tick_ms, 50);
    assert_eq!(accepted("TERRACE_PURGE_MS", "0").purge_ms, 0);
    assert_eq!(accepted("TERRACE_TRACKER_CPU", "10").tracker_percent, 10);
    refused("TERRACE_TRACKER_CPU", "101", "out of range: 1 to 100 percent of one core; using 3");
    refused("TERRACE_MOVE_RATE", "1.5", "not a whole number; using 1000");
    refused("TERRACE_MOVE_RATE", "0", "out of range: 1 to 1000000 MB/s; using 1000");
    refused("TERRACE_TICK_MS", "5", "out of range: 10 to 60000 ms; using 200");
    refused("TERRACE_PURGE_MS", "99999999999999999999999", "out of range");
}

#[test]
fn words_are_those_of_the_table() {
    assert_eq!(accepted("TERRACE_MODE", "isolate").mode, Some(Mode::Isolate));
    assert_eq!(accepted("TERRACE_MODE", "Spill").mode, Some(Mode::Spill));
    assert_eq!(accepted("TERRACE_MODE", "assist").mode, Some(Mode::Assist));
    assert_eq!(accepted("TERRACE_MODE", "auto").mode, Some(Mode::Auto));
    for (word, choice) in [
        ("auto", TrackerChoice::Auto),
        ("rwp", TrackerChoice::Rwp),
        ("perf", TrackerChoice::Perf),
        ("idle", TrackerChoice::Idle),
        ("refs", TrackerChoice::Refs),
        ("writes", TrackerChoice::Writes),
        ("alloc", TrackerChoice::Alloc),
    ] {
        assert_eq!(accepted("TERRACE_TRACKER", word).tracker, choice);
    }
    refused(
        "TERRACE_MODE",
        "turbo",
        "TERRACE_MODE=turbo: not one of isolate, spill, assist, auto; using auto",
    );
    refused("TERRACE_TRACKER", "pebs", "not one of auto, rwp, perf, idle, refs, writes, alloc; using auto");
    refused("TERRACE_VERBOSE", "2", "not on or off; using off");
}

#[test]
fn watermarks_are_two_percentages_in_order() {
    let config = accepted("TERRACE_WATERMARKS", "90%, 70%");
    assert_eq!((config.high_percent, config.low_percent), (90, 70));
    for text in ["95", "95,", ",95", "101,50", "50,0", "a,b", "98,95,90"] {
        refused("TERRACE_WATERMARKS", text, "not two percentages, high,low, such as 98,95; using 98,95");
    }
    refused("TERRACE_WATERMARKS", "80,80", "the low watermark is not below the high one; using 98,95");
    refused("TERRACE_WATERMARKS", "80,90", "the low watermark is not below the high one");
}

#[test]
fn node_lists_name_nodes_and_ranges() {
    let nodes =
        |text| accepted("TERRACE_DEVICE_NODES", text).device_nodes.unwrap().iter().collect::<Vec<_>>();
    assert_eq!(nodes("1"), [1]);
    assert_eq!(nodes("3,1"), [1, 3]);
    assert_eq!(nodes("0-2, 1023"), [0, 1, 2, 1023]);
    for text in ["x", "1,", "3-1", "1-", "-1", "1024", "1;2"] {
        refused(
            "TERRACE_DEVICE_NODES",
            text,
            "not a list of nodes such as 1 or 1,3 or 1-3; using the default",
        );
    }
}

#[test]
fn contradictions_give_one_line_and_the_default() {
    let (config, said) = parsed(&[("TERRACE_HEADROOM", "2G"), ("TERRACE_DEVICE", "1G")]);
    assert_eq!(said, ["TERRACE_HEADROOM=2G: not below TERRACE_DEVICE; using auto"]);
    assert_eq!((config.headroom, config.device), (Amount::Auto, Amount::Bytes(1 << 30)));

    let (config, said) = parsed(&[("TERRACE_DRAM", "32M"), ("TERRACE_START", "128M")]);
    assert_eq!(said, ["TERRACE_START=128M: above TERRACE_DRAM; using half of TERRACE_DRAM"]);
    assert_eq!(config.start_bytes, 16 << 20);
}

#[test]
fn tiering_starts_before_a_small_budget_is_full() {
    assert_eq!(accepted("TERRACE_DRAM", "32M").start_bytes, 16 << 20);
    assert_eq!(accepted("TERRACE_DRAM", "8G").start_bytes, 64 << 20);
    let (config, said) = parsed(&[("TERRACE_DRAM", "32M"), ("TERRACE_START", "30M")]);
    assert_eq!((config.start_bytes, said.len()), (30 << 20, 0));
}

#[test]
fn an_unknown_name_is_told_its_nearest_neighbour() {
    refused("TERRACE_MOD", "auto", "no such variable, ignored; did you mean TERRACE_MODE?");
    refused("TERRACE_WATERMARK", "98,95", "did you mean TERRACE_WATERMARKS?");
    refused("TERRACE_DEVICENODES", "1", "did you mean TERRACE_DEVICE_NODES?");
    refused("TERRACE_dram", "1G", "did you mean TERRACE_DRAM?");
    let (_, said) = parsed(&[("TERRACE_BACKYARD_FENCE", "oak")]);
    assert_eq!(said, ["TERRACE_BACKYARD_FENCE=oak: no such variable, ignored"]);
    let long = "TERRACE_".to_owned() + &"X".repeat(500);
    assert_eq!(parsed(&[(&long, "1")]).1.len(), 1);
}

#[test]
fn the_projects_own_tools_have_their_names() {
    let pairs = [
        ("TERRACE_LAB_KERNEL", "6.1"),
        ("TERRACE_TEST_X", "1"),
        ("TERRACE_BENCH_N", "1"),
        ("TERRACE_DEMO_S", "1"),
    ];
    assert_eq!(parsed(&pairs), (Config::DEFAULT, vec![]));
}

#[test]
fn the_first_of_two_counts_and_empty_is_unset() {
    let (config, said) = parsed(&[("TERRACE_TICK_MS", "50"), ("TERRACE_TICK_MS", "bad")]);
    assert_eq!((config.tick_ms, said.len()), (50, 0));
    assert_eq!(parsed(&[("TERRACE_MODE", ""), ("TERRACE_DRAM", " ")]), (Config::DEFAULT, vec![]));
}

#[test]
fn bytes_that_are_no_text_are_shown_safely_and_cut() {
    let value = [b"\x1b[2J\xff\n".as_slice(), &[b'z'; 4000]].concat();
    let mut said = Vec::new();
    parse([(b"TERRACE_MODE".as_slice(), value.as_slice())].into_iter(), &mut |p| said.push(p.to_string()));
    assert_eq!(said.len(), 1);
    assert!(said[0].starts_with("TERRACE_MODE=?[2J??zzz"), "{said:?}");
    assert!(said[0].contains("zz...: not one of") && said[0].len() < 200, "{said:?}");
}
