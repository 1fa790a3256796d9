//! Pools: blocks that share one placement contract.

use super::placement::{Placement, placement};
use crate::config::Mode;
use crate::sys::numa::{self, NodeMask};

/// A placement contract.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Pool {
    /// Ordinary `malloc`: DRAM first, moved by heat.
    Default = 0,
    /// Expected to be hot: the last to be demoted.
    Hot = 1,
    /// Expected to be cold: the first to be demoted.
    Cold = 2,
    /// In DRAM, elsewhere only when DRAM is exhausted; never moved.
    Dram = 3,
    /// On the device from the first touch, in DRAM when the device is full; only evicted, never moved by heat.
    Device = 4,
    /// In DRAM or not at all.
    DramStrict = 5,
    /// On the device or not at all.
    DeviceStrict = 6,
}

impl Pool {
    /// How many pools there are.
    pub const COUNT: usize = 7;

    /// Every pool, in the order of their numbers.
    pub const ALL: [Pool; Pool::COUNT] = [
        Pool::Default,
        Pool::Hot,
        Pool::Cold,
        Pool::Dram,
        Pool::Device,
        Pool::DramStrict,
        Pool::DeviceStrict,
    ];

    /// The pool with this number.
    pub(crate) fn from_number(number: u8) -> Pool {
        Pool::ALL.get(number as usize).copied().unwrap_or(Pool::Default)
    }

    /// Whether heat decides where this pool's pages are.
    #[must_use]
    pub fn is_tiered(self) -> bool {
        matches!(self, Pool::Default | Pool::Hot | Pool::Cold)
    }

    /// Whether an allocation fails rather than fall back to another tier.
    #[must_use]
    pub fn is_strict(self) -> bool {
        matches!(self, Pool::DramStrict | Pool::DeviceStrict)
    }

    /// The memory policy of this pool's arenas, as mbind(2) takes it, best first: the next is for kernels that do not know the
    /// one before. Empty where no device tier exists: then the system's default policy serves.
    ///
    /// A range that is tiered always has an explicit policy: with the default one, `kernel.numa_balancing=1` undoes every
    /// demotion at the first touch (measured), with any of these it does not.
    pub(crate) fn policies(self) -> impl Iterator<Item = (u32, NodeMask)> {
        let Placement { dram, device, mode } = placement();
        let any = dram.union(device);
        let bind = |mask| [Some((numa::MPOL_BIND, mask)), None];
        let prefer = |mask: NodeMask| {
            let one = NodeMask::of(mask.first().unwrap_or(0));
            [Some((numa::MPOL_PREFERRED_MANY, mask)), Some((numa::MPOL_PREFERRED, one))]
        };
        let list = match self {
            _ if device.is_empty() => [None, None],
            // The zone list of a CPU's node puts every DRAM node before a device node, so this is "DRAM first".
            Pool::Default | Pool::Hot | Pool::Cold if *mode != Mode::Isolate => bind(any),
            Pool::Dram if *mode != Mode::Isolate => prefer(*dram),
            Pool::Default | Pool::Hot | Pool::Cold | Pool::Dram | Pool::DramStrict => bind(*dram),
            Pool::Device => prefer(*device),
            Pool::DeviceStrict => bind(*device),
        };
        list.into_iter().flatten()
    }
}
