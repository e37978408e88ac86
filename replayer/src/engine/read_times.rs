//! Which events a snapshot contains.
//!
//! A snapshot is read in chunks while events go on. An event of a page before its chunk was read
//! is contained in the state, one after is not, and one between wins over the state.

use fragscope_trace::event::TimeNs;
use fragscope_trace::page::Pfn;
use fragscope_trace::snapshot::{ChunkTime, Snapshot};

/// An event this much older than the reading may not be contained yet: the free tracepoint fires
/// before the page reaches a list, and an interrupt may come between. Applying an event once more
/// changes nothing.
pub const MARGIN_NS: TimeNs = 1_000_000;

/// When each page of a snapshot was read.
#[derive(Clone, Debug)]
pub struct ReadTimes {
    chunks: Vec<ChunkTime>,
    begin_ns: TimeNs,
    end_ns: TimeNs,
}

impl ReadTimes {
    /// The reading times of a snapshot.
    #[must_use]
    pub fn new(snapshot: &Snapshot) -> ReadTimes {
        let (begin_ns, end_ns) = (snapshot.begin_ns, snapshot.end_ns.max(snapshot.begin_ns));
        ReadTimes { chunks: snapshot.chunks.clone(), begin_ns, end_ns }
    }

    /// Earliest and latest time at which the page may have been read. Pages of no chunk were read
    /// at some time of the whole reading.
    #[must_use]
    pub fn of(&self, pfn: Pfn) -> (TimeNs, TimeNs) {
        let index = self.chunks.partition_point(|chunk| chunk.range.end <= pfn);
        match self.chunks.get(index) {
            Some(chunk) if chunk.range.contains(pfn) => (chunk.begin_ns, chunk.end_ns),
            _ => (self.begin_ns, self.end_ns),
        }
    }

    /// Whether the snapshot certainly contains an event of the page at this time.
    #[must_use]
    pub fn contains(&self, pfn: Pfn, time_ns: TimeNs) -> bool {
        time_ns.saturating_add(MARGIN_NS) < self.of(pfn).0
    }

    /// From this time on no event can be contained.
    #[must_use]
    pub fn over_ns(&self) -> TimeNs {
        let chunks = self.chunks.iter().map(|chunk| chunk.end_ns).max().unwrap_or(0);
        self.end_ns.max(chunks).saturating_add(MARGIN_NS)
    }
}

#[cfg(test)]
mod tests {
    use fragscope_trace::page::PfnRange;

    use super::*;

    #[test]
    fn the_chunk_of_the_page_decides() {
        let chunk = |start, begin_ns| ChunkTime {
            range: PfnRange::new(Pfn(start), 100),
            begin_ns,
            end_ns: begin_ns + 10,
        };
        let ms = MARGIN_NS;
        let chunks = vec![chunk(0, 10 * ms), chunk(200, 20 * ms)];
        let times = ReadTimes { chunks, begin_ns: 9 * ms, end_ns: 21 * ms };
        assert_eq!(times.of(Pfn(50)), (10 * ms, 10 * ms + 10));
        assert_eq!(times.of(Pfn(299)), (20 * ms, 20 * ms + 10));
        assert_eq!(times.of(Pfn(150)), (9 * ms, 21 * ms));
        assert!(times.contains(Pfn(200), 19 * ms - 1) && !times.contains(Pfn(200), 19 * ms));
        assert!(!times.contains(Pfn(50), 19 * ms - 1));
        assert_eq!(times.over_ns(), 22 * ms);
    }
}
