//! What can be typed: arguments as they stand, without any access to the host.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use fragscope_agent::bpf::tracer::TracerOptions;
use fragscope_agent::live::LiveOptions;
use fragscope_agent::live::budget::{Budgets, permille};
use fragscope_agent::live::names::Names;
use fragscope_trace::header::TraceMode;

use crate::cost_cli::CostArgs;
use crate::probe_cli::ProbeArgs;
use crate::snapshot_cli::SnapshotArgs;

/// Time between snapshots in count mode.
const COUNTED_SNAPSHOT_EVERY: Duration = Duration::from_secs(60);

/// Traces a host's page allocator and takes snapshots of its memory.
#[derive(Debug, Parser)]
#[command(name = "fragscope-agent", version, max_term_width = 100)]
pub(crate) struct Cli {
    /// How messages on standard error look; `RUST_LOG` chooses which
    #[arg(long, value_enum, global = true, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Record a trace to a file or a pipe, until the time is over, the command ends, or Ctrl-C
    Record(RecordArgs),
    /// Trace, and let clients follow over a socket
    Serve(ServeArgs),
    /// Show the 1 GiB regions of this host as they are now
    Snapshot(SnapshotArgs),
    #[command(name = "probe-1g")]
    Probe1g(ProbeArgs),
    Cost(CostArgs),
    /// Say what this host offers, what is lost without the rest, and how to get it
    Doctor(DoctorArgs),
    /// Check the configuration file of `serve`, or print one
    Config(ConfigArgs),
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page (roff)
    Man,
}

/// How messages look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// Lines for people
    Text,
    /// One JSON object a line
    Json,
}

/// Which configuration file.
#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    /// The file to check, if not /etc/fragscope/agent.toml
    #[arg(conflicts_with = "default")]
    pub(crate) file: Option<PathBuf>,
    /// Print a file that says what holds without one
    #[arg(long)]
    pub(crate) default: bool,
}

/// How to serve.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Settings, each of them a flag without its dashes; flags win
    /// [default: /etc/fragscope/agent.toml, if it exists]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Where to listen: unix:PATH, or tls:IP:PORT; may be given several times
    #[arg(long, value_name = "ADDRESS", value_parser = parse_address)]
    pub(crate) listen: Vec<Address>,
    /// Permissions of the Unix socket's file. Whoever can connect must also be root, the user of
    /// this program, or allowed below
    #[arg(long, value_name = "OCTAL", default_value = "0600", value_parser = parse_mode)]
    pub(crate) socket_mode: u32,
    /// A user, by number, who may follow over the Unix socket; may be given several times
    #[arg(long, value_name = "UID")]
    pub(crate) allow_uid: Vec<u32>,
    /// A group, by number, whose members may follow over the Unix socket; may be given several times
    #[arg(long, value_name = "GID")]
    pub(crate) allow_gid: Vec<u32>,
    /// With tls: the certificate (PEM) that this agent shows
    #[arg(long, value_name = "FILE")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// With tls: the private key (PEM) of that certificate
    #[arg(long, value_name = "FILE")]
    pub(crate) tls_key: Option<PathBuf>,
    /// With tls: the authorities (PEM) of clients' certificates; nobody else is served
    #[arg(long, value_name = "FILE")]
    pub(crate) tls_client_ca: Option<PathBuf>,
    /// Clients that are served at once
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub(crate) max_clients: usize,
    /// Serve metrics (OpenMetrics, at /metrics) at this address of this host, unauthenticated, for
    /// example 127.0.0.1:9184
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) metrics: Option<SocketAddr>,
    /// Let --metrics be an address that other hosts can reach
    #[arg(long)]
    pub(crate) metrics_anywhere: bool,
    /// What is kept from others.
    #[command(flatten)]
    pub(crate) guard: GuardArgs,
    /// Take a snapshot at this interval (each new client gets one anyway); 1m in count mode if not
    /// said
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) snapshot_every: Option<Duration>,
    /// How much is told, and what that may cost.
    #[command(flatten)]
    pub(crate) live: LiveArgs,
    /// What is traced.
    #[command(flatten)]
    pub(crate) tracer: TracerArgs,
}

/// How to report.
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// At a path.
    Unix(PathBuf),
    /// On the network.
    Tls(SocketAddr),
}

fn parse_address(text: &str) -> Result<Address, String> {
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
fn parse_mode(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o777 => Ok(mode),
        _ => Err("expected octal permissions from 0 to 0777, as in 0660".to_owned()),
    }
}

/// How to record.
#[derive(Debug, Args)]
pub(crate) struct RecordArgs {
    /// Where the trace goes; `-` is standard output
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// Stop after this time, for example 10s, 500ms, 2m
    #[arg(short, long, value_parser = parse_duration)]
    pub(crate) duration: Option<Duration>,
    /// Print the summary as JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Time that the closing snapshot may take
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_duration)]
    pub(crate) close_timeout: Duration,
    /// Take no snapshots
    #[arg(long, conflicts_with = "snapshot_every")]
    pub(crate) no_snapshot: bool,
    /// Take a snapshot at this interval, too; 1m in count mode if not said
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) snapshot_every: Option<Duration>,
    /// Time that each snapshot but the closing one may take; 30s and 250ms per GiB of memory if not
    /// said
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) snapshot_timeout: Option<Duration>,
    /// After the closing snapshot, ask the kernel for as many 1 GiB pages as it gives, as
    /// `probe-1g` does, and put what came of it into the trace
    #[arg(long)]
    pub(crate) probe_1g: bool,
    /// What is kept from others.
    #[command(flatten)]
    pub(crate) guard: GuardArgs,
    /// How large it may become.
    #[command(flatten)]
    pub(crate) size: SizeArgs,
    /// How much is told, and what that may cost.
    #[command(flatten)]
    pub(crate) live: LiveArgs,
    /// What is traced.
    #[command(flatten)]
    pub(crate) tracer: TracerArgs,
    /// Record while this command runs, and exit with its status. Its standard output goes to
    /// standard error if the trace or the JSON summary goes to standard output
    #[arg(last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

/// What is kept from others, and from this program itself.
#[derive(Debug, Args)]
pub(crate) struct GuardArgs {
    /// What the trace says of the names of processes and cgroups, and of the recorded command
    #[arg(long, value_enum, default_value_t = NamesArg::Keep)]
    pub(crate) names: NamesArg,
    /// Keep all rights while tracing (for debugging)
    #[arg(long)]
    pub(crate) no_sandbox: bool,
}

/// What the trace says of names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum NamesArg {
    /// The names themselves
    Keep,
    /// Hashes, keyed for this trace alone; no command
    Hash,
    /// Nothing
    None,
}

impl GuardArgs {
    /// The same for the library.
    ///
    /// # Errors
    /// If the kernel gives no random numbers to make a key of.
    pub(crate) fn names(&self) -> anyhow::Result<Names> {
        match self.names {
            NamesArg::Keep => Ok(Names::Keep),
            NamesArg::Hash => {
                Names::hashed().map_err(|_| anyhow::anyhow!("no random numbers for a key"))
            }
            NamesArg::None => Ok(Names::Omit),
        }
    }
}

/// How large a recording may become.
#[derive(Debug, Args)]
pub(crate) struct SizeArgs {
    /// Stop when the file has this size, closing snapshot included; suffixes KiB, MiB and GiB are
    /// understood
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    pub(crate) max_size: Option<u64>,
    /// Go on in another file instead: NAME.0001.fst, NAME.0002.fst, and so on, each of which can be
    /// read alone
    #[arg(long, requires = "max_size", conflicts_with = "no_snapshot")]
    pub(crate) rotate: bool,
    /// Keep so many files, and remove the oldest when another begins
    #[arg(long, value_name = "N", requires = "rotate", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) keep_files: Option<u32>,
    /// Remove files that were last written before this time, for example 24h, when another begins
    #[arg(long, value_name = "TIME", requires = "rotate", value_parser = parse_duration)]
    pub(crate) keep_age: Option<Duration>,
}

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
    /// and CPU; 0 for none
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub(crate) contexts_per_second: u32,
    /// Run a second program at every free, for the sake of the few in interrupts that hit the tracer
    /// at work: they are told at once then, and not when their pages are allocated again
    #[arg(long)]
    pub(crate) reentry_catch: bool,
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
            empty: false,
            force_ring_buffers: self.channel == ChannelArg::RingBuffer,
            force_classic: self.channel == ChannelArg::Classic,
        }
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
fn parse_count_every(text: &str) -> Result<Duration, String> {
    let time = parse_duration(text)?;
    if (Duration::from_millis(10)..=Duration::from_secs(60)).contains(&time) {
        Ok(time)
    } else {
        Err(format!("{time:?} is out of range: expected 10ms to 60s"))
    }
}

fn parse_percent(text: &str) -> Result<f64, String> {
    let number = text.trim_end_matches('%').parse::<f64>();
    let percent = number.map_err(|_| "expected a number of percent, as in 3".to_owned())?;
    if (0.1..=100_000.0).contains(&percent) {
        Ok(percent)
    } else {
        Err(format!("{percent} % is out of range: expected 0.1 or more"))
    }
}

/// A number of bytes: `65536`, `64KiB`, `2MiB`.
fn parse_bytes(text: &str) -> Result<u64, String> {
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
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

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
        let parse = |more: &[&str]| {
            Cli::try_parse_from(["fragscope-agent", "record", "-o", "t"].iter().chain(more))
        };
        assert!(parse(&["--max-size", "1GiB", "--rotate", "--keep-files", "3"]).is_ok());
        for bad in [&["--rotate"][..], &["--max-size", "1M", "--keep-age", "1h"]] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
        let both = ["--max-size", "1MiB", "--rotate", "--no-snapshot"];
        assert!(parse(&both).is_err(), "each file begins with a snapshot");
    }

    #[test]
    fn a_command_follows_two_dashes() {
        let cli = Cli::parse_from(["fragscope-agent", "record", "-o", "t", "--", "make", "-j8"]);
        let Command::Record(args) = cli.command else { panic!("another command") };
        assert_eq!(args.command, ["make", "-j8"]);
    }
}
