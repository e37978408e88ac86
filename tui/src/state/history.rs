//! The samples that are kept, to look back at.
//!
//! Kept as differences from one to the next, in chunks that each begin anew, so that an hour of a
//! host takes some megabytes and any sample is a chunk's worth of work away. Bounded in number and
//! in bytes: when there is too much, two chunks become one of every second sample: those of live
//! data in its older part, so that the recent past stays fine; those of a recording everywhere, so
//! that all of it is equally fine.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::sync::Arc;

use fragscope_replay::observe::{Sample, StartState, TrackKind};
use fragscope_trace::event::TimeNs;

use super::flat::{self, Shape};

/// Most samples kept: a day of one a second.
pub const SAMPLES_MAX: usize = 24 * 3600;
/// Most memory that kept samples may take together.
pub const BYTES_MAX: usize = 128 << 20;
/// Samples and bytes after which another chunk begins: what is decoded for any sample.
pub(super) const CHUNK_SAMPLES: usize = 64;
const CHUNK_BYTES: usize = 4 << 20;
/// Newest samples that are at hand as they came.
const RECENT: usize = 4;

/// Which samples leave when it is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Thinning {
    /// Those of the older three quarters.
    #[default]
    Older,
    /// Those of all of it.
    Even,
}

/// What charts show of a track at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figures {
    /// Regions obtainable, by moving pages where needed.
    pub obtainable_1g: u64,
    /// Regions tainted.
    pub tainted_1g: u64,
}

/// One sample, as far as charts need it.
#[derive(Clone, Copy, Debug)]
pub struct Point {
    /// Time of the sample.
    pub time_ns: TimeNs,
    /// By track and start state.
    figures: [Option<[u32; 2]>; TRACKS],
}

const TRACKS: usize = TrackKind::ALL.len() * 3;

impl Point {
    fn of(sample: &Sample) -> Point {
        let mut figures = [None; TRACKS];
        for track in &sample.tracks {
            let both = [track.totals.obtainable_1g.min, track.totals.tainted_1g.min];
            figures[slot(track.kind, track.start)] = Some(both.map(|n| n as u32));
        }
        Point { time_ns: sample.time_ns, figures }
    }

    /// The figures of a track; those of the as-found one where this start is not replayed.
    #[must_use]
    pub fn figures(&self, kind: TrackKind, start: StartState) -> Option<Figures> {
        let of = |start| self.figures[slot(kind, start)];
        let [obtainable_1g, tainted_1g] =
            of(start).or_else(|| of(StartState::AsFound))?.map(u64::from);
        Some(Figures { obtainable_1g, tainted_1g })
    }
}

fn slot(kind: TrackKind, start: StartState) -> usize {
    kind as usize * 3 + start as usize
}

/// Samples of one shape that follow each other.
#[derive(Clone, Debug)]
struct Chunk {
    shape: Arc<Shape>,
    bytes: Vec<u8>,
    /// Where each sample's differences end.
    ends: Vec<usize>,
    /// How often it was thinned.
    thinned: u8,
}

impl Chunk {
    fn new(shape: Arc<Shape>, thinned: u8) -> Chunk {
        Chunk { shape, bytes: Vec::new(), ends: Vec::new(), thinned }
    }

    fn len(&self) -> usize {
        self.ends.len()
    }

    fn is_full(&self) -> bool {
        self.len() >= CHUNK_SAMPLES || self.bytes.len() >= CHUNK_BYTES
    }

    fn push(&mut self, before: &[u64], now: &[u64]) {
        let before = if self.ends.is_empty() { &[] } else { before };
        flat::put_differences(before, now, &mut self.bytes);
        self.ends.push(self.bytes.len());
    }

    /// The numbers of each of its samples in turn.
    fn walk(&self, mut each: impl FnMut(usize, &[u64])) {
        let mut numbers = vec![0; flat::length(&self.shape)];
        let mut from = 0;
        for (i, end) in self.ends.iter().enumerate() {
            flat::apply_differences(&self.bytes[from..*end], &mut numbers);
            each(i, &numbers);
            from = *end;
        }
    }

    /// The numbers of one of its samples.
    fn numbers(&self, at: usize) -> Vec<u64> {
        let mut numbers = vec![0; flat::length(&self.shape)];
        let mut from = 0;
        for end in self.ends.iter().take(at + 1) {
            flat::apply_differences(&self.bytes[from..*end], &mut numbers);
            from = *end;
        }
        numbers
    }
}

/// Samples in ascending order of time.
#[derive(Clone, Debug, Default)]
pub struct History {
    points: Vec<Point>,
    chunks: Vec<Chunk>,
    /// Numbers of the newest sample.
    last: Vec<u64>,
    oldest: Option<Arc<Sample>>,
    recent: VecDeque<Arc<Sample>>,
    bytes: usize,
    thinning: Thinning,
}

impl History {
    /// An empty history.
    #[must_use]
    pub fn new(thinning: Thinning) -> History {
        History { thinning, ..History::default() }
    }

    /// Adds a sample; it replaces one of the same time. An older one is dropped: for a host that
    /// was restarted, see [`History::clear`].
    pub fn push(&mut self, sample: Arc<Sample>) {
        match self.points.last().map(|last| sample.time_ns.cmp(&last.time_ns)) {
            Some(Ordering::Less) => return,
            Some(Ordering::Equal) => self.pop(),
            _ => {}
        }
        self.append(&sample);
        self.points.push(Point::of(&sample));
        if self.points.len() == 1 {
            self.oldest = Some(Arc::clone(&sample));
        }
        self.recent.push_back(sample);
        if self.recent.len() > RECENT {
            self.recent.pop_front();
        }
        if self.points.len() > SAMPLES_MAX || self.bytes > BYTES_MAX {
            self.thin();
        }
    }

    fn append(&mut self, sample: &Sample) {
        let goes_on = |chunk: &Chunk| !chunk.is_full() && chunk.shape.fits(sample);
        if !self.chunks.last().is_some_and(goes_on) {
            let before = self.chunks.last().map(|chunk| &chunk.shape);
            let same = before.filter(|shape| shape.fits(sample));
            let shape = same.map_or_else(|| Arc::new(Shape::of(sample)), Arc::clone);
            self.chunks.push(Chunk::new(shape, 0));
        }
        let mut numbers = Vec::with_capacity(self.last.len());
        flat::numbers(sample, &mut numbers);
        if let Some(chunk) = self.chunks.last_mut() {
            let before = chunk.bytes.len();
            chunk.push(&self.last, &numbers);
            self.bytes += chunk.bytes.len() - before;
        }
        self.last = numbers;
    }

    /// Forgets the newest sample.
    fn pop(&mut self) {
        self.points.pop();
        self.recent.pop_back();
        let Some(chunk) = self.chunks.last_mut() else { return };
        chunk.ends.pop();
        let end = chunk.ends.last().copied().unwrap_or(0);
        self.bytes -= chunk.bytes.len() - end;
        chunk.bytes.truncate(end);
        if chunk.len() == 0 {
            self.chunks.pop();
        }
        let last = self.chunks.last().map(|chunk| chunk.numbers(chunk.len() - 1));
        self.last = last.unwrap_or_default();
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = History::new(self.thinning);
    }

    /// All samples, as far as charts need them.
    #[must_use]
    pub fn points(&self) -> &[Point] {
        &self.points
    }

    /// Bytes of all samples.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The first kept.
    #[must_use]
    pub fn oldest(&self) -> Option<&Arc<Sample>> {
        self.oldest.as_ref()
    }

    /// The last one.
    #[must_use]
    pub fn newest(&self) -> Option<&Arc<Sample>> {
        self.recent.back()
    }

    /// Position of the last sample at or before `time_ns`, else of the first.
    #[must_use]
    pub fn index_at(&self, time_ns: TimeNs) -> Option<usize> {
        let after = self.points.partition_point(|p| p.time_ns <= time_ns);
        (!self.points.is_empty()).then(|| after.saturating_sub(1))
    }

    /// The point at that position.
    #[must_use]
    pub fn point_at(&self, time_ns: TimeNs) -> Option<&Point> {
        self.index_at(time_ns).map(|i| &self.points[i])
    }

    /// The sample at a position.
    #[must_use]
    pub fn sample(&self, index: usize) -> Option<Arc<Sample>> {
        let time_ns = self.points.get(index)?.time_ns;
        let at_hand = self.recent.iter().chain(&self.oldest).find(|s| s.time_ns == time_ns);
        if let Some(sample) = at_hand {
            return Some(Arc::clone(sample));
        }
        let mut at = index;
        for chunk in &self.chunks {
            match at.checked_sub(chunk.len()) {
                Some(after) => at = after,
                None => return chunk.shape.sample(&chunk.numbers(at)).map(Arc::new),
            }
        }
        None
    }

    /// Makes one of two chunks that follow each other, of every second sample. The chunk that grows
    /// is left alone; of the others those go first that were thinned least, the oldest of them.
    fn thin(&mut self) {
        let closed = self.chunks.len().saturating_sub(1);
        let among = match self.thinning {
            Thinning::Older => closed - closed / 4,
            Thinning::Even => closed,
        };
        let pairs = self.chunks[..among].windows(2).enumerate();
        let alike = pairs.filter(|(_, pair)| pair[0].shape == pair[1].shape);
        let level = |pair: &[Chunk]| pair[0].thinned.max(pair[1].thinned);
        match alike.min_by_key(|(i, pair)| (level(pair), *i)).map(|(i, _)| i) {
            Some(at) => self.merge(at),
            None => self.forget_oldest(),
        }
    }

    fn merge(&mut self, at: usize) {
        let first: usize = self.chunks[..at].iter().map(Chunk::len).sum();
        let count = self.chunks[at].len() + self.chunks[at + 1].len();
        let thinned = self.chunks[at].thinned.max(self.chunks[at + 1].thinned) + 1;
        let mut merged = Chunk::new(Arc::clone(&self.chunks[at].shape), thinned);
        let (mut before, mut seen) = (Vec::new(), 0);
        for chunk in &self.chunks[at..at + 2] {
            chunk.walk(|_, numbers| {
                if seen % 2 == 0 {
                    merged.push(&before, numbers);
                    before.clear();
                    before.extend_from_slice(numbers);
                }
                seen += 1;
            });
        }
        let bytes = |chunk: &Chunk| chunk.bytes.len();
        self.bytes -= bytes(&self.chunks[at]) + bytes(&self.chunks[at + 1]);
        self.bytes += merged.bytes.len();
        self.chunks.splice(at..at + 2, [merged]);
        let mut index = 0;
        self.points.retain(|_| {
            let offset = (index as usize).checked_sub(first).filter(|offset| *offset < count);
            index += 1;
            offset.is_none_or(|offset| offset % 2 == 0)
        });
    }

    /// Where no two chunks are alike, the oldest leaves as a whole.
    fn forget_oldest(&mut self) {
        if self.chunks.len() < 2 {
            return;
        }
        let chunk = self.chunks.remove(0);
        self.bytes -= chunk.bytes.len();
        self.points.drain(..chunk.len());
        let first = &self.chunks[0];
        self.oldest = first.shape.sample(&first.numbers(0)).map(Arc::new);
    }
}

#[cfg(test)]
mod tests {
    use fragscope_replay::observe::{EventTotals, TrackSample};
    use fragscope_trace::page::Content;
    use fragscope_trace::region::{RegionCensus, RegionTotals};
    use proptest::prelude::*;

    use super::*;

    fn sample(time_ns: u64) -> Arc<Sample> {
        Arc::new(Sample {
            time_ns,
            tracks: Vec::new(),
            events: EventTotals { allocs: time_ns * time_ns, ..EventTotals::default() },
            kernel_divergence: None,
            stock_divergence: None,
            peak_unmovable_pages: 0,
            floor_1g: 0,
            cost: None,
        })
    }

    /// Another shape: with a track whose pages change.
    fn with_track(time_ns: u64) -> Arc<Sample> {
        let mut pages = [0; Content::COUNT];
        pages[Content::Slab.index()] = time_ns as u32 % 1000;
        let start = fragscope_trace::page::Pfn(0);
        let region = RegionCensus { zone: 0, start, span_pages: 1000, obtainable: true, pages };
        let regions = vec![region; 50];
        let track = TrackSample {
            kind: TrackKind::Kernel,
            start: StartState::AsFound,
            totals: RegionTotals::with_reserve(0, &regions),
            regions,
            has_bit_tainted_1g: None,
            block_type_tainted_1g: None,
            free_blocks: Vec::new(),
            counters: Default::default(),
        };
        Arc::new(Sample { tracks: vec![track], ..(*sample(time_ns)).clone() })
    }

    fn times(history: &History) -> Vec<u64> {
        history.points().iter().map(|p| p.time_ns).collect()
    }

    proptest! {
        /// Whatever is kept is what was pushed, also after thinning.
        #[test]
        fn a_sample_comes_back_as_it_was(
            steps in prop::collection::vec((0u64..3, any::<bool>()), 1..300),
            thinned in 0usize..12,
        ) {
            let (mut history, mut pushed) = (History::new(Thinning::Even), Vec::new());
            let mut time_ns = 1;
            for (step, track) in steps {
                time_ns += step;
                let next = if track { with_track(time_ns) } else { sample(time_ns) };
                history.push(Arc::clone(&next));
                pushed.retain(|s: &Arc<Sample>| s.time_ns != time_ns);
                pushed.push(next);
            }
            (0..thinned).for_each(|_| history.thin());
            prop_assert_eq!(history.newest(), pushed.last());
            prop_assert_eq!(history.sample(0), history.oldest().cloned());
            for (i, point) in history.points().iter().enumerate() {
                let wanted = pushed.iter().find(|s| s.time_ns == point.time_ns);
                prop_assert_eq!(history.sample(i), wanted.cloned());
            }
            let bytes: usize = history.chunks.iter().map(|c| c.bytes.len()).sum();
            prop_assert_eq!(history.bytes(), bytes);
        }
    }

    #[test]
    fn it_stays_bounded_and_keeps_both_ends() {
        let mut history = History::default();
        let newest = SAMPLES_MAX as u64 + 20_000;
        for t in 0..=newest {
            history.push(sample(t));
            assert!(history.points().len() <= SAMPLES_MAX);
        }
        let times = times(&history);
        assert_eq!((times[0], times[times.len() - 1]), (0, newest));
        assert!(times.is_sorted());
        let recent = times.iter().filter(|t| **t > newest - 200).count();
        assert_eq!(recent, 200, "the recent past is not thinned");
    }

    #[test]
    fn a_recording_is_equally_fine_everywhere() {
        let mut history = History::new(Thinning::Even);
        (0..1000).for_each(|t| history.push(sample(t)));
        (0..7).for_each(|_| history.thin());
        let times = times(&history);
        assert_eq!((times[0], times[times.len() - 1]), (0, 999));
        let gaps: Vec<u64> = times.windows(2).map(|w| w[1] - w[0]).collect();
        assert!(gaps.iter().all(|gap| (1..=2).contains(gap)), "{gaps:?}");
        assert!(times.len() < 560, "{}", times.len());
    }

    #[test]
    fn looking_up_a_time_gives_the_sample_before_it() {
        let mut history = History::default();
        assert_eq!(history.index_at(5), None);
        [10, 20, 30].into_iter().for_each(|t| history.push(sample(t)));
        let at = |t| history.point_at(t).map(|p| p.time_ns);
        assert_eq!([at(5), at(10), at(29), at(99)], [Some(10), Some(10), Some(20), Some(30)]);
    }

    #[test]
    fn a_sample_from_the_past_is_not_kept() {
        let mut history = History::default();
        [10, 20, 15].into_iter().for_each(|t| history.push(sample(t)));
        assert_eq!(times(&history), [10, 20]);
    }
}
