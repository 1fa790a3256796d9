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
    /// As [`Pool::Default`], the blocks of some allocation sites apart from those of others ([`super::sites`]); seven more like it.
    Group0 = 7,
    /// See [`Pool::Group0`].
    Group1 = 8,
    /// See [`Pool::Group0`].
    Group2 = 9,
    /// See [`Pool::Group0`].
    Group3 = 10,
    /// See [`Pool::Group0`].
    Group4 = 11,
    /// See [`Pool::Group0`].
    Group5 = 12,
    /// See [`Pool::Group0`].
    Group6 = 13,
    /// See [`Pool::Group0`].
    Group7 = 14,
}

impl Pool {
    /// How many pools there are.
    pub const COUNT: usize = 15;

    /// How many of them are groups of allocation sites.
    pub const GROUPS: usize = 8;

    /// Every pool, in the order of their numbers.
    pub const ALL: [Pool; Pool::COUNT] = [
        Pool::Default,
        Pool::Hot,
        Pool::Cold,
        Pool::Dram,
        Pool::Device,
        Pool::DramStrict,
        Pool::DeviceStrict,
        Pool::Group0,
        Pool::Group1,
        Pool::Group2,
        Pool::Group3,
        Pool::Group4,
        Pool::Group5,
        Pool::Group6,
        Pool::Group7,
    ];

    /// The group with this number, below [`Pool::GROUPS`].
    pub(crate) fn group(number: usize) -> Pool {
        Pool::ALL[Pool::COUNT - Pool::GROUPS + number]
    }

    /// Whether it is a group of allocation sites.
    #[must_use]
    pub fn is_group(self) -> bool {
        self as usize >= Pool::COUNT - Pool::GROUPS
    }

    /// The pool whose arenas it has its extents in.
    pub(crate) fn home(self) -> Pool {
        if self.is_group() { Pool::Default } else { self }
    }

    /// The pool with this number.
    pub(crate) fn from_number(number: u8) -> Pool {
        Pool::ALL.get(number as usize).copied().unwrap_or(Pool::Default)
    }

    /// Whether heat decides where this pool's pages are.
    #[must_use]
    pub fn is_tiered(self) -> bool {
        matches!(self, Pool::Default | Pool::Hot | Pool::Cold) || self.is_group()
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
    /// demotion at the first touch (measured), with any of these it does not, but for the one that lets the kernel promote in `assist`.
    pub(crate) fn policies(self) -> impl Iterator<Item = (u32, NodeMask)> {
        let Placement { dram, device, mode } = placement();
        let any = dram.union(device);
        let bind = |mask| [Some((numa::MPOL_BIND, mask)), None];
        let prefer = |mask: NodeMask| {
            let one = NodeMask::of(mask.first().unwrap_or(0));
            [Some((numa::MPOL_PREFERRED_MANY, mask)), Some((numa::MPOL_PREFERRED, one))]
        };
        let list = match self.home() {
            _ if device.is_empty() => [None, None],
            // The zone list of a CPU's node puts every DRAM node before a device node, so this is "DRAM first".
            Pool::Default | Pool::Hot | Pool::Cold if *mode == Mode::Assist => {
                [Some((numa::MPOL_BIND | numa::MPOL_F_NUMA_BALANCING, any)), Some((numa::MPOL_BIND, any))]
            }
            Pool::Default | Pool::Hot | Pool::Cold if *mode != Mode::Isolate => bind(any),
            Pool::Dram if *mode != Mode::Isolate => prefer(*dram),
            Pool::Default | Pool::Hot | Pool::Cold | Pool::Dram | Pool::DramStrict => bind(*dram),
            Pool::Device => prefer(*device),
            Pool::DeviceStrict => bind(*device),
            // Nobody's home.
            _ => [None, None],
        };
        list.into_iter().flatten()
    }
}
