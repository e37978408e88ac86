//! A trace through the kernel track and both allocators, with their debug checks.
#![no_main]

use fragscope_fuzz::{LIMITS, with_checksums};
use fragscope_replay::engine::drive::drive;
use fragscope_replay::engine::observatory::Observatory;
use fragscope_replay::observe::TrackKind;
use fragscope_replay::start::TrackSpec;
use fragscope_trace::machine::Machine;
use fragscope_trace::reader::TraceReader;
use libfuzzer_sys::fuzz_target;

/// Larger machines only take longer.
const MAX_PAGES: u64 = 1 << 18;

fuzz_target!(init: fragscope_fuzz::seed(), |bytes: &[u8]| {
    let bytes = with_checksums(bytes);
    let Ok(mut reader) = TraceReader::with_limits(bytes.as_slice(), LIMITS) else { return };
    if pages(&reader.header().machine) > MAX_PAGES {
        return;
    }
    let specs = [TrackKind::Stock, TrackKind::Spb].map(TrackSpec::as_found).to_vec();
    let Ok(mut observatory) = Observatory::new(reader.header(), specs) else { return };
    if drive(&mut reader, &mut observatory).is_ok() {
        let _ = observatory.sample();
    }
});

fn pages(machine: &Machine) -> u64 {
    machine.zones.iter().map(|zone| zone.spanned_pages).fold(0, u64::saturating_add)
}
