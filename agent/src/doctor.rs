//! `doctor`: what this host offers, what is lost without the rest, and how to get it.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use fragscope_agent::bpf::host::kernel_version;
use fragscope_agent::bpf::rights;
use fragscope_agent::bpf::tracefs::{is_mounted_anywhere, with_tracefs};
use fragscope_agent::bpf::tracer::{OLDEST_KERNEL, Tracer, TracerOptions};
use fragscope_agent::btf::Btf;
use fragscope_agent::privileges::{Needs, Sandbox};
use fragscope_agent::probe_1g::{Host as _, ThisHost};
use fragscope_agent::snapshot::source::{Snapshotter, SourceChoice};
use fragscope_trace::header::Capability;
use serde::Serialize;

use crate::cli::DoctorArgs;

/// What `--json` prints; field names are stable.
#[derive(Debug, Serialize)]
struct Report {
    /// Whether `record` works.
    can_record: bool,
    /// Whether `snapshot` works, by whatever means.
    can_snapshot: bool,
    capabilities: Vec<Capability>,
}

/// Runs the subcommand. The diagnosis succeeds whatever it finds.
pub(crate) fn run(args: &DoctorArgs) -> Result<ExitCode> {
    let report = examine();
    let text = if args.json { serde_json::to_string_pretty(&report)? } else { report.to_text() };
    match writeln!(io::stdout(), "{text}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(ExitCode::SUCCESS),
    }
}

fn examine() -> Report {
    let sources = [struct_pages(), kpageflags()];
    let can_snapshot = sources.iter().any(|c| c.available);
    let mut capabilities = vec![kernel(), permission(), tracefs(), btf(), symbols()];
    capabilities.extend(sources);
    capabilities.extend([probe_1g(), sandbox()]);
    capabilities.extend(tracing());
    let missing = capabilities.iter().any(|c| c.required && !c.available);
    Report { can_record: !missing, can_snapshot, capabilities }
}

fn capability(
    name: &str,
    found: Result<String, String>,
    lost_without: &str,
    remedy: &str,
) -> Capability {
    Capability {
        name: name.to_owned(),
        required: false,
        available: found.is_ok(),
        found: found.unwrap_or_else(|error| error),
        lost_without: lost_without.to_owned(),
        remedy: remedy.to_owned(),
    }
}

fn required(capability: Capability) -> Capability {
    Capability { required: true, ..capability }
}

fn kernel() -> Capability {
    let version = kernel_version();
    let text = format!("Linux {}.{}", version.0, version.1);
    let found = if version >= OLDEST_KERNEL { Ok(text) } else { Err(text) };
    let remedy = format!("Linux {}.{} or later", OLDEST_KERNEL.0, OLDEST_KERNEL.1);
    required(capability("kernel", found, "nothing can be recorded", &remedy))
}

fn permission() -> Capability {
    let missing = rights::missing_capabilities();
    let found = if missing.is_empty() {
        Ok("CAP_BPF and CAP_PERFMON".to_owned())
    } else {
        Err(format!("{} missing", missing.join(" and ")))
    };
    required(capability("bpf_permission", found, "nothing can be recorded", &rights::remedy()))
}

fn tracefs() -> Capability {
    let found = match with_tracefs(Path::is_dir) {
        Ok(_) if is_mounted_anywhere() => Ok("mounted".to_owned()),
        Ok(_) => Ok("not mounted; mounted privately when it is needed".to_owned()),
        Err(error) => Err(error.to_string()),
    };
    let remedy = "mount -t tracefs tracefs /sys/kernel/tracing, and the right to read it";
    required(capability("tracefs", found, "nothing can be recorded", remedy))
}

fn btf() -> Capability {
    let found = Btf::of_kernel().map(|_| "readable".to_owned()).map_err(|e| e.to_string());
    let lost = "snapshots come from /proc/kpageflags, and the order of folios on the LRU is not \
                known";
    capability("btf", found, lost, "a kernel with CONFIG_DEBUG_INFO_BTF")
}

fn symbols() -> Capability {
    let text = std::fs::read_to_string("/proc/kallsyms").unwrap_or_default();
    let known = text.lines().filter(|l| !l.starts_with("0000000000000000")).count();
    let found = if known > 0 {
        Ok(format!("{known} addresses"))
    } else {
        Err("/proc/kallsyms shows no addresses".to_owned())
    };
    let remedy = "CAP_SYSLOG, and kernel.kptr_restrict below 2";
    capability("kernel_symbols", found, "stacks are recorded as bare addresses", remedy)
}

fn struct_pages() -> Capability {
    let found = Snapshotter::open(SourceChoice::StructPages, None);
    let found = found.map(|_| "readable through a BPF program".to_owned());
    let lost = "snapshots come from /proc/kpageflags: slower, without list order, and pages on \
                per-CPU lists stay unknown";
    let remedy = "root, BTF, and Linux 5.10 or later";
    capability("struct_pages", found.map_err(|e| e.to_string()), lost, remedy)
}

fn kpageflags() -> Capability {
    let found = File::open("/proc/kpageflags").map(|_| "readable".to_owned());
    let lost = "no snapshots where struct pages can't be read";
    let remedy = "root, and a kernel with CONFIG_PROC_PAGE_MONITOR";
    capability("kpageflags", found.map_err(|e| e.to_string()), lost, remedy)
}

fn probe_1g() -> Capability {
    let found = ThisHost::open().map(|host| format!("pools on {} node(s)", host.nodes().len()));
    let lost = "the kernel can't be asked for real 1 GiB pages";
    let remedy = "a CPU with pdpe1gb, and CONFIG_HUGETLB_PAGE with CONFIG_CONTIG_ALLOC";
    capability("pages_1g", found.map_err(|e| e.to_string()), lost, remedy)
}

/// Tried on a thread that ends with it.
fn sandbox() -> Capability {
    let found = Sandbox::prepare(&Needs::default()).map(|(_, confined)| confined.to_string());
    let lost = "record and serve work with --no-sandbox only, and keep their rights";
    let remedy = "a kernel with CONFIG_SECCOMP_FILTER (and CONFIG_SECURITY_LANDLOCK, for files)";
    capability("sandbox", found.map_err(|e| e.to_string()), lost, remedy)
}

/// Attaches everything there is, for a moment.
fn tracing() -> Vec<Capability> {
    let options =
        TracerOptions { buddy_events: true, contexts_per_second: 1, ..TracerOptions::default() };
    let lost = "nothing can be recorded";
    match Tracer::attach(&options) {
        Ok(tracer) => {
            let mut all = vec![required(capability(
                "page_events",
                Ok("allocations and frees can be traced".to_owned()),
                lost,
                "",
            ))];
            all.push(reentry(&tracer));
            all.extend(tracer.capabilities.iter().cloned());
            all
        }
        Err(error) => {
            let remedy = "see the entries above".to_owned();
            vec![required(capability("page_events", Err(error.to_string()), lost, &remedy))]
        }
    }
}

fn reentry(tracer: &Tracer) -> Capability {
    let found = if tracer.misses().is_empty() {
        Err("this kernel does not count the runs it skips".to_owned())
    } else {
        Ok("skipped runs are counted".to_owned())
    };
    let lost = "events in interrupts that hit a running program go missing uncounted";
    capability("reentry_count", found, lost, "Linux 5.12 or later")
}

impl Report {
    fn to_text(&self) -> String {
        let width = self.capabilities.iter().map(|c| c.name.len()).max().unwrap_or(0);
        let mut lines = Vec::new();
        for c in &self.capabilities {
            let mark = match (c.available, c.required) {
                (true, _) => "ok  ",
                (false, true) => "FAIL",
                (false, false) => "no  ",
            };
            lines.push(format!("{mark} {:width$}  {}", c.name, c.found));
            if !c.available {
                lines.push(format!("     {:width$}  without it: {}", "", c.lost_without));
                lines.push(format!("     {:width$}  to get it:  {}", "", c.remedy));
            }
        }
        let can = |yes: bool| if yes { "can" } else { "cannot" };
        lines.push(format!(
            "This process {} record and {} take snapshots here.",
            can(self.can_record),
            can(self.can_snapshot)
        ));
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever the rights of the test: a verdict, and a remedy for everything that is missing.
    #[test]
    fn every_missing_thing_has_a_remedy() {
        let report = examine();
        for c in report.capabilities.iter().filter(|c| !c.available) {
            assert!(!c.remedy.is_empty() && !c.lost_without.is_empty(), "{c:?}");
        }
        assert!(report.to_text().ends_with("snapshots here."));
    }
}
