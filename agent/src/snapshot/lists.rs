//! From the links of single pages to whole lists.
//!
//! A list head lies outside the array of struct pages, so a page whose neighbour lies there tells
//! which list it is on; the others are reached through their neighbours. Pages are read one after
//! the other while lists change, so a chain may be broken: what hangs on either end still counts,
//! and what hangs on neither stays unexplained.

use std::collections::HashMap;

use fragscope_trace::page::{Pfn, PfnRange};

use super::scan::Node;
use crate::bpf::calibrate::Vmemmap;

/// Address of a list head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Head(pub(crate) u64);

/// One list as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chain {
    pub(crate) head: Head,
    /// Positions in the table of nodes, in list order.
    pub(crate) nodes: Vec<u32>,
    /// Whether the links lead from the head through all of them and back.
    pub(crate) whole: bool,
}

/// Where a link leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    /// To another page that is or may be on a list.
    Node(u32),
    /// Out of the struct pages.
    Head(Head),
    /// To a page that is on no list (any more, or not yet).
    Lost,
}

impl Link {
    /// A link that was resolved to `to` and holds `address`.
    fn new(to: u32, address: u64) -> Link {
        match to {
            TO_HEAD => Link::Head(Head(address)),
            TO_NOWHERE => Link::Lost,
            node => Link::Node(node),
        }
    }
}

/// A bit for each frame below `end` that is one of `nodes`.
fn marks(nodes: &[Node], end: Pfn) -> Vec<u64> {
    let mut marks = vec![0u64; (end.0 as usize).div_ceil(64)];
    for node in nodes {
        marks[(node.pfn.0 / 64) as usize] |= 1 << (node.pfn.0 % 64);
    }
    marks
}

/// Set bits before each group of words.
fn counts_before(marks: &[u64]) -> Vec<u32> {
    let mut sum = 0;
    let count = |group: &[u64]| {
        let before = sum;
        sum += group.iter().map(|word| word.count_ones()).sum::<u32>();
        before
    };
    marks.chunks(GROUP_WORDS).map(count).collect()
}

/// Nodes, and where to find that of a pfn.
pub(crate) struct Links<'a> {
    nodes: &'a [Node],
    /// Address of the list field of pfn 0.
    base: u64,
    page_bytes: u64,
    /// Frames that exist.
    end: Pfn,
    /// A bit for each frame: whether it is one of `nodes`.
    marks: Vec<u64>,
    /// Nodes before each group of [`GROUP_WORDS`] words of `marks`.
    groups: Vec<u32>,
    /// Where the links of each node lead: to another's position, or one of the two below.
    next: Vec<u32>,
    prev: Vec<u32>,
}

/// Words of marks that are counted one by one: one line of the cache.
const GROUP_WORDS: usize = 8;
/// Stands for a link out of the struct pages.
const TO_HEAD: u32 = u32::MAX;
/// Stands for a link to a page that is on no list.
const TO_NOWHERE: u32 = u32::MAX - 1;

impl<'a> Links<'a> {
    /// `nodes` ascend by pfn; `list_offset` is that of `lru` in struct page.
    pub(crate) fn new(
        nodes: &'a [Node],
        vmemmap: Vmemmap,
        list_offset: u64,
        end: Pfn,
    ) -> Links<'a> {
        let marks = marks(nodes, end);
        let base = vmemmap.base + list_offset;
        let (page_bytes, groups) = (vmemmap.page_bytes, counts_before(&marks));
        let (next, prev) = (Vec::new(), Vec::new());
        let mut links = Links { nodes, base, page_bytes, end, marks, groups, next, prev };
        // Each link is looked up once here and followed several times.
        links.next = nodes.iter().map(|node| links.resolve(node.next)).collect();
        links.prev = nodes.iter().map(|node| links.resolve(node.prev)).collect();
        links
    }

    /// Where an address leads.
    fn resolve(&self, address: u64) -> u32 {
        let array = self.end.0 * self.page_bytes;
        match address.checked_sub(self.base).filter(|offset| *offset < array) {
            None => TO_HEAD,
            Some(offset) if offset.is_multiple_of(self.page_bytes) => {
                self.node_of(Pfn(offset / self.page_bytes)).unwrap_or(TO_NOWHERE)
            }
            Some(_) => TO_NOWHERE,
        }
    }

    fn node_of(&self, pfn: Pfn) -> Option<u32> {
        let (word, bit) = ((pfn.0 / 64) as usize, pfn.0 % 64);
        if self.marks[word] >> bit & 1 == 0 {
            return None;
        }
        let group = word / GROUP_WORDS;
        let before = &self.marks[group * GROUP_WORDS..word];
        let in_group: u32 = before.iter().map(|word| word.count_ones()).sum();
        let in_word = (self.marks[word] & ((1 << bit) - 1)).count_ones();
        Some(self.groups[group] + in_group + in_word)
    }

    /// Whether another page than that of `at` begins inside `range`.
    pub(crate) fn has_other_node(&self, at: u32, range: PfnRange) -> bool {
        let next = self.nodes.get(at as usize + 1);
        next.is_some_and(|n| range.contains(n.pfn))
    }

    /// Whether a node that `at` points to points back: both are, or just were, on one list.
    pub(crate) fn has_neighbour(&self, at: u32) -> bool {
        let back = |link, step: fn(&Self, u32) -> Link| match link {
            Link::Node(other) => other != at && step(self, other) == Link::Node(at),
            _ => false,
        };
        back(self.next(at), Links::prev) || back(self.prev(at), Links::next)
    }

    fn next(&self, node: u32) -> Link {
        Link::new(self.next[node as usize], self.nodes[node as usize].next)
    }

    fn prev(&self, node: u32) -> Link {
        Link::new(self.prev[node as usize], self.nodes[node as usize].prev)
    }

    /// List heads that pages point to, with the page and its position.
    pub(crate) fn ends(&self) -> impl Iterator<Item = (Head, &Node)> {
        (0..).zip(self.nodes).flat_map(|(at, node)| {
            let heads = [self.prev(at), self.next(at)];
            heads.into_iter().filter_map(move |link| match link {
                Link::Head(head) => Some((head, node)),
                _ => None,
            })
        })
    }

    /// All lists, by address of their heads. Nodes on no list are in none.
    pub(crate) fn chains(&self) -> Vec<Chain> {
        let owners = self.owners();
        let mut members: HashMap<Head, Vec<u32>> = HashMap::new();
        for (node, owner) in owners.iter().enumerate() {
            if let Some(head) = owner {
                members.entry(*head).or_default().push(node as u32);
            }
        }
        let mut chains: Vec<Chain> =
            members.into_iter().map(|(head, nodes)| self.chain(head, nodes, &owners)).collect();
        chains.sort_unstable_by_key(|chain| chain.head);
        chains
    }

    /// The list that each node is on.
    fn owners(&self) -> Vec<Option<Head>> {
        let mut owners = vec![None; self.nodes.len()];
        for node in 0..self.nodes.len() as u32 {
            if let Link::Head(head) = self.prev(node) {
                self.spread(&mut owners, head, node, Links::next);
            }
            if let Link::Head(head) = self.next(node) {
                self.spread(&mut owners, head, node, Links::prev);
            }
        }
        owners
    }

    /// Gives `node` and all that follow in one direction to `head`, up to one that has an owner.
    fn spread(
        &self,
        owners: &mut [Option<Head>],
        head: Head,
        node: u32,
        step: fn(&Self, u32) -> Link,
    ) {
        // The first node may have its owner from the other direction already.
        owners[node as usize].get_or_insert(head);
        let mut at = node;
        while let Link::Node(next) = step(self, at) {
            if owners[next as usize].is_some() {
                return;
            }
            owners[next as usize] = Some(head);
            at = next;
        }
    }

    /// Puts the members of a list in order.
    fn chain(&self, head: Head, members: Vec<u32>, owners: &[Option<Head>]) -> Chain {
        // The longest walk from a member that one link ties to the head, along the other.
        let longest = |tie: fn(&Self, u32) -> Link, step: fn(&Self, u32) -> Link| {
            let starts = members.iter().filter(|n| tie(self, **n) == Link::Head(head));
            let walks = starts.map(|start| {
                self.walk(*start, members.len(), step, |n| owners[n as usize] == Some(head))
            });
            walks.max_by_key(Vec::len).unwrap_or_default()
        };
        let forward = longest(Links::prev, Links::next);
        let returns = forward.last().map(|n| self.next(*n)) == Some(Link::Head(head));
        if forward.len() == members.len() && returns {
            return Chain { head, nodes: forward, whole: true };
        }
        let mut backward = longest(Links::next, Links::prev);
        backward.reverse();
        let best = if backward.len() >= forward.len() { backward } else { forward };
        Chain { head, nodes: with_rest(best, members), whole: false }
    }

    /// Nodes from `start` on, at most `limit`.
    fn walk(
        &self,
        start: u32,
        limit: usize,
        step: fn(&Self, u32) -> Link,
        is_member: impl Fn(u32) -> bool,
    ) -> Vec<u32> {
        let mut nodes = vec![start];
        let mut at = start;
        while let Link::Node(next) = step(self, at) {
            // A chain torn by changes may run in a circle.
            if !is_member(next) || next == start || nodes.len() >= limit {
                break;
            }
            nodes.push(next);
            at = next;
        }
        nodes
    }
}

/// `ordered`, each node once, with the other members before it: lists change at their heads.
fn with_rest(ordered: Vec<u32>, members: Vec<u32>) -> Vec<u32> {
    let mut seen: std::collections::HashSet<u32> = std::collections::HashSet::new();
    let ordered: Vec<u32> = ordered.into_iter().filter(|node| seen.insert(*node)).collect();
    let mut all: Vec<u32> = members.into_iter().filter(|node| !seen.contains(node)).collect();
    all.extend(ordered);
    all
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const VMEMMAP: Vmemmap = Vmemmap { base: 0xffff_ea00_0000_0000, page_bytes: 64 };
    const LIST: u64 = 8;
    const END: u64 = 4096;

    fn field(pfn: u64) -> u64 {
        VMEMMAP.page_address(pfn) + LIST
    }

    fn head(list: usize) -> Head {
        Head(0xffff_8880_0000_1000 + list as u64 * 16)
    }

    /// The nodes of intact lists.
    fn nodes(lists: &[Vec<u64>]) -> Vec<Node> {
        let mut nodes = Vec::new();
        for (list, pages) in lists.iter().enumerate() {
            let at = |i: usize| pages.get(i).map_or(head(list).0, |pfn| field(*pfn));
            for (i, pfn) in pages.iter().enumerate() {
                let prev = if i == 0 { head(list).0 } else { at(i - 1) };
                nodes.push(Node { pfn: Pfn(*pfn), order: None, next: at(i + 1), prev });
            }
        }
        nodes.sort_unstable_by_key(|n| n.pfn);
        nodes
    }

    fn chains(nodes: &[Node]) -> Vec<(Head, Vec<u64>, bool)> {
        let links = Links::new(nodes, VMEMMAP, LIST, Pfn(END));
        let pfns = |c: &Chain| c.nodes.iter().map(|n| nodes[*n as usize].pfn.0).collect();
        links.chains().iter().map(|c| (c.head, pfns(c), c.whole)).collect()
    }

    fn any_lists() -> impl Strategy<Value = Vec<Vec<u64>>> {
        let pages = Just((0..END).step_by(37).collect::<Vec<u64>>()).prop_shuffle();
        (pages, prop::collection::vec(1usize..12, 1..8)).prop_map(|(pages, lengths)| {
            let mut pages = pages.into_iter();
            lengths.into_iter().map(|n| pages.by_ref().take(n).collect()).collect()
        })
    }

    proptest! {
        #[test]
        fn intact_lists_are_found_in_order(lists in any_lists()) {
            let expected: Vec<_> =
                lists.iter().enumerate().map(|(i, pages)| (head(i), pages.clone(), true)).collect();
            prop_assert_eq!(chains(&nodes(&lists)), expected);
        }

        /// Taking one page out of the middle loses no other page, nor the order of the rest
        /// behind it.
        #[test]
        fn a_page_that_vanished_breaks_nothing_else(
            lists in any_lists(),
            gone in any::<prop::sample::Index>(),
        ) {
            let mut nodes = nodes(&lists);
            let gone = nodes.remove(gone.index(nodes.len())).pfn.0;
            let found = chains(&nodes);
            let mut pages: Vec<u64> = found.iter().flat_map(|(_, p, _)| p.clone()).collect();
            pages.sort_unstable();
            let mut expected: Vec<u64> = lists.concat().into_iter().filter(|p| *p != gone).collect();
            expected.sort_unstable();
            prop_assert_eq!(pages, expected);
            let longer = lists.iter().filter(|l| l.contains(&gone) && l.len() > 1).count();
            prop_assert_eq!(found.iter().filter(|(_, _, whole)| !whole).count(), longer);
        }

        /// What hangs on a list's neighbour is told from what only points somewhere.
        #[test]
        fn neighbours_point_back(lists in any_lists(), loner in 0u64..36) {
            let mut nodes = nodes(&lists);
            let loner = loner * 37 + 1;
            let at = nodes.partition_point(|n| n.pfn.0 < loner);
            let (next, prev) = (field(nodes[0].pfn.0), field(nodes[0].pfn.0));
            nodes.insert(at, Node { pfn: Pfn(loner), order: None, next, prev });
            let links = Links::new(&nodes, VMEMMAP, LIST, Pfn(END));
            for (index, node) in nodes.iter().enumerate() {
                let list = lists.iter().find(|l| l.contains(&node.pfn.0));
                let expected = list.is_some_and(|l| l.len() > 1);
                prop_assert_eq!(links.has_neighbour(index as u32), expected);
            }
        }

        /// Links may lead anywhere: no panic, no endless walk, no page on two lists.
        #[test]
        fn torn_links_are_survived(
            lists in any_lists(),
            torn in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>(), 0..END), 0..12),
        ) {
            let mut nodes = nodes(&lists);
            for (at, next, target) in torn {
                let at = at.index(nodes.len());
                let target = if target % 5 == 0 { head(target as usize % 3).0 } else { field(target / 37 * 37) };
                *(if next { &mut nodes[at].next } else { &mut nodes[at].prev }) = target;
            }
            let mut seen = std::collections::HashSet::new();
            for (_, pages, _) in chains(&nodes) {
                for page in pages {
                    prop_assert!(seen.insert(page));
                }
            }
        }
    }
}
