//! `serve`: the frames of a running session for several clients over sockets.
//!
//! Each client gets the header, a snapshot taken for it (or for several that came together), and
//! the events from there on. A client that takes too little is dropped and counted; nobody waits
//! for it. Clients of this host are known by the kernel's word ([`callers`]), those of the network
//! by their certificates ([`handshake`]); nobody else is told anything, and nothing that a client
//! sends is read.

mod callers;
mod census;
mod client;
mod connection;
mod handshake;
mod hub;
mod socket;

use std::process::ExitCode;
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use crossbeam_channel::{Sender, bounded, never, select};
use fragscope_agent::live::{LiveAgent, LiveOptions};
use fragscope_agent::{heap, priority, snapshots, tls};
use fragscope_trace::header::EndReason;

use self::callers::Callers;
use self::census::{Census, Refusal};
use self::connection::Connection;
use self::handshake::{Identity, TlsDoor};
use self::hub::Hub;
use self::socket::Socket;
use crate::cli::{Address, ServeArgs};
use crate::signals;

/// Time from a signal to the end of this program, with some left for the exit itself.
const ABANDON_TIME: Duration = Duration::from_millis(55);

/// Runs the subcommand.
pub(crate) fn run(args: &ServeArgs) -> Result<ExitCode> {
    heap::keep_freed();
    let signals = signals::catch().context("cannot catch signals")?;
    // Before tracing starts: an unusable address is the more likely mistake.
    let doors = Doors::open(args)?;
    let options = LiveOptions {
        tracer: args.tracer.options(),
        snapshot_every: args.snapshot_every,
        ..LiveOptions::default()
    };
    let agent = LiveAgent::start(options, Some(snapshots::taker()?))?;
    let census = Arc::new(Census::default());
    let (hub, joined) =
        Hub::new(agent.control(), agent.recycler(), Arc::clone(&census), args.max_clients);
    doors.accept_on_threads(&joined, &census)?;
    let (done_tx, done) = bounded(1);
    let frames = agent.frames().clone();
    spawn("hub", move || {
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
            recv(done) -> served => {
                served.context("the serving thread failed")?.map_err(anyhow::Error::msg)?;
                conclude(&census);
                return Ok(ExitCode::SUCCESS);
            }
        }
    }
}

/// All addresses that are listened at, and who may come in.
struct Doors {
    sockets: Vec<Socket>,
    tls: Vec<TlsDoor>,
    callers: Callers,
}

impl Doors {
    fn open(args: &ServeArgs) -> Result<Doors> {
        let callers = Callers {
            uids: args.allow_uid.iter().copied().collect(),
            gids: args.allow_gid.iter().copied().collect(),
        };
        let mut doors = Doors { sockets: Vec::new(), tls: Vec::new(), callers };
        let mut identity = None;
        for address in &args.listen {
            match address {
                Address::Unix(path) => doors.sockets.push(Socket::bind(path, args.socket_mode)?),
                Address::Tls(address) => {
                    let identity: &Identity = match &mut identity {
                        Some(known) => known,
                        unknown => unknown.insert(read_identity(args)?),
                    };
                    doors.tls.push(TlsDoor::bind(*address, Arc::clone(identity))?);
                }
            }
        }
        Ok(doors)
    }

    /// Lets clients in from now on. The files of sockets stay as long as `self`.
    fn accept_on_threads(&self, joined: &Sender<Connection>, census: &Arc<Census>) -> Result<()> {
        for socket in &self.sockets {
            let (door, joined, census) = (socket.door()?, joined.clone(), Arc::clone(census));
            let callers = self.callers.clone();
            spawn("listener", move || door.accept(&joined, || callers.clone(), &census))?;
        }
        for door in &self.tls {
            let (door, joined, census) = (door.another()?, joined.clone(), Arc::clone(census));
            spawn("tls-listener", move || door.accept(&joined, &census))?;
        }
        Ok(())
    }
}

fn read_identity(args: &ServeArgs) -> Result<Identity> {
    let (Some(cert), Some(key), Some(ca)) = (&args.tls_cert, &args.tls_key, &args.tls_client_ca)
    else {
        bail!(
            "a tls address takes --tls-cert, --tls-key and --tls-client-ca: nobody is served \
               unauthenticated"
        );
    };
    let files = tls::Files { cert: cert.clone(), key: key.clone(), ca: ca.clone() };
    Ok(Arc::new(RwLock::new(tls::server(&files)?)))
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    std::thread::Builder::new().name(name.to_owned()).spawn(work).map(drop)
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
