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
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicUsize, Ordering};

/// Sites that are told apart, of all classes together; a power of two.
const SITES: usize = 512;

/// Places in the table that are looked at for one site.
const PROBES: usize = 8;

static APART: AtomicBool = AtomicBool::new(false);

/// The only site that has allocated each class so far; 0 = none yet, [`SEVERAL`] = there are more.
static ONLY: [AtomicUsize; CLASSES] = [const { AtomicUsize::new(0) }; CLASSES];
const SEVERAL: usize = usize::MAX;

/// How many sites of each class have got a group.
static COUNT: [AtomicU8; CLASSES] = [const { AtomicU8::new(0) }; CLASSES];

/// Sites and their groups: the upper bits tell a site of a class, the lower eight are the group's number plus one; 0 = free.
static TABLE: [AtomicU32; SITES] = [const { AtomicU32::new(0) }; SITES];

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
    // Larger blocks have pages almost to themselves, and nobody looks who asks for them.
    if class_bytes(class) > FINE_MAX {
        return Pool::Default;
    }
    // Not one of the two marks.
    let site = site.clamp(1, SEVERAL - 1);
    let only = &ONLY[class];
    match only.load(Ordering::Relaxed) {
        SEVERAL => {}
        0 => {
            only.store(site, Ordering::Relaxed);
            return Pool::Default;
        }
        known if known == site => return Pool::Default,
        _ => only.store(SEVERAL, Ordering::Relaxed),
    }
    Pool::group(group_of(site, class))
}

/// The group of a site of `class`, by order of arrival within the class.
fn group_of(site: usize, class: usize) -> usize {
    let mixed = (site as u64 ^ (class as u64) << 56).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let tag = (mixed >> 32) as u32 & !0xff;
    let start = (mixed >> 40) as usize;
    for probe in 0..PROBES {
        let entry = &TABLE[(start + probe) % SITES];
        let known = entry.load(Ordering::Relaxed);
        if known != 0 && known & !0xff == tag {
            return (known & 0xff) as usize - 1;
        }
        if known == 0 {
            let group = usize::from(COUNT[class].fetch_add(1, Ordering::Relaxed)) % Pool::GROUPS;
            let new = tag | (group as u32 + 1);
            match entry.compare_exchange(0, new, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return group,
                Err(other) if other & !0xff == tag => return (other & 0xff) as usize - 1,
                Err(_) => {}
            }
        }
    }
    // No room for it: by chance.
    start % Pool::GROUPS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::class::class_of;

    #[test]
    fn sites_of_a_class_get_groups_of_their_own_once_there_are_two() {
        let class = class_of(777);
        assert_eq!(pool_for(0x1000, class), Pool::Default);
        assert_eq!(pool_for(0x1000, class), Pool::Default);
        let pools: Vec<Pool> = (0..Pool::GROUPS).map(|i| pool_for(0x2000 + i * 16, class)).collect();
        for (i, pool) in pools.iter().enumerate() {
            assert_eq!(*pool, pool_for(0x2000 + i * 16, class), "the same every time");
            assert!(pool.is_tiered() && *pool != Pool::Default);
            assert!(!pools[..i].contains(pool), "no two share one");
        }
        assert_ne!(pool_for(0x1000, class), Pool::Default, "the first one is one of several now");
        // More sites than the table has room for still get groups. (Here, as tests share the table.)
        assert!((1..4 * SITES).all(|site| pool_for(site * 64, class_of(555)).is_tiered()));
    }

    #[test]
    fn blocks_with_pages_of_their_own_stay_where_they_were() {
        for site in 1..5 {
            assert_eq!(pool_for(site, class_of(4096)), Pool::Default);
        }
    }
}
