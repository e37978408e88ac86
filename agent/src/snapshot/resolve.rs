//! Which list each free page is on: from chains of links to blocks, lists and what stays open.

use std::collections::{BTreeMap, HashMap};

use fragscope_trace::machine::Machine;
use fragscope_trace::page::{Content, CpuId, Migratetype, Pfn, PfnRange};
use fragscope_trace::snapshot::{FreeList, PageRun};

use super::lists::{Chain, Head, Links};
use super::runs::{Block, State};
use super::scan::Node;
use super::zones::Owner;

/// Key of a list: zone, CPU, order, type.
type ListKey = (u16, Option<CpuId>, u8, Migratetype);

/// What the links of one scan gave.
#[derive(Debug, Default)]
pub(crate) struct Resolved {
    /// Blocks on known lists, and pages held on private ones; ascending.
    pub(crate) blocks: Vec<Block>,
    /// Lists by zone, CPU, order and type.
    pub(crate) lists: Vec<FreeList>,
    /// Free blocks whose list was not found.
    pub(crate) stray_blocks: usize,
    /// Pages that look like those of per-CPU lists but are on none that was found.
    pub(crate) stray_pages: usize,
    /// Lists that changed while they were read, so that their order is uncertain.
    pub(crate) torn_lists: usize,
    /// Pages on lists that belong to no zone and no CPU.
    pub(crate) private_pages: usize,
}

/// Sorts the pages of `links` by list. `runs` are those of the scan.
pub(crate) fn resolve(
    machine: &Machine,
    nodes: &[Node],
    links: &Links<'_>,
    owners: &HashMap<Head, Owner>,
    runs: &[PageRun],
) -> Resolved {
    let mut work = Work { nodes, links, runs, lists: BTreeMap::new(), out: Resolved::default() };
    let mut settled = vec![false; nodes.len()];
    for chain in links.chains() {
        match owners.get(&chain.head) {
            Some(owner) => work.owned(*owner, &chain, &mut settled),
            None => work.private(&chain, &mut settled),
        }
    }
    work.strays(machine, &settled);
    work.finish()
}

struct Work<'a> {
    nodes: &'a [Node],
    links: &'a Links<'a>,
    runs: &'a [PageRun],
    lists: BTreeMap<ListKey, Vec<Pfn>>,
    out: Resolved,
}

impl Resolved {
    /// Blocks and pages whose list was not found.
    pub(crate) fn stray_count(&self) -> usize {
        self.stray_blocks + self.stray_pages
    }
}

impl Work<'_> {
    /// A free list or a per-CPU list.
    fn owned(&mut self, owner: Owner, chain: &Chain, settled: &mut [bool]) {
        self.out.torn_lists += usize::from(!chain.whole);
        let content = if owner.cpu.is_some() { Content::Pcp } else { Content::Free };
        let state = State { content, order: owner.order, migratetype: owner.migratetype };
        for at in &chain.nodes {
            let node = self.nodes[*at as usize];
            let fits = match owner.cpu {
                Some(_) => node.order.is_none() && self.is_whole_block(*at, owner.order),
                None => node.order == Some(owner.order),
            };
            if fits {
                settled[*at as usize] = true;
                self.out.blocks.push(Block { start: node.pfn, state });
                let key = (owner.zone, owner.cpu, owner.order, owner.migratetype);
                self.lists.entry(key).or_default().push(node.pfn);
            }
        }
    }

    /// Whether the pages of a per-CPU block are as such pages are: behind the first, none on a
    /// list and none in use.
    fn is_whole_block(&self, at: u32, order: u8) -> bool {
        let start = self.nodes[at as usize].pfn;
        let block = PfnRange::new(start, 1 << order);
        let run = self.runs.partition_point(|run| run.range().end <= start);
        let idle = |run: &PageRun| {
            run.content == Content::Unknown && run.range().intersect(block) == Some(block)
        };
        start.is_aligned(order)
            && !self.links.has_other_node(at, block)
            && self.runs.get(run).is_some_and(idle)
    }

    /// A list that neither a zone nor a CPU owns: compaction and page reporting hold free pages
    /// on such. Its order is not known, so only pages that are a list's own members count.
    fn private(&mut self, chain: &Chain, settled: &mut [bool]) {
        let state = State::new(Content::Isolated, 0);
        for at in &chain.nodes {
            let node = self.nodes[*at as usize];
            if node.order.is_none() && chain.whole {
                settled[*at as usize] = true;
                self.out.private_pages += 1;
                self.out.blocks.push(Block { start: node.pfn, state });
            }
        }
    }

    /// What is left. A free block is free whatever its list: it goes to the end of the movable
    /// one, so that every free block is on a list.
    fn strays(&mut self, machine: &Machine, settled: &[bool]) {
        for (at, node) in self.nodes.iter().enumerate() {
            if settled[at] {
                continue;
            }
            let (Some(order), Some(zone)) = (node.order, machine.zone_of(node.pfn)) else {
                self.out.stray_pages += 1;
                continue;
            };
            self.out.stray_blocks += 1;
            let key = (zone as u16, None, order, Migratetype::Movable);
            self.lists.entry(key).or_default().push(node.pfn);
        }
    }

    fn finish(mut self) -> Resolved {
        self.out.blocks.sort_unstable_by_key(|block| block.start);
        let list = |((zone, cpu, order, migratetype), blocks)| FreeList {
            zone,
            cpu,
            order,
            migratetype,
            blocks,
        };
        self.out.lists = self.lists.into_iter().map(list).collect();
        self.out
    }
}
