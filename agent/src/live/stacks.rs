//! Kernel stacks of contexts: the kernel's ids become the trace's, each stack is told once.

use std::collections::{BTreeMap, HashMap};

use aya::maps::{MapData, StackTraceMap};
use fragscope_trace::event::{SideEvent, SideKind};

/// Names of the kernel's functions, and the stacks told so far.
#[derive(Debug, Default)]
pub struct Stacks {
    /// Function names by address; `None` until the first stack is seen.
    symbols: Option<BTreeMap<u64, String>>,
    /// Ids of the trace by the kernel's id + 1.
    known: HashMap<u32, u32>,
}

impl Stacks {
    /// Replaces the stack id of a context by the trace's. Gives a `Stack` event that must come
    /// before it if the stack is new.
    pub fn resolve(
        &mut self,
        map: &StackTraceMap<MapData>,
        event: &mut SideEvent,
    ) -> Option<SideEvent> {
        let SideKind::Context { stack, .. } = &mut event.kind else { return None };
        let kernel = *stack;
        if kernel == 0 {
            return None;
        }
        if let Some(known) = self.known.get(&kernel) {
            *stack = *known;
            return None;
        }
        let Ok(trace) = map.get(&(kernel - 1), 0) else {
            *stack = 0;
            return None;
        };
        let addresses: Vec<u64> = trace.frames().iter().map(|f| f.ip).collect();
        let frames = addresses.iter().map(|ip| self.symbolise(*ip)).collect();
        let id = self.known.len() as u32 + 1;
        self.known.insert(kernel, id);
        *stack = id;
        let kind = SideKind::Stack { id, frames };
        Some(SideEvent { time_ns: event.time_ns, cpu: None, kind })
    }

    /// `name+0xoff`, or the address where no name is known.
    fn symbolise(&mut self, ip: u64) -> String {
        let symbols = self.symbols.get_or_insert_with(|| {
            aya::util::kernel_symbols()
                .map_err(|error| log::info!("kernel symbols can't be read: {error}"))
                .unwrap_or_default()
        });
        match symbols.range(..=ip).next_back() {
            // With kptr_restrict every address reads as 0.
            Some((start, name)) if *start != 0 => format!("{name}+{:#x}", ip - start),
            _ => format!("{ip:#x}"),
        }
    }
}
