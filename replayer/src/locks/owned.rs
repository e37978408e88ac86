//! `owned_blocks`: the doubly linked lists of pageblocks that CPUs own, link by link.
//!
//! A list head or pageblock is a node. An empty list's head points at itself; a node that was
//! taken off properly points nowhere.

const CPUS: usize = super::state::MAX_CPUS;
const BLOCKS: usize = 2;
const NODES: usize = CPUS + BLOCKS;
const NOWHERE: u8 = u8::MAX;

/// All lists, and what they should hold.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct OwnedLists {
    next: [u8; NODES],
    prev: [u8; NODES],
    /// For each pageblock the CPU on whose list it should be.
    meant: [Option<u8>; BLOCKS],
}

impl Default for OwnedLists {
    fn default() -> OwnedLists {
        let links = std::array::from_fn(|node| if node < CPUS { node as u8 } else { NOWHERE });
        OwnedLists { next: links, prev: links, meant: [None; BLOCKS] }
    }
}

fn node(block: u8) -> usize {
    CPUS + usize::from(block)
}

impl OwnedLists {
    /// Appends a pageblock.
    pub(super) fn add(&mut self, cpu: u8, block: u8) {
        let (head, own) = (usize::from(cpu), node(block));
        let last = self.prev[head];
        self.next[own] = cpu;
        self.prev[own] = last;
        self.next[usize::from(last)] = own as u8;
        self.prev[head] = own as u8;
        self.meant[usize::from(block)] = Some(cpu);
    }

    /// `list_del_init` of a pageblock whose links lead somewhere.
    pub(super) fn remove(&mut self, block: u8) {
        let own = node(block);
        self.meant[usize::from(block)] = None;
        let (next, prev) = (self.next[own], self.prev[own]);
        if next == NOWHERE {
            return;
        }
        self.next[usize::from(prev)] = next;
        self.prev[usize::from(next)] = prev;
        self.next[own] = NOWHERE;
        self.prev[own] = NOWHERE;
    }

    /// Takes every pageblock off a list, each by itself.
    pub(super) fn detach_all(&mut self, cpu: u8) {
        for block in self.walk(cpu).unwrap_or_default() {
            self.remove(block);
        }
    }

    /// `INIT_LIST_HEAD`: the head forgets its entries, they do not forget the list.
    pub(super) fn reinitialise(&mut self, cpu: u8) {
        let head = usize::from(cpu);
        self.next[head] = cpu;
        self.prev[head] = cpu;
        for meant in &mut self.meant {
            *meant = meant.filter(|owner| *owner != cpu);
        }
    }

    /// The pageblocks of a list in order; `None` if a link does not lead back.
    fn walk(&self, cpu: u8) -> Option<Vec<u8>> {
        let (mut at, mut blocks) = (usize::from(cpu), Vec::new());
        for _ in 0..=BLOCKS {
            let next = self.next[at];
            if next == NOWHERE || usize::from(self.prev[usize::from(next)]) != at {
                return None;
            }
            if next == cpu {
                return Some(blocks);
            }
            at = usize::from(next);
            blocks.push(at.checked_sub(CPUS)? as u8);
        }
        None
    }

    /// What is wrong with the lists.
    pub(super) fn fault(&self) -> Option<String> {
        (0..CPUS as u8).find_map(|cpu| {
            let meant: Vec<u8> =
                (0..BLOCKS as u8).filter(|b| self.meant[usize::from(*b)] == Some(cpu)).collect();
            let name = format!("owned_blocks of CPU{cpu}");
            match self.walk(cpu) {
                None => Some(format!("{name}: a link does not lead back")),
                Some(found) if found == meant => None,
                Some(found) => Some(format!(
                    "{name} holds {}, but should hold {}",
                    blocks_text(&found),
                    blocks_text(&meant)
                )),
            }
        })
    }
}

fn blocks_text(blocks: &[u8]) -> String {
    if blocks.is_empty() {
        return "nothing".to_owned();
    }
    let names: Vec<_> = blocks.iter().map(|block| format!("B{block}")).collect();
    names.join(", ")
}
