//! How results are printed.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};

use anyhow::{Context, Result};
use serde::Serialize;

/// Prints a value as JSON, one object over several lines.
pub(super) fn json(value: &impl Serialize) -> Result<()> {
    let mut text = serde_json::to_string_pretty(value).context("writing JSON")?;
    text.push('\n');
    text_out(&text)
}

/// A line on the terminal that says how far something is; nothing where there is no terminal.
#[derive(Debug)]
pub(super) struct Progress {
    what: &'static str,
    of: u64,
    shown_percent: Option<u64>,
    is_terminal: bool,
}

impl Progress {
    /// Of work that is done at `of`, at least 1.
    pub(super) fn new(what: &'static str, of: u64) -> Progress {
        let is_terminal = io::stderr().is_terminal();
        Progress { what, of: of.max(1), shown_percent: None, is_terminal }
    }

    /// The work has come to `at`.
    pub(super) fn show(&mut self, at: u64) {
        let percent = (at.min(self.of) * 100) / self.of;
        if !self.is_terminal || self.shown_percent == Some(percent) {
            return;
        }
        self.shown_percent = Some(percent);
        let bar = "#".repeat(percent as usize / 4);
        eprint!("\r{} [{bar:<25}] {percent:>3} %", self.what);
    }

    /// Takes the line away.
    pub(super) fn end(&self) {
        if self.shown_percent.is_some() {
            eprint!("\r\x1b[K");
        }
    }
}

/// Prints text as it is.
pub(super) fn text_out(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush())?;
    Ok(())
}

/// Whether an error is that nobody reads the output any more.
pub(super) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|io| io.kind() == io::ErrorKind::BrokenPipe)
}

/// A number with commas between groups of three digits.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes in the largest unit that keeps a digit before the point.
pub(crate) fn bytes(bytes: u64) -> String {
    let units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
    let unit = (bytes.max(1).ilog2() / 10).min(4);
    match unit {
        0 => format!("{bytes} bytes"),
        unit => {
            format!("{:.1} {}", bytes as f64 / (1u64 << (10 * unit)) as f64, units[unit as usize])
        }
    }
}

/// Pages as an amount of memory.
pub(crate) fn pages(pages: u64) -> String {
    bytes(pages.saturating_mul(fragscope_trace::page::PAGE_SIZE))
}

/// Nanoseconds as seconds, or as hours and minutes where that is long.
pub(crate) fn duration(ns: u64) -> String {
    let seconds = ns as f64 / 1e9;
    if seconds < 120.0 {
        return format!("{seconds:.1} s");
    }
    let minutes = (seconds / 60.0).round() as u64;
    if minutes < 120 {
        format!("{minutes} min")
    } else {
        format!("{} h {} min", minutes / 60, minutes % 60)
    }
}

/// A share in percent, with as many digits as make it differ from 0.
pub(crate) fn percent(ratio: f64) -> String {
    match ratio * 100.0 {
        0.0 => "0 %".to_owned(),
        small if small < 0.001 => "< 0.001 %".to_owned(),
        small if small < 0.1 => format!("{small:.3} %"),
        percent => format!("{percent:.2} %"),
    }
}

/// Lines of `label: value`, the values under each other.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    text: String,
}

impl Lines {
    /// Adds a line.
    pub(crate) fn put(&mut self, label: &str, value: impl std::fmt::Display) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "{label:<18} {value}");
    }

    /// Adds text as it is.
    pub(crate) fn raw(&mut self, text: &str) {
        self.text.push_str(text);
        self.text.push('\n');
    }

    /// The text.
    pub(crate) fn into_text(self) -> String {
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!([grouped(0), grouped(999), grouped(1_234_567)], ["0", "999", "1,234,567"]);
        assert_eq!([bytes(0), bytes(1023), bytes(1536)], ["0 bytes", "1023 bytes", "1.5 KiB"]);
        assert_eq!(pages(262_144), "1.0 GiB");
        assert_eq!([duration(1_500_000_000), duration(7_260_000_000_000)], ["1.5 s", "2 h 1 min"]);
        assert_eq!(
            [percent(0.0), percent(0.000_001), percent(0.000_4)],
            ["0 %", "< 0.001 %", "0.040 %"]
        );
    }
}
