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
    /// Free blocks that changes cut off from their list. Zone, order and pageblock tell which it
    /// is: they stand at its end.
    pub(crate) stray_blocks: usize,
    /// Pages that changes cut off from their per-CPU list, but not from each other. Whose list it
    /// is cannot be told.
    pub(crate) cut_off_pages: usize,
    /// Pages that look like those of per-CPU lists but hang on nothing.
    pub(crate) stray_pages: usize,
    /// Lists that changed while they were read, so that their order is uncertain.
    pub(crate) torn_lists: usize,
    /// Pages on lists that belong to no zone and no CPU.
    pub(crate) private_pages: usize,
}

/// Sorts the pages of `links` by list. `runs` are those of the scan; `type_of` gives the type of
/// a frame's pageblock, where it is known.
pub(crate) fn resolve(
    machine: &Machine,
    nodes: &[Node],
    links: &Links<'_>,
    owners: &HashMap<Head, Owner>,
    runs: &[PageRun],
    type_of: impl Fn(Pfn) -> Option<Migratetype>,
) -> Resolved {
    let (lists, out) = (BTreeMap::new(), Resolved::default());
    let mut work = Work { machine, type_of, nodes, links, runs, lists, out };
    let mut settled = vec![false; nodes.len()];
    for chain in links.chains() {
        match owners.get(&chain.head) {
            Some(owner) => work.owned(*owner, &chain, &mut settled),
            None => work.private(&chain, &mut settled),
        }
    }
    work.strays(&settled);
    work.finish()
}

struct Work<'a, T> {
    machine: &'a Machine,
    type_of: T,
    nodes: &'a [Node],
    links: &'a Links<'a>,
    runs: &'a [PageRun],
    lists: BTreeMap<ListKey, Vec<Pfn>>,
    out: Resolved,
}

impl Resolved {
    /// Blocks and pages whose list was not found.
    pub(crate) fn stray_count(&self) -> usize {
        self.stray_blocks + self.cut_off_pages + self.stray_pages
    }
}

impl<T: Fn(Pfn) -> Option<Migratetype>> Work<'_, T> {
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

    /// What is left.
    fn strays(&mut self, settled: &[bool]) {
        for at in (0..self.nodes.len()).filter(|at| !settled[*at]) {
            let node = self.nodes[at];
            let migratetype = (self.type_of)(node.pfn).unwrap_or(Migratetype::Movable);
            match (node.order, self.machine.zone_of(node.pfn)) {
                (Some(order), Some(zone)) => {
                    self.out.stray_blocks += 1;
                    let state = State { content: Content::Free, order, migratetype };
                    self.out.blocks.push(Block { start: node.pfn, state });
                    let key = (zone as u16, None, order, migratetype);
                    self.lists.entry(key).or_default().push(node.pfn);
                }
                (None, _) if self.links.has_neighbour(at as u32) => {
                    self.out.cut_off_pages += 1;
                    let state = State { content: Content::Pcp, order: 0, migratetype };
                    self.out.blocks.push(Block { start: node.pfn, state });
                }
                _ => self.out.stray_pages += 1,
            }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bpf::calibrate::Vmemmap;
    use crate::snapshot::runs::RunBuilder;
    use crate::snapshot::synthetic;

    const VMEMMAP: Vmemmap = Vmemmap { base: 0xffff_ea00_0000_0000, page_bytes: 64 };
    const HEAD: u64 = 0xffff_8880_0000_1000;
    const PAGES: u64 = 4096;

    fn field(pfn: u64) -> u64 {
        VMEMMAP.page_address(pfn) + 8
    }

    fn node(pfn: u64, order: Option<u8>, next: u64, prev: u64) -> Node {
        Node { pfn: Pfn(pfn), order, next, prev }
    }

    fn resolved(nodes: &[Node], owner: Option<Owner>) -> Resolved {
        let machine = synthetic::machine(PAGES);
        let mut runs = RunBuilder::default();
        runs.push(Pfn(0), PAGES, State::new(Content::Unknown, 0));
        let links = Links::new(nodes, VMEMMAP, 8, Pfn(PAGES));
        let owners = owner.map(|owner| (Head(HEAD), owner)).into_iter().collect();
        let type_of = |_| Some(Migratetype::Reclaimable);
        resolve(&machine, nodes, &links, &owners, &runs.finish(), type_of)
    }

    fn cpu_list(order: u8) -> Option<Owner> {
        let (cpu, migratetype) = (Some(CpuId(1)), Migratetype::Movable);
        Some(Owner { zone: 0, cpu, order, migratetype })
    }

    #[test]
    fn a_per_cpu_list_tells_the_order_of_its_blocks() {
        let nodes = [node(8, None, field(16), HEAD), node(16, None, HEAD, field(8))];
        let found = resolved(&nodes, cpu_list(2));
        assert_eq!(found.lists[0].blocks, [Pfn(8), Pfn(16)]);
        assert_eq!((found.lists[0].order, found.lists[0].cpu), (2, Some(CpuId(1))));
        assert!(found.blocks.iter().all(|b| b.state.order == 2 && b.state.content == Content::Pcp));
        // Blocks that overlap, or are not aligned, are not what they seem to be.
        let nodes = [node(8, None, field(12), HEAD), node(12, None, HEAD, field(8))];
        assert_eq!(resolved(&nodes, cpu_list(3)).stray_count(), 2);
    }

    #[test]
    fn pages_on_a_list_of_nobody_are_held_apart() {
        let found = resolved(&[node(8, None, HEAD, HEAD)], None);
        assert_eq!((found.private_pages, found.blocks[0].state.content), (1, Content::Isolated));
    }

    #[test]
    fn what_was_cut_off_is_free_but_on_no_list_of_a_cpu() {
        let gone = field(999);
        let nodes = [
            node(8, None, field(9), gone),
            node(9, None, gone, field(8)),
            node(32, None, gone, gone),
            node(64, Some(3), gone, gone),
        ];
        let found = resolved(&nodes, cpu_list(0));
        let strays = (found.cut_off_pages, found.stray_pages, found.stray_blocks);
        assert_eq!(strays, (2, 1, 1));
        let [list] = &found.lists[..] else { panic!("{:?}", found.lists) };
        assert_eq!((list.cpu, list.order, list.migratetype), (None, 3, Migratetype::Reclaimable));
        let contents: Vec<_> = found.blocks.iter().map(|b| (b.start.0, b.state.content)).collect();
        assert_eq!(contents, [(8, Content::Pcp), (9, Content::Pcp), (64, Content::Free)]);
    }
}
