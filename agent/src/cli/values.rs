//! Values as they are typed: times, sizes, shares, addresses.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// At a path.
    Unix(PathBuf),
    /// On the network.
    Tls(SocketAddr),
}

pub(super) fn parse_address(text: &str) -> Result<Address, String> {
    let expected = "expected unix:PATH, for example unix:/run/fragscope.sock, or tls:IP:PORT, for \
                    example tls:0.0.0.0:9469";
    let parsed = match text.split_once(':') {
        Some(("unix", path)) if !path.is_empty() => Some(Address::Unix(PathBuf::from(path))),
        Some(("tls", address)) => address.parse().ok().map(Address::Tls),
        _ => None,
    };
    parsed.ok_or_else(|| expected.to_owned())
}

/// Permissions as octal digits: `0600`.
pub(super) fn parse_mode(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o777 => Ok(mode),
        _ => Err("expected octal permissions from 0 to 0777, as in 0660".to_owned()),
    }
}

/// A number with a unit: `500ms`, `10s`, `2m`, `1h`; seconds without.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "ms" => 0.001,
        "s" | "" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        other => return Err(format!("unknown unit {other:?}; known are ms, s, m, h")),
    };
    let number: f64 = digits.parse().map_err(|_| "expected a number and a unit, as in 10s")?;
    Duration::try_from_secs_f64(number * unit).map_err(|error| error.to_string())
}

/// Counters wrap around after some minutes of the heaviest load.
pub(super) fn parse_count_every(text: &str) -> Result<Duration, String> {
    let time = parse_duration(text)?;
    if (Duration::from_millis(10)..=Duration::from_secs(60)).contains(&time) {
        Ok(time)
    } else {
        Err(format!("{time:?} is out of range: expected 10ms to 60s"))
    }
}

pub(super) fn parse_percent(text: &str) -> Result<f64, String> {
    let number = text.trim_end_matches('%').parse::<f64>();
    let percent = number.map_err(|_| "expected a number of percent, as in 3".to_owned())?;
    if (0.1..=100_000.0).contains(&percent) {
        Ok(percent)
    } else {
        Err(format!("{percent} % is out of range: expected 0.1 or more"))
    }
}

/// A number of bytes: `65536`, `64KiB`, `2MiB`.
pub(super) fn parse_bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match &text[digits.len()..] {
        "" | "B" => 0,
        "KiB" | "K" => 10,
        "MiB" | "M" => 20,
        "GiB" | "G" => 30,
        other => return Err(format!("unknown unit {other:?}; known are KiB, MiB, GiB")),
    };
    let number: u64 = digits.parse().map_err(|_| "expected a number of bytes, as in 2MiB")?;
    number.checked_mul(1 << shift).ok_or_else(|| "too large".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_no_address_without_authentication() {
        let unix = Address::Unix("/run/s".into());
        assert_eq!(parse_address("unix:/run/s"), Ok(unix));
        let tls = Address::Tls(SocketAddr::from(([0, 0, 0, 0], 9469)));
        assert_eq!(parse_address("tls:0.0.0.0:9469"), Ok(tls));
        assert!(parse_address("tls:[::1]:9469").is_ok());
        for bad in ["", "unix:", "tls:", "tls:9469", "tls:host", "tcp:1.2.3.4:5", "/run/s"] {
            assert!(parse_address(bad).unwrap_err().contains("unix:PATH"), "{bad}");
        }
    }

    #[test]
    fn permissions_are_octal() {
        assert_eq!(parse_mode("0660"), Ok(0o660));
        for bad in ["", "0888", "1777", "rw"] {
            assert!(parse_mode(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations_have_units() {
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(parse_duration("7"), Ok(Duration::from_secs(7)));
        for bad in ["", "s", "-1s", "1d", "NaN"] {
            assert!(parse_duration(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(parse_bytes("4096"), Ok(4096));
        assert_eq!(parse_bytes("2MiB"), Ok(2 << 20));
        for bad in ["", "1.5K", "2TiB", "99999999999999999999", "18446744073709551615K"] {
            assert!(parse_bytes(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn budgets_have_ranges() {
        assert_eq!(parse_percent("3"), Ok(3.0));
        assert_eq!(parse_percent("2.5%"), Ok(2.5));
        assert_eq!(parse_count_every("10ms"), Ok(Duration::from_millis(10)));
        for bad in ["", "0", "-1", "NaN", "x"] {
            assert!(parse_percent(bad).is_err(), "{bad:?}");
        }
        for bad in ["1ms", "2m"] {
            assert!(parse_count_every(bad).is_err(), "{bad:?}");
        }
    }
}
