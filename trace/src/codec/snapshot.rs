//! Payloads of the frames of a snapshot.
//!
//! Each frame holds at most [`MAX_ITEMS`] runs, chunks, pageblock runs or free-list blocks and
//! decodes by itself; [`Assembly`] puts them together and checks that none is missing.

use serde::{Deserialize, Serialize};

use super::DecodeError;
use super::columns::{self, Column};
use super::varint::{self, Input};
use crate::event::TimeNs;
use crate::frame::FrameKind;
use crate::machine::Machine;
use crate::page::{Content, CpuId, Migratetype, Pfn, PfnRange};
use crate::snapshot::{ChunkTime, FreeList, PageRun, Snapshot, SnapshotRole, SnapshotSource};

/// Most items of one frame.
pub(crate) const MAX_ITEMS: usize = 1 << 18;
/// Fewest bytes that describe a list: flag, zone, cpu, order, type, blocks.
const LIST_BYTES: usize = 6;

/// The parts that are small and may grow fields, as JSON.
#[derive(Serialize, Deserialize)]
struct Begin {
    source: SnapshotSource,
    role: SnapshotRole,
    begin_ns: TimeNs,
    end_ns: TimeNs,
    machine: Machine,
    notes: Vec<String>,
}

/// Writes the frames of `snapshot` in order through `emit`, which gets each payload's kind and
/// bytes and empties them.
pub(crate) fn encode<E>(
    snapshot: &Snapshot,
    payload: &mut Vec<u8>,
    mut emit: impl FnMut(FrameKind, &mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E>
where
    E: From<serde_json::Error>,
{
    payload.clear();
    put_begin(snapshot, payload)?;
    emit(FrameKind::SnapshotBegin, payload)?;
    for chunks in snapshot.chunks.chunks(MAX_ITEMS) {
        put_chunks(chunks, payload);
        emit(FrameKind::SnapshotChunks, payload)?;
    }
    for runs in snapshot.runs.chunks(MAX_ITEMS) {
        put_runs(runs, payload);
        emit(FrameKind::SnapshotRuns, payload)?;
    }
    for blocks in snapshot.pageblocks.chunks(MAX_ITEMS) {
        put_pageblocks(blocks, payload);
        emit(FrameKind::SnapshotPageblocks, payload)?;
    }
    for part in list_parts(&snapshot.lists) {
        put_lists(&part, payload);
        emit(FrameKind::SnapshotLists, payload)?;
    }
    for count in counts(snapshot) {
        varint::put(payload, count);
    }
    emit(FrameKind::SnapshotEnd, payload)
}

fn put_begin(snapshot: &Snapshot, out: &mut Vec<u8>) -> Result<(), serde_json::Error> {
    let begin = Begin {
        source: snapshot.source,
        role: snapshot.role,
        begin_ns: snapshot.begin_ns,
        end_ns: snapshot.end_ns,
        machine: snapshot.machine.clone(),
        notes: snapshot.notes.clone(),
    };
    serde_json::to_writer(out, &begin)
}

/// Numbers of chunks, runs, pageblock runs, lists and blocks on lists.
fn counts(snapshot: &Snapshot) -> [u64; 5] {
    let blocks: usize = snapshot.lists.iter().map(|list| list.blocks.len()).sum();
    [
        snapshot.chunks.len(),
        snapshot.runs.len(),
        snapshot.pageblocks.len(),
        snapshot.lists.len(),
        blocks,
    ]
    .map(|count| count as u64)
}

fn put_column<T>(items: &[T], out: &mut Vec<u8>, value: impl FnMut(&T) -> u64) {
    let values: Vec<u64> = items.iter().map(value).collect();
    columns::encode(&values, out);
}

/// Two columns: the distance from the end of the range before, and the length.
fn put_ranges<T>(items: &[T], out: &mut Vec<u8>, range: impl Fn(&T) -> PfnRange) {
    let mut last = 0;
    put_column(items, out, |item| {
        let range = range(item);
        let coded = varint::zigzag(last, range.start.0);
        last = range.end.0;
        coded
    });
    put_column(items, out, |item| range(item).end.0.wrapping_sub(range(item).start.0));
}

fn take_ranges(input: &mut Input<'_>, len: usize) -> Result<Vec<PfnRange>, DecodeError> {
    let gaps = Column::take(input, "starts", len)?;
    let lengths = Column::take(input, "lengths", len)?;
    let mut ranges = Vec::with_capacity(len);
    gaps.for_each(|_, coded| {
        ranges.push(PfnRange { start: Pfn(coded), end: Pfn(0) });
        Ok(())
    })?;
    let mut last = 0;
    lengths.for_each(|at, length| {
        let start = varint::unzigzag(last, ranges[at].start.0);
        last = start.wrapping_add(length);
        ranges[at] = PfnRange { start: Pfn(start), end: Pfn(last) };
        Ok(())
    })?;
    Ok(ranges)
}

fn put_chunks(chunks: &[ChunkTime], out: &mut Vec<u8>) {
    varint::put(out, chunks.len() as u64);
    put_ranges(chunks, out, |chunk| chunk.range);
    let mut last = 0;
    put_column(chunks, out, |chunk| {
        let coded = varint::zigzag(last, chunk.begin_ns);
        last = chunk.end_ns;
        coded
    });
    put_column(chunks, out, |chunk| varint::zigzag(chunk.begin_ns, chunk.end_ns));
}

fn take_chunks(input: &mut Input<'_>) -> Result<Vec<ChunkTime>, DecodeError> {
    let len = take_len(input, "chunks")?;
    let ranges = take_ranges(input, len)?;
    let begins = Column::take(input, "chunk begins", len)?;
    let durations = Column::take(input, "chunk durations", len)?;
    let chunk = |range| ChunkTime { range, begin_ns: 0, end_ns: 0 };
    let mut chunks: Vec<ChunkTime> = ranges.into_iter().map(chunk).collect();
    begins.for_each(|at, coded| {
        chunks[at].begin_ns = coded;
        Ok(())
    })?;
    let mut last = 0;
    durations.for_each(|at, coded| {
        let chunk = &mut chunks[at];
        chunk.begin_ns = varint::unzigzag(last, chunk.begin_ns);
        chunk.end_ns = varint::unzigzag(chunk.begin_ns, coded);
        last = chunk.end_ns;
        Ok(())
    })?;
    Ok(chunks)
}

/// Runs are ranges with two bytes each: content, and order (low five bits) with type.
fn put_runs(runs: &[PageRun], out: &mut Vec<u8>) {
    varint::put(out, runs.len() as u64);
    out.extend(runs.iter().map(|run| run.content as u8));
    out.extend(runs.iter().map(|run| pack_order(run.order, run.migratetype)));
    put_ranges(runs, out, PageRun::range);
}

fn take_runs(input: &mut Input<'_>) -> Result<Vec<PageRun>, DecodeError> {
    let len = take_len(input, "page runs")?;
    let contents = input.take("contents", len)?;
    let orders = input.take("orders", len)?;
    let ranges = take_ranges(input, len)?;
    let mut runs = Vec::with_capacity(len);
    for ((range, content), packed) in ranges.into_iter().zip(contents).zip(orders) {
        let (order, migratetype) = unpack_order(*packed)?;
        let content = Content::from_index(usize::from(*content))
            .ok_or_else(|| DecodeError::value("content", format!("no content is {content}")))?;
        let pages = range.end.0.wrapping_sub(range.start.0);
        runs.push(PageRun { start: range.start, pages, content, order, migratetype });
    }
    Ok(runs)
}

fn pack_order(order: u8, migratetype: Migratetype) -> u8 {
    order & 31 | (migratetype as u8) << 5
}

fn unpack_order(packed: u8) -> Result<(u8, Migratetype), DecodeError> {
    Ok((packed & 31, migratetype_of(packed >> 5)?))
}

fn migratetype_of(number: u8) -> Result<Migratetype, DecodeError> {
    Migratetype::from_index(usize::from(number))
        .ok_or_else(|| DecodeError::value("migratetype", format!("no type is {number}")))
}

fn put_pageblocks(blocks: &[(PfnRange, Migratetype)], out: &mut Vec<u8>) {
    varint::put(out, blocks.len() as u64);
    out.extend(blocks.iter().map(|(_, migratetype)| *migratetype as u8));
    put_ranges(blocks, out, |(range, _)| *range);
}

fn take_pageblocks(input: &mut Input<'_>) -> Result<Vec<(PfnRange, Migratetype)>, DecodeError> {
    let len = take_len(input, "pageblock runs")?;
    let types = input.take("pageblock types", len)?;
    let ranges = take_ranges(input, len)?;
    let typed = |(range, number): (_, &u8)| Ok((range, migratetype_of(*number)?));
    ranges.into_iter().zip(types).map(typed).collect()
}

fn take_len(input: &mut Input<'_>, what: &'static str) -> Result<usize, DecodeError> {
    Ok(input.up_to(what, MAX_ITEMS as u64)? as usize)
}

/// A stretch of one list.
struct ListPart<'a> {
    list: &'a FreeList,
    /// Whether earlier blocks of it stand in an earlier frame.
    continues: bool,
    blocks: &'a [Pfn],
}

/// The lists in groups of at most [`MAX_ITEMS`] blocks and as many lists.
fn list_parts(lists: &[FreeList]) -> Vec<Vec<ListPart<'_>>> {
    let mut groups = Vec::new();
    let mut group = Vec::new();
    let mut room = MAX_ITEMS;
    for list in lists {
        let mut rest = &list.blocks[..];
        let mut continues = false;
        loop {
            if room == 0 || group.len() == MAX_ITEMS {
                groups.push(std::mem::take(&mut group));
                room = MAX_ITEMS;
            }
            let (blocks, later) = rest.split_at(rest.len().min(room));
            group.push(ListPart { list, continues, blocks });
            room -= blocks.len();
            (rest, continues) = (later, true);
            if rest.is_empty() {
                break;
            }
        }
    }
    if !group.is_empty() {
        groups.push(group);
    }
    groups
}

/// Descriptions of the lists, then all their blocks in one column: differences in units of the
/// list's order, whose low bits move to the top, so that nothing is lost if one is not aligned.
fn put_lists(parts: &[ListPart<'_>], out: &mut Vec<u8>) {
    varint::put(out, parts.len() as u64);
    for ListPart { list, continues, blocks } in parts {
        out.push(u8::from(*continues));
        varint::put(out, u64::from(list.zone));
        varint::put(out, list.cpu.map_or(0, |cpu| u64::from(cpu.0) + 1));
        out.extend([list.order, list.migratetype as u8]);
        varint::put(out, blocks.len() as u64);
    }
    let mut last = 0;
    let mut values = Vec::new();
    for part in parts {
        for pfn in part.blocks {
            let unit = pfn.0.rotate_right(part.list.order.into());
            values.push(varint::zigzag(last, unit));
            last = unit;
        }
    }
    columns::encode(&values, out);
}

/// Lists with their blocks, and whether the first continues the last one before.
fn take_lists(input: &mut Input<'_>) -> Result<Vec<(bool, FreeList)>, DecodeError> {
    let len = input.count("lists", MAX_ITEMS as u64, LIST_BYTES)?;
    let mut lists = Vec::with_capacity(len);
    let mut counts = Vec::with_capacity(len);
    let mut total = 0u64;
    for _ in 0..len {
        let (head, blocks) = take_list_head(input)?;
        total = total.saturating_add(blocks);
        counts.push(blocks);
        lists.push(head);
    }
    if total > MAX_ITEMS as u64 {
        let (found, limit) = (total, MAX_ITEMS as u64);
        return Err(DecodeError::Limit { what: "blocks on lists", found, limit });
    }
    let column = Column::take(input, "blocks on lists", total as usize)?;
    let (mut at, mut last) = (0, 0);
    column.for_each(|_, coded| {
        while counts[at] == 0 {
            at += 1;
        }
        counts[at] -= 1;
        last = varint::unzigzag(last, coded);
        let list = &mut lists[at].1;
        list.blocks.push(Pfn(last.rotate_left(list.order.into())));
        Ok(())
    })?;
    Ok(lists)
}

fn take_list_head(input: &mut Input<'_>) -> Result<((bool, FreeList), u64), DecodeError> {
    let continues = match input.byte("list flag")? {
        flag @ 0..=1 => flag == 1,
        found => {
            return Err(DecodeError::Limit { what: "list flag", found: found.into(), limit: 1 });
        }
    };
    let zone = input.up_to("zone of a list", u16::MAX.into())? as u16;
    let cpu = input.up_to("cpu of a list", 1 << 16)?.checked_sub(1).map(|c| CpuId(c as u16));
    let order = input.byte("order of a list")?;
    let migratetype = migratetype_of(input.byte("type of a list")?)?;
    let blocks = input.up_to("blocks of a list", MAX_ITEMS as u64)?;
    Ok(((continues, FreeList { zone, cpu, order, migratetype, blocks: Vec::new() }), blocks))
}

/// A snapshot of which not all frames have been seen.
pub(crate) struct Assembly {
    snapshot: Snapshot,
    /// Bytes that its items take in memory.
    bytes: u64,
    limit_bytes: u64,
}

impl Assembly {
    /// Begins with the payload of a [`FrameKind::SnapshotBegin`] frame. The items may take
    /// `limit_bytes` of memory.
    pub(crate) fn begin(payload: &[u8], limit_bytes: u64) -> Result<Assembly, DecodeError> {
        let begin: Begin = serde_json::from_slice(payload)
            .map_err(|error| DecodeError::value("snapshot begin", error.to_string()))?;
        let Begin { source, role, begin_ns, end_ns, machine, notes } = begin;
        let snapshot = Snapshot {
            source,
            role,
            begin_ns,
            end_ns,
            machine,
            chunks: Vec::new(),
            runs: Vec::new(),
            pageblocks: Vec::new(),
            lists: Vec::new(),
            notes,
        };
        Ok(Assembly { snapshot, bytes: 0, limit_bytes })
    }

    /// Adds the payload of one of the frames between begin and end.
    pub(crate) fn add(&mut self, kind: FrameKind, payload: &[u8]) -> Result<(), DecodeError> {
        let mut input = Input::new(payload);
        match kind {
            FrameKind::SnapshotChunks => {
                let chunks = take_chunks(&mut input)?;
                self.charge::<ChunkTime>(chunks.len())?;
                self.snapshot.chunks.extend(chunks);
            }
            FrameKind::SnapshotRuns => {
                let runs = take_runs(&mut input)?;
                self.charge::<PageRun>(runs.len())?;
                self.snapshot.runs.extend(runs);
            }
            FrameKind::SnapshotPageblocks => {
                let blocks = take_pageblocks(&mut input)?;
                self.charge::<(PfnRange, Migratetype)>(blocks.len())?;
                self.snapshot.pageblocks.extend(blocks);
            }
            FrameKind::SnapshotLists => {
                let lists = take_lists(&mut input)?;
                self.add_lists(lists)?;
            }
            other => return Err(DecodeError::value("snapshot", format!("{other} is no part"))),
        }
        input.finish("snapshot payload")
    }

    fn add_lists(&mut self, lists: Vec<(bool, FreeList)>) -> Result<(), DecodeError> {
        for (continues, list) in lists {
            self.charge::<FreeList>(1)?;
            self.charge::<Pfn>(list.blocks.len())?;
            match self.snapshot.lists.last_mut() {
                Some(last) if continues && same_list(last, &list) => {
                    last.blocks.extend(list.blocks);
                }
                _ if continues => {
                    return Err(DecodeError::value("list", "continues one that did not begin"));
                }
                _ => self.snapshot.lists.push(list),
            }
        }
        Ok(())
    }

    /// Counts the memory of further items, twice, since vectors double.
    fn charge<T>(&mut self, items: usize) -> Result<(), DecodeError> {
        self.bytes += 2 * (items * size_of::<T>()) as u64;
        if self.bytes > self.limit_bytes {
            let (found, limit) = (self.bytes, self.limit_bytes);
            return Err(DecodeError::Limit { what: "bytes of a snapshot", found, limit });
        }
        Ok(())
    }

    /// Ends with the payload of a [`FrameKind::SnapshotEnd`] frame.
    pub(crate) fn end(self, payload: &[u8]) -> Result<Snapshot, DecodeError> {
        let mut input = Input::new(payload);
        for (found, what) in counts(&self.snapshot).into_iter().zip(COUNTED) {
            let expected = input.varint("snapshot end")?;
            if found != expected {
                let reason = format!("found {found}, expected {expected}");
                return Err(DecodeError::value(what, reason));
            }
        }
        input.finish("snapshot end")?;
        Ok(self.snapshot)
    }
}

const COUNTED: [&str; 5] = [
    "chunks of the snapshot",
    "runs of the snapshot",
    "pageblock runs of the snapshot",
    "lists of the snapshot",
    "blocks on lists of the snapshot",
];

fn same_list(a: &FreeList, b: &FreeList) -> bool {
    (a.zone, a.cpu, a.order, a.migratetype) == (b.zone, b.cpu, b.order, b.migratetype)
}
