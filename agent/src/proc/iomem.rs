//! `/proc/iomem`: which physical addresses are RAM.

use fragscope_trace::page::{PAGE_SIZE, Pfn, PfnRange};

use super::ProcError;

const FILE: &str = "/proc/iomem";

/// Reads this host's RAM. Without the right to see addresses (`CAP_SYS_ADMIN`) the kernel prints
/// zeros, and the list is empty.
///
/// # Errors
/// If the file cannot be read or understood.
pub fn read() -> Result<Vec<PfnRange>, ProcError> {
    parse(&super::read(FILE)?)
}

/// Whole page frames inside the ranges named `System RAM` at the top level, ascending and
/// without overlaps. Neighbouring ranges become one.
///
/// # Errors
/// If a line is malformed.
pub fn parse(text: &str) -> Result<Vec<PfnRange>, ProcError> {
    let mut ram: Vec<PfnRange> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let Some((addresses, name)) = line.split_once(" : ") else { continue };
        if line.starts_with(' ') || !name.trim().starts_with("System RAM") {
            continue;
        }
        let malformed = || ProcError::parse(FILE, index + 1, "START-END : System RAM", line);
        ram.extend(frames(addresses).ok_or_else(malformed)?);
    }
    ram.sort_unstable_by_key(|range| range.start);
    Ok(merge(ram))
}

/// The whole frames between two addresses, the second included. Inner `None` if there are none.
fn frames(addresses: &str) -> Option<Option<PfnRange>> {
    let (first, last) = addresses.trim().split_once('-')?;
    let first = u64::from_str_radix(first, 16).ok()?;
    let last = u64::from_str_radix(last, 16).ok()?;
    let start = Pfn(first.div_ceil(PAGE_SIZE));
    let end = Pfn(last.checked_add(1)? / PAGE_SIZE);
    Some((start < end).then_some(PfnRange { start, end }))
}

fn merge(ranges: Vec<PfnRange>) -> Vec<PfnRange> {
    let mut merged: Vec<PfnRange> = Vec::new();
    for range in ranges {
        match merged.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_whole_frames_of_ram_count() {
        let text = "\
00000000-00000fff : Reserved
00001000-0009fbff : System RAM
000a0000-000fffff : PCI Bus 0000:00
00100000-bfffffff : System RAM
  01000000-0220bb07 : Kernel code
100000000-1ffffffff : System RAM (kmem)
200000000-63fffffff : System RAM
";
        let range = |start, end| PfnRange { start: Pfn(start), end: Pfn(end) };
        let expected = [range(1, 0x9f), range(0x100, 0xc0000), range(0x10_0000, 0x64_0000)];
        assert_eq!(parse(text).unwrap(), expected);
    }

    #[test]
    fn hidden_addresses_give_no_ram() {
        assert_eq!(parse("00000000-00000000 : System RAM\n").unwrap(), vec![]);
        assert!(parse("zz-10 : System RAM\n").is_err());
    }

    proptest! {
        #[test]
        fn ranges_ascend_without_overlap(
            ranges in prop::collection::vec((any::<u64>(), any::<u64>()), 0..8),
        ) {
            let line = |(a, b): &(u64, u64)| format!("{a:08x}-{b:08x} : System RAM\n");
            let text: String = ranges.iter().map(line).collect();
            if let Ok(ram) = parse(&text) {
                prop_assert!(ram.windows(2).all(|w| w[0].end < w[1].start));
                prop_assert!(ram.iter().all(|r| r.start < r.end));
            }
        }
    }
}
