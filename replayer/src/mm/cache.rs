//! What per-CPU lists do for an allocator, whichever sort they are.

use std::fmt::Debug;

use fragscope_trace::machine::{Machine, Pageset};
use fragscope_trace::page::{Content, Migratetype};

use super::buddy::Buddy;
use super::flags::AllocFlags;
use super::flavour::Flavour;
use super::frames::Frame;
use super::free_path::Protocol;
use super::geometry::{CpuIndex, Geometry};
use super::placement::Placement;
use super::request::FreeEntry;
use super::virtual_hold::Stranded;
use super::zone::Zone;

/// Free pages cached by each CPU in front of each zone. Every function takes the lock of the
/// lists it touches, by try-lock where the kernel does.
pub trait Cache<F: Flavour, P: Placement<F>>: Sized + Debug {
    /// Its name.
    const NAME: &'static str;

    /// How many list heads it needs.
    fn list_count(geometry: &Geometry) -> u32;

    /// Empty lists whose first head is `first_list`.
    fn build(buddy: &Buddy<F, P>, machine: &Machine, first_list: u32) -> Self;

    /// `pcp_allowed_order`
    fn allows(&self, buddy: &Buddy<F, P>, order: u8) -> bool;

    /// Takes a block, refilling from the zone where necessary; `None` if the zone must serve it.
    /// The block's pages hold [`Content::Pcp`] by the census, its frames are
    /// [`super::frames::FrameState::FreeTail`].
    fn alloc(
        &self,
        buddy: &Buddy<F, P>,
        zone: &Zone<F>,
        cpu: CpuIndex,
        order: u8,
        migratetype: Migratetype,
        flags: AllocFlags,
    ) -> Option<Frame>;

    /// Takes a free block whose frames are `FreeTail` and hold `from` by the census; `false` if
    /// the zone must take it.
    #[expect(clippy::too_many_arguments, reason = "the parts of one free, all of different types")]
    fn free(
        &self,
        buddy: &Buddy<F, P>,
        zone: &Zone<F>,
        cpu: CpuIndex,
        frame: Frame,
        order: u8,
        from: Content,
        entry: FreeEntry,
    ) -> bool;

    /// `drain_all_pages`: gives every CPU's pages of a zone back.
    fn drain_zone(&self, buddy: &Buddy<F, P>, zone: &Zone<F>);

    /// `drain_local_pages`: gives one CPU's pages of a zone back.
    fn drain_cpu(&self, buddy: &Buddy<F, P>, zone: &Zone<F>, _cpu: CpuIndex) {
        self.drain_zone(buddy, zone);
    }

    /// The periodic worker of one CPU (`refresh_cpu_vm_stats`): decay and drains.
    fn decay(&self, buddy: &Buddy<F, P>, cpu: CpuIndex);

    /// A zone's watermarks or size changed.
    fn set_limits(&self, buddy: &Buddy<F, P>, zone: &Zone<F>, online_cpus: u64);

    /// Takes over what the traced kernel's lists of one CPU look like.
    fn load_state(&self, zone: &Zone<F>, cpu: CpuIndex, pageset: &Pageset);

    /// Puts a free block at the tail of a list, as found. Its pages hold [`Content::Pcp`].
    /// `false` if these lists have no place for it.
    fn load_block(
        &self,
        buddy: &Buddy<F, P>,
        zone: &Zone<F>,
        cpu: CpuIndex,
        frame: Frame,
        order: u8,
        migratetype: Migratetype,
    ) -> bool;

    /// A CPU begins to run.
    fn cpu_online(&self, buddy: &Buddy<F, P>, cpu: CpuIndex);

    /// A CPU stopped: its pages go back to their zones.
    fn cpu_offline(&self, buddy: &Buddy<F, P>, cpu: CpuIndex);

    /// Pages on all lists of a zone.
    fn pages(&self, zone: &Zone<F>) -> u64;

    /// How frees reach the lists of the CPU that owns their pageblock; `None` if none owns any.
    fn free_path(&self) -> Option<Protocol> {
        None
    }

    /// Pages that other CPUs freed and the owners have not taken in.
    fn stranded(&self, _: &Buddy<F, P>) -> Stranded {
        Stranded::default()
    }

    /// Re-derives everything and compares.
    ///
    /// # Panics
    /// With a description of what does not hold.
    fn check(&self, buddy: &Buddy<F, P>);
}
