//! Which event to sample: what the kernel says of this processor under `/sys/bus/event_source/devices`.
//!
//! Zone: control. Pure, given a way to read those files. A unit describes an event in words (`event=0xcd,umask=0x1,ldlat=3`) and says for
//! each word which bits of the configuration it fills (`config:0-7`), so no processor's numbers stand here.
//!
//! * Intel: `mem-loads` of the unit `cpu` (`cpu_core` where cores differ): loads that took [`LATENCY`] cycles at least. Where there is
//!   `mem-loads-aux`, that must be counted beside it. Stores are left out: those events have no threshold, so nearly all that they would
//!   take are answered by the first cache, and loads could hardly be sampled for them.
//! * AMD: the unit `ibs_op` samples instructions of all kinds; where it can, only those whose data came from beyond the third cache. It
//!   leaves out the kernel only where it has `swfilt` (Linux 6.14) or newer processors do; without that, an ordinary user may not use it.
//! * Arm's SPE writes into a buffer of its own kind, which is not read here.

use crate::sys::perf::Event;

/// Reads a small file below `/sys/bus/event_source/devices`, without the end of its last line.
pub(super) type Read<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Cycles from which on a load is of interest. The second cache answers in some 15, the third in 40 to 100, memory in 200 and more: data
/// that the third cache holds now comes from memory when the program does more of something else.
const LATENCY: u64 = 64;

/// A way to sample.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Recipe {
    /// What the kernel calls it.
    pub(super) name: &'static str,
    /// The event.
    pub(super) event: Event,
    /// What must be counted beside it.
    pub(super) beside: Option<Event>,
    /// Periods: the first, the least, and of what they must be multiples. The least keeps a program that suddenly works hard from being
    /// interrupted more than some thousand times before that is noticed.
    pub(super) first: u64,
    /// See `first`.
    pub(super) least: u64,
    /// See `first`.
    pub(super) multiple: u64,
    /// For the trial.
    pub(super) brief: u64,
}

/// The recipes to try, best first; or why there are none.
pub(super) fn recipes(read: Read<'_>) -> Result<Vec<Recipe>, String> {
    for unit in ["cpu", "cpu_core"] {
        if let Some(event) = read(&format!("{unit}/events/mem-loads")) {
            return loads(read, unit, &event)
                .ok_or(format!("{unit}/events/mem-loads is not understood: {event}"));
        }
    }
    if read("ibs_op/type").is_some() {
        return instructions(read).ok_or("what ibs_op says of itself is not understood".into());
    }
    Err(match read("arm_spe_0/type") {
        Some(_) => "Arm's SPE is not supported yet".into(),
        None => "no event of this processor tells the addresses of data (none is to be had in most virtual machines)".into(),
    })
}

fn loads(read: Read<'_>, unit: &str, text: &str) -> Option<Vec<Recipe>> {
    let number = read(&format!("{unit}/type"))?.trim().parse().ok()?;
    let event = |text: &str, latency| {
        let config =
            configuration(text, &[("ldlat", latency)], &|word| read(&format!("{unit}/format/{word}")))?;
        Some(Event { unit: number, config, user_only: true, ..Event::default() })
    };
    let beside = match read(&format!("{unit}/events/mem-loads-aux")) {
        Some(text) => Some(event(&text, 0)?),
        None => None,
    };
    let event = event(text, LATENCY)?;
    let recipe = |precise| Recipe {
        name: "mem-loads",
        event: Event { precise, ..event },
        beside,
        first: 20_000,
        least: 1000,
        multiple: 1,
        brief: 101,
    };
    Some(vec![recipe(2), recipe(1)])
}

fn instructions(read: Read<'_>) -> Option<Vec<Recipe>> {
    let unit = read("ibs_op/type")?.trim().parse().ok()?;
    let format = |word: &str| read(&format!("ibs_op/format/{word}"));
    // To count instructions rather than cycles; and only what the third cache did not have.
    let (by_count, misses) = (format("cnt_ctl").is_some(), format("l3missonly").is_some());
    let mut words = Vec::new();
    words.extend(by_count.then_some("cnt_ctl"));
    words.extend(misses.then_some("l3missonly"));
    let recipe = |filter: Option<&'static str>, user_only| {
        let words = words.iter().chain(&filter).copied().collect::<Vec<_>>().join(",");
        let config = configuration(&words, &[], &format)?;
        Some(Recipe {
            name: "ibs_op",
            event: Event { unit, config, user_only, precise: 0, source: !misses },
            beside: None,
            first: 1 << 21,
            least: if misses { 1 << 16 } else { 1 << 18 },
            multiple: 16,
            brief: 1 << 12,
        })
    };
    let filtered = match format("swfilt") {
        Some(_) => Some(recipe(Some("swfilt"), true)?),
        None => None,
    };
    Some(filtered.into_iter().chain([recipe(None, true)?, recipe(None, false)?]).collect())
}

/// The configuration that `text` describes; words in `instead` get that value. `format` answers where a word's bits are.
fn configuration(
    text: &str,
    instead: &[(&str, u64)],
    format: &dyn Fn(&str) -> Option<String>,
) -> Option<[u64; 3]> {
    let mut config = [0; 3];
    for term in text.trim().split(',').map(str::trim).filter(|t| !t.is_empty()) {
        let (word, value) = term.split_once('=').unwrap_or((term, "1"));
        let value = match instead.iter().find(|(name, _)| *name == word) {
            Some(&(_, value)) => value,
            None => number(value)?,
        };
        match word {
            "config" => config[0] |= value,
            "config1" => config[1] |= value,
            "config2" => config[2] |= value,
            _ => {
                let (index, bits) = place(&format(word)?, value)?;
                config[index] |= bits;
            }
        }
    }
    Some(config)
}

fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

/// Where `value` goes by a format such as `config1:0-15` or `config:0-7,32-35`, lowest bits first: which configuration, and its bits.
/// `None` if the format is not understood or has no room for the value.
fn place(format: &str, value: u64) -> Option<(usize, u64)> {
    let (name, ranges) = format.trim().split_once(':')?;
    let index = ["config", "config1", "config2"].iter().position(|n| *n == name)?;
    let (mut bits, mut left) = (0, value);
    for range in ranges.split(',') {
        let (low, high) = range.split_once('-').unwrap_or((range, range));
        let (low, high): (u32, u32) = (low.parse().ok()?, high.parse().ok()?);
        if low > high || high > 63 {
            return None;
        }
        let width = high - low + 1;
        bits |= (left & (u64::MAX >> (64 - width))) << low;
        left = left.checked_shr(width).unwrap_or(0);
    }
    (left == 0).then_some((index, bits))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files by name.
    fn of<'a>(files: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<String> + 'a {
        |name| files.iter().find(|(n, _)| *n == name).map(|(_, text)| (*text).to_string())
    }

    const INTEL: [(&str, &str); 6] = [
        ("cpu/type", "4"),
        ("cpu/events/mem-loads", "event=0xcd,umask=0x1,ldlat=3"),
        ("cpu/format/event", "config:0-7"),
        ("cpu/format/umask", "config:8-15"),
        ("cpu/format/ldlat", "config1:0-15"),
        ("cpu/events/mem-stores", "event=0xd0,umask=0x82"),
    ];

    #[test]
    fn loads_that_take_long_are_sampled_on_intels() {
        let found = recipes(&of(&INTEL)).unwrap();
        assert_eq!(
            found[0].event,
            Event { unit: 4, config: [0x1cd, LATENCY, 0], user_only: true, precise: 2, source: false }
        );
        assert_eq!((found[0].beside, found[1].event.precise), (None, 1));
    }

    #[test]
    fn the_event_that_must_be_counted_beside_loads_is_taken_where_there_is_one() {
        let files: Vec<_> =
            INTEL.into_iter().chain([("cpu/events/mem-loads-aux", "event=0x03,umask=0x82")]).collect();
        let beside = recipes(&of(&files)).unwrap()[0].beside.unwrap();
        assert_eq!((beside.unit, beside.config, beside.user_only), (4, [0x8203, 0, 0], true));
    }

    #[test]
    fn where_cores_differ_the_large_ones_are_asked() {
        let renamed: Vec<(String, &str)> =
            INTEL.iter().map(|(n, t)| (n.replace("cpu/", "cpu_core/"), *t)).collect();
        let files: Vec<(&str, &str)> = renamed.iter().map(|(n, t)| (n.as_str(), *t)).collect();
        assert_eq!(recipes(&of(&files)).unwrap()[0].event.config, [0x1cd, LATENCY, 0]);
    }

    #[test]
    fn instructions_are_sampled_on_amds_without_the_kernel_where_that_can_be_left_out() {
        let old = [("ibs_op/type", "11"), ("ibs_op/format/cnt_ctl", "config:19")];
        let found = recipes(&of(&old)).unwrap();
        let kinds: Vec<_> = found.iter().map(|r| (r.event.user_only, r.event.config)).collect();
        assert_eq!(kinds, [(true, [1 << 19, 0, 0]), (false, [1 << 19, 0, 0])]);
        assert!(found.iter().all(|r| r.event.source && r.event.unit == 11 && r.multiple == 16));
        let new: Vec<_> = old
            .into_iter()
            .chain([("ibs_op/format/l3missonly", "config:16"), ("ibs_op/format/swfilt", "config2:0")])
            .collect();
        let found = recipes(&of(&new)).unwrap();
        assert_eq!((found[0].event.config, found[0].event.user_only), ([1 << 19 | 1 << 16, 0, 1], true));
        assert_eq!(
            (found.len(), found[0].event.source),
            (3, false),
            "misses only: no need to ask where from"
        );
        assert!(found.iter().all(|r| r.first % 16 == 0 && r.least % 16 == 0 && r.brief % 16 == 0));
    }

    #[test]
    fn where_there_is_nothing_to_sample_it_says_so() {
        assert!(recipes(&of(&[])).unwrap_err().contains("no event"));
        assert!(recipes(&of(&[("arm_spe_0/type", "9")])).unwrap_err().contains("SPE"));
        let odd = [
            ("cpu/type", "4"),
            ("cpu/events/mem-loads", "event=0xcd,glitter=1"),
            ("cpu/format/event", "config:0-7"),
        ];
        assert!(recipes(&of(&odd)).unwrap_err().contains("glitter"));
        assert!(recipes(&of(&[("ibs_op/type", "many")])).is_err());
    }

    #[test]
    fn formats_say_where_a_value_goes() {
        assert_eq!(place("config:0-7", 0xcd), Some((0, 0xcd)));
        assert_eq!(place("config1:0-15\n", 3), Some((1, 3)));
        assert_eq!(place("config:0-7,32-35", 0x1cd), Some((0, 0xcd | 1 << 32)));
        assert_eq!(place("config:21", 1), Some((0, 1 << 21)));
        assert_eq!(place("config2:0-63", u64::MAX), Some((2, u64::MAX)));
        for bad in
            ["", "config", "config:", "config:a", "config:7-0", "config:0-64", "config9:0-7", "config:0-7,"]
        {
            assert_eq!(place(bad, 1), None, "{bad}");
        }
        assert_eq!(place("config:0-7", 0x100), None, "no room");
    }

    #[test]
    fn descriptions_are_words_with_values() {
        let format = |word: &str| (word == "event").then(|| "config:0-7".to_string());
        let read = |text: &str| configuration(text, &[], &format);
        assert_eq!(read("event=0x10"), Some([16, 0, 0]));
        assert_eq!(read("event=16, config1=0x7,\n"), Some([16, 7, 0]));
        assert_eq!(read("event"), Some([1, 0, 0]));
        assert_eq!(read(""), Some([0; 3]));
        for bad in ["event=", "event=0xzz", "event=-1", "umask=1", "event=0x1ff"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
