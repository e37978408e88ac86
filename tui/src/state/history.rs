//! The samples that are kept, to look back at.
//!
//! Bounded in number and in bytes. When it is full, samples are thinned to every second one: those
//! of live data in its older part, so that the recent past stays fine; those of a recording
//! everywhere, so that all of it is equally fine.

use std::cmp::Ordering;
use std::sync::Arc;

use fragscope_replay::observe::Sample;
use fragscope_trace::event::TimeNs;

/// Most samples kept.
pub const SAMPLES_MAX: usize = 2400;
/// Most memory that kept samples may take together.
pub const BYTES_MAX: usize = 96 << 20;
/// Fewer samples than this are never thinned, however large each is.
const SAMPLES_MIN: usize = 64;

/// Which samples leave when it is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Thinning {
    /// Every second of the older three quarters.
    #[default]
    Older,
    /// Every second.
    Even,
}

/// Samples in ascending order of time.
#[derive(Clone, Debug, Default)]
pub struct History {
    samples: Vec<Arc<Sample>>,
    bytes: usize,
    thinning: Thinning,
    /// With [`Thinning::Even`], samples nearer to each other are not kept, but for the newest.
    spacing_ns: TimeNs,
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
        match self.newest().map(|last| sample.time_ns.cmp(&last.time_ns)) {
            Some(Ordering::Less) => return,
            Some(Ordering::Equal) => self.pop(),
            _ => self.drop_close(),
        }
        self.bytes += size_bytes(&sample);
        self.samples.push(sample);
        let full = self.samples.len() > SAMPLES_MAX || self.bytes > BYTES_MAX;
        if full && self.samples.len() > SAMPLES_MIN {
            self.thin();
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = History::new(self.thinning);
    }

    /// All samples.
    #[must_use]
    pub fn samples(&self) -> &[Arc<Sample>] {
        &self.samples
    }

    /// The first kept.
    #[must_use]
    pub fn oldest(&self) -> Option<&Arc<Sample>> {
        self.samples.first()
    }

    /// The last one.
    #[must_use]
    pub fn newest(&self) -> Option<&Arc<Sample>> {
        self.samples.last()
    }

    /// Position of the last sample at or before `time_ns`, else of the first.
    #[must_use]
    pub fn index_at(&self, time_ns: TimeNs) -> Option<usize> {
        let after = self.samples.partition_point(|s| s.time_ns <= time_ns);
        (!self.samples.is_empty()).then(|| after.saturating_sub(1))
    }

    /// The sample at that position.
    #[must_use]
    pub fn at(&self, time_ns: TimeNs) -> Option<&Arc<Sample>> {
        self.index_at(time_ns).map(|i| &self.samples[i])
    }

    /// Drops the newest sample if it is too near to the one before it: another follows.
    fn drop_close(&mut self) {
        if let [.., before, last] = self.samples.as_slice()
            && last.time_ns - before.time_ns < self.spacing_ns
        {
            self.pop();
        }
    }

    fn pop(&mut self) {
        if let Some(sample) = self.samples.pop() {
            self.bytes -= size_bytes(&sample);
        }
    }

    fn thin(&mut self) {
        let older = match self.thinning {
            Thinning::Older => self.samples.len() - self.samples.len() / 4,
            Thinning::Even => self.samples.len(),
        };
        let newest = self.samples.len();
        let mut index = 0;
        self.samples.retain(|_| {
            index += 1;
            index > older || index % 2 == 1 || index == newest
        });
        self.bytes = self.samples.iter().map(|s| size_bytes(s)).sum();
        if let (Thinning::Even, [first, .., last]) = (self.thinning, self.samples.as_slice()) {
            let gaps = self.samples.len() as u64 - 1;
            self.spacing_ns = (last.time_ns - first.time_ns) / gaps;
        }
    }
}

/// Memory of one sample, near enough.
fn size_bytes(sample: &Sample) -> usize {
    let track = |t: &fragscope_replay::observe::TrackSample| {
        size_of_val(t.regions.as_slice()) + t.counters.len() * 80 + 512
    };
    sample.tracks.iter().map(track).sum::<usize>() + size_of::<Sample>()
}

#[cfg(test)]
mod tests {
    use fragscope_replay::observe::EventTotals;

    use super::*;

    fn sample(time_ns: u64) -> Arc<Sample> {
        Arc::new(Sample {
            time_ns,
            tracks: Vec::new(),
            events: EventTotals::default(),
            kernel_divergence: None,
            stock_divergence: None,
            peak_unmovable_pages: 0,
            floor_1g: 0,
            cost: None,
        })
    }

    #[test]
    fn it_stays_bounded_and_keeps_both_ends() {
        let mut history = History::default();
        for t in 0..20_000 {
            history.push(sample(t));
            assert!(history.samples().len() <= SAMPLES_MAX);
        }
        assert_eq!(history.oldest().map(|s| s.time_ns), Some(0));
        assert_eq!(history.newest().map(|s| s.time_ns), Some(19_999));
        assert!(history.samples().is_sorted_by_key(|s| s.time_ns));
        let recent = history.samples().iter().filter(|s| s.time_ns >= 19_800).count();
        assert_eq!(recent, 200, "the recent past is not thinned");
    }

    #[test]
    fn a_recording_is_equally_fine_everywhere() {
        let mut history = History::new(Thinning::Even);
        (0..20_000).for_each(|t| history.push(sample(t)));
        let times: Vec<u64> = history.samples().iter().map(|s| s.time_ns).collect();
        assert_eq!((times[0], times[times.len() - 1]), (0, 19_999));
        assert!(times.len() > SAMPLES_MAX / 3);
        let gaps = times.windows(2).map(|w| w[1] - w[0]);
        let (least, most) = (gaps.clone().rev().skip(2).min(), gaps.max());
        assert!(most <= least.map(|g| g * 2), "gaps from {least:?} to {most:?}");
    }

    #[test]
    fn looking_up_a_time_gives_the_sample_before_it() {
        let mut history = History::default();
        assert_eq!(history.index_at(5), None);
        [10, 20, 30].into_iter().for_each(|t| history.push(sample(t)));
        let at = |t| history.at(t).map(|s| s.time_ns);
        assert_eq!([at(5), at(10), at(29), at(99)], [Some(10), Some(10), Some(20), Some(30)]);
    }

    #[test]
    fn a_sample_from_the_past_is_not_kept() {
        let mut history = History::default();
        [10, 20, 15].into_iter().for_each(|t| history.push(sample(t)));
        assert_eq!(history.samples().len(), 2);
    }

    #[test]
    fn a_sample_of_the_same_time_replaces_the_one_before() {
        let mut history = History::default();
        [10, 20].into_iter().for_each(|t| history.push(sample(t)));
        let better = Arc::new(Sample { floor_1g: 7, ..(*sample(20)).clone() });
        history.push(better);
        assert_eq!(history.samples().len(), 2);
        assert_eq!(history.newest().map(|s| s.floor_1g), Some(7));
    }
}
