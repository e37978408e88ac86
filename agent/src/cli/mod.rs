//! What can be typed: arguments as they stand, without any access to the host.

mod tracing;
mod values;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use fragscope_agent::live::names::Names;

pub(crate) use self::tracing::{LiveArgs, TracerArgs};
pub(crate) use self::values::{Address, parse_duration};
use self::values::{parse_address, parse_bytes, parse_mode};
use crate::cost_cli::CostArgs;
use crate::probe_cli::ProbeArgs;
use crate::snapshot_cli::SnapshotArgs;

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
    /// Time that the closing snapshot may take; 5s and 100ms for each GiB of memory if not said
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) close_timeout: Option<Duration>,
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

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn files_rotate_at_a_size() {
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
