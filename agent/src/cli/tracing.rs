//! What a session traces, how much of it is told, and what that may cost.

use std::time::Duration;

use clap::{Args, ValueEnum};
use fragscope_agent::bpf::tracer::TracerOptions;
use fragscope_agent::live::LiveOptions;
use fragscope_agent::live::budget::{Budgets, permille};
use fragscope_trace::header::TraceMode;

use super::values::{parse_bytes, parse_count_every, parse_percent};

/// Time between snapshots in count mode.
const COUNTED_SNAPSHOT_EVERY: Duration = Duration::from_secs(60);

/// How much a session tells, and what that may cost.
#[derive(Debug, Args)]
pub(crate) struct LiveArgs {
    /// What is told of allocations and frees
    #[arg(long, value_enum, default_value_t = ModeArg::Full)]
    pub(crate) mode: ModeArg,
    /// Time between two readings of the counters, where events are counted
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_count_every)]
    pub(crate) count_every: Duration,
    /// Memory for the rings of all CPUs and the queue behind them; without it rings are 2 MiB each
    /// and 256 MiB together at most, and the queue 48 MiB
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes, conflicts_with = "ring_bytes")]
    pub(crate) memory: Option<u64>,
    /// Page events to record per second; beyond, they are counted by region until the second is
    /// over
    #[arg(long, value_name = "N")]
    pub(crate) max_events_per_second: Option<u64>,
    /// CPU time that this program may use, snapshots apart, in percent of one CPU; beyond, events
    /// are counted by region until the second is over
    #[arg(long, value_name = "PERCENT", value_parser = parse_percent)]
    pub(crate) max_cpu: Option<f64>,
}

/// What is told of allocations and frees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ModeArg {
    /// Every one
    Full,
    /// Their numbers by GiB of memory, type and order: what costs the host least. It shows
    /// how full each GiB is, and not who took what or what another policy would do
    Count,
}

impl LiveArgs {
    /// The options of a session with these, and what else is traced.
    pub(crate) fn options(&self, tracer: &TracerArgs) -> LiveOptions {
        let mut options = LiveOptions { tracer: tracer.options(), ..LiveOptions::default() };
        options.tracer.mode = self.mode();
        options.count_every = self.count_every;
        options.budgets = Budgets {
            events_per_second: self.max_events_per_second,
            cpu_permille: self.max_cpu.map(permille),
        };
        options.memory = self.memory;
        options
    }

    /// Time between snapshots where nothing is said of it: counters alone drift from the truth.
    pub(crate) fn snapshot_every_unasked(&self) -> Option<Duration> {
        (self.mode == ModeArg::Count).then_some(COUNTED_SNAPSHOT_EVERY)
    }

    /// What the trace tells.
    pub(crate) fn mode(&self) -> TraceMode {
        match self.mode {
            ModeArg::Full => TraceMode::Full,
            ModeArg::Count => TraceMode::Count,
        }
    }
}

/// What is traced, and how.
#[derive(Debug, Args)]
pub(crate) struct TracerArgs {
    /// Trace blocks moving between buddy lists and per-CPU lists, too
    #[arg(long)]
    pub(crate) buddy_events: bool,
    /// Bytes of each ring (one per CPU and kind of event); suffixes KiB and MiB are understood
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    pub(crate) ring_bytes: Option<u64>,
    /// Callers (process, cgroup, kernel stack) of non-movable allocations to record per second
    /// and CPU; that of the first in a GiB is recorded beyond. 0 for none at all
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub(crate) contexts_per_second: u32,
    /// Run a second program at every free, for the sake of the few in interrupts that hit the tracer
    /// at work: they are told at once then, and not when their pages are allocated again
    #[arg(long)]
    pub(crate) reentry_catch: bool,
    /// Do not listen to LRU insertions, which is done where programs can't attach to functions: costs a
    /// sixth less, and what compaction moves stays unseen until it is freed or the next snapshot
    #[arg(long)]
    pub(crate) no_lru_insertions: bool,
    /// Read the clock for each event, and not once for up to 16 of a CPU: times are exact to the
    /// nanosecond then, and not up to a tick (1 to 10 ms) early. The order is right without
    #[arg(long)]
    pub(crate) exact_times: bool,
    /// How events leave the kernel
    #[arg(long, value_enum, default_value_t = ChannelArg::Auto)]
    pub(crate) channel: ChannelArg,
}

/// How events leave the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ChannelArg {
    /// The cheapest that the kernel admits
    Auto,
    /// BPF ring buffers, one per CPU
    RingBuffer,
    /// BPF ring buffers and classic tracepoints
    Classic,
}

impl TracerArgs {
    /// The same for the library.
    #[must_use]
    pub(crate) fn options(&self) -> TracerOptions {
        TracerOptions {
            mode: TraceMode::Full,
            may_shed: false,
            ring_bytes: self.ring_bytes,
            buddy_events: self.buddy_events,
            contexts_per_second: self.contexts_per_second,
            reentry_catch: self.reentry_catch,
            no_lru_insertions: self.no_lru_insertions,
            exact_times: self.exact_times,
            empty: false,
            force_ring_buffers: self.channel == ChannelArg::RingBuffer,
            force_classic: self.channel == ChannelArg::Classic,
        }
    }
}
