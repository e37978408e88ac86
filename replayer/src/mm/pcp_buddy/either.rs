//! Stock or owning per-CPU lists, as the settings say: patch 02 is a switch with either policy.

use fragscope_trace::machine::{Machine, Pageset};
use fragscope_trace::page::{Content, Migratetype};

use crate::mm::buddy::Buddy;
use crate::mm::cache::Cache;
use crate::mm::flags::AllocFlags;
use crate::mm::flavour::Flavour;
use crate::mm::frames::Frame;
use crate::mm::free_path::Protocol;
use crate::mm::geometry::{CpuIndex, Geometry};
use crate::mm::pcp::StockPcp;
use crate::mm::placement::Placement;
use crate::mm::request::FreeEntry;
use crate::mm::virtual_hold::Stranded;
use crate::mm::zone::Zone;

use super::PcpBuddy;

/// One of the two sorts of per-CPU lists.
#[derive(Debug)]
pub enum EitherPcp<F: Flavour> {
    /// Fourteen lists, no ownership.
    Stock(StockPcp<F>),
    /// Lists that own pageblocks.
    Owning(PcpBuddy<F>),
}

macro_rules! either {
    ($self:ident, $cache:ident => $call:expr) => {
        match $self {
            EitherPcp::Stock($cache) => $call,
            EitherPcp::Owning($cache) => $call,
        }
    };
}

impl<F: Flavour, P: Placement<F>> Cache<F, P> for EitherPcp<F> {
    const NAME: &'static str = "pcp or pcp_buddy";

    fn list_count(geometry: &Geometry) -> u32 {
        let stock = <StockPcp<F> as Cache<F, P>>::list_count(geometry);
        stock.max(<PcpBuddy<F> as Cache<F, P>>::list_count(geometry))
    }

    fn build(buddy: &Buddy<F, P>, machine: &Machine, first_list: u32) -> EitherPcp<F> {
        if P::owns_pageblocks(&buddy.settings) {
            EitherPcp::Owning(PcpBuddy::build(buddy, machine, first_list))
        } else {
            EitherPcp::Stock(StockPcp::build(buddy, machine, first_list))
        }
    }

    #[inline(always)]
    fn allows(&self, buddy: &Buddy<F, P>, order: u8) -> bool {
        either!(self, cache => cache.allows(buddy, order))
    }

    #[inline(always)]
    fn alloc(
        &self,
        buddy: &Buddy<F, P>,
        zone: &Zone<F>,
        cpu: CpuIndex,
        order: u8,
        migratetype: Migratetype,
        flags: AllocFlags,
    ) -> Option<Frame> {
        either!(self, cache => cache.alloc(buddy, zone, cpu, order, migratetype, flags))
    }

    #[inline(always)]
    fn free(
        &self,
        buddy: &Buddy<F, P>,
        zone: &Zone<F>,
        cpu: CpuIndex,
        frame: Frame,
        order: u8,
        from: Content,
        entry: FreeEntry,
    ) -> bool {
        either!(self, cache => cache.free(buddy, zone, cpu, frame, order, from, entry))
    }

    fn drain_zone(&self, buddy: &Buddy<F, P>, zone: &Zone<F>) {
        either!(self, cache => cache.drain_zone(buddy, zone));
    }

    fn decay(&self, buddy: &Buddy<F, P>, cpu: CpuIndex) {
        either!(self, cache => cache.decay(buddy, cpu));
    }

    fn set_limits(&self, buddy: &Buddy<F, P>, zone: &Zone<F>, online_cpus: u64) {
        either!(self, cache => cache.set_limits(buddy, zone, online_cpus));
    }

    fn load_state(&self, zone: &Zone<F>, cpu: CpuIndex, pageset: &Pageset) {
        either!(self, cache => Cache::<F, P>::load_state(cache, zone, cpu, pageset));
    }

    fn load_block(
        &self,
        buddy: &Buddy<F, P>,
        zone: &Zone<F>,
        cpu: CpuIndex,
        frame: Frame,
        order: u8,
        migratetype: Migratetype,
    ) -> bool {
        either!(self, cache => cache.load_block(buddy, zone, cpu, frame, order, migratetype))
    }

    fn cpu_online(&self, buddy: &Buddy<F, P>, cpu: CpuIndex) {
        either!(self, cache => cache.cpu_online(buddy, cpu));
    }

    fn cpu_offline(&self, buddy: &Buddy<F, P>, cpu: CpuIndex) {
        either!(self, cache => cache.cpu_offline(buddy, cpu));
    }

    fn pages(&self, zone: &Zone<F>) -> u64 {
        either!(self, cache => Cache::<F, P>::pages(cache, zone))
    }

    fn free_path(&self) -> Option<Protocol> {
        either!(self, cache => Cache::<F, P>::free_path(cache))
    }

    fn stranded(&self, buddy: &Buddy<F, P>) -> Stranded {
        either!(self, cache => cache.stranded(buddy))
    }

    fn check(&self, buddy: &Buddy<F, P>) {
        either!(self, cache => cache.check(buddy));
    }
}
