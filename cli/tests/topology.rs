//! `terrace topology` on machines made of files: what the kernel would show is written down, what is said is compared.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

/// A sysfs tree under construction.
struct Machine {
    root: PathBuf,
}

/// A node of it: CPUs, MiB, HMAT read latency (ns) and bandwidth (MB/s), distances.
struct Node(u32, &'static str, u64, Option<(u32, u32)>, &'static str);

impl Machine {
    fn new(name: &str, nodes: &[Node]) -> Self {
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("sysfs").join(name);
        let _ = fs::remove_dir_all(&root);
        let machine = Self { root };
        let online: Vec<String> = nodes.iter().map(|n| n.0.to_string()).collect();
        machine.file("devices/system/node/online", &online.join(","));
        for Node(id, cpus, mib, hmat, distances) in nodes {
            let dir = format!("devices/system/node/node{id}");
            machine.file(&format!("{dir}/cpulist"), cpus);
            machine.file(&format!("{dir}/distance"), distances);
            let (total, free) = (mib << 10, mib << 9);
            let meminfo = format!("Node {id} MemTotal:  {total} kB\nNode {id} MemFree:   {free} kB\n");
            machine.file(&format!("{dir}/meminfo"), &meminfo);
            if let Some((latency, bandwidth)) = hmat {
                let dir = format!("{dir}/access1/initiators");
                for (name, value) in [("latency", latency), ("bandwidth", bandwidth)] {
                    machine.file(&format!("{dir}/read_{name}"), &value.to_string());
                    machine.file(&format!("{dir}/write_{name}"), &value.to_string());
                }
                fs::create_dir_all(machine.root.join(dir).join("node0")).unwrap();
            }
        }
        machine
    }

    fn kernel_tier(self, number: u32, nodes: &str) -> Self {
        self.file(&format!("devices/virtual/memory_tiering/memory_tier{number}/nodelist"), nodes);
        self
    }

    fn file(&self, name: &str, text: &str) {
        let path = self.root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{text}\n")).unwrap();
    }

    fn show(&self, extra: &[&str], env: &[(&str, &str)]) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_terrace"));
        command.args(["topology", "--sysfs", self.root.to_str().unwrap()]).args(extra);
        let output = command.envs(env.iter().copied()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.show(&["--json"], &[])).unwrap()
    }
}

#[test]
fn two_tiers_are_ordered_and_sourced() {
    let machine = Machine::new(
        "two",
        &[
            Node(0, "0-1", 2048, Some((100, 200_000)), "10 40"),
            Node(1, "", 1024, Some((600, 24_000)), "40 10"),
        ],
    )
    .kernel_tier(4, "0")
    .kernel_tier(225, "1");
    let shown = machine.show(&[], &[]);
    let expect = "\
tier    nodes  capacity  free      latency  bandwidth
dram    0      2.0 GiB   1.0 GiB   100 ns   200.0 GB/s
device  1      1.0 GiB   512 MiB   600 ns   24.0 GB/s

node  kind    CPUs  capacity  free      read    write   read bw     write bw    distance  kernel tier  source
0     dram    0-1   2.0 GiB   1.0 GiB   100 ns  100 ns  200.0 GB/s  200.0 GB/s  10        4            HMAT access1 from node 0
1     device  none  1.0 GiB   512 MiB   600 ns  600 ns  24.0 GB/s   24.0 GB/s   40        225          HMAT access1 from node 0
";
    let squeeze = |text: &str| {
        text.lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>()
    };
    assert_eq!(squeeze(&shown), squeeze(expect), "{shown}");
    let json = machine.json();
    assert_eq!(json["tiers"][1]["latency_ns"], json!({"value": 600, "source": "HMAT access1 from node 0"}));
    assert_eq!((&json["contradictions"], &json["notes"]), (&json!([]), &json!([])));
}

#[test]
fn latency_orders_tiers_even_against_the_distances() {
    let machine = Machine::new(
        "three",
        &[
            Node(0, "0-3", 2048, Some((100, 200_000)), "10 20 20"),
            Node(1, "", 4096, Some((900, 8_000)), "20 10 20"),
            Node(2, "", 1024, Some((300, 60_000)), "20 20 10"),
        ],
    )
    .kernel_tier(4, "0-2");
    let json = machine.json();
    let order: Vec<&Value> = json["tiers"].as_array().unwrap().iter().map(|t| &t["nodes"]).collect();
    assert_eq!(order, [&json!([0]), &json!([2]), &json!([1])]);
    let text = machine.show(&[], &[]);
    assert!(
        text.contains(
            "* nodes 1 and 2: HMAT says 900 ns and 300 ns, the distance table calls them equally far"
        )
    );
    assert!(text.contains(
        "* nodes 0 and 1: HMAT says 100 ns and 900 ns, the kernel has them in one memory tier (4)"
    ));
}

#[test]
fn without_hmat_nothing_is_made_up() {
    let machine = Machine::new(
        "no-hmat",
        &[
            Node(0, "0", 2048, None, "10 40 20"),
            Node(1, "", 64, None, "40 10 50"),
            Node(2, "", 64, None, "20 50 10"),
        ],
    );
    let json = machine.json();
    let tiers = json["tiers"].as_array().unwrap();
    let order: Vec<&Value> = tiers.iter().map(|t| &t["nodes"]).collect();
    assert_eq!(order, [&json!([0]), &json!([2]), &json!([1])]);
    assert!(tiers.iter().all(|t| t["latency_ns"].is_null() && t["bandwidth_mbps"].is_null()));
    assert!(json["notes"][0].as_str().unwrap().contains("gives no latency"), "{json}");
}

#[test]
fn one_tier_is_said_plainly() {
    let machine = Machine::new("one", &[Node(0, "0", 512, None, "10 20"), Node(1, "1", 512, None, "20 10")]);
    let json = machine.json();
    assert_eq!(json["tiers"].as_array().unwrap().len(), 1, "{json}");
    assert_eq!(json["tiers"][0]["nodes"], json!([0, 1]));
    assert!(machine.show(&[], &[]).contains("* One tier only: every node with memory has CPUs."));
}

#[test]
fn configuration_can_name_the_devices() {
    let machine =
        Machine::new("named", &[Node(0, "0", 512, None, "10 20"), Node(1, "1", 512, None, "20 10")]);
    let text = machine.show(&[], &[("TERRACE_DEVICE_NODES", "1")]);
    assert!(text.contains("\ndevice  1 "), "{text}");
    assert!(text.contains("* TERRACE_DEVICE_NODES names the device nodes"), "{text}");
}

#[test]
fn nodes_without_memory_and_missing_files_are_no_trouble() {
    let machine = Machine::new("sparse", &[Node(0, "0", 512, None, "10 20"), Node(3, "1", 0, None, "20 10")]);
    let json = machine.json();
    assert_eq!(json["tiers"].as_array().unwrap().len(), 1);
    assert_eq!(json["nodes"][1]["kind"], "no memory");
    let nothing = Machine { root: machine.root.join("nowhere") }.json();
    assert_eq!(nothing["tiers"], json!([]));
}

#[test]
fn this_machine_has_at_least_one_tier() {
    let output = Command::new(env!("CARGO_BIN_EXE_terrace")).args(["topology", "--json"]).output().unwrap();
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(json["tiers"][0]["capacity_bytes"].as_u64().unwrap() > 64 << 20, "{json}");
    assert_eq!(json["nodes"][0]["allowed"], true);
}
