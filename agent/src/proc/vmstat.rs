//! Files of `NAME VALUE` lines: `/proc/vmstat` and `/proc/meminfo`.

use std::collections::BTreeMap;

use super::ProcError;

/// Reads `/proc/vmstat`: counters in pages or events, by name.
///
/// # Errors
/// If it cannot be read or understood.
pub fn read_vmstat() -> Result<BTreeMap<String, u64>, ProcError> {
    parse("/proc/vmstat", &super::read("/proc/vmstat")?)
}

/// Reads `/proc/meminfo`: values in KiB (huge page counts in pages), by name without the colon.
///
/// # Errors
/// If it cannot be read or understood.
pub fn read_meminfo() -> Result<BTreeMap<String, u64>, ProcError> {
    parse("/proc/meminfo", &super::read("/proc/meminfo")?)
}

/// Parses lines of a name and a number; a colon after the name and a unit after the number are
/// dropped.
///
/// # Errors
/// If a line has no number.
pub fn parse(file: &'static str, text: &str) -> Result<BTreeMap<String, u64>, ProcError> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let pairs = lines.map(|(index, line)| {
        let mut words = line.split_whitespace();
        let name = words.next().unwrap_or_default().trim_end_matches(':');
        let value = words.next().and_then(|word| word.parse().ok());
        let malformed = || ProcError::parse(file, index + 1, "NAME NUMBER", line);
        Ok((name.to_owned(), value.ok_or_else(malformed)?))
    });
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_formats_are_read() {
        let map = parse("x", "nr_free_pages 12\nMemFree:   34 kB\n\nHugePages_Total: 5\n").unwrap();
        assert_eq!((map["nr_free_pages"], map["MemFree"], map["HugePages_Total"]), (12, 34, 5));
        let error = parse("x", "a 1\nb\n").unwrap_err().to_string();
        assert_eq!(error, "x, line 2: expected NAME NUMBER, found \"b\"");
    }

    #[test]
    fn this_host_is_understood() {
        assert!(read_vmstat().unwrap().contains_key("nr_free_pages"));
        assert!(read_meminfo().unwrap().contains_key("MemTotal"));
    }
}
