//! Suspends of the host: time in which nothing was traced, because nothing ran.
//!
//! `CLOCK_MONOTONIC`, the clock of all events, stops then; `CLOCK_BOOTTIME` goes on. The two can't be
//! read at once, so only what no delay between readings can explain is taken for a suspend.

use std::time::Duration;

use fragscope_trace::event::TimeNs;
use rustix::time::{ClockId, clock_gettime};

use crate::bpf::clock::now_ns;

/// The clocks of a host, in nanoseconds.
pub trait Clocks {
    /// `CLOCK_MONOTONIC`.
    fn monotonic(&mut self) -> TimeNs;
    /// `CLOCK_BOOTTIME`.
    fn boottime(&mut self) -> TimeNs;
}

/// Those of this host.
#[derive(Clone, Copy, Debug, Default)]
pub struct HostClocks;

impl Clocks for HostClocks {
    fn monotonic(&mut self) -> TimeNs {
        now_ns()
    }

    fn boottime(&mut self) -> TimeNs {
        let now = clock_gettime(ClockId::Boottime);
        now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
    }
}

/// Looks out for suspends.
#[derive(Clone, Debug)]
pub struct Suspends<C> {
    clocks: C,
    /// All suspends so far took this long at most.
    known_ns: TimeNs,
}

impl<C: Clocks> Suspends<C> {
    /// Suspends from now on.
    pub fn new(mut clocks: C) -> Suspends<C> {
        let (_, most) = bounds(&mut clocks);
        Suspends { clocks, known_ns: most }
    }

    /// How long the host was suspended since this was asked last, at least.
    pub fn since_last(&mut self) -> Option<Duration> {
        let (least, most) = bounds(&mut self.clocks);
        let gap = least.checked_sub(self.known_ns).filter(|gap| *gap > 0)?;
        self.known_ns = most;
        Some(Duration::from_nanos(gap))
    }
}

/// Least and most that the host can have been suspended since it started.
fn bounds(clocks: &mut impl Clocks) -> (TimeNs, TimeNs) {
    let before = clocks.monotonic();
    let boottime = clocks.boottime();
    let after = clocks.monotonic();
    (boottime.saturating_sub(after), boottime.saturating_sub(before))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Clocks that go on by a step with each reading, and of which one stops in suspends.
    struct Made {
        awake_ns: TimeNs,
        suspended_ns: TimeNs,
        steps: Box<dyn Iterator<Item = TimeNs>>,
    }

    impl Made {
        fn go_on(&mut self) -> TimeNs {
            self.awake_ns += self.steps.next().unwrap();
            self.awake_ns
        }
    }

    impl Clocks for Made {
        fn monotonic(&mut self) -> TimeNs {
            self.go_on()
        }

        fn boottime(&mut self) -> TimeNs {
            self.go_on() + self.suspended_ns
        }
    }

    proptest! {
        /// However long the reader is held up between readings, no suspend is made up, and none is
        /// missed that is longer than its delays.
        #[test]
        fn suspends_are_told_from_delays(
            // No multiple of the three readings, or every look would be held up alike.
            steps in prop::collection::vec(0u64..10_000_000_000, 4..6),
            suspends in prop::collection::vec(
                prop_oneof![Just(0), 1u64..1_000_000_000_000], 1..20),
        ) {
            let delays: TimeNs = 2 * steps.iter().sum::<TimeNs>();
            let clocks = Made { awake_ns: 0, suspended_ns: 77, steps: Box::new(steps.into_iter().cycle()) };
            let mut found = Suspends::new(clocks);
            let mut unseen = 0;
            for suspend in suspends {
                found.clocks.suspended_ns += suspend;
                unseen += suspend;
                match found.since_last() {
                    Some(gap) => {
                        prop_assert!(gap.as_nanos() as u64 <= unseen);
                        unseen = 0;
                    }
                    None => prop_assert!(unseen <= delays, "{unseen} ns were missed"),
                }
            }
        }
    }

    #[test]
    fn this_host_is_awake() {
        let mut suspends = Suspends::new(HostClocks);
        assert_eq!(suspends.since_last(), None);
    }
}
