//! What the programs must be told of this kernel before they are loaded.

use std::path::Path;

use fragscope_trace::gfp::{Gfp, GfpLayout};
use fragscope_trace::page::Pfn;

use super::calibrate::{self, CalibrateError, Vmemmap};
use super::format::{Format, FormatError};
use crate::btf::Btf;
use crate::machine;
use crate::ring::decode::Dialect;
use crate::snapshot::layout::page::compound_order;

/// Facts of the running kernel.
#[derive(Debug)]
pub struct Host {
    /// Major and minor version.
    pub version: (u32, u32),
    /// Where the struct pages are, if raw tracepoints can be used.
    pub vmemmap: Result<Vmemmap, CalibrateError>,
    /// This process as programs see it; 0 (nobody) if that could not be found out.
    pub own_tgid: u64,
    /// Offsets in `kmem:mm_page_alloc`: pfn, order, `gfp_flags`.
    pub alloc_at: [u32; 3],
    /// Offsets in `kmem:mm_page_free`: pfn, order.
    pub free_at: [u32; 2],
    /// Flags of an allocation.
    pub gfp: GfpLayout,
    /// `enum migratetype`, empty without BTF.
    pub migratetypes: Vec<(String, i64)>,
    /// Mask of `PG_head`, 0 if not known.
    pub pg_head: u64,
    /// Where a large folio's order stands, in bytes from its first struct page. Without it there
    /// is no use for `pg_head`, which is 0 then.
    pub folio_order_at: u64,
    /// Possible CPUs: one more than the highest id.
    pub cpus: u32,
    /// One past the highest pfn of any zone's span.
    pub end_pfn: Pfn,
}

impl Host {
    /// Collects the facts; takes some tens of milliseconds, most of them for calibration.
    ///
    /// # Errors
    /// [`FormatError`] if the two classic tracepoints that always exist are not understood.
    pub fn read(tracefs: &Path) -> Result<Host, FormatError> {
        let alloc = Format::read(tracefs, "kmem/mm_page_alloc")?;
        let free = Format::read(tracefs, "kmem/mm_page_free")?;
        let version = kernel_version();
        let btf = Btf::of_kernel().map_err(|error| log::debug!("{error}")).ok();
        let end_pfn = machine::read_machine().map(|m| m.end_pfn()).unwrap_or_default();
        let (pg_head, folio_order_at) = btf.as_ref().and_then(large_folios).unwrap_or((0, 0));
        Ok(Host {
            version,
            vmemmap: calibrate::vmemmap_in(tracefs),
            own_tgid: calibrate::own_tgid().unwrap_or(0),
            alloc_at: alloc.offsets(["pfn", "order", "gfp_flags"])?,
            free_at: free.offsets(["pfn", "order"])?,
            gfp: alloc.gfp_layout(),
            migratetypes: btf
                .as_ref()
                .and_then(|b| b.enumerators("migratetype").ok())
                .unwrap_or_default(),
            pg_head,
            folio_order_at,
            cpus: machine::possible_cpus(),
            end_pfn,
        })
    }

    /// Numbers of this host as canonical ones.
    #[must_use]
    pub fn dialect(&self) -> Dialect {
        Dialect::new(&self.gfp, &self.migratetypes)
    }

    /// The bit of `__GFP_MOVABLE`.
    #[must_use]
    pub fn gfp_movable(&self) -> u32 {
        1 << self.gfp.host_bit(Gfp::MOVABLE).unwrap_or(3)
    }

    /// The bit of `__GFP_RECLAIMABLE`.
    #[must_use]
    pub fn gfp_reclaimable(&self) -> u32 {
        1 << self.gfp.host_bit(Gfp::RECLAIMABLE).unwrap_or(4)
    }

    /// Whether the hand-made rings are safe: programs that don't nest, which no kernel does that
    /// is recent enough to be traced, and stores in order.
    #[must_use]
    pub fn admits_page_rings(&self) -> bool {
        cfg!(target_arch = "x86_64")
    }
}

/// Major and minor version of the running kernel; (0, 0) if its release is not understood.
#[must_use]
pub fn kernel_version() -> (u32, u32) {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy();
    let mut parts = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor),
        _ => (0, 0),
    }
}

/// What marks a large folio, as a mask, and where its order stands.
fn large_folios(btf: &Btf) -> Option<(u64, u64)> {
    let bit = btf.enum_value("pageflags", "PG_head").ok().filter(|bit| (0..64).contains(bit))?;
    let order_at = compound_order(btf, btf.size_of("page").ok()?).ok()?;
    Some((1 << bit, order_at))
}
