//! The kernel's own table of pageblock types.
//!
//! Each section of 128 MiB has an entry in `mem_section`, which leads to the types of its
//! pageblocks. No exported symbol says where `mem_section` is, but functions that use it load it
//! relative to their own address, and a wrong guess cannot pass for it: the entry of a section
//! that holds RAM contains the address of the array of struct pages.

use std::collections::BTreeMap;

use fragscope_trace::machine::Machine;
use fragscope_trace::page::{Migratetype, PAGE_SIZE, Pfn, PfnRange};

use super::kernel::{KernelError, ReadKernel, mapped};
use crate::bpf::calibrate::Vmemmap;
use crate::btf::{Btf, BtfError};
use crate::proc;

/// log2 of the pages in a section of x86-64.
const SECTION_ORDER: u8 = 15;
/// Functions that look up a section, by the beginning of their names.
const READERS: [&str; 3] =
    ["get_pfnblock_migratetype", "__get_pfnblock_flags_mask", "pfn_to_online_page"];
/// Bytes of a function that are searched.
const CODE_BYTES: u64 = 256;
/// Bits of `section_mem_map` that hold flags; the array of struct pages is aligned to more.
const MAP_FLAGS: u64 = PAGE_SIZE - 1;

/// Layout of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SectionLayout {
    /// `sizeof(struct mem_section)`.
    bytes: u64,
    mem_map: u64,
    usage: u64,
    /// Offset of the types in `struct mem_section_usage`.
    pageblock_flags: u64,
    /// Bits per pageblock: 4, or 8.
    bits: u32,
    /// Number of the bit that marks an isolated pageblock, if it has one.
    isolated: Option<u32>,
}

impl SectionLayout {
    pub(crate) fn of(btf: &Btf) -> Result<SectionLayout, BtfError> {
        let last = btf
            .enum_value("pageblock_bits", "__NR_PAGEBLOCK_BITS")
            .or_else(|_| btf.enum_value("pageblock_bits", "NR_PAGEBLOCK_BITS"))?;
        let isolated = btf.enum_value("pageblock_bits", "PB_migrate_isolate");
        Ok(SectionLayout {
            bytes: btf.size_of("mem_section")?,
            mem_map: btf.offset_of("mem_section", "section_mem_map")?,
            usage: btf.offset_of("mem_section", "usage")?,
            pageblock_flags: btf.offset_of("mem_section_usage", "pageblock_flags")?,
            bits: (last as u32).clamp(4, 8).next_power_of_two(),
            isolated: isolated.ok().map(|bit| bit as u32),
        })
    }

    /// Entries on one page of the table.
    fn per_root(&self) -> u64 {
        PAGE_SIZE / self.bytes
    }

    /// The type in the flags of one pageblock: three bits number it, one may override it.
    fn migratetype(&self, flags: u64, types: &[Migratetype]) -> Option<Migratetype> {
        if self.isolated.is_some_and(|bit| flags >> bit & 1 == 1) {
            return Some(Migratetype::Isolate);
        }
        types.get(flags as usize & 7).copied()
    }
}

/// The table of this kernel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sections {
    layout: SectionLayout,
    /// Value of `mem_section`: an array of pointers to pages of entries.
    roots: u64,
}

impl Sections {
    /// Looks for the table. `None` if this kernel has another one, or hides its symbols.
    ///
    /// # Errors
    /// If the program that reads memory cannot be run.
    pub(crate) fn find(
        layout: SectionLayout,
        machine: &Machine,
        vmemmap: Vmemmap,
        kernel: &mut dyn ReadKernel,
    ) -> Result<Option<Sections>, KernelError> {
        let symbols = proc::read("/proc/kallsyms").unwrap_or_default();
        for code in reader_addresses(&symbols) {
            let Some(text) = mapped(kernel.read_struct(code, CODE_BYTES))? else { continue };
            for variable in loads(code, &text.0) {
                let Some(roots) = mapped(kernel.read_struct(variable, 8))? else { continue };
                let sections = Sections { layout, roots: roots.word(0) };
                if sections.is_true(machine, vmemmap, kernel)? {
                    return Ok(Some(sections));
                }
            }
        }
        Ok(None)
    }

    /// Whether the sections of all RAM lead to the array of struct pages.
    fn is_true(
        &self,
        machine: &Machine,
        vmemmap: Vmemmap,
        kernel: &mut dyn ReadKernel,
    ) -> Result<bool, KernelError> {
        for ram in &machine.ram {
            let Some((map, _)) = self.entry(ram.start.0 >> SECTION_ORDER, kernel)? else {
                return Ok(false);
            };
            if map & !MAP_FLAGS != vmemmap.base {
                return Ok(false);
            }
        }
        Ok(!machine.ram.is_empty())
    }

    /// `section_mem_map` and `usage` of one section.
    fn entry(
        &self,
        section: u64,
        kernel: &mut dyn ReadKernel,
    ) -> Result<Option<(u64, u64)>, KernelError> {
        let root = self.roots.wrapping_add(section / self.layout.per_root() * 8);
        let Some(root) = mapped(kernel.read_struct(root, 8))? else { return Ok(None) };
        let at = root.word(0).wrapping_add(section % self.layout.per_root() * self.layout.bytes);
        let entry = mapped(kernel.read_struct(at, self.layout.bytes))?;
        Ok(entry.map(|e| (e.word(self.layout.mem_map), e.word(self.layout.usage))))
    }

    /// Hands the type of every pageblock in `spans` to `found`.
    ///
    /// # Errors
    /// If the program that reads memory cannot be run.
    pub(crate) fn read(
        &self,
        machine: &Machine,
        spans: &[PfnRange],
        types: &[Migratetype],
        kernel: &mut dyn ReadKernel,
        mut found: impl FnMut(Pfn, Migratetype),
    ) -> Result<(), KernelError> {
        let block_pages = 1u64 << machine.pageblock_order;
        let blocks = (1 << SECTION_ORDER) / block_pages;
        let bytes = blocks * u64::from(self.layout.bits) / 8;
        for span in spans {
            let sections = span.start.0 >> SECTION_ORDER..=(span.end.0 - 1) >> SECTION_ORDER;
            for section in sections {
                let Some((_, usage)) = self.entry(section, kernel)?.filter(|e| e.1 != 0) else {
                    continue;
                };
                let at = usage.wrapping_add(self.layout.pageblock_flags);
                let Some(flags) = mapped(kernel.read_struct(at, bytes))? else { continue };
                for block in 0..blocks {
                    let bit = block * u64::from(self.layout.bits);
                    let flags = flags.number(bit / 8, 1) >> (bit % 8);
                    let pfn = Pfn((section << SECTION_ORDER) + block * block_pages);
                    if let Some(migratetype) = self.layout.migratetype(flags, types) {
                        found(pfn, migratetype);
                    }
                }
            }
        }
        Ok(())
    }
}

/// Addresses of the functions in [`READERS`], in the order of their addresses.
fn reader_addresses(symbols: &str) -> Vec<u64> {
    let wanted = |name: &str| READERS.iter().any(|reader| name.starts_with(reader));
    let mut found = BTreeMap::new();
    for line in symbols.lines() {
        let mut words = line.split_ascii_whitespace();
        let (Some(address), Some(_), Some(name)) = (words.next(), words.next(), words.next())
        else {
            continue;
        };
        if !wanted(name) {
            continue;
        }
        if let Some(address) = u64::from_str_radix(address, 16).ok().filter(|a| *a != 0) {
            found.insert(address, ());
        }
    }
    found.into_keys().collect()
}

/// Addresses from which the code at `start` loads words relative to the instruction pointer:
/// `mov disp32(%rip), %r64`, which is REX.W, 8b, and a ModRM byte with mode 0 and register 5.
fn loads(start: u64, code: &[u8]) -> impl Iterator<Item = u64> + '_ {
    const LENGTH: usize = 7;
    code.windows(LENGTH).enumerate().filter_map(move |(index, bytes)| {
        let is_load = bytes[0] & 0xfb == 0x48 && bytes[1] == 0x8b && bytes[2] & 0xc7 == 0x05;
        let displacement = i32::from_le_bytes([bytes[3], bytes[4], bytes[5], bytes[6]]);
        let next = start.wrapping_add((index + LENGTH) as u64);
        is_load.then(|| next.wrapping_add_signed(i64::from(displacement)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loads_relative_to_the_instruction_pointer_are_found() {
        // nop; mov 0x10(%rip),%rax; mov -0x20(%rip),%r9; mov 0x10(%rax),%rcx
        let code = [
            0x90, 0x48, 0x8b, 0x05, 0x10, 0, 0, 0, 0x4c, 0x8b, 0x0d, 0xe0, 0xff, 0xff, 0xff, 0x48,
            0x8b, 0x48, 0x10, 0, 0, 0,
        ];
        let found: Vec<u64> = loads(0x1000, &code).collect();
        assert_eq!(found, [0x1008 + 0x10, 0x100f - 0x20]);
        assert_eq!(loads(u64::MAX - 3, &[0x48; 64]).count(), 0);
    }

    #[test]
    fn hidden_and_foreign_symbols_are_passed_over() {
        let symbols = "\
ffffffff81616ac0 t __get_pfnblock_flags_mask.isra.0
0000000000000000 T get_pfnblock_migratetype
ffffffff8161ab00 T get_pfnblock_migratetype
ffffffff8161aaf0 T __pfx_get_pfnblock_migratetype
garbage
";
        let expected = [0xffff_ffff_8161_6ac0, 0xffff_ffff_8161_ab00];
        assert_eq!(reader_addresses(symbols), expected);
    }

    #[test]
    fn an_isolated_block_keeps_its_type_underneath() {
        let layout = SectionLayout {
            bytes: 16,
            mem_map: 0,
            usage: 8,
            pageblock_flags: 24,
            bits: 8,
            isolated: Some(4),
        };
        let types = [Migratetype::Unmovable, Migratetype::Movable];
        assert_eq!(layout.migratetype(0x09, &types), Some(Migratetype::Movable));
        assert_eq!(layout.migratetype(0x11, &types), Some(Migratetype::Isolate));
        assert_eq!(layout.migratetype(0x07, &types), None);
    }
}
