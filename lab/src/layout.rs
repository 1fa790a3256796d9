//! The machines the lab can build: which NUMA nodes a guest has, and what the firmware tells it about them.
//!
//! Node 0 is always DRAM and has every vCPU. Device nodes have memory only. Latency and bandwidth are
//! *declared* in the ACPI HMAT table, where the kernel and every discovery library read them; the emulator
//! does not slow the memory down.

use crate::error::LabError;

/// The memory layout of a guest. Node sizes come from [`Vm::dram_mib`](crate::Vm::dram_mib) and
/// [`Vm::device_mib`](crate::Vm::device_mib).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layout {
    /// One node: an ordinary machine. Nothing to tier.
    OneNode,
    /// Node 0 DRAM (100 ns, 200 GB/s), node 1 CPU-less device memory (600 ns, 24 GB/s), distance 40.
    DramDevice,
    /// As [`Layout::DramDevice`] but the firmware has no HMAT: only the distance tells the nodes apart.
    DramDeviceNoHmat,
    /// Node 0 DRAM (100 ns, 200 GB/s), node 1 (300 ns, 64 GB/s), node 2 (900 ns, 24 GB/s); distances 20, 40,
    /// 60.
    ThreeTiers,
    /// Device memory the firmware reserves for drivers, seen as `/dev/dax0.0` (1 node with memory).
    DeviceDax,
    /// As [`Layout::DeviceDax`], then handed to the kernel by the dax/kmem driver: node 1 appears after boot.
    DeviceViaKmem,
}

/// A stock Debian kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kernel {
    /// Linux 6.12 (package `linux-image-6.12-cloud-amd64`).
    V6_12,
    /// Linux 6.1 (package `linux-image-cloud-amd64` of Debian 12).
    V6_1,
}

impl Kernel {
    /// Both kernels, newest first.
    pub const ALL: [Kernel; 2] = [Kernel::V6_12, Kernel::V6_1];

    /// The name used on the command line: `6.12` or `6.1`.
    pub fn name(self) -> &'static str {
        match self {
            Kernel::V6_12 => "6.12",
            Kernel::V6_1 => "6.1",
        }
    }

    /// The kernel of that [`name`](Kernel::name).
    pub fn from_name(name: &str) -> Option<Kernel> {
        Kernel::ALL.into_iter().find(|k| k.name() == name)
    }

    /// The Debian package that depends on the current build of this kernel.
    pub(crate) fn package(self) -> &'static str {
        match self {
            Kernel::V6_12 => "linux-image-6.12-cloud-amd64",
            Kernel::V6_1 => "linux-image-cloud-amd64",
        }
    }
}

/// The memory of one node, MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NodeMemory {
    /// Distance from node 0's memory in the emulator's list of memory blocks, and size.
    pub(crate) start_mib: u64,
    pub(crate) size_mib: u64,
}

struct Speed {
    latency_ns: u32,
    bandwidth_gb: u32,
}

const DRAM: Speed = Speed { latency_ns: 100, bandwidth_gb: 200 };
const DEVICE: Speed = Speed { latency_ns: 600, bandwidth_gb: 24 };
const NEAR: Speed = Speed { latency_ns: 300, bandwidth_gb: 64 };
const FAR: Speed = Speed { latency_ns: 900, bandwidth_gb: 24 };

impl Layout {
    /// Every layout.
    pub const ALL: [Layout; 6] = [
        Layout::OneNode,
        Layout::DramDevice,
        Layout::DramDeviceNoHmat,
        Layout::ThreeTiers,
        Layout::DeviceDax,
        Layout::DeviceViaKmem,
    ];

    /// The name used on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Layout::OneNode => "one-node",
            Layout::DramDevice => "dram-device",
            Layout::DramDeviceNoHmat => "dram-device-nohmat",
            Layout::ThreeTiers => "three-tiers",
            Layout::DeviceDax => "device-dax",
            Layout::DeviceViaKmem => "device-via-kmem",
        }
    }

    /// The layout of that [`name`](Layout::name).
    pub fn from_name(name: &str) -> Option<Layout> {
        Layout::ALL.into_iter().find(|l| l.name() == name)
    }

    /// Speeds of the nodes, node 0 first.
    fn speeds(self) -> &'static [Speed] {
        match self {
            Layout::OneNode => &[DRAM],
            Layout::ThreeTiers => &[DRAM, NEAR, FAR],
            _ => &[DRAM, DEVICE],
        }
    }

    fn has_hmat(self) -> bool {
        !matches!(self, Layout::OneNode | Layout::DramDeviceNoHmat)
    }

    fn is_reserved(self) -> bool {
        matches!(self, Layout::DeviceDax | Layout::DeviceViaKmem)
    }

    /// Checks the sizes against what the layout can express.
    pub(crate) fn check(self, dram_mib: u64, device_mib: u64) -> Result<(), LabError> {
        if dram_mib < 256 || (self != Layout::OneNode && device_mib < 128) {
            return Err(LabError::Usage(
                "a node needs memory: DRAM at least 256 MiB, device at least 128 MiB".into(),
            ));
        }
        if self.is_reserved() && (!dram_mib.is_multiple_of(128) || !device_mib.is_multiple_of(128)) {
            let name = self.name();
            return Err(LabError::Usage(format!(
                "{name}: sizes must be multiples of 128 MiB, the size of a hot-plugged memory block"
            )));
        }
        // Linux 6.12 subtracts the reserved range from its estimate of free DRAM (set_max_threads), which
        // never held it. With little left over it allows so few threads that it cannot start its own; below
        // zero the estimate wraps and is harmless.
        if self.is_reserved() && (device_mib + 1..device_mib + 256).contains(&dram_mib) {
            let name = self.name();
            return Err(LabError::Usage(format!(
                "{name}: DRAM must be at least 256 MiB larger than the device memory, or not larger at all"
            )));
        }
        Ok(())
    }

    /// Where each node's memory lies, in emulator order.
    pub(crate) fn nodes(self, dram_mib: u64, device_mib: u64) -> Vec<NodeMemory> {
        let mut start_mib = 0;
        (0..self.speeds().len())
            .map(|n| {
                let size_mib = if n == 0 { dram_mib } else { device_mib };
                let node = NodeMemory { start_mib, size_mib };
                start_mib += size_mib;
                node
            })
            .collect()
    }

    /// MiB of node 0 that lie below 4 GiB. The rest, then the device nodes, start at 4 GiB exactly: reserved
    /// ranges have to be aligned, and just below 4 GiB the ACPI tables break the alignment.
    pub(crate) fn low_mib(dram_mib: u64) -> u64 {
        dram_mib.min(2048)
    }

    /// QEMU's arguments for the machine and its memory.
    pub(crate) fn qemu_args(self, dram_mib: u64, device_mib: u64, cpus: u32) -> Vec<String> {
        let nodes = self.nodes(dram_mib, device_mib);
        let total: u64 = nodes.iter().map(|n| n.size_mib).sum();
        let hmat = self.has_hmat();
        let low = Layout::low_mib(dram_mib);
        let mut args = vec!["-M".into()];
        args.push(format!("q35,max-ram-below-4g={low}M{}", if hmat { ",hmat=on" } else { "" }));
        args.extend(["-smp".into(), cpus.to_string(), "-m".into(), format!("{total}M")]);
        let initiator = if hmat { ",initiator=0" } else { "" };
        for (n, node) in nodes.iter().enumerate() {
            let cpulist = if n == 0 { format!(",cpus=0-{}", cpus - 1) } else { String::new() };
            args.push("-object".into());
            args.push(format!("memory-backend-ram,id=m{n},size={}M,reserve=off", node.size_mib));
            args.push("-numa".into());
            args.push(format!("node,nodeid={n},memdev=m{n}{cpulist}{initiator}"));
        }
        for (a, b, distance) in self.distances() {
            for (src, dst) in [(a, b), (b, a)] {
                args.push("-numa".into());
                args.push(format!("dist,src={src},dst={dst},val={distance}"));
            }
        }
        if hmat {
            for (target, speed) in self.speeds().iter().enumerate() {
                let entry = format!("hmat-lb,initiator=0,target={target},hierarchy=memory");
                args.push("-numa".into());
                args.push(format!("{entry},data-type=access-latency,latency={}", speed.latency_ns));
                args.push("-numa".into());
                args.push(format!("{entry},data-type=access-bandwidth,bandwidth={}G", speed.bandwidth_gb));
            }
        }
        args
    }

    fn distances(self) -> &'static [(u32, u32, u32)] {
        match self {
            Layout::OneNode => &[],
            Layout::ThreeTiers => &[(0, 1, 20), (0, 2, 40), (1, 2, 60)],
            _ => &[(0, 1, 40)],
        }
    }

    /// What this layout adds to the kernel's command line.
    pub(crate) fn kernel_args(self, dram_mib: u64, device_mib: u64) -> String {
        if !self.is_reserved() {
            return String::new();
        }
        // Turns the node's RAM (e820 type 1) into "soft reserved" memory (0xefffffff), as firmware does for
        // device memory.
        let start = 4096 + dram_mib - Layout::low_mib(dram_mib);
        format!("memmap={device_mib}M%{start}M-1+0xefffffff")
    }

    /// Kernel modules the layout needs.
    pub(crate) fn modules(self) -> &'static [&'static str] {
        match self {
            Layout::DeviceDax => &["device_dax", "dax_hmem"],
            Layout::DeviceViaKmem => &["device_dax", "dax_hmem", "kmem"],
            _ => &[],
        }
    }

    /// A shell script the guest runs as root before the command.
    pub(crate) fn guest_script(self) -> &'static str {
        match self {
            Layout::DeviceDax => include_str!("../guest/layouts/device-dax.sh"),
            Layout::DeviceViaKmem => include_str!("../guest/layouts/device-via-kmem.sh"),
            _ => "",
        }
    }
}
