//! Taking a block from a zone: the modes of an attempt, and the zone-direct path.
//!
//! `stock-allocator` 2.4 (`rmqueue_buddy`) and 2.5 (`__rmqueue`).

use fragscope_trace::page::Migratetype;

use super::buddy::Buddy;
use super::flags::AllocFlags;
use super::flavour::{Flavour, Word};
use super::frames::Frame;
use super::placement::Placement;
use super::zone::Zone;

/// How far an attempt has had to go; kept between the blocks of one bulk refill.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RmqueueMode {
    /// The type's own lists.
    Normal,
    /// CMA areas, for movable requests.
    Cma,
    /// Claiming a block of another type.
    Claim,
    /// Stealing from another type.
    Steal,
}

/// Fallback order of each type that has one.
#[must_use]
pub const fn fallbacks(migratetype: Migratetype) -> [Migratetype; 2] {
    use Migratetype::{Movable, Reclaimable, Unmovable};
    match migratetype {
        Movable => [Reclaimable, Unmovable],
        Reclaimable => [Unmovable, Movable],
        _ => [Reclaimable, Movable],
    }
}

/// `__rmqueue`: tries the modes from the remembered one on.
#[inline]
pub fn by_modes<F: Flavour, P: Placement<F>>(
    buddy: &Buddy<F, P>,
    zone: &Zone<F>,
    order: u8,
    migratetype: Migratetype,
    flags: AllocFlags,
    mode: &mut RmqueueMode,
) -> Option<Frame> {
    if let Some(frame) = balance_cma(buddy, zone, order, flags) {
        return Some(frame);
    }
    if *mode == RmqueueMode::Normal {
        let frame = P::rmqueue_smallest(buddy, zone, order, migratetype, flags);
        if frame.is_some() {
            return frame;
        }
    }
    fall_back(buddy, zone, order, migratetype, flags, mode)
}

/// The modes after the type's own lists, from the remembered one on.
pub(super) fn fall_back<F: Flavour, P: Placement<F>>(
    buddy: &Buddy<F, P>,
    zone: &Zone<F>,
    order: u8,
    migratetype: Migratetype,
    flags: AllocFlags,
    mode: &mut RmqueueMode,
) -> Option<Frame> {
    if *mode <= RmqueueMode::Cma && flags.contains(AllocFlags::CMA) {
        let frame = from_cma(buddy, zone, order, flags);
        if frame.is_some() {
            *mode = RmqueueMode::Cma;
            return frame;
        }
    }
    if *mode <= RmqueueMode::Claim {
        let frame = P::rmqueue_claim(buddy, zone, order, migratetype, flags);
        if frame.is_some() {
            *mode = RmqueueMode::Normal;
            return frame;
        }
    }
    let steals =
        !flags.contains(AllocFlags::NOFRAGMENT) || flags.contains(AllocFlags::NOFRAG_TAINTED_OK);
    if steals {
        let frame = P::rmqueue_steal(buddy, zone, order, migratetype, flags);
        if frame.is_some() {
            *mode = RmqueueMode::Steal;
            return frame;
        }
    }
    None
}

/// Movable requests use CMA areas first while these hold more than half of the free memory.
#[inline]
pub fn balance_cma<F: Flavour, P: Placement<F>>(
    buddy: &Buddy<F, P>,
    zone: &Zone<F>,
    order: u8,
    flags: AllocFlags,
) -> Option<Frame> {
    let cma = zone.free_cma.get();
    if cma == 0 || !flags.contains(AllocFlags::CMA) || cma <= zone.free_pages.get() / 2 {
        return None;
    }
    from_cma(buddy, zone, order, flags)
}

fn from_cma<F: Flavour, P: Placement<F>>(
    buddy: &Buddy<F, P>,
    zone: &Zone<F>,
    order: u8,
    flags: AllocFlags,
) -> Option<Frame> {
    if zone.free_cma.get() == 0 {
        return None;
    }
    let frame = P::rmqueue_smallest(buddy, zone, order, Migratetype::Cma, flags)?;
    buddy.counters.cma_allocs.add(1);
    Some(frame)
}

impl<F: Flavour, P: Placement<F>> Buddy<F, P> {
    /// `rmqueue_buddy`: straight from the zone.
    pub fn rmqueue_buddy(
        &self,
        zone: &Zone<F>,
        order: u8,
        migratetype: Migratetype,
        flags: AllocFlags,
    ) -> Option<Frame> {
        let _guard = self.lock_for(zone, flags)?;
        let reserve = || {
            let frame = P::rmqueue_smallest(self, zone, order, Migratetype::HighAtomic, flags)?;
            self.counters.highatomic_allocs.add(1);
            Some(frame)
        };
        let reserved = if flags.contains(AllocFlags::HIGHATOMIC) { reserve() } else { None };
        let frame = reserved.or_else(|| {
            P::rmqueue(self, zone, order, migratetype, flags, &mut RmqueueMode::Normal).or_else(
                || {
                    let last = flags.intersects(AllocFlags::OOM | AllocFlags::NON_BLOCK);
                    if last { reserve() } else { None }
                },
            )
        });
        if frame.is_some() {
            self.counters.direct_allocs.add(1);
        }
        frame
    }
}
