//! All addresses that are listened at, and who may come in: by settings that can change at work.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use anyhow::{Result, bail};
use crossbeam_channel::Sender;
use fragscope_agent::privileges::{Needs, Sandbox, spawn};
use fragscope_agent::tls;
use rustls::ServerConfig;

use super::callers::Callers;
use super::connection::Connection;
use super::handshake::{Identity, TlsDoor};
use super::http::MetricsDoor;
use super::metrics::Metrics;
use super::socket::Socket;
use crate::cli::{Address, ServeArgs};
use crate::config;

/// What is used once tracing is set up: names of sockets are removed in the end, and settings and
/// certificates are read again on request.
pub(super) fn needs(args: &ServeArgs) -> Needs {
    let of_socket = |address: &Address| match address {
        Address::Unix(path) => Some(folder_of(path)),
        Address::Tls(_) => None,
    };
    let config = args.config.clone().unwrap_or_else(|| PathBuf::from(config::DEFAULT_PATH));
    let files =
        [Some(&config), args.tls_cert.as_ref(), args.tls_key.as_ref(), args.tls_client_ca.as_ref()];
    // Folders, because files are often replaced by others of their name.
    let folders = files.into_iter().flatten().map(|file| folder_of(file));
    Needs {
        read: folders.filter(|folder| folder.exists()).collect(),
        remove_in: args.listen.iter().filter_map(of_socket).collect(),
        ..Needs::default()
    }
}

fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Open doors.
#[derive(Debug)]
pub(super) struct Doors {
    sockets: Vec<Socket>,
    tls: Vec<TlsDoor>,
    metrics: Option<MetricsDoor>,
    callers: Arc<RwLock<Callers>>,
    identity: Option<Identity>,
}

impl Doors {
    /// Listens everywhere; nobody is let in yet.
    pub(super) fn open(args: &ServeArgs) -> Result<Doors> {
        let identity = identity(args)?.map(|identity| Arc::new(RwLock::new(identity)));
        let (mut sockets, mut tls) = (Vec::new(), Vec::new());
        for address in &args.listen {
            match (address, &identity) {
                (Address::Unix(path), _) => sockets.push(Socket::bind(path, args.socket_mode)?),
                (Address::Tls(address), Some(identity)) => {
                    tls.push(TlsDoor::bind(*address, Arc::clone(identity))?);
                }
                (Address::Tls(_), None) => bail!(
                    "a tls address takes --tls-cert, --tls-key and --tls-client-ca: nobody is \
                     served unauthenticated"
                ),
            }
        }
        let metrics = args.metrics.map(|address| MetricsDoor::bind(address, args.metrics_anywhere));
        let callers = Arc::new(RwLock::new(callers(args)));
        Ok(Doors { sockets, tls, metrics: metrics.transpose()?, callers, identity })
    }

    /// Lets clients in from now on. The files of sockets stay as long as `self`.
    pub(super) fn accept_on_threads(
        &self,
        joined: &Sender<Connection>,
        metrics: &Metrics,
        sandbox: Option<&Arc<Sandbox>>,
    ) -> Result<()> {
        for socket in &self.sockets {
            let (door, joined) = (socket.door()?, joined.clone());
            let (callers, census) = (Arc::clone(&self.callers), Arc::clone(&metrics.census));
            let callers = move || callers.read().unwrap_or_else(PoisonError::into_inner).clone();
            spawn("listener", None, sandbox, move || door.accept(&joined, callers, &census))?;
        }
        for door in &self.tls {
            let (door, joined) = (door.another()?, joined.clone());
            let census = Arc::clone(&metrics.census);
            spawn("tls-listener", None, sandbox, move || door.accept(&joined, &census))?;
        }
        if let Some(door) = &self.metrics {
            let (door, metrics) = (door.another()?, metrics.clone());
            spawn("metrics", None, sandbox, move || door.answer(&metrics))?;
        }
        Ok(())
    }

    /// Lets in by the settings `new` from now on; who is in stays. What else differs from `before`
    /// takes a restart, which the log says.
    pub(super) fn admit_by(&self, new: &ServeArgs, before: &ServeArgs) -> Result<()> {
        let identity = identity(new)?;
        if let (Some(current), Some(identity)) = (&self.identity, identity) {
            *current.write().unwrap_or_else(PoisonError::into_inner) = identity;
        }
        *self.callers.write().unwrap_or_else(PoisonError::into_inner) = callers(new);
        if unchangeable(new) != unchangeable(before) {
            log::warn!("settings other than allow-* and tls-* take effect with the next start");
        }
        Ok(())
    }
}

fn callers(args: &ServeArgs) -> Callers {
    Callers {
        uids: args.allow_uid.iter().copied().collect(),
        gids: args.allow_gid.iter().copied().collect(),
    }
}

/// What the agent shows, if all that takes is set.
fn identity(args: &ServeArgs) -> Result<Option<Arc<ServerConfig>>> {
    let (Some(cert), Some(key), Some(ca)) = (&args.tls_cert, &args.tls_key, &args.tls_client_ca)
    else {
        return Ok(None);
    };
    let files = tls::Files { cert: cert.clone(), key: key.clone(), ca: ca.clone() };
    Ok(Some(tls::server(&files)?))
}

/// All settings but those that can change at work, to be compared.
fn unchangeable(args: &ServeArgs) -> String {
    let ServeArgs {
        config: _,
        allow_uid: _,
        allow_gid: _,
        tls_cert: _,
        tls_key: _,
        tls_client_ca: _,
        listen,
        socket_mode,
        max_clients,
        metrics,
        metrics_anywhere,
        guard,
        snapshot_every,
        live,
        tracer,
    } = args;
    format!(
        "{:?}",
        (
            (listen, socket_mode, max_clients, metrics, metrics_anywhere),
            (guard, snapshot_every, live, tracer)
        )
    )
}
