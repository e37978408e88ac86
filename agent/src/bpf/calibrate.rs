//! Where the kernel's array of struct pages begins.

/// The kernel's array of struct pages: the page of a pfn is at `base + pfn * page_bytes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vmemmap {
    /// Address of the struct page of pfn 0 (`vmemmap_base`).
    pub base: u64,
    /// `sizeof(struct page)`.
    pub page_bytes: u64,
}

impl Vmemmap {
    /// Address of the struct page of `pfn`.
    #[must_use]
    pub fn page_address(self, pfn: u64) -> u64 {
        self.base.wrapping_add(pfn.wrapping_mul(self.page_bytes))
    }
}
