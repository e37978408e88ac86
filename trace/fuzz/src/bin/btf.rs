//! Kernel type information: any bytes, and every question the agent asks.
#![no_main]

use fragscope_agent::btf::Btf;
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: fragscope_fuzz::seed(), |bytes: &[u8]| {
    let Ok(btf) = Btf::parse(bytes.to_vec()) else { return };
    let _ = btf.size_of("page");
    let _ = btf.offset_of("page", "lru.next");
    let _ = btf.member_size("zone", "managed_pages");
    let _ = btf.member_len("zone", "free_area");
    let _ = btf.enum_value("migratetype", "MIGRATE_MOVABLE");
    let _ = btf.enumerators("pagetype");
});
