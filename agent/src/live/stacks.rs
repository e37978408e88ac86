//! Kernel stacks of contexts: the kernel's ids become the trace's, each stack is told once.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use aya::maps::{MapData, StackTraceMap};
use fragscope_trace::event::{SideEvent, SideKind};

use crate::privileges::held;

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
            held::read(Path::new("/proc/kallsyms"))
                .map(|text| symbols(&text))
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

/// Names by address: `address type name [module]` in each line.
fn symbols(kallsyms: &[u8]) -> BTreeMap<u64, String> {
    let text = String::from_utf8_lossy(kallsyms);
    let of = |line: &str| {
        let mut fields = line.split_whitespace();
        let address = u64::from_str_radix(fields.next()?, 16).ok()?;
        Some((address, fields.nth(1)?.to_owned()))
    };
    text.lines().filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_the_names_before_them() {
        let text = b"ffff0010 T begin\nffff0020 t next [module]\nwhat is this\n";
        let mut stacks = Stacks { symbols: Some(symbols(text)), ..Stacks::default() };
        assert_eq!(stacks.symbolise(0xffff_0014), "begin+0x4");
        assert_eq!(stacks.symbolise(0xffff_0020), "next+0x0");
        assert_eq!(stacks.symbolise(5), "0x5");
    }
}
