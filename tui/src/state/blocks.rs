//! Pageblocks of every track over time: a first state and what changed since, about every second.
//!
//! Bounded: when there is too much, changes that follow each other become one, and where that is
//! not enough the oldest become part of the first state. So the newest state is always exact, and
//! an earlier one is that of the last change kept before it.

use fragscope_replay::observe::{BlockCensus, BlockChanges, StartState, TrackKind};
use fragscope_trace::event::TimeNs;

/// Changes closer to each other are kept as one.
const SPACING_NS: TimeNs = 1_000_000_000;
/// Pageblock states kept in changes, of all tracks together: 48 MiB.
const ENTRIES_MAX: usize = 4 << 20;

/// Pageblocks by number, ascending.
type Blocks = Vec<(u32, BlockCensus)>;

/// Changes of one track between two times.
#[derive(Clone, Debug)]
struct Change {
    from_ns: TimeNs,
    to_ns: TimeNs,
    blocks: Blocks,
}

/// One track.
#[derive(Clone, Debug)]
struct Track {
    kind: TrackKind,
    start: StartState,
    first: Blocks,
    changes: Vec<Change>,
}

/// All tracks.
#[derive(Clone, Debug, Default)]
pub struct BlockHistory {
    tracks: Vec<Track>,
}

impl BlockHistory {
    /// Adds what changed up to a time.
    pub fn push(&mut self, time_ns: TimeNs, changes: Vec<BlockChanges>) {
        for BlockChanges { kind, start, blocks } in changes {
            self.track_mut(kind, start).push(time_ns, blocks);
        }
        while self.entries() > ENTRIES_MAX {
            let before = self.entries();
            self.tracks.iter_mut().for_each(Track::coarsen);
            if self.entries() > before / 4 * 3 {
                self.tracks.iter_mut().for_each(Track::forget_half);
            }
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.tracks.clear();
    }

    /// The pageblocks with numbers in `range` of a track at a time, ascending; empty where the
    /// track's are not known.
    #[must_use]
    pub fn at(
        &self,
        (kind, start): (TrackKind, StartState),
        time_ns: TimeNs,
        range: std::ops::Range<u32>,
    ) -> Vec<(u32, BlockCensus)> {
        let track = self.tracks.iter().find(|t| t.kind == kind && t.start == start);
        let Some(track) = track else {
            return Vec::new();
        };
        let mut blocks = part(&track.first, &range).to_vec();
        for change in track.changes.iter().take_while(|c| c.to_ns <= time_ns) {
            for (block, census) in part(&change.blocks, &range) {
                match blocks.binary_search_by_key(block, |(b, _)| *b) {
                    Ok(at) => blocks[at].1 = *census,
                    Err(at) => blocks.insert(at, (*block, *census)),
                }
            }
        }
        blocks
    }

    fn track_mut(&mut self, kind: TrackKind, start: StartState) -> &mut Track {
        let known = self.tracks.iter().position(|t| t.kind == kind && t.start == start);
        let at = known.unwrap_or_else(|| {
            self.tracks.push(Track { kind, start, first: Vec::new(), changes: Vec::new() });
            self.tracks.len() - 1
        });
        &mut self.tracks[at]
    }

    fn entries(&self) -> usize {
        self.tracks.iter().flat_map(|t| &t.changes).map(|c| c.blocks.len()).sum()
    }
}

impl Track {
    fn push(&mut self, time_ns: TimeNs, blocks: Blocks) {
        if self.first.is_empty() {
            self.first = blocks;
            return;
        }
        match self.changes.last_mut() {
            Some(last) if time_ns < last.from_ns + SPACING_NS => {
                last.to_ns = time_ns;
                last.blocks = merged(&last.blocks, &blocks);
            }
            _ => self.changes.push(Change { from_ns: time_ns, to_ns: time_ns, blocks }),
        }
    }

    /// Makes one of every two changes that follow each other.
    fn coarsen(&mut self) {
        let mut coarse = Vec::with_capacity(self.changes.len() / 2 + 1);
        for pair in self.changes.chunks(2) {
            coarse.push(match pair {
                [earlier, later] => Change {
                    from_ns: earlier.from_ns,
                    to_ns: later.to_ns,
                    blocks: merged(&earlier.blocks, &later.blocks),
                },
                rest => rest[0].clone(),
            });
        }
        self.changes = coarse;
    }

    /// Makes the older half of the changes part of the first state.
    fn forget_half(&mut self) {
        let half = self.changes.len().div_ceil(2);
        for change in self.changes.drain(..half) {
            self.first = merged(&self.first, &change.blocks);
        }
    }
}

/// Adds later changes to earlier ones.
pub fn join(all: &mut Vec<BlockChanges>, later: Vec<BlockChanges>) {
    for change in later {
        let same = |c: &&mut BlockChanges| (c.kind, c.start) == (change.kind, change.start);
        match all.iter_mut().find(same) {
            Some(earlier) => earlier.blocks = merged(&earlier.blocks, &change.blocks),
            None => all.push(change),
        }
    }
}

/// The pageblocks with numbers in a range.
fn part<'a>(
    blocks: &'a [(u32, BlockCensus)],
    range: &std::ops::Range<u32>,
) -> &'a [(u32, BlockCensus)] {
    let from = blocks.partition_point(|(b, _)| *b < range.start);
    let to = blocks.partition_point(|(b, _)| *b < range.end);
    &blocks[from..to]
}

/// Both, the later where both have a pageblock.
fn merged(earlier: &[(u32, BlockCensus)], later: &[(u32, BlockCensus)]) -> Blocks {
    let mut all = Vec::with_capacity(earlier.len().max(later.len()));
    let (mut a, mut b) = (earlier.iter().peekable(), later.iter().peekable());
    while let (Some(x), Some(y)) = (a.peek(), b.peek()) {
        match x.0.cmp(&y.0) {
            std::cmp::Ordering::Less => all.extend(a.next()),
            std::cmp::Ordering::Greater => all.extend(b.next()),
            std::cmp::Ordering::Equal => {
                a.next();
                all.extend(b.next());
            }
        }
    }
    all.extend(a);
    all.extend(b);
    all
}

#[cfg(test)]
mod tests {
    use fragscope_trace::page::Content;
    use proptest::prelude::*;

    use super::*;

    const SPB: (TrackKind, StartState) = (TrackKind::Spb, StartState::AsFound);

    fn census(free_pages: u16) -> BlockCensus {
        BlockCensus { free_pages, ..BlockCensus::new(None, [Content::Free]) }
    }

    fn changes(blocks: &[(u32, u16)]) -> Vec<BlockChanges> {
        let blocks = blocks.iter().map(|(block, free)| (*block, census(*free))).collect();
        vec![BlockChanges { kind: SPB.0, start: SPB.1, blocks }]
    }

    proptest! {
        /// Against a list of all states: exact at the end, and at changes further apart than the
        /// spacing.
        #[test]
        fn a_state_is_what_was_pushed_last(
            pushed in prop::collection::vec(
                (1..3u64, prop::collection::btree_map(0..20u32, 0..512u16, 0..6)),
                1..30,
            ),
            coarsen in any::<bool>(),
        ) {
            let mut history = BlockHistory::default();
            history.push(0, changes(&(0..20).map(|b| (b, 7)).collect::<Vec<_>>()));
            let mut state: Vec<u16> = vec![7; 20];
            let (mut time_ns, mut states) = (0, Vec::new());
            for (seconds, blocks) in pushed {
                time_ns += seconds * SPACING_NS;
                let blocks: Vec<(u32, u16)> = blocks.into_iter().collect();
                blocks.iter().for_each(|(block, free)| state[*block as usize] = *free);
                history.push(time_ns, changes(&blocks));
                states.push((time_ns, state.clone()));
            }
            let read = |history: &BlockHistory, time_ns| -> Vec<u16> {
                history.at(SPB, time_ns, 0..20).iter().map(|(_, c)| c.free_pages).collect()
            };
            if coarsen {
                history.tracks[0].coarsen();
                history.tracks[0].forget_half();
                states.drain(..states.len() - 1);
            }
            for (time_ns, state) in states {
                prop_assert_eq!(read(&history, time_ns), state);
            }
        }
    }

    #[test]
    fn it_stays_bounded() {
        let mut history = BlockHistory::default();
        let all: Vec<(u32, u16)> = (0..300_000).map(|b| (b, 1)).collect();
        for second in 0..40 {
            history.push(second * SPACING_NS, changes(&all));
            assert!(history.entries() <= ENTRIES_MAX);
        }
    }

    #[test]
    fn only_the_region_asked_for_is_given() {
        let mut history = BlockHistory::default();
        history.push(5, changes(&[(1, 1), (512, 2), (513, 3), (1024, 4)]));
        let blocks: Vec<u32> = history.at(SPB, 9, 512..1024).iter().map(|(b, _)| *b).collect();
        assert_eq!(blocks, [512, 513]);
        assert!(history.at((TrackKind::Stock, SPB.1), 9, 0..9999).is_empty());
    }
}
