//! Numbers and units as text.

use fragscope_trace::page::{PAGE_SIZE, REGION_PAGES};
use fragscope_trace::region::Bounds;

/// `13`, or `12-14` where unknown pages leave it open.
#[must_use]
pub fn bounds(bounds: Bounds) -> String {
    if bounds.min == bounds.max {
        bounds.min.to_string()
    } else {
        format!("{}-{}", bounds.min, bounds.max)
    }
}

/// At most four digits and a suffix: `999`, `12.3k`, `212k`, `1.9M`.
#[must_use]
pub fn count(value: u64) -> String {
    scaled(value as f64, &["", "k", "M", "G", "T"], 1000.0)
}

/// A count per second. Below ten it has a decimal.
#[must_use]
pub fn rate(per_second: f64) -> String {
    if per_second > 0.0 && per_second < 10.0 {
        format!("{per_second:.1}/s")
    } else {
        format!("{}/s", count(per_second.round() as u64))
    }
}

/// Bytes with a binary unit: `61 MiB`.
#[must_use]
pub fn bytes(value: u64) -> String {
    let units = [" B", " KiB", " MiB", " GiB", " TiB"];
    scaled(value as f64, &units, 1024.0)
}

/// The size of so many pages.
#[must_use]
pub fn pages(pages: u64) -> String {
    bytes(pages * PAGE_SIZE)
}

/// Pages as GiB with one decimal: `1.2`.
#[must_use]
pub fn gib(pages: u64) -> String {
    format!("{:.1}", pages as f64 / REGION_PAGES as f64)
}

/// A share of 1 as percent, with as many decimals as it needs to not read 0.
#[must_use]
pub fn percent(share: f64) -> String {
    let value = share * 100.0;
    if value == 0.0 || value >= 9.95 {
        format!("{value:.0} %")
    } else if value >= 0.095 {
        format!("{value:.1} %")
    } else if value >= 0.005 {
        format!("{value:.2} %")
    } else {
        "<0.01 %".to_owned()
    }
}

/// A span of time in its two largest units: `48 s`, `10 min`, `1 h 5 min`.
#[must_use]
pub fn span(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    let two = |big: u64, big_unit: &str, small: u64, small_unit: &str| match small {
        0 => format!("{big} {big_unit}"),
        _ => format!("{big} {big_unit} {small} {small_unit}"),
    };
    match whole {
        0..=9 if seconds.fract() != 0.0 => format!("{seconds:.1} s"),
        0..60 => format!("{whole} s"),
        60..3600 => two(whole / 60, "min", whole % 60, "s"),
        3600..86_400 => two(whole / 3600, "h", whole / 60 % 60, "min"),
        _ => two(whole / 86_400, "d", whole / 3600 % 24, "h"),
    }
}

fn scaled(value: f64, units: &[&str], base: f64) -> String {
    let mut value = value;
    let mut unit = 0;
    // 999.5 would print as 1000 of the smaller unit.
    while value >= base - 0.5 && unit + 1 < units.len() {
        value /= base;
        unit += 1;
    }
    let decimals = usize::from(unit > 0 && value < 99.95 && (value * 10.0).round() % 10.0 != 0.0);
    format!("{value:.decimals$}{}", units[unit])
}

/// `text` cut to `width` columns, with an ellipsis where something is missing.
#[must_use]
pub fn cut(text: &str, width: usize, ellipsis: &str) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let keep = width.saturating_sub(ellipsis.chars().count());
    let kept: String = text.chars().take(keep).collect();
    kept + &ellipsis.chars().take(width).collect::<String>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_short() {
        let counts = [0, 999, 1000, 12_345, 99_960, 212_400, 999_600, 1_949_000].map(count);
        assert_eq!(counts, ["0", "999", "1k", "12.3k", "100k", "212k", "1M", "1.9M"]);
        assert_eq!([0.0, 0.25, 11.6, 99_999.0].map(rate), ["0/s", "0.2/s", "12/s", "100k/s"]);
        assert_eq!([0, 4096, 61 << 20, 3 << 29].map(bytes), ["0 B", "4 KiB", "61 MiB", "1.5 GiB"]);
    }

    #[test]
    fn a_small_share_is_not_zero() {
        let shares = [0.0, 0.000_01, 0.000_4, 0.019, 0.5].map(percent);
        assert_eq!(shares, ["0 %", "<0.01 %", "0.04 %", "1.9 %", "50 %"]);
    }

    #[test]
    fn spans_have_two_units() {
        let spans = [0.34, 48.0, 600.0, 3900.0, 90_000.0].map(span);
        assert_eq!(spans, ["0.3 s", "48 s", "10 min", "1 h 5 min", "1 d 1 h"]);
    }

    #[test]
    fn open_figures_show_both_ends() {
        assert_eq!(bounds(Bounds { min: 12, max: 14 }), "12-14");
        assert_eq!(bounds(Bounds { min: 13, max: 13 }), "13");
    }

    #[test]
    fn cut_text_says_so() {
        assert_eq!(cut("nginx", 5, "…"), "nginx");
        assert_eq!(cut("postgres", 5, "…"), "post…");
        assert_eq!(cut("postgres", 0, "…"), "");
    }
}
