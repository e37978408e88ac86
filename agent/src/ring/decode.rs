//! From the host's records to the trace's events: numbers become canonical.

use fragscope_ebpf::record::{self, Record};
use fragscope_ebpf::side::{self, SideRecord};
use fragscope_trace::event::{PageEvent, PageEventKind, SideEvent, SideKind, Tags};
use fragscope_trace::gfp::{Gfp, GfpLayout};
use fragscope_trace::page::{CpuId, Migratetype, Pfn, PfnRange};

/// Bits of gfp flags that one table translates.
const HALF_BITS: u32 = 14;

/// How this host numbers gfp flags and migratetypes.
#[derive(Clone, Debug)]
pub struct Dialect {
    /// Translations of the lower and the upper half of gfp bits; empty where nothing needs to be
    /// translated.
    gfp: Option<Box<[[Gfp; 1 << HALF_BITS]; 2]>>,
    /// Canonical type by the host's number.
    types: Vec<Migratetype>,
}

impl Dialect {
    /// The dialect of a host with these gfp flags and these names of `enum migratetype`, by
    /// number.
    #[must_use]
    pub fn new(layout: &GfpLayout, type_names: &[(String, i64)]) -> Dialect {
        Dialect { gfp: gfp_tables(layout), types: migratetypes(type_names) }
    }

    /// Canonical gfp flags.
    #[inline]
    #[must_use]
    pub fn gfp(&self, host: u32) -> Gfp {
        match &self.gfp {
            None => Gfp::from_bits_truncate(host),
            Some(tables) => {
                let low = host as usize & ((1 << HALF_BITS) - 1);
                let high = (host >> HALF_BITS) as usize & ((1 << HALF_BITS) - 1);
                tables[0][low] | tables[1][high]
            }
        }
    }

    /// Canonical migratetype; `None` for a number that the host does not have.
    #[inline]
    #[must_use]
    pub fn migratetype(&self, host: u32) -> Option<Migratetype> {
        self.types.get(host as usize).copied()
    }

    /// The event that `record` describes; `None` if it makes no sense.
    #[inline]
    #[must_use]
    pub fn page_event(&self, cpu: CpuId, record: Record) -> Option<PageEvent> {
        let (time, order) = (record.time_ns(), record.order() as u8);
        let pfn = Pfn(u64::from(record.pfn()));
        let moved = |kind| {
            let migratetype = self.migratetype(record.flags())?;
            Some(PageEvent::new(kind, time, cpu, pfn, order, migratetype, Gfp::empty()))
        };
        let event = match record.kind() {
            record::KIND_ALLOC if record.pfn() == record::NO_PFN => {
                let gfp = self.gfp(record.flags());
                let kind = PageEventKind::AllocFailed;
                PageEvent::new(kind, time, cpu, Pfn(0), order, gfp.migratetype(), gfp)
            }
            record::KIND_ALLOC => PageEvent::alloc(time, cpu, pfn, order, self.gfp(record.flags())),
            record::KIND_FREE => PageEvent::free(time, cpu, pfn, order),
            record::KIND_LRU => {
                let (kind, movable) = (PageEventKind::LruInsertion, Migratetype::Movable);
                PageEvent::new(kind, time, cpu, pfn, order, movable, Gfp::empty())
            }
            record::KIND_ZONE_LOCKED => moved(PageEventKind::ZoneLocked)?,
            record::KIND_PCPU_DRAIN => moved(PageEventKind::PcpuDrain)?,
            _ => return None,
        };
        Some(if record.is_own() { event.tagged(Tags::OWN) } else { event })
    }

    /// The free or allocation in a record that is not a rare event but travels as one.
    #[must_use]
    pub fn page_event_of_side(&self, record: &SideRecord) -> Option<PageEvent> {
        let (time_ns, cpu) = (record.time_ns, CpuId(record.cpu as u16));
        let [pfn, second, own, ..] = record.words;
        let event = match record.kind {
            side::SIDE_NESTED_FREE => {
                PageEvent::free(time_ns, cpu, Pfn(pfn), second as u8 & record::ORDER_MASK as u8)
            }
            side::SIDE_BULK_ALLOC => {
                PageEvent::alloc(time_ns, cpu, Pfn(pfn), 0, self.gfp(second as u32))
            }
            _ => return None,
        };
        Some(if own != 0 { event.tagged(Tags::OWN) } else { event })
    }

    /// The event that `record` describes; `None` if it makes no sense. A context's stack is the
    /// kernel's id plus 1, which the caller replaces by the trace's.
    #[must_use]
    pub fn side_event(&self, record: &SideRecord) -> Option<SideEvent> {
        let w = &record.words;
        let range = |(start, end)| PfnRange { start: Pfn(start), end: Pfn(end) };
        let kind = match record.kind {
            side::SIDE_EXTFRAG => SideKind::ExtFrag {
                pfn: Pfn(w[0]),
                alloc_order: w[1] as u8,
                fallback_order: w[2] as u8,
                alloc_type: self.migratetype(w[3] as u32)?,
                fallback_type: self.migratetype(w[4] as u32)?,
                change_ownership: w[5] != 0,
            },
            side::SIDE_CONTIG_TEST => {
                SideKind::ContigTest { range: range((w[0], w[1])), stopped_at: Pfn(w[2]) }
            }
            side::SIDE_COMPACTION_BEGIN | side::SIDE_COMPACTION_END => SideKind::Compaction {
                begin: record.kind == side::SIDE_COMPACTION_BEGIN,
                zone: range(side::compaction_zone(w)),
            },
            side::SIDE_MIGRATED => {
                SideKind::Migrated { succeeded: w[0], failed: w[1], reason: w[2] as u32 }
            }
            side::SIDE_MOVED => SideKind::Move {
                from: Pfn(w[0]),
                to: Pfn(w[1]),
                order: w[2] as u8 & record::ORDER_MASK as u8,
            },
            side::SIDE_CONTEXT => SideKind::Context {
                pfn: Pfn(w[0]),
                order: w[1] as u8,
                gfp: self.gfp((w[1] >> 32) as u32),
                pid: w[2] as u32,
                comm: comm([w[5], w[6]]),
                cgroup: w[3],
                stack: w[4] as u32,
            },
            _ => return None,
        };
        let cpu = Some(CpuId(record.cpu as u16));
        Some(SideEvent { time_ns: record.time_ns, cpu, kind })
    }
}

/// A process name from two words: up to its first NUL.
fn comm(words: [u64; 2]) -> String {
    let bytes: Vec<u8> =
        words.into_iter().flat_map(u64::to_le_bytes).take_while(|b| *b != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn gfp_tables(layout: &GfpLayout) -> Option<Box<[[Gfp; 1 << HALF_BITS]; 2]>> {
    if layout.is_identity() {
        return None;
    }
    let mut tables = Box::new([[Gfp::empty(); 1 << HALF_BITS]; 2]);
    for (half, table) in tables.iter_mut().enumerate() {
        for (bits, to) in table.iter_mut().enumerate() {
            *to = layout.translate((bits as u64) << (half as u32 * HALF_BITS));
        }
    }
    Some(tables)
}

/// The types by number. `MIGRATE_PCPTYPES` has the number of `MIGRATE_HIGHATOMIC`, and
/// `MIGRATE_TYPES` is their count.
fn migratetypes(names: &[(String, i64)]) -> Vec<Migratetype> {
    let canonical = |name: &str| match name {
        "MIGRATE_UNMOVABLE" => Some(Migratetype::Unmovable),
        "MIGRATE_MOVABLE" => Some(Migratetype::Movable),
        "MIGRATE_RECLAIMABLE" => Some(Migratetype::Reclaimable),
        "MIGRATE_HIGHATOMIC" => Some(Migratetype::HighAtomic),
        "MIGRATE_CMA" => Some(Migratetype::Cma),
        "MIGRATE_ISOLATE" => Some(Migratetype::Isolate),
        _ => None,
    };
    let mut found: Vec<(i64, Migratetype)> =
        names.iter().filter_map(|(name, number)| Some((*number, canonical(name)?))).collect();
    found.sort_unstable();
    let in_order = (0..).zip(&found).all(|(i, (number, _))| i == *number);
    if in_order && found.len() >= Migratetype::PCP_TYPES {
        found.into_iter().map(|(_, t)| t).collect()
    } else {
        // Without BTF: the first four have never had other numbers.
        Migratetype::ALL[..4].to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[(&str, i64)]) -> Vec<(String, i64)> {
        list.iter().map(|(n, v)| ((*n).to_owned(), *v)).collect()
    }

    fn canonical() -> Dialect {
        Dialect::new(&GfpLayout::canonical(), &[])
    }

    #[test]
    fn a_kernel_without_cma_numbers_isolate_four() {
        let host = names(&[
            ("MIGRATE_UNMOVABLE", 0),
            ("MIGRATE_MOVABLE", 1),
            ("MIGRATE_RECLAIMABLE", 2),
            ("MIGRATE_PCPTYPES", 3),
            ("MIGRATE_HIGHATOMIC", 3),
            ("MIGRATE_ISOLATE", 4),
            ("MIGRATE_TYPES", 5),
        ]);
        let dialect = Dialect::new(&GfpLayout::canonical(), &host);
        assert_eq!(dialect.migratetype(4), Some(Migratetype::Isolate));
        assert_eq!(dialect.migratetype(5), None);
        assert_eq!(canonical().migratetype(4), None);
    }

    #[test]
    fn moved_gfp_bits_are_translated_by_name() {
        let layout = GfpLayout::from_names([("__GFP_IO", 1 << 7), ("__GFP_COMP", 1 << 20)]);
        let dialect = Dialect::new(&layout, &[]);
        assert_eq!(dialect.gfp(1 << 7 | 1 << 20 | 1 << 25), Gfp::IO | Gfp::COMP);
    }

    #[test]
    fn a_failed_allocation_has_no_page() {
        let host = Gfp::KERNEL.bits();
        let r = Record::new(record::KIND_ALLOC, 9, true, record::NO_PFN, 4, host);
        let event = canonical().page_event(CpuId(3), r).unwrap();
        assert_eq!((event.kind(), event.pfn), (PageEventKind::AllocFailed, Pfn(0)));
        assert_eq!((event.order(), event.gfp, event.tags()), (4, Gfp::KERNEL, Tags::OWN));
    }

    #[test]
    fn unused_kinds_are_refused() {
        for kind in record::ALL_KINDS..8 {
            let r = Record::new(kind, 9, false, 1, 0, 0);
            assert_eq!(canonical().page_event(CpuId(0), r), None);
        }
    }

    #[test]
    fn names_end_at_their_first_nul() {
        let word = |s: &[u8; 8]| u64::from_le_bytes(*s);
        assert_eq!(comm([word(b"kworker/"), word(b"0:1\0abcd")]), "kworker/0:1");
    }
}
