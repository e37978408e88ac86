//! What is decided before the tracer is loaded: shape of the rings, channel, settings.

use std::path::Path;

use aya::{Ebpf, EbpfError, EbpfLoader};
use fragscope_ebpf::clock::BURST_EVENTS;
use fragscope_ebpf::record::{ALL_KINDS, BASE_KINDS};
use fragscope_ebpf::ring::{CHANNEL_PAGES, CHANNEL_RINGBUF, PAGE_BYTES};
use fragscope_trace::header::{Capability, TraceMode};
use fragscope_trace::page::Pfn;

use super::counts::{CountShape, RegionCounters};
use super::format::Format;
use super::host::Host;
use super::memory::MapMemory;
use super::pagemap::{self, PageMap};
use super::taint::{self, TaintMap};
use super::tracer::{AttachError, TracerOptions, map_data, take_map};
use crate::object;
use crate::ring::buffers::BufferRings;
use crate::ring::pages::PageRings;
use crate::ring::{Channel, RingShape};

/// Windows of a context budget in one second.
const WINDOWS_PER_SECOND: u32 = 100;
/// Memory that the rings of all CPUs together take by default, at most.
const RINGS_BYTES_MAX: u64 = 256 << 20;
/// Memory of one ring by default: 0.1 to 0.2 s of the heaviest load seen.
const RING_BYTES_DEFAULT: u64 = 2 << 20;

/// What was decided before loading.
#[derive(Debug)]
pub(super) struct Plan {
    shape: RingShape,
    ring_buffers: bool,
    buffer_bytes: u32,
    budget: u64,
    /// Events for which one reading of the clock serves.
    burst: u64,
    counts: CountShape,
    /// Frames that the byte maps cover: none where events are only counted.
    mapped_end: Pfn,
    mode: TraceMode,
}

impl Plan {
    pub(super) fn new(host: &Host, options: &TracerOptions) -> Plan {
        let kinds = if options.buddy_events { ALL_KINDS } else { BASE_KINDS };
        let rings = u64::from(host.cpus) * u64::from(kinds);
        let wanted = options.ring_bytes.unwrap_or_else(|| default_ring_bytes(rings));
        let pages = wanted.div_ceil(PAGE_BYTES as u64).max(1).next_power_of_two();
        // At most 1 GiB each, so that the array's length fits 32 bits on any machine.
        let data_pages = pages.min(1 << 18) as u32;
        let ring_buffers = options.force_ring_buffers
            || options.force_classic
            || host.vmemmap.is_err()
            || !host.admits_page_rings();
        let shape = RingShape { cpus: host.cpus, kinds, data_pages };
        let records = options.mode.is_full();
        let counts = !records || options.may_shed;
        let counted_end = if counts { host.end_pfn } else { Pfn(0) };
        Plan {
            counts: CountShape::new(host.cpus, counted_end),
            mapped_end: if records { host.end_pfn } else { Pfn(0) },
            mode: options.mode,
            shape: if ring_buffers || !records {
                RingShape { data_pages: 0, ..shape }
            } else {
                shape
            },
            ring_buffers,
            buffer_bytes: data_pages.min(1 << 17) * PAGE_BYTES as u32,
            burst: if options.exact_times { 0 } else { BURST_EVENTS },
            budget: u64::from(options.contexts_per_second.div_ceil(WINDOWS_PER_SECOND)),
        }
    }

    pub(super) fn load(&self, tracefs: &Path, host: &Host) -> Result<Ebpf, EbpfError> {
        let channel = if self.ring_buffers { CHANNEL_RINGBUF } else { CHANNEL_PAGES };
        let (base, bytes) = host.vmemmap.as_ref().map_or((0, 64), |v| (v.base, v.page_bytes));
        let shift = if bytes.is_power_of_two() { bytes.trailing_zeros() } else { 0 };
        let (movable, reclaimable) = (host.gfp_movable(), host.gfp_reclaimable());
        let extfrag = extfrag_offsets(tracefs);
        EbpfLoader::new()
            .map_max_entries("RINGS", self.shape.elements())
            .map_max_entries("RING_BUFFERS", self.shape.cpus)
            .map_max_entries("PAGE_MAP", pagemap::elements(self.mapped_end))
            .map_max_entries("TAINT_MAP", taint::elements(self.mapped_end))
            .map_max_entries("COUNTS", self.counts.elements())
            .override_global("CHANNEL", &channel, true)
            .override_global("RING_KINDS", &self.shape.kinds, true)
            .override_global("RING_DATA_PAGES", &self.shape.data_pages, true)
            .override_global("VMEMMAP_BASE", &base, true)
            .override_global("PAGE_STRUCT_BYTES", &bytes, true)
            .override_global("PAGE_STRUCT_SHIFT", &shift, true)
            .override_global("OWN_TGID", &host.own_tgid, true)
            .override_global("GFP_MOVABLE", &movable, true)
            .override_global("GFP_RECLAIMABLE", &reclaimable, true)
            .override_global("COUNT_REGIONS", &self.counts.regions, true)
            .override_global("COUNT_ELEMENTS", &self.counts.elements_per_cpu(), true)
            .override_global("CONTEXT_BUDGET", &self.budget, true)
            .override_global("BURST", &self.burst, true)
            .override_global("PG_HEAD", &host.pg_head, true)
            .override_global("FOLIO_ORDER_AT", &host.folio_order_at, true)
            .override_global("ALLOC_AT", &host.alloc_at, true)
            .override_global("FREE_AT", &host.free_at, true)
            .override_global("EXTFRAG_AT", &extfrag, true)
            .load(object::tracer())
    }

    pub(super) fn channel(&self, ebpf: &mut Ebpf) -> Result<Channel, AttachError> {
        let bytes = self.shape.elements() as usize * PAGE_BYTES;
        let memory = MapMemory::new(map_data(ebpf, "RINGS")?.fd(), bytes)?;
        let pages = PageRings::new(memory, self.shape);
        if !self.ring_buffers || !self.mode.is_full() {
            return Ok(Channel::Pages(pages));
        }
        let outer = take_map(ebpf, "RING_BUFFERS")?;
        let buffers = BufferRings::create(outer, self.shape.cpus, self.buffer_bytes)?;
        Ok(Channel::Buffers(pages, buffers))
    }

    pub(super) fn page_map(&self, ebpf: &mut Ebpf) -> Result<PageMap, AttachError> {
        Ok(PageMap::new(map_data(ebpf, "PAGE_MAP")?.fd(), self.mapped_end)?)
    }

    pub(super) fn taint_map(&self, ebpf: &mut Ebpf) -> Result<TaintMap, AttachError> {
        Ok(TaintMap::new(map_data(ebpf, "TAINT_MAP")?.fd(), self.mapped_end)?)
    }

    /// The counters by region, if anything is ever counted.
    pub(super) fn counters(&self, ebpf: &mut Ebpf) -> Result<Option<RegionCounters>, AttachError> {
        if self.counts.regions == 0 {
            return Ok(None);
        }
        let map = map_data(ebpf, "COUNTS")?.fd();
        Ok(Some(RegionCounters::new(map, self.counts)?))
    }

    /// What was found before any program was attached.
    pub(super) fn capabilities(&self, host: &Host) -> Vec<Capability> {
        let calibration = Capability {
            name: "vmemmap_calibration".to_owned(),
            required: false,
            available: host.vmemmap.is_ok(),
            found: match &host.vmemmap {
                Ok(v) => format!("{} bytes a page from {:#x}", v.page_bytes, v.base),
                Err(error) => error.to_string(),
            },
            lost_without: "page events cost about twice as much (classic tracepoints), and LRU \
                           insertions are not seen"
                .to_owned(),
            remedy:
                "a kernel whose struct pages lie in one virtual array (CONFIG_SPARSEMEM_VMEMMAP)"
                    .to_owned(),
        };
        let rings = Capability {
            name: "shared_rings".to_owned(),
            required: false,
            available: !self.ring_buffers,
            found: if self.ring_buffers {
                format!("a BPF ring buffer of {} bytes per CPU", self.buffer_bytes)
            } else {
                let bytes = self.shape.data_pages as usize * PAGE_BYTES;
                format!("{} rings of {bytes} bytes per CPU", self.shape.kinds)
            },
            lost_without: "an event costs 30 to 50 ns more".to_owned(),
            remedy: "Linux 6.1 or later on x86-64, with raw tracepoints".to_owned(),
        };
        let times = Capability {
            name: "event_times".to_owned(),
            required: false,
            available: true,
            found: match self.burst {
                0 => "exact: the clock is read for each event".to_owned(),
                burst => format!(
                    "less than a tick early: the clock is read once for up to {burst} events of a CPU"
                ),
            },
            lost_without: "events could not be put in order".to_owned(),
            remedy: String::new(),
        };
        if self.mode.is_full() { vec![calibration, rings, times] } else { vec![calibration] }
    }
}

/// Two MiB, or less where there are many CPUs.
fn default_ring_bytes(rings: u64) -> u64 {
    let share = (RINGS_BYTES_MAX / rings.max(1)).max(64 << 10);
    RING_BYTES_DEFAULT.min(1 << share.ilog2())
}

/// Offsets of the fields of `kmem:mm_page_alloc_extfrag`. Zeros if the kernel lacks the event:
/// its program will not attach.
fn extfrag_offsets(tracefs: &Path) -> [u32; 6] {
    let format = Format::read(tracefs, "kmem/mm_page_alloc_extfrag");
    let offsets = format.and_then(|f| {
        f.offsets([
            "pfn",
            "alloc_order",
            "fallback_order",
            "alloc_migratetype",
            "fallback_migratetype",
            "change_ownership",
        ])
    });
    offsets.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_shrink_on_machines_with_many_cpus() {
        assert_eq!(default_ring_bytes(6), 2 << 20);
        assert_eq!(default_ring_bytes(3 * 64), 1 << 20);
        assert_eq!(default_ring_bytes(3 * 8192), 64 << 10);
    }
}
