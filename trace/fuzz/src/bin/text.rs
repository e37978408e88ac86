//! What `perf script` and ftrace print, imported; what comes of it is a trace.
#![no_main]

use fragscope_fuzz::LIMITS;
use fragscope_replay::import::bare::Known;
use fragscope_replay::import::text::import;
use fragscope_trace::info::decode_any;
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: fragscope_fuzz::seed(), |text: &[u8]| {
    let known = Known { memory_bytes: Some(64 << 20), ..Known::default() };
    let mut trace = Vec::new();
    if import(text, &known, &mut trace).is_ok() {
        decode_any(&trace, LIMITS).expect("an imported trace can be read");
    }
});
