//! Whether this process and the kernel's programs agree on the time.
//!
//! Programs read the kernel's `CLOCK_MONOTONIC`, this process that of its time namespace. No event
//! could be put in order if they differed.

use std::fs;

use thiserror::Error;

/// This process has another time than the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "CLOCK_MONOTONIC of this time namespace differs from the kernel's by {seconds}.{nanos:09} s, so \
     events can't be put in order; run the agent in the initial time namespace (nsenter -T -t 1)"
)]
pub struct OtherTime {
    /// Whole seconds, towards the past.
    pub seconds: i64,
    /// Nanoseconds more.
    pub nanos: u32,
}

/// Compares the two; kernels without time namespaces have only one.
///
/// # Errors
/// [`OtherTime`].
pub fn check() -> Result<(), OtherTime> {
    match offset_of(&fs::read_to_string("/proc/self/timens_offsets").unwrap_or_default()) {
        (0, 0) => Ok(()),
        (seconds, nanos) => Err(OtherTime { seconds, nanos }),
    }
}

fn offset_of(timens_offsets: &str) -> (i64, u32) {
    let line = timens_offsets.lines().find_map(|line| line.strip_prefix("monotonic"));
    let mut numbers = line.unwrap_or_default().split_whitespace();
    let seconds = numbers.next().and_then(|text| text.parse().ok());
    let nanos = numbers.next().and_then(|text| text.parse().ok());
    (seconds.unwrap_or(0), nanos.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_read() {
        let offsets = "monotonic        1000         5\nboottime            0         0\n";
        assert_eq!(offset_of(offsets), (1000, 5));
        assert_eq!(offset_of("monotonic -3 0\n"), (-3, 0));
        assert_eq!(offset_of(""), (0, 0));
    }
}
