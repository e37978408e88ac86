//! `serve`: the frames of a running session for several clients over a socket.
//!
//! Each client gets the header, a snapshot taken for it, and the events from there on. A client
//! that takes too little is dropped and counted; nobody waits for it. The socket can be used by
//! its owner only.

mod client;
mod hub;
mod socket;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use crossbeam_channel::{bounded, never, select};
use fragscope_agent::live::{LiveAgent, LiveOptions};
use fragscope_agent::{heap, priority, snapshots};
use fragscope_trace::header::EndReason;

use self::hub::Hub;
use self::socket::Socket;
use crate::cli::ServeArgs;
use crate::signals;

/// Time from a signal to the end of this program, with some left for the exit itself.
const ABANDON_TIME: Duration = Duration::from_millis(55);

/// Runs the subcommand.
pub(crate) fn run(args: &ServeArgs) -> Result<ExitCode> {
    heap::keep_freed();
    let signals = signals::catch().context("cannot catch signals")?;
    // Before tracing starts: an unusable address is the more likely mistake.
    let socket = Socket::bind(args.listen.path())?;
    let options = LiveOptions {
        tracer: args.tracer.options(),
        snapshot_every: args.snapshot_every,
        ..LiveOptions::default()
    };
    let agent = LiveAgent::start(options, Some(snapshots::taker()?))?;
    let (hub, joined) = Hub::new(agent.control(), agent.recycler());
    socket.accept_on_thread(joined)?;
    let (done_tx, done) = bounded(1);
    let frames = agent.frames().clone();
    std::thread::Builder::new().name("hub".to_owned()).spawn(move || {
        // Nobody listens when this program is ending.
        let _ = done_tx.send(hub.run(&frames));
    })?;
    let mut give_up = never();
    loop {
        select! {
            recv(signals) -> _ => {
                agent.control().abandon(EndReason::Terminated);
                priority::raise_all_threads(priority::HIGHEST);
                give_up = crossbeam_channel::at(Instant::now() + ABANDON_TIME);
            }
            recv(give_up) -> _ => return Ok(ExitCode::SUCCESS),
            recv(done) -> served => return conclude(served.ok()),
        }
    }
}

/// The session is over: by a signal, or because tracing failed.
fn conclude(served: Option<Result<hub::Served, String>>) -> Result<ExitCode> {
    let served = served.context("the serving thread failed")?.map_err(anyhow::Error::msg)?;
    if served.dropped > 0 {
        eprintln!(
            "fragscope-agent: of {} clients {} were dropped because they were too slow",
            served.clients, served.dropped
        );
    }
    Ok(ExitCode::SUCCESS)
}
