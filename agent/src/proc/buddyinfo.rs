//! `/proc/buddyinfo`: free blocks of each zone by order.

use fragscope_trace::machine::ZoneKind;

use super::ProcError;

const FILE: &str = "/proc/buddyinfo";

/// Free blocks of one zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneBlocks {
    /// Node id.
    pub node: u16,
    /// Which zone.
    pub kind: ZoneKind,
    /// Blocks by order, of all types.
    pub blocks: Vec<u64>,
}

/// Reads this host's file.
///
/// # Errors
/// If it cannot be read or understood.
pub fn read() -> Result<Vec<ZoneBlocks>, ProcError> {
    parse(&super::read(FILE)?)
}

/// Parses the file. Zones of unknown name are skipped.
///
/// # Errors
/// If a line is malformed.
pub fn parse(text: &str) -> Result<Vec<ZoneBlocks>, ProcError> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let zones = lines.map(|(index, line)| {
        let malformed =
            || ProcError::parse(FILE, index + 1, "Node N, zone NAME and a count per order", line);
        let (node, name, rest) = super::node_and_zone(line).ok_or_else(malformed)?;
        let Some(kind) = ZoneKind::from_name(name) else { return Ok(None) };
        let blocks = rest.split_whitespace().map(str::parse).collect::<Result<Vec<u64>, _>>();
        Ok(Some(ZoneBlocks { node, kind, blocks: blocks.map_err(|_| malformed())? }))
    });
    zones.filter_map(Result::transpose).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_was_printed_is_read(
            node in 0u16..1024,
            kind in 0usize..4,
            blocks in prop::collection::vec(any::<u64>(), 0..12),
        ) {
            let kind = ZoneKind::ALL[kind];
            let counts: String = blocks.iter().map(|b| format!("{b:>7}")).map(|b| format!(" {b}")).collect();
            let text = format!("Node {node}, zone {:>8} {counts} \n", kind.name());
            prop_assert_eq!(parse(&text).unwrap(), vec![ZoneBlocks { node, kind, blocks }]);
        }

        #[test]
        fn no_text_panics(text in "(Node [0-9x], zone [A-Z0-9a-z ]*[0-9 ]*\n|\\PC*\n){0,3}") {
            let _ = parse(&text);
        }
    }

    #[test]
    fn an_unknown_zone_is_skipped_and_a_bad_line_named() {
        assert_eq!(parse("Node 0, zone Device 1 2\n").unwrap(), vec![]);
        assert!(parse("Node 0, zone DMA 1 x\n").unwrap_err().to_string().contains("line 1"));
    }
}
