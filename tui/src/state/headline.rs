//! The answer as a sentence, and what each policy paid for its part of it.

use fragscope_replay::compare::track_report::TrackReport;
use fragscope_replay::observe::{Sample, StartState, TrackKind, TrackSample};

use crate::format::{bounds, count, pages};

/// What a track's policy did beyond serving requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Price {
    /// Pages migrated.
    pub moved_pages: u64,
    /// Pages dropped or swapped out beyond what the kernel did.
    pub reclaimed_pages: u64,
    /// Requests refused that the kernel served.
    pub refused: u64,
}

impl Price {
    /// The price of one track.
    #[must_use]
    pub fn of(sample: &Sample, track: &TrackSample) -> Price {
        let report = TrackReport::new(track, &sample.events, sample.floor_1g);
        Price {
            moved_pages: report.moved_pages,
            reclaimed_pages: report.reclaimed_pages,
            refused: report.refused,
        }
    }

    /// In words.
    #[must_use]
    pub fn text(&self) -> String {
        format!(
            "moved {}, reclaimed {}, refused {} requests",
            pages(self.moved_pages),
            pages(self.reclaimed_pages),
            count(self.refused)
        )
    }
}

/// How many 1 GiB pages could be had, under the kernel and under superpageblocks.
#[must_use]
pub fn headline(sample: &Sample) -> Option<String> {
    let kernel = find(sample, TrackKind::Kernel, StartState::AsFound)?;
    let had = |t: &TrackSample| bounds(t.totals.obtainable_1g);
    let mut text = format!("{} of {} could be 1 GiB pages", had(kernel), kernel.totals.whole_1g);
    if let Some(spb) = find(sample, TrackKind::Spb, StartState::AsFound) {
        text += &format!("; under spb {}", had(spb));
    }
    if let Some(spb) = find(sample, TrackKind::Spb, StartState::FromBoot) {
        text += &format!(", had it ruled since boot {}", had(spb));
    }
    Some(text)
}

/// What superpageblocks cost to get there.
#[must_use]
pub fn price_of_spb(sample: &Sample) -> Option<String> {
    let starts = [(StartState::AsFound, "as found"), (StartState::FromBoot, "from boot")];
    let of = |(start, word): (StartState, &str)| {
        let track = find(sample, TrackKind::Spb, start)?;
        Some(format!("{word} {}", Price::of(sample, track).text()))
    };
    let prices: Vec<String> = starts.into_iter().filter_map(of).collect();
    (!prices.is_empty()).then(|| format!("price of spb: {}", prices.join("; ")))
}

fn find(sample: &Sample, kind: TrackKind, start: StartState) -> Option<&TrackSample> {
    let is_wanted = |t: &&TrackSample| t.kind == kind && t.start == start;
    sample.tracks.iter().find(is_wanted)
}
