//! Who made an allocation: the contexts that came last, to be found by time and page.

use std::collections::{BTreeMap, HashMap, VecDeque};

use fragscope_trace::event::{SideEvent, SideKind, TimeNs};
use fragscope_trace::page::Pfn;

/// Contexts that are kept; a taint is looked up soon after its allocation.
const CONTEXTS_MAX: usize = 1 << 16;

/// One allocation's maker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Maker {
    /// Process.
    pub comm: String,
    /// Its id.
    pub pid: u32,
    /// Id of its cgroup.
    pub cgroup: u64,
    /// Id of its kernel stack, 0 for none.
    pub stack: u32,
}

/// Contexts by allocation, stacks and cgroups by id.
#[derive(Debug, Default)]
pub struct Contexts {
    makers: HashMap<(TimeNs, Pfn), Maker>,
    /// Keys of `makers`, oldest first.
    ages: VecDeque<(TimeNs, Pfn)>,
    stacks: BTreeMap<u32, Vec<String>>,
    /// Paths of cgroups by id.
    cgroups: BTreeMap<u64, String>,
}

impl Contexts {
    /// Takes note of a context, a stack or a cgroup; other events are passed over.
    pub fn note(&mut self, event: &SideEvent) {
        match &event.kind {
            SideKind::Context { pfn, comm, stack, pid, cgroup, .. } => {
                let key = (event.time_ns, *pfn);
                let (pid, cgroup) = (*pid, *cgroup);
                let maker = Maker { comm: comm.clone(), pid, cgroup, stack: *stack };
                if self.makers.insert(key, maker).is_none() {
                    self.ages.push_back(key);
                }
                if self.ages.len() > CONTEXTS_MAX
                    && let Some(oldest) = self.ages.pop_front()
                {
                    self.makers.remove(&oldest);
                }
            }
            SideKind::Stack { id, frames } => {
                self.stacks.insert(*id, frames.clone());
            }
            SideKind::Cgroup { id, path } => {
                self.cgroups.insert(*id, path.clone());
            }
            _ => {}
        }
    }

    /// Process and stack of the allocation of a page at a time, if recorded and still known.
    #[must_use]
    pub fn of(&self, time_ns: TimeNs, pfn: Pfn) -> Option<(&Maker, &[String])> {
        let maker = self.makers.get(&(time_ns, pfn))?;
        let stack = self.stacks.get(&maker.stack).map_or(&[][..], Vec::as_slice);
        Some((maker, stack))
    }

    /// Path of a cgroup, if the trace told it.
    #[must_use]
    pub fn cgroup(&self, id: u64) -> Option<&String> {
        self.cgroups.get(&id)
    }
}
