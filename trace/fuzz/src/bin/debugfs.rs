//! The superpageblock series' debugfs format: what can be read is printed as it was understood.
#![no_main]

use fragscope_replay::mm::spb::debugfs::{parse, print};
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: fragscope_fuzz::seed(), |bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(zones) = parse(text) {
        assert_eq!(parse(&print(&zones)).expect("what was printed can be read"), zones);
    }
});
