//! Pageblocks of every track over time: for each region a state and what changed since, from sample
//! to sample, and a state anew every so many bytes.
//!
//! Kept encoded, region by region, in stretches of time that each begin with all pageblocks, so
//! that one region at any time is a stretch's worth of work, however long the recording. Bounded:
//! when there is too much, two stretches become one in which changes that follow each other are
//! joined. The newest state is always exact, and an earlier one is that of the last change kept
//! before it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use fragscope_replay::observe::{BlockCensus, BlockChanges, FreeBlocks, StartState, TrackKind};
use fragscope_trace::event::TimeNs;
use fragscope_trace::page::{Content, Migratetype};
use fragscope_trace::varint::{self, Input};

/// Bytes kept of all tracks together.
pub const BYTES_MAX: usize = 128 << 20;
/// log2 of the pageblocks that are kept together: those of a region.
const GROUP_SHIFT: u32 = 9;
/// Bytes after which another stretch begins: what is decoded for a region at any time. Beginning
/// anew takes some kilobytes, reading this much a fraction of a millisecond. Tests have many.
pub(super) const STRETCH_BYTES: usize = if cfg!(test) { 600 } else { 64 << 10 };
/// zstd level of stretches that are over.
const LEVEL: i32 = 1;

/// Pageblocks by number, ascending.
type Blocks = Vec<(u32, BlockCensus)>;

/// Pageblocks that changed, and when.
type Change = (TimeNs, Blocks);

/// Which pageblocks: a track's, of one region.
type Key = (TrackKind, StartState, u32);

/// Some pageblocks over time.
#[derive(Clone, Debug, Default)]
struct Stream {
    /// In order of time; the last one grows, the others are packed.
    stretches: Vec<Stretch>,
    /// Bytes of all of them.
    bytes: usize,
}

/// All pageblocks at one time, and what changed from then on.
#[derive(Clone, Debug)]
struct Stretch {
    from_ns: TimeNs,
    /// Time of the last change.
    last_ns: TimeNs,
    /// Changes in order: time since the change before, number of pageblocks, and those.
    bytes: Vec<u8>,
    /// How many bytes these are, if they are packed.
    packed: Option<usize>,
    /// How often changes were joined.
    coarsened: u8,
}

/// What [`BlockHistory::at`] tells.
#[derive(Clone, Debug, Default)]
pub struct BlocksAt {
    /// The pageblocks, ascending.
    pub blocks: Vec<(u32, BlockCensus)>,
    /// The time that they are of, where changes were joined, so that some of those up to the time
    /// asked for may be missing.
    pub as_of: Option<TimeNs>,
}

/// All tracks.
#[derive(Clone, Debug, Default)]
pub struct BlockHistory {
    streams: BTreeMap<Key, Stream>,
    bytes: usize,
}

impl BlockHistory {
    /// Adds what changed up to a time.
    pub fn push(&mut self, time_ns: TimeNs, changes: Vec<BlockChanges>) {
        self.push_within(BYTES_MAX, time_ns, changes);
    }

    fn push_within(&mut self, bytes_max: usize, time_ns: TimeNs, changes: Vec<BlockChanges>) {
        for BlockChanges { kind, start, blocks } in changes {
            for part in blocks.chunk_by(|a, b| a.0 >> GROUP_SHIFT == b.0 >> GROUP_SHIFT) {
                let stream =
                    self.streams.entry((kind, start, part[0].0 >> GROUP_SHIFT)).or_default();
                let before = stream.bytes;
                stream.push(time_ns, part);
                self.bytes = self.bytes + stream.bytes - before;
            }
        }
        while self.bytes > bytes_max && self.coarsen() {}
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = BlockHistory::default();
    }

    /// Bytes of all changes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The pageblocks with numbers in `range` of a track at a time; none where the track's are not
    /// known.
    #[must_use]
    pub fn at(
        &self,
        (kind, start): (TrackKind, StartState),
        time_ns: TimeNs,
        range: std::ops::Range<u32>,
    ) -> BlocksAt {
        let groups = range.start >> GROUP_SHIFT..=range.end.saturating_sub(1) >> GROUP_SHIFT;
        let streams = groups.filter_map(|group| self.streams.get(&(kind, start, group)));
        let mut found = BlocksAt::default();
        for stretch in streams.filter_map(|stream| stream.at(time_ns)) {
            let (last_ns, blocks) = stretch.state(time_ns);
            found.blocks.extend(blocks.into_iter().filter(|(block, _)| range.contains(block)));
            if stretch.coarsened > 0 {
                found.as_of = Some(found.as_of.map_or(last_ns, |as_of| as_of.min(last_ns)));
            }
        }
        found
    }

    /// Joins changes of the region that takes most room. Returns whether that made it smaller.
    fn coarsen(&mut self) -> bool {
        let Some(stream) = self.streams.values_mut().max_by_key(|stream| stream.bytes) else {
            return false;
        };
        let before = stream.bytes;
        stream.coarsen();
        self.bytes = self.bytes + stream.bytes - before;
        stream.bytes < before
    }
}

impl Stream {
    /// Appends what changed up to a time, which never goes back.
    fn push(&mut self, time_ns: TimeNs, blocks: &[(u32, BlockCensus)]) {
        match self.stretches.last_mut() {
            None => self.stretches.push(Stretch::new(time_ns, blocks)),
            Some(last) if last.bytes.len() < STRETCH_BYTES => last.push(time_ns, blocks),
            Some(last) => {
                let time_ns = time_ns.max(last.last_ns);
                let next = Stretch::new(time_ns, &merged(&last.state(time_ns).1, blocks));
                last.pack();
                self.stretches.push(next);
            }
        }
        self.bytes = self.stretches.iter().map(|s| s.bytes.len()).sum();
    }

    /// The stretch that tells the state at a time; none before the first.
    fn at(&self, time_ns: TimeNs) -> Option<&Stretch> {
        let after = self.stretches.partition_point(|stretch| stretch.from_ns <= time_ns);
        self.stretches[..after].last()
    }

    /// Makes one of two packed stretches that follow each other: of those that were coarsened
    /// least the oldest. Where there are none, the one that grows is made coarser.
    fn coarsen(&mut self) {
        let packed = self.stretches.len().saturating_sub(1);
        let pairs = self.stretches[..packed].windows(2).enumerate();
        let level = |pair: &[Stretch]| pair[0].coarsened.max(pair[1].coarsened);
        let (range, packs) = match pairs.min_by_key(|(i, pair)| (level(pair), *i)) {
            Some((i, _)) => (i..i + 2, true),
            None => (packed..self.stretches.len(), false),
        };
        if let Some(mut coarser) = Stretch::joined(&self.stretches[range.clone()]) {
            if packs {
                coarser.pack();
            }
            self.stretches.splice(range, [coarser]);
        }
        self.bytes = self.stretches.iter().map(|s| s.bytes.len()).sum();
    }
}

impl Stretch {
    /// A stretch that begins with these pageblocks.
    fn new(from_ns: TimeNs, blocks: &[(u32, BlockCensus)]) -> Stretch {
        let mut stretch =
            Stretch { from_ns, last_ns: 0, bytes: Vec::new(), packed: None, coarsened: 0 };
        stretch.push(from_ns, blocks);
        stretch
    }

    /// Appends what changed up to a time; it must not be packed.
    fn push(&mut self, time_ns: TimeNs, blocks: &[(u32, BlockCensus)]) {
        let time_ns = time_ns.max(self.last_ns);
        varint::put(&mut self.bytes, time_ns - self.last_ns);
        varint::put(&mut self.bytes, blocks.len() as u64);
        let mut next = 0;
        for (block, census) in blocks {
            varint::put(&mut self.bytes, u64::from(block - next));
            put_block(census, &mut self.bytes);
            next = block + 1;
        }
        self.last_ns = time_ns;
    }

    /// Packs what it holds, if that makes it smaller.
    fn pack(&mut self) {
        if self.packed.is_none()
            && let Ok(packed) = zstd::bulk::compress(&self.bytes, LEVEL)
            && packed.len() < self.bytes.len()
        {
            self.packed = Some(self.bytes.len());
            // It has room for what cannot be packed at all.
            self.bytes = packed.as_slice().into();
        }
    }

    /// All changes up to a time, in order.
    fn changes(&self, until_ns: TimeNs) -> Vec<Change> {
        let bytes = match self.packed {
            None => Cow::Borrowed(self.bytes.as_slice()),
            // It was packed by this very program.
            Some(length) => zstd::bulk::decompress(&self.bytes, length).unwrap_or_default().into(),
        };
        #[cfg(test)]
        super::work::bytes_decoded(bytes.len());
        let (mut input, mut time_ns) = (Input::new(&bytes), 0);
        let read = std::iter::from_fn(|| {
            time_ns += input.varint("time").ok()?;
            Some((time_ns, take_blocks(&mut input)?))
        });
        read.take_while(|(time, _)| *time <= until_ns).collect()
    }

    /// The pageblocks at a time, and when the last of them changed.
    fn state(&self, time_ns: TimeNs) -> Change {
        let (mut last_ns, mut blocks) = (self.from_ns, [None; 1 << GROUP_SHIFT]);
        for (changed_ns, changed) in self.changes(time_ns) {
            last_ns = changed_ns;
            for (block, census) in changed {
                blocks[block as usize % blocks.len()] = Some((block, census));
            }
        }
        (last_ns, blocks.into_iter().flatten().collect())
    }

    /// Stretches that follow each other as one, with as many changes joined as it takes to stay
    /// within the length of one: every two at least. `None` without any.
    fn joined(stretches: &[Stretch]) -> Option<Stretch> {
        let (first, rest) = stretches.split_first()?;
        let mut changes = first.changes(TimeNs::MAX);
        let mut before = first;
        for stretch in rest {
            let (_, state) = before.state(TimeNs::MAX);
            let mut later = stretch.changes(TimeNs::MAX);
            // It begins with all pageblocks, most of them known.
            if let Some((_, begin)) = later.first_mut() {
                begin.retain(|block| !holds(&state, block));
            }
            changes.append(&mut later);
            before = stretch;
        }
        let (begin, changes) = changes.split_first()?;
        let coarsened = stretches.iter().map(|s| s.coarsened).max().unwrap_or(0).saturating_add(1);
        let mut each = 2;
        loop {
            let mut joined = Stretch::new(begin.0, &begin.1);
            joined.coarsened = coarsened;
            for some in changes.chunks(each) {
                let (time_ns, blocks) = union(some);
                joined.push(time_ns, &blocks);
            }
            if joined.bytes.len() <= STRETCH_BYTES || each >= changes.len() {
                return Some(joined);
            }
            each *= 2;
        }
    }
}

/// Whether a state has this pageblock just so.
fn holds(state: &[(u32, BlockCensus)], block: &(u32, BlockCensus)) -> bool {
    state.binary_search_by_key(&block.0, |known| known.0).is_ok_and(|at| state[at] == *block)
}

/// Changes that follow each other as one.
fn union(changes: &[Change]) -> Change {
    let time_ns = changes.last().map_or(0, |(time_ns, _)| *time_ns);
    let join = |all: Blocks, (_, blocks): &Change| merged(&all, blocks);
    (time_ns, changes.iter().fold(Vec::new(), join))
}

/// Number for a pageblock whose type is not known.
const NO_TYPE: u64 = Migratetype::COUNT as u64;

fn put_block(census: &BlockCensus, out: &mut Vec<u8>) {
    let BlockCensus {
        migratetype,
        content,
        free_pages,
        movable_pages,
        tainting_pages,
        free_blocks,
    } = census;
    let migratetype = migratetype.map_or(NO_TYPE, |t| t.index() as u64);
    let both = migratetype * Content::COUNT as u64 + content.index() as u64;
    for number in [
        both,
        u64::from(*movable_pages),
        u64::from(*tainting_pages),
        // Mostly nothing is on per-CPU lists.
        varint::zigzag(free_blocks.pages(), u64::from(*free_pages)),
        free_blocks.bits_of_all(),
    ] {
        varint::put(out, number);
    }
}

fn take_blocks(input: &mut Input<'_>) -> Option<Blocks> {
    let count = input.varint("pageblocks").ok()?;
    let (mut blocks, mut next) = (Vec::with_capacity(count as usize), 0);
    for _ in 0..count {
        next += input.varint("gap").ok()? as u32;
        blocks.push((next, take_block(input)?));
        next += 1;
    }
    Some(blocks)
}

fn take_block(input: &mut Input<'_>) -> Option<BlockCensus> {
    let mut next = || input.varint("pageblock").ok();
    let both = next()? as usize;
    let (movable_pages, tainting_pages) = (next()? as u16, next()? as u16);
    let (cached, free_blocks) = (next()?, FreeBlocks::from_bits(next()?));
    Some(BlockCensus {
        migratetype: Migratetype::from_index(both / Content::COUNT),
        content: Content::from_index(both % Content::COUNT)?,
        free_pages: varint::unzigzag(free_blocks.pages(), cached) as u16,
        movable_pages,
        tainting_pages,
        free_blocks,
    })
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
    use proptest::prelude::*;

    use super::*;

    const SPB: (TrackKind, StartState) = (TrackKind::Spb, StartState::AsFound);

    fn census(free_pages: u16) -> BlockCensus {
        let mut free_blocks = FreeBlocks::default();
        (0..10).filter(|o| free_pages >> o & 1 == 1).for_each(|o| free_blocks.add(o));
        let migratetype = Migratetype::from_index(usize::from(free_pages % 7));
        let content = if free_pages.is_multiple_of(3) { Content::Free } else { Content::Slab };
        let cached = free_pages % 2;
        BlockCensus {
            migratetype,
            content,
            free_pages: free_pages + cached,
            movable_pages: 1,
            tainting_pages: free_pages / 2,
            free_blocks,
        }
    }

    fn changes(blocks: &[(u32, u16)]) -> Vec<BlockChanges> {
        let blocks = blocks.iter().map(|(block, free)| (*block, census(*free))).collect();
        vec![BlockChanges { kind: SPB.0, start: SPB.1, blocks }]
    }

    proptest! {
        /// Against a list of all states: exact everywhere, and where there was too much, of the time
        /// that it says.
        #[test]
        fn a_state_is_what_was_pushed_last(
            pushed in prop::collection::vec(
                (1..3u64, prop::collection::btree_map(0..20u32, 0..512u16, 0..6)),
                1..30,
            ),
            coarsen in any::<bool>(),
        ) {
            let mut history = BlockHistory::default();
            // On both sides of the edge between two regions.
            let number = |b: u32| b + 502;
            history.push(1, changes(&(0..20).map(|b| (number(b), 7)).collect::<Vec<_>>()));
            let mut state: Vec<u16> = vec![7; 20];
            let (mut time_ns, mut states) = (1, vec![(1, state.clone())]);
            for (seconds, blocks) in pushed {
                time_ns += seconds;
                blocks.iter().for_each(|(block, free)| state[*block as usize] = *free);
                let blocks: Vec<_> = blocks.into_iter().map(|(b, free)| (number(b), free)).collect();
                history.push(time_ns, changes(&blocks));
                states.push((time_ns, state.clone()));
            }
            if coarsen {
                let _ = history.coarsen() && history.coarsen();
            }
            let read = |time_ns, region: std::ops::Range<u32>| {
                let BlocksAt { blocks, as_of } = history.at(SPB, time_ns, region);
                let census: Vec<BlockCensus> = blocks.into_iter().map(|(_, c)| c).collect();
                (census, as_of)
            };
            for (time_ns, _) in &states {
                for region in [502..512, 512..522] {
                    let (found, as_of) = read(*time_ns, region.clone());
                    prop_assert!(as_of.is_none() || coarsen && as_of <= Some(*time_ns));
                    let after = states.partition_point(|(t, _)| *t <= as_of.unwrap_or(*time_ns));
                    let state = &states[after - 1].1[region.start as usize - 502..][..10];
                    let wanted: Vec<_> = state.iter().map(|free| census(*free)).collect();
                    prop_assert_eq!(found, wanted);
                }
            }
            let newest: Vec<_> = state.into_iter().map(census).collect();
            prop_assert_eq!(read(time_ns, 502..522).0, newest, "the end is exact");
            prop_assert_eq!(read(0, 502..522).0, [], "nothing is known before the first state");
        }
    }

    #[test]
    fn it_stays_bounded() {
        let mut history = BlockHistory::default();
        let all: Vec<(u32, u16)> = (0..3000).map(|b| (b, 0x155)).collect();
        for time_ns in 1..100 {
            history.push_within(100_000, time_ns, changes(&all));
            assert!(history.bytes() <= 100_000);
        }
    }

    #[test]
    fn only_the_region_asked_for_is_given() {
        let mut history = BlockHistory::default();
        history.push(5, changes(&[(1, 1), (512, 2), (513, 3), (1024, 4)]));
        let blocks: Vec<u32> =
            history.at(SPB, 9, 512..1024).blocks.iter().map(|(b, _)| *b).collect();
        assert_eq!(blocks, [512, 513]);
        assert!(history.at((TrackKind::Stock, SPB.1), 9, 0..9999).blocks.is_empty());
    }
}
