//! A recording that comes with the program: what is shown where nothing can be traced.

/// A trace of a small machine that builds software.
#[must_use]
pub fn recording() -> &'static [u8] {
    include_bytes!("../recordings/build.fst")
}

#[cfg(test)]
mod tests {
    use fragscope_trace::info::TraceInfo;
    use fragscope_trace::reader::TraceReader;

    #[test]
    fn the_recording_is_whole() {
        let mut reader = TraceReader::new(super::recording()).unwrap();
        let info = TraceInfo::read(&mut reader).unwrap();
        assert!(info.end.is_some_and(|end| end.closing_snapshot), "no closing snapshot");
        assert!(info.events > 100_000 && info.snapshots.len() >= 2);
    }
}
