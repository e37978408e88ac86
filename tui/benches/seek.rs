//! Seeking as people do it: the program in a terminal over a recording, times typed into it, and
//! how long the screen takes to show each, while the recording is read and afterwards.
//!
//!     cargo bench -p fragscope --bench seek -- [TRACE [SEEKS]]
//!
//! A time counts as shown once the header says it and the terminal is quiet. Every time is gone to
//! twice, on different ways, and must look the same both times. Without TRACE: some minutes of a
//! small machine, made up.

#[path = "../tests/terminal/pty.rs"]
#[expect(dead_code, reason = "the tests of the terminal use all of it")]
mod pty;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use jiff::civil::DateTime;
use jiff::{SignedDuration, ToSpan as _};
use pty::Pty;

/// Views, the keys that lead to them from any other, and what only they show.
const VIEWS: [(&str, &str, &str); 6] = [
    ("overview", "\x1b1", "if 1 GiB is moved"),
    ("regions", "\x1b2", "by address"),
    ("region", "\x1b2gjjjjj\r", "region at"),
    ("blame", "\x1b\x1b3", "who turned regions tainted"),
    ("allocator", "4", "allocator counters"),
    ("health", "5", "health"),
];
/// Times gone to in each view, unless said otherwise.
const SEEKS: u64 = 110;
/// The same while the recording is read.
const SEEKS_READING: u64 = 20;
/// So much of a recording is read before the first of those.
const READ_FIRST: SignedDuration = SignedDuration::from_mins(3);
/// A screen that was not written to for this long is complete.
const QUIET: Duration = Duration::from_millis(15);
/// Reading and seeking may take this long.
const READ_MAX: Duration = Duration::from_secs(3600);
const SEEK_MAX: Duration = Duration::from_secs(20);

fn main() {
    let mut args = std::env::args().skip(1).filter(|arg| !arg.starts_with("--"));
    let dir = tempfile::tempdir().expect("a directory");
    let trace = args.next().map_or_else(|| made_up(dir.path()), PathBuf::from);
    let seeks = args.next().map_or(SEEKS, |n| n.parse().expect("a number of seeks"));

    let mut command = Command::new(env!("CARGO_BIN_EXE_fragscope"));
    command.arg(&trace).env("TZ", "UTC");
    let began = Instant::now();
    let mut dashboard = Dashboard(Pty::start(command, 160, 50));
    println!("{:<22} {:>5} {:>9} {:>9} {:>9}", "view", "seeks", "median", "p95", "max");
    if let Some(span) = dashboard.read_so_far() {
        dashboard.measure_unread();
        for view in VIEWS {
            if !dashboard.is_reading() {
                break;
            }
            dashboard.measure(view, "reading", span, SEEKS_READING);
        }
    }
    dashboard.0.wait_at_most(READ_MAX, "end", |s| s.contains("RECORDING"));
    let (read_s, cpu_s) = (began.elapsed().as_secs_f64(), dashboard.cpu_seconds());
    println!("read to its end after {read_s:.1} s, with {cpu_s:.1} s of CPU time, seeks included");
    let span = dashboard.span();
    for view in VIEWS {
        dashboard.measure(view, "read", span, seeks);
    }
    println!("resident {}, at most {}", dashboard.memory("VmRSS"), dashboard.memory("VmHWM"));
    dashboard.0.send("q");
    dashboard.0.wait();
}

/// Some minutes of a small machine, of few events.
fn made_up(dir: &Path) -> PathBuf {
    use fragscope_replay::synth::{generate, presets::preset};
    let mut workload = preset("small", None).expect("there is one");
    workload.duration_s = 400.0;
    workload.scale_rates(0.02);
    let path = dir.join("small.fst");
    let file = std::fs::File::create(&path).expect("a file");
    generate(&workload, 1, std::io::BufWriter::new(file), |_| ()).expect("generated");
    path
}

/// The program over a recording.
struct Dashboard(Pty);

/// First and last whole second that can be gone to.
type Span = (DateTime, DateTime);

impl Dashboard {
    /// Goes to a time; gives how long that took, and the screen below the header.
    fn seek(&mut self, typed: &str, shown: &str) -> (Duration, String) {
        self.0.send(&format!("t{typed}"));
        let prompt = format!("-5m, end): {typed}");
        self.0.wait_for("what was typed", |s| s.contains(&prompt));
        let began = Instant::now();
        self.0.send("\r");
        let is_shown = |s: &str| header(s).contains(shown) && !s.contains(&prompt);
        self.0.wait_at_most(SEEK_MAX, shown, is_shown);
        while self.0.written_at().elapsed() < QUIET {
            std::thread::sleep(Duration::from_millis(1));
        }
        let took = self.0.written_at().saturating_duration_since(began);
        let screen = self.0.screen();
        let below = screen.split_once('\n').map_or("", |(_, below)| below);
        (took, below.to_owned())
    }

    /// Goes to random seconds, each twice.
    fn measure(
        &mut self,
        (name, keys, title): (&str, &str, &str),
        when: &str,
        span: Span,
        seeks: u64,
    ) {
        for key in keys.split_inclusive('\x1b') {
            self.0.send(key);
            // So that it is not taken for the beginning of a key's code.
            std::thread::sleep(Duration::from_millis(60));
        }
        self.0.wait_for(name, |s| s.contains(title));
        let seconds = span.0.duration_until(span.1).as_secs() as u64;
        let second = |i: u64| span.0 + (random(i) % (seconds + 1)).cast_signed().seconds();
        let in_order: BTreeSet<DateTime> = (0..seeks).map(second).collect();
        let mut times: Vec<DateTime> = in_order.iter().copied().collect();
        times.sort_by_key(|time| random(time.second() as u64 * 3600 + time.minute() as u64));
        let (mut took, mut screens) = (Vec::new(), BTreeMap::new());
        for time in times.iter().chain(&in_order) {
            let text = time.strftime("%H:%M:%S").to_string();
            let (this, screen) = self.seek(&text, &format!("PAUSED at {time}").replace('T', " "));
            took.push(this);
            let before = screens.entry(*time).or_insert_with(|| screen.clone());
            if when == "read" {
                assert_eq!(*before, screen, "{name} at {time} does not look as before");
            }
        }
        let distinct = screens.values().collect::<BTreeSet<_>>().len();
        let note = format!("{distinct} of {} seconds differ", screens.len());
        print_row(&format!("{name}, {when}"), took, &note);
    }

    /// Goes to a time that is not read yet, again and again.
    fn measure_unread(&mut self) {
        let mut took = Vec::new();
        for _ in 0..SEEKS_READING {
            self.seek("end", "");
            took.push(self.seek("+3600", "WAITING for").0);
        }
        self.seek("end", "");
        print_row("not read yet", took, "said to be so");
    }

    fn is_reading(&self) -> bool {
        header(&self.0.screen()).contains("READING")
    }

    /// What can be gone to once some minutes are read; `None` if all of it is read by then.
    fn read_so_far(&mut self) -> Option<Span> {
        self.0.wait_at_most(READ_MAX, "overview", |s| s.contains("if 1 GiB is moved"));
        while self.is_reading() {
            std::thread::sleep(Duration::from_millis(500));
            let span = self.span();
            if span.0.duration_until(span.1) >= READ_FIRST {
                return Some(span);
            }
        }
        None
    }

    /// What can be gone to now.
    fn span(&mut self) -> Span {
        let mut at = |typed: &str| {
            self.seek("end", "");
            self.seek(typed, "PAUSED at");
            paused_at(header(&self.0.screen())).expect("a time")
        };
        // The first sample may be of the middle of a second.
        (at("start") + 1.second(), at("+0"))
    }

    /// CPU time of all its threads.
    fn cpu_seconds(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.child.id()));
        let stat = stat.expect("it runs");
        // User and system time are the 12th and 13th field after the name.
        let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace();
        let ticks: u64 = fields.skip(11).take(2).filter_map(|n| n.parse::<u64>().ok()).sum();
        ticks as f64 / rustix::param::clock_ticks_per_second() as f64
    }

    fn memory(&self, of: &str) -> String {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.child.id()));
        let status = status.expect("it runs");
        let line = status.lines().find(|l| l.starts_with(of)).unwrap_or_default();
        let kib: u64 = line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap_or(0);
        format!("{} MiB", kib >> 10)
    }
}

/// Evenly spread numbers, the same in every run.
fn random(seed: u64) -> u64 {
    let mixed = (seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 16
}

/// A row of the table.
fn print_row(name: &str, mut took: Vec<Duration>, note: &str) {
    took.sort_unstable();
    let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    let (median, p95, max) = (at(0.5), at(0.95), at(1.0));
    let seeks = took.len();
    println!("{name:<22} {seeks:>5} {median:>6.1} ms {p95:>6.1} ms {max:>6.1} ms  {note}");
}

fn header(screen: &str) -> &str {
    screen.lines().next().unwrap_or_default()
}

/// The time in a header.
fn paused_at(header: &str) -> Option<DateTime> {
    let text = header.split_once("PAUSED at ")?.1;
    text.split("  ").next()?.replace(' ', "T").parse().ok()
}
