//! The command line as it is typed. Nothing is opened here.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use fragscope_replay::mm::settings::Settings as AllocatorSettings;
use fragscope_replay::observe::{StartState, TrackKind};
use fragscope_replay::start::{TrackSpec, memory};
use fragscope_trace::header::{Header, TraceMode};
use fragscope_trace::machine::Machine;

use crate::conn::address::Address;
use crate::format::bytes;
use crate::state::ui::ViewId;

/// Shows how many 1 GiB pages this host could have: under its own kernel, under the stock
/// allocator, under superpageblocks.
///
/// Without arguments it traces this host, live; without the rights for that it says why and shows
/// the bundled recording. Without a terminal on standard output it prints one comparison.
#[derive(Clone, Debug, Parser)]
#[command(name = "fragscope", version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// Something else than to show a trace.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// A recording, or - for standard input
    #[arg(value_name = "TRACE", conflicts_with = "connect")]
    pub trace: Option<PathBuf>,

    /// Show a remote agent (fragscope-agent serve), for example unix:/run/fragscope.sock or
    /// tls:db17:9469; may be given several times
    #[arg(long, value_name = "ADDRESS")]
    pub connect: Vec<Address>,

    /// With tls: the authorities (PEM) of agents' certificates
    #[arg(long, value_name = "FILE")]
    pub tls_ca: Option<PathBuf>,

    /// With tls: the certificate (PEM) to show to agents
    #[arg(long, value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,

    /// With tls: the private key (PEM) of that certificate
    #[arg(long, value_name = "FILE")]
    pub tls_key: Option<PathBuf>,

    /// How this host is traced
    #[arg(long, value_enum, default_value_t = Mode::Full, conflicts_with_all = ["trace", "connect"])]
    pub mode: Mode,

    /// Print one comparison and exit, without a terminal
    #[arg(long)]
    pub once: bool,

    /// With --once, --svg or without a terminal: how long to watch a live host
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0, value_parser = seconds)]
    pub seconds: f64,

    /// Print the comparison as JSON
    #[arg(long)]
    pub json: bool,

    /// The configuration file, if not the one below ~/.config
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Write what happens to this file; RUST_LOG chooses how much
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,

    /// Only ASCII characters
    #[arg(long)]
    pub ascii: bool,

    /// Play a recording from its beginning, so many times as fast as it happened
    #[arg(long, value_name = "TIMES", value_parser = speed)]
    pub speed: Option<f64>,

    /// Start states of the policy tracks
    #[arg(long, value_enum, default_value_t = Starts::Auto)]
    pub start: Starts,

    /// View to begin with: the overview, or hosts where there are several
    #[arg(long, value_enum)]
    pub view: Option<ViewName>,

    /// The moment to show: 14:03, 14:03:21, +30s, -5m, start, end
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub at: Option<String>,

    /// Write the screen to an SVG file instead of showing it
    #[arg(long, value_name = "FILE", conflicts_with_all = ["once", "json"])]
    pub svg: Option<PathBuf>,

    /// Size of the picture
    #[arg(long, value_name = "COLUMNSxROWS", default_value = "120x40", value_parser = size)]
    pub size: (u16, u16),
}

/// Something else than to show a trace.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Check the configuration file, or print one
    Config {
        /// The file to check, if not the one below ~/.config
        #[arg(conflicts_with = "default")]
        file: Option<PathBuf>,
        /// Print a file that says what holds without one
        #[arg(long)]
        default: bool,
    },
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the manual page (roff)
    Man,
}

/// How this host is traced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Every allocation and free
    Full,
    /// Their numbers by GiB of memory: what costs the host least. There are no policy tracks then,
    /// and nobody to blame
    Count,
}

impl From<Mode> for TraceMode {
    fn from(mode: Mode) -> TraceMode {
        match mode {
            Mode::Full => TraceMode::Full,
            Mode::Count => TraceMode::Count,
        }
    }
}

/// Which start states are replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Starts {
    /// Both where the memory here suffices
    Auto,
    /// Each page where the kernel has it: from now on
    AsFound,
    /// Also placed by the policy from the beginning: had it ruled since boot
    Both,
}

/// Bytes that a policy track takes for each page frame of the machine it models: 16 of the frame
/// table, and what is kept of its blocks; from boot also the order of its history.
const TRACK_BYTES_PER_PAGE: u64 = 24;

impl Starts {
    /// Why from-boot tracks are left out of the replay of a machine, if they are: `available_bytes`
    /// is the memory that is free for use here, if known.
    #[must_use]
    pub fn left_out(self, machine: &Machine, available_bytes: Option<u64>) -> Option<String> {
        let needed = 2 * TRACK_BYTES_PER_PAGE * machine.end_pfn().0;
        match (self, available_bytes) {
            (Starts::AsFound, _) => {
                Some("--start both shows policies that ruled since boot, too".to_owned())
            }
            // As much again for the as-found tracks, the kernel's, and everybody else.
            (Starts::Auto, Some(available)) if needed > available / 3 => Some(format!(
                "policies that ruled since boot would take {} of the {} available here; \
                 --start both shows them anyway",
                bytes(needed),
                bytes(available)
            )),
            _ => None,
        }
    }

    /// The policy tracks to run for a trace: none where it has no events.
    #[must_use]
    pub fn tracks(self, header: &Header) -> Vec<TrackSpec> {
        if !header.mode.is_full() {
            return Vec::new();
        }
        let both = self.left_out(&header.machine, memory::available_bytes()).is_none();
        let mut tracks: Vec<TrackSpec> =
            [TrackKind::Stock, TrackKind::Spb].map(TrackSpec::as_found).into();
        if both {
            tracks.extend([TrackKind::Stock, TrackKind::Spb].map(|policy| TrackSpec {
                policy,
                start: StartState::FromBoot,
                seed: 1,
                settings: AllocatorSettings::default(),
            }));
        }
        tracks
    }
}

/// A view by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[expect(missing_docs, reason = "the help names them; ViewId documents them")]
pub enum ViewName {
    Hosts,
    Overview,
    Regions,
    Blame,
    Allocator,
    Health,
}

impl From<ViewName> for ViewId {
    fn from(name: ViewName) -> ViewId {
        ViewId::ALL[name as usize]
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| format!("`{text}` is no number of seconds"))?;
    if (0.1..=86_400.0).contains(&value) {
        Ok(value)
    } else {
        Err(format!("{value} s is out of range: expected 0.1 to 86400"))
    }
}

fn speed(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| format!("`{text}` is no number"))?;
    if (0.01..=10_000.0).contains(&value) {
        Ok(value)
    } else {
        Err(format!("a speed of {value} is out of range: expected 0.01 to 10000"))
    }
}

fn size(text: &str) -> Result<(u16, u16), String> {
    let (width, height) = text
        .split_once('x')
        .and_then(|(w, h)| Some((w.parse::<u16>().ok()?, h.parse::<u16>().ok()?)))
        .ok_or_else(|| format!("`{text}` is no size: expected COLUMNSxROWS, for example 120x40"))?;
    if (20..=1000).contains(&width) && (5..=1000).contains(&height) {
        Ok((width, height))
    } else {
        Err(format!("{width}x{height} is out of range: expected 20x5 to 1000x1000"))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use clap::CommandFactory;
    use fragscope_trace::machine::{Zone, ZoneKind};
    use fragscope_trace::page::{Pfn, PfnRange};

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn numbers_are_checked() {
        assert_eq!(size("120x40"), Ok((120, 40)));
        for bad in ["120", "x", "1x1", "120x99999"] {
            assert!(size(bad).is_err(), "{bad}");
        }
        assert!(seconds("0").is_err() && seconds("nan").is_err());
        assert!(speed("-1").is_err() && speed("2") == Ok(2.0));
    }

    #[test]
    fn from_boot_tracks_are_left_out_only_for_a_reason() {
        let machine = Machine {
            hostname: String::new(),
            kernel_release: String::new(),
            arch: String::new(),
            page_size: 4096,
            pageblock_order: 9,
            max_page_order: 10,
            cpus: Vec::new(),
            zones: vec![Zone::new(0, ZoneKind::Normal, PfnRange::new(Pfn(0), 1 << 28))],
            ram: Vec::new(),
            sysctls: BTreeMap::new(),
            facts: BTreeMap::new(),
        };
        let left_out = |starts: Starts, gib: u64| starts.left_out(&machine, Some(gib << 30));
        assert_eq!(left_out(Starts::Auto, 64), None);
        assert_eq!(left_out(Starts::Both, 1), None);
        let why = left_out(Starts::Auto, 16).expect("12 GiB are too much of 16");
        assert!(why.contains("12 GiB of the 16 GiB") && why.contains("--start both"), "{why}");
        assert!(left_out(Starts::AsFound, 64).is_some_and(|why| why.contains("--start both")));
    }

    #[test]
    fn view_names_are_views() {
        for (name, view) in ViewName::value_variants().iter().zip(ViewId::ALL) {
            assert_eq!(ViewId::from(*name), view);
            let value = name.to_possible_value().expect("not hidden");
            assert_eq!(value.get_name(), view.name());
        }
    }
}
