//! Programs on kernel functions, for what no tracepoint reports. All are optional: a kernel may have
//! no types (BTF), another name for a function, or a rule against such programs.

use std::path::Path;

use aya::programs::{FEntry, FExit, ProgramError};
use aya::{Btf, Ebpf};
use fragscope_trace::causes;
use fragscope_trace::header::Capability;

use super::programs::Link;
use crate::btf::KERNEL_BTF;

/// One program.
#[derive(Clone, Copy, Debug)]
struct FunctionSpec {
    /// Its name in the object.
    name: &'static str,
    /// Names of the function, of which a kernel has one.
    functions: &'static [&'static str],
    at: At,
    capability: &'static str,
    lost_without: &'static str,
}

/// When the program runs.
#[derive(Clone, Copy, Debug)]
enum At {
    Entry,
    Exit,
}

const FUNCTION_PROGRAMS: [FunctionSpec; 2] = [
    FunctionSpec {
        name: "folio_moved",
        functions: &["folio_migrate_flags"],
        at: At::Entry,
        capability: "moves",
        lost_without: "where migration moves a page is not in the trace: targets of compaction are \
                       seen when they reach the LRU, as new pages",
    },
    FunctionSpec {
        name: "bulk_allocated",
        // Linux 6.10 and later; before.
        functions: &["alloc_pages_bulk_noprof", "__alloc_pages_bulk"],
        at: At::Exit,
        capability: "bulk_allocations",
        lost_without: "pages allocated in bulk (kernel stacks, network buffers) are seen at their \
                       free or at the next snapshot only",
    },
];

/// Loads and attaches what the kernel admits, and says of each what became of it.
pub(super) fn attach(ebpf: &mut Ebpf) -> (Vec<Link>, Vec<Capability>) {
    let types = match Path::new(KERNEL_BTF).exists() {
        true => Btf::from_sys_fs().map_err(|error| causes::in_one_line(&error)),
        false => Err("this kernel shows no BTF".to_owned()),
    };
    let (mut links, mut capabilities) = (Vec::new(), Vec::new());
    for spec in &FUNCTION_PROGRAMS {
        let attached = types.as_ref().map_err(Clone::clone);
        let attached = attached.and_then(|types| spec.attach(types, ebpf));
        let (found, link) = match attached {
            Ok((function, link)) => (Ok(function), Some(link)),
            Err(error) => (Err(error), None),
        };
        capabilities.push(spec.capability(found));
        links.extend(link);
    }
    (links, capabilities)
}

impl FunctionSpec {
    /// The function that it was attached to, or why not.
    fn attach(&self, types: &Btf, ebpf: &mut Ebpf) -> Result<(&'static str, Link), String> {
        let mut last = String::new();
        for function in self.functions {
            match self.attach_to(function, types, ebpf) {
                Ok(link) => return Ok((function, link)),
                Err(error) => last = kernels_answer(&error),
            }
        }
        Err(last)
    }

    fn attach_to(
        &self,
        function: &str,
        types: &Btf,
        ebpf: &mut Ebpf,
    ) -> Result<Link, ProgramError> {
        let program = ebpf.program_mut(self.name).ok_or(ProgramError::UnexpectedProgramType)?;
        match self.at {
            At::Entry => {
                let program: &mut FEntry = program.try_into()?;
                program.load(function, types)?;
                let id = program.attach()?;
                Ok(Link::Entry(program.take_link(id)?))
            }
            At::Exit => {
                let program: &mut FExit = program.try_into()?;
                program.load(function, types)?;
                let id = program.attach()?;
                Ok(Link::Exit(program.take_link(id)?))
            }
        }
    }

    fn capability(&self, found: Result<&str, String>) -> Capability {
        let at = match self.at {
            At::Entry => "entry",
            At::Exit => "exit",
        };
        let hook = format!("{at} of {}", found.as_ref().unwrap_or(&self.functions[0]));
        Capability {
            name: self.capability.to_owned(),
            required: false,
            available: found.is_ok(),
            found: match found {
                Ok(_) => hook,
                Err(error) => format!("{hook}: {error}"),
            },
            lost_without: self.lost_without.to_owned(),
            remedy: "a kernel that lets BPF programs attach to functions (CONFIG_FUNCTION_TRACER, \
                     BTF, and no rule against it)"
                .to_owned(),
        }
    }
}

/// What the kernel said, and the last that its verifier said, if anything.
fn kernels_answer(error: &ProgramError) -> String {
    match error {
        ProgramError::LoadError { io_error, verifier_log } => {
            let log = verifier_log.to_string();
            match log.lines().rfind(|line| !line.trim().is_empty()) {
                Some(line) => format!("{io_error}: {line}"),
                None => io_error.to_string(),
            }
        }
        other => other.to_string(),
    }
}
