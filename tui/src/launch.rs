//! From the command line to sources: what is opened, and what instead when that fails.

use std::path::Path;

use anyhow::{Result, bail};
use fragscope_agent::tls;
use fragscope_replay::bundled;
use fragscope_trace::causes;
use fragscope_trace::header::TraceMode;
use jiff::tz::TimeZone;

use crate::cli::Cli;
use crate::conn::address::Address;
use crate::conn::local::Local;
use crate::conn::phase::Origin;
use crate::conn::recording::{self, Recording};
use crate::conn::socket::Socket;
use crate::conn::source::Source;
use crate::conn::wire::Identity;
use crate::epoch::Epoch;
use crate::state::State;
use crate::state::host::Host;
use crate::state::ui::ViewId;

/// A host and the source of its trace.
pub struct Opened {
    /// The host, of which nothing is known yet.
    pub host: Host,
    /// Where its trace comes from.
    pub source: Box<dyn Source>,
}

/// Opens what the command line asks for.
///
/// Without an argument that is this host; where it can't be traced, one line on standard error
/// says why and the bundled recording is opened.
///
/// # Errors
/// If what was asked for by name can't be opened.
pub fn open(cli: &Cli, epoch: Epoch) -> Result<Vec<Opened>> {
    if !cli.connect.is_empty() {
        let identity = identity(cli)?;
        let socket = |address: &Address| Opened {
            host: Host::new(address.to_string(), Origin::Socket),
            source: Box::new(Socket::new(address.clone(), identity.clone(), epoch)),
        };
        return Ok(cli.connect.iter().map(socket).collect());
    }
    let opened = match cli.trace.as_deref() {
        Some(path) if path == Path::new("-") => Opened {
            host: Host::new("standard input", Origin::Pipe),
            source: Box::new(recording::standard_input()?),
        },
        Some(path) => Opened {
            host: Host::new(path.display().to_string(), Origin::File),
            source: Box::new(recording::open(path)?),
        },
        None => local_or_bundled(cli.mode.into())?,
    };
    Ok(vec![opened])
}

/// What agents on the network are shown, if any are to be connected to.
fn identity(cli: &Cli) -> Result<Option<Identity>> {
    if !cli.connect.iter().any(|address| matches!(address, Address::Tls { .. })) {
        return Ok(None);
    }
    let (Some(cert), Some(key), Some(ca)) = (&cli.tls_cert, &cli.tls_key, &cli.tls_ca) else {
        bail!(
            "a tls address takes --tls-ca, --tls-cert and --tls-key: agents serve nobody without \
               a certificate"
        );
    };
    let files = tls::Files { cert: cert.clone(), key: key.clone(), ca: ca.clone() };
    Ok(Some(tls::client(&files)?))
}

fn local_or_bundled(mode: TraceMode) -> Result<Opened> {
    match Local::start(mode) {
        Ok(local) => {
            let host = Host::new("this host", Origin::Local);
            Ok(Opened { host, source: Box::new(local) })
        }
        Err(error) => {
            let why = one_line(&causes::in_one_line(error.as_ref()));
            eprintln!("fragscope: cannot trace this host: {why}; showing the bundled recording");
            let mut host = Host::new("bundled recording", Origin::Bundled);
            host.fallback = Some(format!("not this host, which cannot be traced: {why}"));
            let bytes = bundled::recording();
            let source = Recording::new(bytes, Some(bytes.len() as u64))?;
            Ok(Opened { host, source: Box::new(source) })
        }
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The state to begin with.
#[must_use]
pub fn state(hosts: Vec<Host>, cli: &Cli) -> State {
    let mut state = State::new(hosts, TimeZone::system());
    let first = if state.hosts().len() > 1 { ViewId::Hosts } else { ViewId::Overview };
    state.ui.view = cli.view.map_or(first, ViewId::from);
    state
}
