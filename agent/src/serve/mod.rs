//! `serve`: the frames of a running session for several clients over sockets.
//!
//! Each client gets the header, a snapshot taken for it (or for several that came together), and
//! the events from there on. A client that takes too little is dropped and counted; nobody waits
//! for it. Clients of this host are known by the kernel's word ([`callers`]), those of the network
//! by their certificates ([`handshake`]); nobody else is told anything, and nothing that a client
//! sends is read. [`metrics`] tell any process of this host how memory and this program do.
//!
//! SIGHUP has the settings read again; those on who may come in change at once ([`doors`]).

mod callers;
mod census;
mod client;
mod connection;
mod doors;
mod figures;
mod handshake;
mod http;
mod hub;
mod metrics;
mod notify;
mod socket;

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::CommandFactory as _;
use clap::error::ErrorKind;
use crossbeam_channel::{Receiver, bounded, never, select};
use fragscope_agent::live::{Control, LiveAgent, LiveOptions};
use fragscope_agent::privileges::{Sandbox, spawn};
use fragscope_agent::{heap, priority, snapshots};
use fragscope_trace::causes;
use fragscope_trace::header::EndReason;

use self::census::{Census, Refusal};
use self::doors::Doors;
use self::figures::Figures;
use self::hub::Hub;
use self::metrics::Metrics;
use self::notify::Notifier;
use crate::cli::{Cli, ServeArgs};
use crate::signals::{self, Asked};
use crate::{config, confine};

/// Time from a signal to the end of this program, with some left for the exit itself.
const ABANDON_TIME: Duration = Duration::from_millis(55);

/// Runs the subcommand with the arguments typed and those of the configuration file.
pub(crate) fn run(argv: &[OsString]) -> Result<ExitCode> {
    heap::keep_freed();
    let args = config::serve_args(argv)?;
    if args.listen.is_empty() {
        let text = "nowhere to listen: --listen is missing, here and in the configuration file";
        return Err(Cli::command().error(ErrorKind::MissingRequiredArgument, text).into());
    }
    let notifier = Notifier::of_environment();
    let sandbox = confine::prepare(args.guard.no_sandbox, doors::needs(&args))?;
    let sandbox = sandbox.as_ref();
    let signals = signals::catch(sandbox).context("cannot catch signals")?;
    // Before tracing starts: an unusable address is the more likely mistake.
    let doors = Doors::open(&args)?;
    let agent = LiveAgent::start(options(&args, sandbox)?, Some(snapshots::taker()?))?;
    let metrics = Metrics { figures: Arc::new(Figures::default()), census: Arc::default() };
    let known = (Arc::clone(&metrics.census), Arc::clone(&metrics.figures));
    let (hub, joined) =
        Hub::new(agent.control(), agent.recycler(), known, notifier.another(), args.max_clients);
    doors.accept_on_threads(&joined, &metrics, sandbox)?;
    let (done_tx, done) = bounded(1);
    let frames = agent.frames().clone();
    spawn("hub", None, sandbox, move || {
        // Nobody listens when this program is ending.
        let _ = done_tx.send(hub.run(&frames));
    })?;
    confine::enter(sandbox)?;
    Service { argv, args, doors, notifier, metrics }.attend(&agent.control(), &signals, &done)
}

fn options(args: &ServeArgs, sandbox: Option<&Arc<Sandbox>>) -> Result<LiveOptions> {
    Ok(LiveOptions {
        snapshot_every: args.snapshot_every.or_else(|| args.live.snapshot_every_unasked()),
        names: args.guard.names()?,
        sandbox: sandbox.cloned(),
        ..args.live.options(&args.tracer)
    })
}

/// All that is set up.
struct Service<'a> {
    argv: &'a [OsString],
    args: ServeArgs,
    doors: Doors,
    notifier: Notifier,
    metrics: Metrics,
}

impl Service<'_> {
    /// Obeys signals until the session is over, or nobody can wait for that any longer.
    fn attend(
        &self,
        control: &Control,
        signals: &Receiver<Asked>,
        done: &Receiver<Result<(), String>>,
    ) -> Result<ExitCode> {
        self.ready();
        let mut give_up = never();
        loop {
            select! {
                recv(signals) -> asked => match asked {
                    Ok(asked) if asked.is_hang_up() => self.reload(),
                    _ => {
                        self.notifier.stopping();
                        control.abandon(EndReason::Terminated);
                        priority::raise_all_threads(priority::HIGHEST);
                        give_up = crossbeam_channel::at(Instant::now() + ABANDON_TIME);
                    }
                },
                recv(give_up) -> _ => return Ok(ExitCode::SUCCESS),
                recv(done) -> served => {
                    served.context("the serving thread failed")?.map_err(anyhow::Error::msg)?;
                    conclude(&self.metrics.census);
                    return Ok(ExitCode::SUCCESS);
                }
            }
        }
    }

    fn ready(&self) {
        self.notifier.ready(&hub::status(&self.metrics.census, &self.metrics.figures));
    }

    /// Reads the settings again. What can't be used leaves all as it was.
    fn reload(&self) {
        self.notifier.reloading();
        let read = config::serve_args(self.argv);
        match read.and_then(|new| self.doors.admit_by(&new, &self.args)) {
            Ok(()) => log::warn!("settings were read again"),
            Err(error) => {
                let why = causes::in_one_line(error.as_ref());
                log::error!("settings stay as they were: {why}");
            }
        }
        self.ready();
    }
}

/// The session is over: by a signal, or because tracing failed.
fn conclude(census: &Census) {
    let dropped = census.refused(Refusal::Slow);
    if dropped > 0 {
        eprintln!(
            "fragscope-agent: of {} clients {dropped} were dropped because they were too slow",
            census.admitted()
        );
    }
}
