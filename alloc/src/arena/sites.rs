//! Allocation sites: whose blocks may share pages, where the heap does not fit in DRAM.
//!
//! Pages move, not blocks: where hot and cold blocks of one size share pages, no page is worth its place in DRAM. Blocks that one
//! place in the program allocates are mostly alike. So while the control plane says so ([`set_apart`]), each of the first few *sites*
//! (the return address of the allocation function) that allocate a size class gets its blocks from slabs of its own, those of a [`Pool`]
//! group. Nothing is known of a site but that it is another one; heat, which is then a matter of whole pages, does the rest.
//!
//! A class that one site allocates stays on the fast path. So does every class where memory suffices: what is told apart costs each of
//! its allocations the slow path.
//!
//! Zone: cold, and control for [`set_apart`]. All state is a hint: relaxed atomics, seen late or lost in a race, at worst put a block into
//! another group.

use super::pool::Pool;
use crate::class::{CLASSES, FINE_MAX, class_bytes};
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};

/// Sites that are told apart, of all classes together; a power of two.
const SITES: usize = 512;

/// Places in the table that are looked at for one site.
const PROBES: usize = 8;

static APART: AtomicBool = AtomicBool::new(false);

static ALL: Sites = Sites::new();

/// A site of a class, as told from others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Site {
    /// The return address of the allocation function; of its bits the lower 48.
    pub address: usize,
    /// The size class of the blocks.
    pub class: usize,
    /// The number of the group that they are in; `None` for the only site of a class, whose blocks are in the default pool.
    pub group: Option<usize>,
}

/// Says whether the blocks of different sites are to lie on different pages from now on.
pub fn set_apart(apart: bool) {
    APART.store(apart, Ordering::Relaxed);
}

/// Whether they are.
#[inline]
pub(crate) fn are_apart() -> bool {
    APART.load(Ordering::Relaxed)
}

/// The pool for a block of `class` that `site` allocates: the default one for as long as it is the only site.
pub(crate) fn pool_for(site: usize, class: usize) -> Pool {
    ALL.pool_for(site, class)
}

/// Puts the blocks of a site that has not allocated yet into the group that it had in an earlier run.
pub(crate) fn preset(site: &Site) {
    ALL.preset(site);
}

/// Calls `f` for every site that has allocated by now. None is known before sites are kept apart.
pub(crate) fn for_each(f: &mut dyn FnMut(Site)) {
    ALL.for_each(f);
}

/// What is known of sites.
struct Sites {
    /// The only site that has allocated each class so far; 0 = none yet, [`SEVERAL`] = there are more.
    only: [AtomicUsize; CLASSES],
    /// How many sites of each class have got a group.
    count: [AtomicU8; CLASSES],
    /// Sites and their groups: the upper bits tell a site of a class ([`key_of`]), the lower four are the group's number plus one, and
    /// [`SEEN`] says that it has allocated; 0 = free.
    table: [AtomicU64; SITES],
}

const SEVERAL: usize = usize::MAX;

/// Of an entry of the table: the site has allocated in this run; those of an earlier run may never.
const SEEN: u64 = 0x80;
const GROUP: u64 = 0xf;

/// What tells a site of a class from all others.
fn key_of(site: usize, class: usize) -> u64 {
    const { assert!(CLASSES <= 1 << 8 && Pool::GROUPS < GROUP as usize) };
    (site as u64) << 16 | (class as u64) << 8
}

impl Sites {
    const fn new() -> Sites {
        Sites {
            only: [const { AtomicUsize::new(0) }; CLASSES],
            count: [const { AtomicU8::new(0) }; CLASSES],
            table: [const { AtomicU64::new(0) }; SITES],
        }
    }

    fn pool_for(&self, site: usize, class: usize) -> Pool {
        // Larger blocks have pages almost to themselves, and nobody looks who asks for them.
        if class_bytes(class) > FINE_MAX {
            return Pool::Default;
        }
        // Not one of the two marks.
        let site = site.clamp(1, SEVERAL - 1);
        let only = &self.only[class];
        match only.load(Ordering::Relaxed) {
            SEVERAL => {}
            0 => {
                only.store(site, Ordering::Relaxed);
                return Pool::Default;
            }
            known if known == site => return Pool::Default,
            _ => only.store(SEVERAL, Ordering::Relaxed),
        }
        // By order of arrival within the class.
        let next = || usize::from(self.count[class].fetch_add(1, Ordering::Relaxed)) % Pool::GROUPS;
        Pool::group(self.enter(site, class, SEEN, next))
    }

    /// The group of a site of `class`; that which `choose` answers if it has none. Notes `seen`.
    fn enter(&self, site: usize, class: usize, seen: u64, choose: impl Fn() -> usize) -> usize {
        let key = key_of(site, class);
        let start = (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as usize;
        for probe in 0..PROBES {
            let entry = &self.table[(start + probe) % SITES];
            let known = entry.load(Ordering::Relaxed);
            if known != 0 && known & !0xff == key {
                if known & seen != seen {
                    entry.fetch_or(seen, Ordering::Relaxed);
                }
                return (known & GROUP) as usize - 1;
            }
            if known == 0 {
                let group = choose();
                let new = key | seen | (group as u64 + 1);
                match entry.compare_exchange(0, new, Ordering::Relaxed, Ordering::Relaxed) {
                    Ok(_) => return group,
                    Err(other) if other & !0xff == key => return (other & GROUP) as usize - 1,
                    Err(_) => {}
                }
            }
        }
        // No room for it: by chance.
        start % Pool::GROUPS
    }

    fn preset(&self, site: &Site) {
        let Some(group) = site.group.filter(|&group| group < Pool::GROUPS) else { return };
        self.enter(site.address, site.class, 0, || group);
        self.only[site.class].store(SEVERAL, Ordering::Relaxed);
        // Those that come later get others for as long as there are some.
        self.count[site.class].fetch_max(group as u8 + 1, Ordering::Relaxed);
    }

    fn for_each(&self, f: &mut dyn FnMut(Site)) {
        for (class, only) in self.only.iter().enumerate() {
            let address = only.load(Ordering::Relaxed);
            if address != 0 && address != SEVERAL {
                f(Site { address, class, group: None });
            }
        }
        for entry in &self.table {
            let known = entry.load(Ordering::Relaxed);
            if known & SEEN != 0 {
                let (address, class) = ((known >> 16) as usize, (known >> 8 & 0xff) as usize);
                f(Site { address, class, group: Some((known & GROUP) as usize - 1) });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::class::class_of;

    #[test]
    fn sites_of_a_class_get_groups_of_their_own_once_there_are_two() {
        let (all, class) = (Sites::new(), class_of(777));
        assert_eq!(all.pool_for(0x1000, class), Pool::Default);
        assert_eq!(all.pool_for(0x1000, class), Pool::Default);
        let pools: Vec<Pool> = (0..Pool::GROUPS).map(|i| all.pool_for(0x2000 + i * 16, class)).collect();
        for (i, pool) in pools.iter().enumerate() {
            assert_eq!(*pool, all.pool_for(0x2000 + i * 16, class), "the same every time");
            assert!(pool.is_tiered() && *pool != Pool::Default);
            assert!(!pools[..i].contains(pool), "no two share one");
        }
        assert_ne!(all.pool_for(0x1000, class), Pool::Default, "the first one is one of several now");
        // More sites than the table has room for still get groups.
        assert!((1..4 * SITES).all(|site| all.pool_for(site * 64, class_of(555)).is_tiered()));
    }

    #[test]
    fn a_site_gets_the_group_it_had_in_an_earlier_run() {
        let (all, class) = (Sites::new(), class_of(333));
        for (address, group) in [(0x5000, 6), (0x6000, 2), (0x6500, 3)] {
            all.preset(&Site { address, class, group: Some(group) });
        }
        assert_eq!(all.pool_for(0x5000, class), Pool::Group6);
        assert_eq!(all.pool_for(0x6000, class), Pool::Group2);
        assert_eq!(all.pool_for(0x7000, class), Pool::Group7, "one that is free");
        let mut sites = Vec::new();
        all.for_each(&mut |site| sites.push(site));
        let of_class: Vec<_> = sites.iter().filter(|s| s.class == class).collect();
        assert_eq!(of_class.len(), 3, "not the one that has not allocated");
        assert!(of_class.contains(&&Site { address: 0x6000, class, group: Some(2) }));
        // What no run has had is nobody's.
        all.preset(&Site { address: 0x8000, class, group: Some(Pool::GROUPS) });
        all.preset(&Site { address: 0x8000, class, group: None });
        assert_eq!(all.pool_for(0x8000, class), Pool::Group0);
    }

    #[test]
    fn blocks_with_pages_of_their_own_stay_where_they_were() {
        let all = Sites::new();
        for site in 1..5 {
            assert_eq!(all.pool_for(site, class_of(4096)), Pool::Default);
        }
    }
}
