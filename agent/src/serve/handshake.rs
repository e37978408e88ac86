//! Connections over the network, before they are clients: TLS with certificates on both sides,
//! within a time and a number of bytes.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use crossbeam_channel::Sender;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::census::{Census, Refusal};
use super::connection::Connection;

/// All of a handshake must be done by then.
pub(super) const HANDSHAKE_TIME: Duration = Duration::from_secs(5);
/// A handshake with a long chain of certificates takes some kilobytes.
const HANDSHAKE_BYTES: usize = 64 << 10;
/// Handshakes under way at once, and of these from one address.
const HANDSHAKES_MAX: usize = 16;
const HANDSHAKES_PER_ADDRESS: usize = 4;

/// The certificates in use; another may be put in its place at any time.
pub(super) type Identity = Arc<RwLock<Arc<ServerConfig>>>;

/// Listens for TLS.
#[derive(Debug)]
pub(super) struct TlsDoor {
    listener: TcpListener,
    identity: Identity,
}

impl TlsDoor {
    /// Listens at `address`.
    pub(super) fn bind(address: SocketAddr, identity: Identity) -> Result<TlsDoor> {
        let listener =
            TcpListener::bind(address).with_context(|| format!("cannot listen at {address}"))?;
        Ok(TlsDoor { listener, identity })
    }

    /// A second handle on it, for the thread that accepts.
    pub(super) fn another(&self) -> io::Result<TlsDoor> {
        let identity = Arc::clone(&self.identity);
        Ok(TlsDoor { listener: self.listener.try_clone()?, identity })
    }

    /// Hands every client that has shown its certificate to `joined`.
    pub(super) fn accept(&self, joined: &Sender<Connection>, census: &Arc<Census>) {
        let under_way = Arc::new(Mutex::new(Vec::new()));
        loop {
            let Ok((stream, peer)) = self.listener.accept() else {
                // Out of descriptors, most likely: others must go first.
                std::thread::sleep(Duration::from_millis(100));
                continue;
            };
            let Some(place) = Place::take(&under_way, peer.ip()) else {
                census.refuse(Refusal::Full, &peer.to_string(), "too many handshakes");
                continue;
            };
            let identity =
                Arc::clone(&self.identity.read().unwrap_or_else(PoisonError::into_inner));
            let (joined, census) = (joined.clone(), Arc::clone(census));
            let greet = move || {
                match greet(stream, peer, identity) {
                    // The hub has gone if nobody takes it: this program is ending.
                    Ok(connection) => drop(joined.send(connection)),
                    Err(error) => {
                        census.refuse(Refusal::Handshake, &peer.to_string(), &error.to_string());
                    }
                }
                drop(place);
            };
            if let Err(error) = std::thread::Builder::new().name("greeter".to_owned()).spawn(greet)
            {
                log::warn!("{peer} can't be greeted: {error}");
            }
        }
    }
}

/// One of the handshakes that may be under way.
struct Place {
    under_way: Arc<Mutex<Vec<IpAddr>>>,
    address: IpAddr,
}

impl Place {
    fn take(under_way: &Arc<Mutex<Vec<IpAddr>>>, address: IpAddr) -> Option<Place> {
        let mut taken = under_way.lock().unwrap_or_else(PoisonError::into_inner);
        let of_address = taken.iter().filter(|a| **a == address).count();
        if taken.len() >= HANDSHAKES_MAX || of_address >= HANDSHAKES_PER_ADDRESS {
            return None;
        }
        taken.push(address);
        Some(Place { under_way: Arc::clone(under_way), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = taken.iter().position(|a| *a == self.address) {
            taken.swap_remove(at);
        }
    }
}

fn greet(
    stream: TcpStream,
    peer: SocketAddr,
    identity: Arc<ServerConfig>,
) -> io::Result<Connection> {
    let mut tls = ServerConnection::new(identity).map_err(io::Error::other)?;
    let mut wire =
        Bounded { stream: &stream, until: Instant::now() + HANDSHAKE_TIME, left: HANDSHAKE_BYTES };
    while tls.is_handshaking() {
        tls.complete_io(&mut wire)?;
    }
    Connection::tls(StreamOwned::new(tls, stream), peer.to_string())
}

/// A stream for so many bytes, and until then: however they are spread over the time.
struct Bounded<'a> {
    stream: &'a TcpStream,
    until: Instant,
    left: usize,
}

impl Bounded<'_> {
    fn time_left(&self) -> io::Result<Option<Duration>> {
        match self.until.saturating_duration_since(Instant::now()) {
            Duration::ZERO => {
                Err(io::Error::new(io::ErrorKind::TimedOut, "the handshake took too long"))
            }
            left => Ok(Some(left)),
        }
    }
}

impl Read for Bounded<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Err(io::Error::other("the handshake has too many bytes"));
        }
        self.stream.set_read_timeout(self.time_left()?)?;
        let room = buffer.len().min(self.left);
        let read = self.stream.read(&mut buffer[..room]);
        let read = read.map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => {
                io::Error::new(io::ErrorKind::TimedOut, "the handshake took too long")
            }
            _ => error,
        })?;
        self.left -= read;
        Ok(read)
    }
}

impl Write for Bounded<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(self.time_left()?)?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_can_not_take_all_places() {
        let under_way = Arc::default();
        let address = |n| IpAddr::from([127, 0, 0, n]);
        let mut taken: Vec<_> = (0..HANDSHAKES_PER_ADDRESS)
            .map(|_| Place::take(&under_way, address(1)).expect("there is room"))
            .collect();
        assert!(Place::take(&under_way, address(1)).is_none());
        let others = (2..).map_while(|n| Place::take(&under_way, address(n)));
        taken.extend(others);
        assert_eq!(taken.len(), HANDSHAKES_MAX);
        taken.clear();
        assert!(Place::take(&under_way, address(1)).is_some());
    }
}
