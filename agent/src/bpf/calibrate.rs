//! Where the kernel's array of struct pages begins, and how large one is.
//!
//! Raw tracepoints pass a struct page's address, classic ones the pfn. Both programs run on the
//! same allocation, one after the other; a few hundred such pairs give base and size. An interrupt
//! between the two makes a false pair, so the majority decides.
//!
//! If another process had a classic program on the tracepoint before, ours runs before our raw one.
//! Pairs are therefore made as if either came first. Pairs of the wrong order hold an allocation's
//! page and its neighbour's pfn: they contradict each other, or, where pages were allocated in a
//! row, agree on an address that is a struct page beside a multiple of the page size.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::OnceLock;

use aya::maps::{Array, MapError};
use aya::programs::{
    ProgramError, RawTracePoint, RawTracePointRunOptions, TestRun as _, TracePoint,
};
use aya::{Ebpf, EbpfError, EbpfLoader};
use fragscope_ebpf::probe::{OWN_TGID, PAIR_ORDERS, PAIR_SLOTS, Pair};
use fragscope_trace::page::PAGE_SIZE;
use thiserror::Error;

use super::format::{Format, FormatError};
use super::memory::touch_fresh_pages;
use super::tracefs::{TracefsError, with_tracefs};
use crate::object;

/// Pairs that must agree.
const PAIRS_WANTED: usize = 64;
/// Pairs after which more would not help.
const PAIRS_ENOUGH: usize = 1024;
/// Pages touched in one round to cause allocations.
const ROUND_BYTES: usize = 1 << 20;
/// Rounds before giving up.
const ROUNDS: usize = 20;

/// Why the array of struct pages was not found.
#[derive(Debug, Error)]
pub enum CalibrateError {
    /// No tracefs, hence no classic tracepoint.
    #[error(transparent)]
    Tracefs(#[from] TracefsError),
    /// The classic tracepoint is not as expected.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// The programs can't be loaded.
    #[error("the probe programs can't be loaded: {0}")]
    Load(#[from] EbpfError),
    /// A program was refused.
    #[error("a probe program was refused: {0}")]
    Program(#[from] ProgramError),
    /// A map can't be read.
    #[error("a map of the probe programs can't be read: {0}")]
    Map(#[from] MapError),
    /// Memory to touch was not to be had.
    #[error("no memory to touch: {0}")]
    Memory(io::Error),
    /// The pairs contradict each other.
    #[error("{pairs} pairs of struct page and pfn do not agree on one base address")]
    NoMajority {
        /// How many were collected.
        pairs: usize,
    },
}

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

/// Finds the array of struct pages of the running kernel. Takes some milliseconds.
///
/// # Errors
/// [`CalibrateError`]; without the rights to load programs it is `Load` or `Program`.
pub fn vmemmap() -> Result<Vmemmap, CalibrateError> {
    super::raise_memlock_limit();
    with_tracefs(vmemmap_in)?
}

/// The same with tracefs at `tracefs`. The kernel never moves the array, so it is looked for once
/// in a process.
///
/// # Errors
/// [`CalibrateError`].
pub fn vmemmap_in(tracefs: &Path) -> Result<Vmemmap, CalibrateError> {
    static FOUND: OnceLock<Vmemmap> = OnceLock::new();
    if let Some(found) = FOUND.get() {
        return Ok(*found);
    }
    let found = calibrate(tracefs)?;
    Ok(*FOUND.get_or_init(|| found))
}

fn calibrate(tracefs: &Path) -> Result<Vmemmap, CalibrateError> {
    let [pfn_at] = Format::read(tracefs, "kmem/mm_page_alloc")?.offsets(["pfn"])?;
    let mut ebpf =
        EbpfLoader::new().override_global("PAIR_PFN_OFFSET", &pfn_at, true).load(object::probe())?;
    let raw: &mut RawTracePoint = program(&mut ebpf, "pair_page")?;
    raw.load()?;
    raw.attach("mm_page_alloc")?;
    let classic: &mut TracePoint = program(&mut ebpf, "pair_pfn")?;
    classic.load()?;
    classic.attach("kmem", "mm_page_alloc")?;

    let mut pairs = 0;
    for _ in 0..ROUNDS {
        touch_fresh_pages(ROUND_BYTES).map_err(CalibrateError::Memory)?;
        let by_order = read_pairs(&ebpf)?;
        if let Some(found) = by_order.iter().find_map(|pairs| majority(pairs)) {
            return Ok(found);
        }
        pairs = by_order.iter().map(Vec::len).max().unwrap_or(0);
        if pairs >= PAIRS_ENOUGH {
            break;
        }
    }
    Err(CalibrateError::NoMajority { pairs })
}

/// Thread group id of this process as BPF programs see it: in the initial pid namespace.
///
/// # Errors
/// [`CalibrateError`] if the program can't be loaded or run.
pub fn own_tgid() -> Result<u64, CalibrateError> {
    let mut ebpf = EbpfLoader::new().load(object::probe())?;
    let identify: &mut RawTracePoint = program(&mut ebpf, "identify")?;
    identify.load()?;
    identify.test_run(RawTracePointRunOptions::new())?;
    let probe: Array<_, u64> = Array::try_from(map(&ebpf, "PROBE")?)?;
    Ok(probe.get(&OWN_TGID, 0)?)
}

fn program<'a, P>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut P, ProgramError>
where
    &'a mut P: TryFrom<&'a mut aya::programs::Program, Error = ProgramError>,
{
    ebpf.program_mut(name).ok_or(ProgramError::UnexpectedProgramType)?.try_into()
}

fn map<'a>(ebpf: &'a Ebpf, name: &str) -> Result<&'a aya::maps::Map, MapError> {
    ebpf.map(name).ok_or_else(|| MapError::InvalidName { name: name.to_owned() })
}

/// The pairs as if the programs ran in each order.
fn read_pairs(ebpf: &Ebpf) -> Result<Vec<Vec<Pair>>, CalibrateError> {
    let array: Array<_, [u64; 2]> = Array::try_from(map(ebpf, "PAIRS")?)?;
    let of_order = |order: u32| {
        let mut pairs = Vec::new();
        for slot in order * PAIR_SLOTS..(order + 1) * PAIR_SLOTS {
            let [page, pfn] = array.get(&slot, 0)?;
            if page != 0 && pfn != u64::MAX {
                pairs.push(Pair { page, pfn });
            }
        }
        Ok(pairs)
    };
    (0..PAIR_ORDERS).map(of_order).collect()
}

/// Base and size on which nine tenths of the pairs agree.
fn majority(pairs: &[Pair]) -> Option<Vmemmap> {
    let steps = pairs.windows(2).filter_map(|w| step(w[0], w[1]));
    let (page_bytes, _) = most_frequent(steps)?;
    let base_of = |p: &Pair| p.page.wrapping_sub(p.pfn.wrapping_mul(page_bytes));
    let (base, votes) = most_frequent(pairs.iter().map(base_of))?;
    let agreed = pairs.len() >= PAIRS_WANTED && votes * 10 >= pairs.len() * 9;
    (agreed && base.is_multiple_of(PAGE_SIZE)).then_some(Vmemmap { base, page_bytes })
}

/// The size of a struct page if both pairs are true.
fn step(a: Pair, b: Pair) -> Option<u64> {
    let (low, high) = if a.pfn < b.pfn { (a, b) } else { (b, a) };
    let pages = high.pfn - low.pfn;
    let bytes = high.page.checked_sub(low.page)?;
    let size = bytes.checked_div(pages)?;
    (bytes.is_multiple_of(pages) && (32..=512).contains(&size)).then_some(size)
}

fn most_frequent(values: impl Iterator<Item = u64>) -> Option<(u64, usize)> {
    let mut votes = HashMap::new();
    for value in values {
        *votes.entry(value).or_insert(0) += 1;
    }
    votes.into_iter().max_by_key(|(value, n)| (*n, *value))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRUTH: Vmemmap = Vmemmap { base: 0xffff_ea00_0000_0000, page_bytes: 64 };

    fn pair(pfn: u64) -> Pair {
        Pair { page: TRUTH.page_address(pfn), pfn }
    }

    #[test]
    fn false_pairs_are_outvoted() {
        let mut pairs: Vec<Pair> = (0..200).map(|i| pair(i * 7919 % 100_003)).collect();
        pairs[17].pfn = 3;
        pairs[90].page += 64 * 512;
        assert_eq!(majority(&pairs), Some(TRUTH));
    }

    #[test]
    fn pairs_of_neighbours_give_nothing() {
        let in_a_row = |i| Pair { page: pair(i + 1).page, pfn: i };
        let rows: Vec<Pair> = (5000..5200).map(in_a_row).collect();
        assert_eq!(majority(&rows), None);
        let scattered: Vec<Pair> = (0..200).map(|i| pair(i * 7919 % 100_003)).collect();
        let shifted: Vec<Pair> =
            scattered.windows(2).map(|w| Pair { page: w[1].page, pfn: w[0].pfn }).collect();
        assert_eq!(majority(&shifted), None);
    }

    #[test]
    fn too_few_or_contradicting_pairs_give_nothing() {
        let pairs: Vec<Pair> = (0..200).map(|i| pair(i * 7919 % 100_003)).collect();
        assert_eq!(majority(&pairs[..PAIRS_WANTED - 1]), None);
        let shifted = |(i, p): (u64, Pair)| Pair { page: p.page + i % 2 * 4096, ..p };
        let two: Vec<Pair> = (0..).zip(pairs).map(shifted).collect();
        assert_eq!(majority(&two), None);
    }
}
