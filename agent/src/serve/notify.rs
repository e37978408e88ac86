//! What the service manager is told: systemd's notification protocol, over a socket that is opened
//! once.

use std::env;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

use fragscope_agent::bpf::clock::now_ns;

/// The way to the service manager, if there is one.
#[derive(Debug, Default)]
pub(super) struct Notifier {
    socket: Option<UnixDatagram>,
    /// How often it wants to hear of us, if it watches.
    watchdog: Option<Duration>,
    /// When it last did.
    patted: Option<Instant>,
}

impl Notifier {
    /// The one that the environment names.
    pub(super) fn of_environment() -> Notifier {
        let Some(name) = env::var_os("NOTIFY_SOCKET") else { return Notifier::default() };
        let name = name.to_string_lossy();
        let socket = connect(&name)
            .inspect_err(|error| log::warn!("the service manager can't be told: {error}"))
            .ok();
        let micros = env::var("WATCHDOG_USEC").ok().and_then(|text| text.parse().ok());
        let pid = env::var("WATCHDOG_PID").ok();
        let is_for_us = pid.is_none_or(|pid| pid == std::process::id().to_string());
        let watchdog = micros.filter(|_| is_for_us).map(Duration::from_micros);
        Notifier { socket, watchdog, patted: None }
    }

    /// For another thread.
    pub(super) fn another(&self) -> Notifier {
        let socket = self.socket.as_ref().and_then(|socket| socket.try_clone().ok());
        Notifier { socket, watchdog: self.watchdog, patted: None }
    }

    /// The service works; `status` says how.
    pub(super) fn ready(&self, status: &str) {
        self.send(&format!("READY=1\nSTATUS={status}"));
    }

    /// Settings are read again; [`Notifier::ready`] follows.
    pub(super) fn reloading(&self) {
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={}", now_ns() / 1000));
    }

    /// The end has begun.
    pub(super) fn stopping(&self) {
        self.send("STOPPING=1");
    }

    /// Says that frames still flow, with a status, as often as that is wanted.
    pub(super) fn alive(&mut self, status: impl FnOnce() -> String) {
        let Some(every) = self.watchdog else { return };
        if self.patted.is_none_or(|at| at.elapsed() >= every / 3) {
            self.patted = Some(Instant::now());
            self.send(&format!("WATCHDOG=1\nSTATUS={}", status()));
        }
    }

    fn send(&self, text: &str) {
        if let Some(Err(error)) = self.socket.as_ref().map(|socket| socket.send(text.as_bytes())) {
            log::debug!("the service manager was not told: {error}");
        }
    }
}

/// A path, or after `@` an abstract name.
fn connect(name: &str) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    // Nobody may hold this program up.
    socket.set_nonblocking(true)?;
    match name.strip_prefix('@') {
        Some(name) => socket.connect_addr(&SocketAddr::from_abstract_name(name)?)?,
        None => socket.connect(name)?,
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manager_hears_and_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let socket = connect(path.to_str().unwrap()).ok();
        let mut notifier =
            Notifier { socket, watchdog: Some(Duration::from_secs(3600)), patted: None };
        notifier.ready("1 client");
        notifier.alive(|| "2 clients".to_owned());
        notifier.alive(|| panic!("not before its time"));
        let mut heard = [0; 200];
        let mut hear = || {
            let bytes = manager.recv(&mut heard).unwrap();
            String::from_utf8_lossy(&heard[..bytes]).into_owned()
        };
        assert_eq!(hear(), "READY=1\nSTATUS=1 client");
        assert_eq!(hear(), "WATCHDOG=1\nSTATUS=2 clients");
        for _ in 0..10_000 {
            notifier.stopping();
        }
    }
}
