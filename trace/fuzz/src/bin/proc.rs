//! Parsers of `/proc`, `/sys` and tracepoint formats; the first byte chooses one.
#![no_main]

use fragscope_agent::bpf::format::Format;
use fragscope_agent::proc::{buddyinfo, iomem, pagetypeinfo, topology, vmstat, zoneinfo};
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: fragscope_fuzz::seed(), |bytes: &[u8]| {
    let Some((parser, text)) = bytes.split_first() else { return };
    let text = String::from_utf8_lossy(text);
    match parser % 8 {
        0 => drop(buddyinfo::parse(&text)),
        1 => drop(pagetypeinfo::parse(&text)),
        2 => drop(zoneinfo::parse(&text)),
        3 => drop(vmstat::parse("vmstat", &text)),
        4 => drop(vmstat::parse("meminfo", &text)),
        5 => drop(iomem::parse(&text)),
        6 => drop(topology::parse_list(&text)),
        _ => {
            let format = Format::parse("mm_page_alloc", &text);
            let _ = format.offsets(["pfn", "order", "gfp_flags", "migratetype"]);
            let _ = format.gfp_layout();
        }
    }
});
