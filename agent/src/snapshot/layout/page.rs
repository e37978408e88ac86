//! `struct page` of this kernel, and what extends over the second one.
//!
//! Names and encodings that differ between kernels are in `docs/KERNELS.md`, from 6.1, 6.12 and 6.18,
//! as these kernels say themselves. 6.6 marks hugetlb by a flag of the second page (`PG_hugetlb`); 6.11
//! has an `enum pagetype` whose values are bits to be cleared (`PG_buddy`).

use super::Field;
use crate::btf::{Btf, BtfError};

/// Bits of `page_type` before `enum pagetype` (`include/linux/page-flags.h` up to 6.10).
const CLEARED_BASE: u32 = 0xf000_0000;
const CLEARED_BUDDY: u32 = 0x80;
const CLEARED_OFFLINE: u32 = 0x100;
const CLEARED_TABLE: u32 = 0x200;
const CLEARED_GUARD: u32 = 0x400;

/// A test on a page's `page_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TypeTest {
    mask: u32,
    value: u32,
}

impl TypeTest {
    /// A test that no page passes.
    pub(super) const NEVER: TypeTest = TypeTest { mask: 0, value: 1 };

    pub(crate) fn matches(self, page_type: u32) -> bool {
        page_type & self.mask == self.value
    }

    fn top_byte(value: i64) -> TypeTest {
        TypeTest { mask: 0xff00_0000, value: (value as u32) << 24 }
    }

    fn cleared_bit(base: u32, bit: u32) -> TypeTest {
        TypeTest { mask: base | bit, value: base }
    }
}

/// Tests for the types of pages. A kernel without a type has a test that nothing passes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PageTypes {
    pub(crate) buddy: TypeTest,
    pub(crate) offline: TypeTest,
    pub(crate) table: TypeTest,
    pub(crate) guard: TypeTest,
    pub(crate) hugetlb: TypeTest,
    pub(crate) slab: TypeTest,
    pub(crate) zsmalloc: TypeTest,
    pub(crate) unaccepted: TypeTest,
    pub(crate) large_kmalloc: TypeTest,
}

impl PageTypes {
    fn of(btf: &Btf) -> PageTypes {
        let encoding = TypeEncoding::of(btf);
        let test = |name, cleared| encoding.test(btf, name, cleared);
        PageTypes {
            buddy: test("buddy", CLEARED_BUDDY),
            offline: test("offline", CLEARED_OFFLINE),
            table: test("table", CLEARED_TABLE),
            guard: test("guard", CLEARED_GUARD),
            hugetlb: test("hugetlb", 0),
            slab: test("slab", 0),
            zsmalloc: test("zsmalloc", 0),
            unaccepted: test("unaccepted", 0),
            large_kmalloc: test("large_kmalloc", 0),
        }
    }
}

/// How a kernel writes types.
#[derive(Clone, Copy, Debug)]
enum TypeEncoding {
    /// In the top byte, numbered by `PGTY_*`.
    TopByte,
    /// As bits to be cleared, named `PG_*`, of a word with this base.
    NamedBits(u32),
    /// As bits to be cleared that only macros name.
    Macros,
}

impl TypeEncoding {
    fn of(btf: &Btf) -> TypeEncoding {
        if btf.enum_value("pagetype", "PGTY_buddy").is_ok() {
            return TypeEncoding::TopByte;
        }
        let base = btf.enum_value("pagetype", "PAGE_TYPE_BASE");
        base.map_or(TypeEncoding::Macros, |base| TypeEncoding::NamedBits(base as u32))
    }

    /// The test for a type; `cleared` is its bit by the macros, 0 if they have none.
    fn test(self, btf: &Btf, name: &str, cleared: u32) -> TypeTest {
        let value = |prefix: &str| btf.enum_value("pagetype", &format!("{prefix}{name}"));
        match self {
            TypeEncoding::TopByte => value("PGTY_").map_or(TypeTest::NEVER, TypeTest::top_byte),
            TypeEncoding::NamedBits(base) => {
                value("PG_").map_or(TypeTest::NEVER, |bit| TypeTest::cleared_bit(base, bit as u32))
            }
            TypeEncoding::Macros if cleared == 0 => TypeTest::NEVER,
            TypeEncoding::Macros => TypeTest::cleared_bit(CLEARED_BASE, cleared),
        }
    }
}

/// Masks of bits in a page's flags; 0 where the kernel has no such flag.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PageFlags {
    pub(crate) head: u64,
    pub(crate) lru: u64,
    pub(crate) reserved: u64,
    pub(crate) swapbacked: u64,
    pub(crate) uptodate: u64,
    pub(crate) locked: u64,
    pub(crate) dirty: u64,
    pub(crate) writeback: u64,
    pub(crate) hwpoison: u64,
    /// Slab, where it is a flag.
    pub(crate) slab: u64,
    /// Hugetlb, where it is a flag of the second page.
    pub(crate) second_hugetlb: u64,
    /// Movable by its driver, where it is a flag.
    pub(crate) movable_ops: u64,
}

impl PageFlags {
    fn of(btf: &Btf, types: &PageTypes) -> Result<PageFlags, BtfError> {
        let bit = |name: &str| btf.enum_value("pageflags", name).map(|bit| 1u64 << (bit & 63));
        let optional = |name: &str| bit(name).unwrap_or(0);
        // A kernel that keeps the name for compatibility has the type as well: the type wins.
        let unless = |typed: TypeTest, name: &str| {
            if typed == TypeTest::NEVER { optional(name) } else { 0 }
        };
        Ok(PageFlags {
            head: bit("PG_head")?,
            lru: bit("PG_lru")?,
            reserved: bit("PG_reserved")?,
            swapbacked: bit("PG_swapbacked")?,
            uptodate: bit("PG_uptodate")?,
            locked: bit("PG_locked")?,
            dirty: bit("PG_dirty")?,
            writeback: bit("PG_writeback")?,
            hwpoison: optional("PG_hwpoison"),
            slab: unless(types.slab, "PG_slab"),
            second_hugetlb: unless(types.hugetlb, "PG_hugetlb"),
            movable_ops: optional("PG_movable_ops"),
        })
    }
}

/// `struct page` and what extends over the second one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PageLayout {
    /// `sizeof(struct page)`.
    pub(crate) bytes: u64,
    pub(crate) flags: u64,
    /// `lru.next`, the same as `buddy_list` and `pcp_list`; also where a tail keeps its head.
    pub(crate) list: u64,
    pub(crate) mapping: u64,
    pub(crate) private: u64,
    pub(crate) page_type: u64,
    pub(crate) refcount: u64,
    /// `compound_head` or `compound_info`.
    pub(crate) compound_head: u64,
    /// Order of a compound page (its low byte), from the head's start.
    pub(crate) compound_order: u64,
    /// Destructor of a compound page and its value for hugetlb, where hugetlb is told by it.
    pub(crate) hugetlb_dtor: Option<(Field, u64)>,
    /// Count of pins of a compound page.
    pub(crate) pincount: Option<Field>,
    /// `slab.slab_cache`.
    pub(crate) slab_cache: Option<u64>,
    pub(crate) flag: PageFlags,
    pub(crate) types: PageTypes,
}

impl PageLayout {
    pub(super) fn of(btf: &Btf) -> Result<PageLayout, BtfError> {
        let bytes = btf.size_of("page")?;
        let at = |name: &str| btf.offset_of("page", name);
        let types = PageTypes::of(btf);
        Ok(PageLayout {
            bytes,
            flags: at("flags")?,
            list: at("lru")?,
            mapping: at("mapping")?,
            private: at("private")?,
            page_type: at("page_type")?,
            refcount: at("_refcount")?,
            compound_head: at("compound_head").or_else(|_| at("compound_info"))?,
            compound_order: compound_order(btf, bytes)?,
            hugetlb_dtor: hugetlb_dtor(btf, bytes),
            pincount: pincount(btf, bytes),
            slab_cache: btf.offset_of("slab", "slab_cache").ok(),
            flag: PageFlags::of(btf, &types)?,
            types,
        })
    }

    /// Size of a struct page in words.
    pub(crate) fn words(&self) -> usize {
        self.bytes as usize / 8
    }
}

/// Where the order of a compound page stands, in bytes from its first struct page.
pub(crate) fn compound_order(btf: &Btf, page_bytes: u64) -> Result<u64, BtfError> {
    btf.offset_of("page", "compound_order")
        .map(|at| page_bytes + at)
        .or_else(|_| btf.offset_of("folio", "_folio_order"))
        .or_else(|_| btf.offset_of("folio", "_flags_1"))
}

fn hugetlb_dtor(btf: &Btf, page_bytes: u64) -> Option<(Field, u64)> {
    let dtor = btf.enum_value("compound_dtor_id", "HUGETLB_PAGE_DTOR").ok()?;
    let in_page = btf.offset_of("page", "compound_dtor").map(|at| page_bytes + at);
    let offset = in_page.or_else(|_| btf.offset_of("folio", "_folio_dtor")).ok()?;
    Some((Field { offset, bytes: 1 }, dtor as u64))
}

fn pincount(btf: &Btf, page_bytes: u64) -> Option<Field> {
    let in_page = || btf.offset_of("page", "compound_pincount").map(|at| page_bytes + at);
    let offset = btf.offset_of("folio", "_pincount").or_else(|_| in_page()).ok()?;
    Some(Field { offset, bytes: 4 })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// `struct page` of Linux 6.18 on x86-64, as its BTF gives it.
    pub(crate) fn page_6_18() -> PageLayout {
        let bit = |n: u32| 1u64 << n;
        let field = |offset, bytes| Field { offset, bytes };
        let types = PageTypes {
            buddy: TypeTest::top_byte(0xf0),
            offline: TypeTest::top_byte(0xf1),
            table: TypeTest::top_byte(0xf2),
            guard: TypeTest::top_byte(0xf3),
            hugetlb: TypeTest::top_byte(0xf4),
            slab: TypeTest::top_byte(0xf5),
            zsmalloc: TypeTest::top_byte(0xf6),
            unaccepted: TypeTest::top_byte(0xf7),
            large_kmalloc: TypeTest::top_byte(0xf8),
        };
        let flag = PageFlags {
            locked: bit(0),
            writeback: bit(1),
            uptodate: bit(3),
            dirty: bit(4),
            lru: bit(5),
            head: bit(6),
            reserved: bit(13),
            swapbacked: bit(17),
            hwpoison: bit(21),
            slab: 0,
            second_hugetlb: 0,
            movable_ops: bit(3),
        };
        PageLayout {
            bytes: 64,
            flags: 0,
            list: 8,
            mapping: 24,
            private: 40,
            page_type: 48,
            refcount: 52,
            compound_head: 8,
            compound_order: 64,
            hugetlb_dtor: None,
            pincount: Some(field(84, 4)),
            slab_cache: Some(8),
            flag,
            types,
        }
    }

    #[test]
    fn both_encodings_of_types() {
        let new = TypeTest::top_byte(0xf0);
        assert!(new.matches(0xf000_0000) && new.matches(0xf012_3456));
        assert!(!new.matches(0xffff_ffff) && !new.matches(0));
        let old = TypeTest::cleared_bit(CLEARED_BASE, CLEARED_BUDDY);
        assert!(old.matches(0xffff_ff7f));
        assert!(!old.matches(0xffff_ffff) && !old.matches(0xffff_fdff) && !old.matches(3));
        assert!(!TypeTest::NEVER.matches(0) && !TypeTest::NEVER.matches(u32::MAX));
    }
}
