//! What readers outside the allocator see of the free lists: `/proc/buddyinfo`,
//! `/proc/pagetypeinfo`, the memory dump of `show_mem`, and the free pages that hibernation need
//! not save (patches 14, 30 and 33).
//!
//! None of them cares where a policy keeps its lists: for the same state of memory they print the
//! same text under every policy. With patch 30 or 33 switched off the walk stops at the zone's own
//! lists, as the unpatched code would, and misses what is in superpageblocks.

use std::fmt::Write;

use fragscope_trace::page::{Migratetype, PAGE_SIZE};

use super::buddy::Buddy;
use super::flavour::{Flavour, Word};
use super::frames::Frame;
use super::geometry::PageblockId;
use super::placement::{Placement, Reader};
use super::zone::Zone;

/// Letters of `show_mem`, by type.
const LETTERS: [(Migratetype, char); Migratetype::COUNT] = [
    (Migratetype::Unmovable, 'U'),
    (Migratetype::Movable, 'M'),
    (Migratetype::Reclaimable, 'E'),
    (Migratetype::HighAtomic, 'H'),
    (Migratetype::Cma, 'C'),
    (Migratetype::Isolate, 'I'),
];

/// KiB in a page.
const PAGE_KIB: u64 = PAGE_SIZE / 1024;

/// A line of text; writing to a string cannot fail.
fn put(text: &mut String, part: std::fmt::Arguments<'_>) {
    let _ = text.write_fmt(part);
}

impl<F: Flavour, P: Placement<F>> Buddy<F, P> {
    fn orders(&self) -> impl Iterator<Item = u8> + use<F, P> {
        0..=self.geometry.max_order
    }

    /// Zones that have memory, with the ids of their nodes.
    fn populated(&self) -> impl Iterator<Item = (u16, &Zone<F>)> {
        let id = |zone: &Zone<F>| self.geometry.nodes[usize::from(zone.node)].id;
        let with_memory = |zone: &&Zone<F>| zone.managed.get() > 0;
        self.zones.iter().filter(with_memory).map(move |zone| (id(zone), zone))
    }

    /// Free blocks that a reader finds on the lists of one order and type.
    fn blocks_found<'a>(
        &'a self,
        zone: &'a Zone<F>,
        order: u8,
        migratetype: Migratetype,
        reader: Reader,
    ) -> impl Iterator<Item = Frame> + 'a {
        P::lists_for(self, zone, order, migratetype, reader).flat_map(|list| self.frames.iter(list))
    }

    /// `/proc/buddyinfo`: free blocks by zone and order.
    #[must_use]
    pub fn buddyinfo(&self) -> String {
        let mut text = String::new();
        for (node, zone) in self.populated() {
            put(&mut text, format_args!("Node {node}, zone {:>8} ", zone.kind.name()));
            for order in self.orders() {
                put(&mut text, format_args!("{:>6} ", zone.nr_free(order)));
            }
            text.push('\n');
        }
        text
    }

    /// `/proc/pagetypeinfo`: free blocks by zone, type and order, and pageblocks by type.
    #[must_use]
    pub fn pagetypeinfo(&self) -> String {
        let mut text = String::new();
        let block_order = self.geometry.pageblock_order;
        put(&mut text, format_args!("Page block order: {block_order}\n"));
        put(&mut text, format_args!("Pages per block:  {}\n\n", 1 << block_order));
        put(&mut text, format_args!("{:<43} ", "Free pages count per migrate type at order"));
        self.orders().for_each(|order| put(&mut text, format_args!("{order:>6} ")));
        text.push('\n');
        for (node, zone) in self.populated() {
            for migratetype in Migratetype::ALL {
                self.put_type(&mut text, node, zone, migratetype);
            }
        }
        put(&mut text, format_args!("\n{:<23}", "Number of blocks type "));
        Migratetype::ALL.iter().for_each(|t| put(&mut text, format_args!("{:>12} ", t.name())));
        text.push('\n');
        for (node, zone) in self.populated() {
            put(&mut text, format_args!("Node {node}, zone {:>8} ", zone.kind.name()));
            let of_types = self.pageblocks_by_type(zone);
            of_types.iter().for_each(|count| put(&mut text, format_args!("{count:>12} ")));
            text.push('\n');
        }
        text
    }

    fn put_type(&self, text: &mut String, node: u16, zone: &Zone<F>, migratetype: Migratetype) {
        let (kind, name) = (zone.kind.name(), migratetype.name());
        put(text, format_args!("Node {node:>4}, zone {kind:>8}, type {name:>12} "));
        for order in self.orders() {
            let blocks = self.blocks_found(zone, order, migratetype, Reader::Statistics).count();
            put(text, format_args!("{blocks:>6} "));
        }
        text.push('\n');
    }

    fn pageblocks_by_type(&self, zone: &Zone<F>) -> [u64; Migratetype::COUNT] {
        let mut counts = [0; Migratetype::COUNT];
        let own = |block: &PageblockId| {
            let start = self.geometry.block_start(*block);
            self.geometry.in_zone(start.max(zone.start), zone.id)
        };
        for block in self.blocks.online().filter(own) {
            counts[self.blocks.migratetype(block).index()] += 1;
        }
        counts
    }

    /// The buddy part of `show_mem`: blocks by order, the types that have some, and their sum.
    #[must_use]
    pub fn show_mem(&self) -> String {
        let mut text = String::new();
        for (node, zone) in self.populated() {
            put(&mut text, format_args!("Node {node} {}: ", zone.kind.name()));
            let mut kib = 0;
            for order in self.orders() {
                let (blocks, size) = (zone.nr_free(order), PAGE_KIB << order);
                kib += blocks * size;
                put(&mut text, format_args!("{blocks}*{size}kB "));
                if blocks > 0 {
                    put(&mut text, format_args!("({}) ", self.letters(zone, order)));
                }
            }
            put(&mut text, format_args!("= {kib}kB\n"));
        }
        text
    }

    /// The letters of the types that have a free block of one order.
    #[must_use]
    pub fn letters(&self, zone: &Zone<F>, order: u8) -> String {
        let has =
            |t: Migratetype| self.blocks_found(zone, order, t, Reader::ShowMem).next().is_some();
        LETTERS.iter().filter(|(t, _)| has(*t)).map(|(_, letter)| letter).collect()
    }

    /// `mark_free_pages` of hibernation: the free blocks of a zone, by first frame and order, in
    /// the order of the walk. All other pages are saved.
    #[must_use]
    pub fn mark_free_pages(&self, zone: &Zone<F>) -> Vec<(Frame, u8)> {
        let mut free = Vec::new();
        for order in self.orders() {
            for migratetype in Migratetype::ALL {
                let found = self.blocks_found(zone, order, migratetype, Reader::Hibernation);
                free.extend(found.map(|frame| (frame, order)));
            }
        }
        free
    }
}
