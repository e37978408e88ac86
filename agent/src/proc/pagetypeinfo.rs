//! `/proc/pagetypeinfo`: free blocks by order and type, and pageblocks by type. Root only.

use fragscope_trace::machine::ZoneKind;
use fragscope_trace::page::Migratetype;

use super::ProcError;

const FILE: &str = "/proc/pagetypeinfo";

/// Free blocks of one zone and type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypeBlocks {
    /// Node id.
    pub node: u16,
    /// Which zone.
    pub kind: ZoneKind,
    /// Type of the lists.
    pub migratetype: Migratetype,
    /// Blocks by order. The kernel stops counting at 100,000 and prints `>100000`.
    pub blocks: Vec<Count>,
}

/// A count that the kernel may have given up on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// Counted to the end.
    Exact(u64),
    /// At least this many.
    AtLeast(u64),
}

/// Pageblocks of one zone by type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZonePageblocks {
    /// Node id.
    pub node: u16,
    /// Which zone.
    pub kind: ZoneKind,
    /// (type, pageblocks) in the order of the file.
    pub blocks: Vec<(Migratetype, u64)>,
}

/// The whole file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageTypeInfo {
    /// `Page block order`.
    pub pageblock_order: u8,
    /// Free blocks by zone and type.
    pub free: Vec<TypeBlocks>,
    /// Pageblocks by zone.
    pub pageblocks: Vec<ZonePageblocks>,
}

/// Reads this host's file.
///
/// # Errors
/// If it cannot be read (needs root) or understood.
pub fn read() -> Result<PageTypeInfo, ProcError> {
    parse(&super::read(FILE)?)
}

/// Parses the file. Zones and types of unknown name are skipped, and so is the table of mixed
/// blocks that a kernel with page owners adds.
///
/// # Errors
/// If a line of the known tables is malformed, or the pageblock order is missing.
pub fn parse(text: &str) -> Result<PageTypeInfo, ProcError> {
    let mut info = PageTypeInfo::default();
    let mut order = None;
    let mut columns = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let malformed = |expected| ProcError::parse(FILE, index + 1, expected, line);
        if let Some(value) = line.strip_prefix("Page block order:") {
            let value = value.trim().parse::<u8>().ok().filter(|order| *order < 32);
            order = Some(value.ok_or_else(|| malformed("an order"))?);
        } else if let Some(names) = line.strip_prefix("Number of blocks type") {
            columns = names.split_whitespace().map(type_of).collect();
        } else if line.starts_with("Number of mixed blocks") {
            break;
        } else if line.starts_with("Node") && line.contains(", type") {
            info.free.extend(free_line(line).ok_or_else(|| malformed("counts per order"))?);
        } else if line.starts_with("Node") {
            let zone = block_line(line, &columns);
            info.pageblocks.extend(zone.ok_or_else(|| malformed("counts per type"))?);
        }
    }
    info.pageblock_order =
        order.ok_or_else(|| ProcError::parse(FILE, 0, "Page block order", text))?;
    Ok(info)
}

fn type_of(name: &str) -> Option<Migratetype> {
    Migratetype::ALL.into_iter().find(|m| m.name() == name)
}

/// Outer `None`: malformed; inner `None`: a zone or type of no interest.
fn free_line(line: &str) -> Option<Option<TypeBlocks>> {
    let (node, zone, rest) = super::node_and_zone(line)?;
    let mut words = rest.strip_prefix(", type")?.split_whitespace();
    let (kind, migratetype) = (ZoneKind::from_name(zone), type_of(words.next()?));
    let blocks = words.map(count).collect::<Option<Vec<Count>>>()?;
    let (Some(kind), Some(migratetype)) = (kind, migratetype) else { return Some(None) };
    Some(Some(TypeBlocks { node, kind, migratetype, blocks }))
}

fn count(word: &str) -> Option<Count> {
    match word.strip_prefix('>') {
        Some(least) => least.parse().ok().map(Count::AtLeast),
        None => word.parse().ok().map(Count::Exact),
    }
}

fn block_line(line: &str, columns: &[Option<Migratetype>]) -> Option<Option<ZonePageblocks>> {
    let (node, zone, rest) = super::node_and_zone(line)?;
    let counts: Vec<u64> =
        rest.split_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
    if counts.len() != columns.len() {
        return None;
    }
    let Some(kind) = ZoneKind::from_name(zone) else { return Some(None) };
    let known = columns.iter().zip(counts).filter_map(|(t, n)| t.map(|t| (t, n)));
    Some(Some(ZonePageblocks { node, kind, blocks: known.collect() }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &str = "\
Page block order: 9
Pages per block:  512

Free pages count per migrate type at order       0      1      2
Node    0, zone   Normal, type    Unmovable    101      5      1
Node    0, zone   Normal, type      Movable >100000     1      0
Node    0, zone   Device, type      Movable      0      1      0

Number of blocks type     Unmovable      Movable  Reclaimable   Newtype
Node 0, zone   Normal          128         1551          113            7
";

    #[test]
    fn both_tables_are_read() {
        let info = parse(TEXT).unwrap();
        assert_eq!(info.pageblock_order, 9);
        assert_eq!(info.free.len(), 2);
        assert_eq!(info.free[1].migratetype, Migratetype::Movable);
        assert_eq!(info.free[1].blocks[..2], [Count::AtLeast(100_000), Count::Exact(1)]);
        let [zone] = &info.pageblocks[..] else { panic!() };
        assert_eq!(zone.blocks[1], (Migratetype::Movable, 1551));
        assert_eq!(zone.blocks.len(), 3);
    }

    #[test]
    fn a_missing_column_is_an_error() {
        let text = TEXT.replace("          113", "");
        assert!(parse(&text).unwrap_err().to_string().contains("line 10"));
        assert!(parse("").is_err());
    }

    proptest! {
        #[test]
        fn damaged_text_never_panics(cut in 0..TEXT.len(), from in 0..TEXT.len()) {
            let _ = parse(&format!("{}{}", &TEXT[..cut], &TEXT[from..]));
        }
    }
}
