//! Where this kernel keeps what the snapshot reads: offsets, flag bits and type numbers.
//!
//! Everything comes from BTF by name. `docs/KERNELS.md` has the table of what
//! differs between kernels.

pub(crate) mod page;

use fragscope_trace::page::Migratetype;

use self::page::PageLayout;
use super::sections::SectionLayout;
use crate::btf::{Btf, BtfError};

/// A number in a structure, or in the struct pages of a compound page counted from the head's
/// start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Field {
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
}

/// `struct zone` and its free lists.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ZoneLayout {
    pub(crate) bytes: u64,
    pub(crate) start_pfn: u64,
    pub(crate) spanned_pages: u64,
    pub(crate) free_area: u64,
    /// `sizeof(struct free_area)`.
    pub(crate) free_area_bytes: u64,
    /// Offset of the lists inside a `free_area`.
    pub(crate) free_list: u64,
    /// Orders: elements of `free_area`.
    pub(crate) orders: u32,
    /// Types: lists in a `free_area`.
    pub(crate) types: u32,
    /// `per_cpu_pageset`, up to 5.13 `pageset` (not supported).
    pub(crate) pageset: u64,
    /// Fields of no use to the search, where they exist.
    pub(crate) reserved_highatomic: Option<u64>,
    pub(crate) flags: Option<u64>,
}

impl ZoneLayout {
    fn of(btf: &Btf) -> Result<ZoneLayout, BtfError> {
        let at = |name: &str| btf.offset_of("zone", name);
        Ok(ZoneLayout {
            bytes: btf.size_of("zone")?,
            start_pfn: at("zone_start_pfn")?,
            spanned_pages: at("spanned_pages")?,
            free_area: at("free_area")?,
            free_area_bytes: btf.size_of("free_area")?,
            free_list: btf.offset_of("free_area", "free_list")?,
            orders: btf.member_len("zone", "free_area")?,
            types: btf.member_len("free_area", "free_list")?,
            pageset: at("per_cpu_pageset")?,
            reserved_highatomic: at("nr_reserved_highatomic").ok(),
            flags: at("flags").ok(),
        })
    }
}

/// `struct per_cpu_pages`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PagesetLayout {
    pub(crate) bytes: u64,
    pub(crate) lists: u64,
    /// Elements of `lists`.
    pub(crate) lists_len: u32,
    pub(crate) count: Field,
    pub(crate) high: Field,
    pub(crate) batch: Field,
    pub(crate) alloc_factor: Option<Field>,
    pub(crate) free_count: Option<Field>,
    pub(crate) flags: Option<Field>,
}

impl PagesetLayout {
    fn of(btf: &Btf) -> Result<PagesetLayout, BtfError> {
        const NAME: &str = "per_cpu_pages";
        let field = |name: &str| {
            let (offset, bytes) = (btf.offset_of(NAME, name)?, btf.member_size(NAME, name)?);
            Ok::<_, BtfError>(Field { offset, bytes })
        };
        Ok(PagesetLayout {
            bytes: btf.size_of(NAME)?,
            lists: btf.offset_of(NAME, "lists")?,
            lists_len: btf.member_len(NAME, "lists")?,
            count: field("count")?,
            high: field("high")?,
            batch: field("batch")?,
            alloc_factor: field("alloc_factor").ok(),
            free_count: field("free_count").or_else(|_| field("free_factor")).ok(),
            flags: field("flags").ok(),
        })
    }
}

/// `struct kmem_cache`, as far as it tells whether its slabs are reclaimable.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CacheLayout {
    pub(crate) flags: Field,
    /// Mask of `SLAB_RECLAIM_ACCOUNT`.
    pub(crate) reclaimable: u64,
}

impl CacheLayout {
    fn of(btf: &Btf) -> Result<CacheLayout, BtfError> {
        /// `SLAB_RECLAIM_ACCOUNT` before 6.9 numbered the flags by an enum.
        const RECLAIM_ACCOUNT: u64 = 0x2_0000;
        let bit = btf.enum_value("_slab_flag_bits", "_SLAB_RECLAIM_ACCOUNT");
        let offset = btf.offset_of("kmem_cache", "flags")?;
        let bytes = btf.member_size("kmem_cache", "flags")?;
        let reclaimable = bit.map_or(RECLAIM_ACCOUNT, |bit| 1 << (bit & 63));
        Ok(CacheLayout { flags: Field { offset, bytes }, reclaimable })
    }
}

/// Everything the snapshot needs to know of this kernel.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub(crate) page: PageLayout,
    /// `None` where caches cannot be told apart: all slabs are then `Slab`.
    pub(crate) cache: Option<CacheLayout>,
    pub(crate) zone: ZoneLayout,
    /// `None` for a kernel without `struct mem_section_usage` (before 5.3).
    pub(crate) section: Option<SectionLayout>,
    pub(crate) pageset: PagesetLayout,
    /// Types by this kernel's numbers.
    pub(crate) migratetypes: Vec<Migratetype>,
}

impl Layout {
    /// Looks everything up.
    pub(crate) fn of(btf: &Btf) -> Result<Layout, BtfError> {
        let zone = ZoneLayout::of(btf)?;
        Ok(Layout {
            page: PageLayout::of(btf)?,
            cache: CacheLayout::of(btf).ok(),
            zone,
            section: SectionLayout::of(btf).ok(),
            pageset: PagesetLayout::of(btf)?,
            migratetypes: migratetypes(btf, zone.types)?,
        })
    }
}

/// This kernel's types in their order. The free lists of a zone are indexed by them.
fn migratetypes(btf: &Btf, lists: u32) -> Result<Vec<Migratetype>, BtfError> {
    let named = [
        ("MIGRATE_UNMOVABLE", Migratetype::Unmovable),
        ("MIGRATE_MOVABLE", Migratetype::Movable),
        ("MIGRATE_RECLAIMABLE", Migratetype::Reclaimable),
        ("MIGRATE_HIGHATOMIC", Migratetype::HighAtomic),
        ("MIGRATE_CMA", Migratetype::Cma),
        ("MIGRATE_ISOLATE", Migratetype::Isolate),
    ];
    let known = btf.enumerators("migratetype")?;
    // A type added after this was written allocates like none of ours; unmovable is the safe one.
    let mut types = vec![Migratetype::Unmovable; lists as usize];
    for (name, migratetype) in named {
        let number = known.iter().find(|(n, _)| n == name).map(|(_, number)| *number);
        if let Some(slot) = number.and_then(|n| types.get_mut(usize::try_from(n).ok()?)) {
            *slot = migratetype;
        }
    }
    Ok(types)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::page::TypeTest;
    use super::page::tests::page_6_18;
    use super::*;

    /// The layout of Linux 6.18 on x86-64, as its BTF gives it.
    pub(crate) fn layout_6_18() -> Layout {
        let field = |offset, bytes| Field { offset, bytes };
        let zone = ZoneLayout {
            bytes: 2048,
            start_pfn: 96,
            spanned_pages: 112,
            free_area: 192,
            free_area_bytes: 88,
            free_list: 0,
            orders: 11,
            types: 5,
            pageset: 64,
            reserved_highatomic: None,
            flags: None,
        };
        let pageset = PagesetLayout {
            bytes: 256,
            lists: 32,
            lists_len: 14,
            count: field(4, 4),
            high: field(8, 4),
            batch: field(20, 4),
            alloc_factor: None,
            free_count: None,
            flags: None,
        };
        let migratetypes = [0, 1, 2, 3, 5].map(|n| Migratetype::ALL[n]).to_vec();
        Layout { page: page_6_18(), cache: None, zone, section: None, pageset, migratetypes }
    }

    #[test]
    fn the_running_kernel_is_known() {
        let Ok(btf) = Btf::of_kernel() else {
            println!("skipped: this kernel shows no BTF");
            return;
        };
        let layout = Layout::of(&btf).unwrap();
        assert_eq!(layout.page.bytes % 8, 0);
        assert_ne!(layout.page.types.buddy, TypeTest::NEVER);
        assert_eq!(layout.migratetypes[1], Migratetype::Movable);
        assert!(layout.zone.orders >= 10 && layout.pageset.lists_len >= 12);
    }
}
