//! A client that was let in: where its frames are written, and how it is cut off.
//!
//! Nothing is ever read from it: what a client sends stays in its own socket, and costs nobody
//! anything.

use std::io::{self, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{Shutdown, shutdown};
use rustls::{ServerConnection, StreamOwned};

/// A client that takes nothing for so long is given up, even if its queue has room.
pub(super) const STALL_MAX: Duration = Duration::from_secs(20);

/// TLS over TCP.
pub(super) type TlsStream = StreamOwned<ServerConnection, TcpStream>;

/// An open way to a client.
pub(super) struct Connection {
    out: Out,
    /// The same socket, to close it while a write is stuck.
    socket: OwnedFd,
    peer: String,
}

enum Out {
    Unix(UnixStream),
    Tls(Box<TlsStream>),
}

impl Connection {
    /// To a process of this host.
    pub(super) fn unix(stream: UnixStream, peer: String) -> io::Result<Connection> {
        let socket = stream.as_fd().try_clone_to_owned()?;
        let connection = Connection { out: Out::Unix(stream), socket, peer };
        connection.give_up_after(STALL_MAX)?;
        Ok(connection)
    }

    /// To whoever has shown a certificate.
    pub(super) fn tls(stream: TlsStream, peer: String) -> io::Result<Connection> {
        let socket = stream.sock.as_fd().try_clone_to_owned()?;
        let connection = Connection { out: Out::Tls(Box::new(stream)), socket, peer };
        connection.give_up_after(STALL_MAX)?;
        Ok(connection)
    }

    /// Writes fail when nothing was taken for so long.
    pub(super) fn give_up_after(&self, time: Duration) -> io::Result<()> {
        Ok(set_socket_timeout(&self.socket, Timeout::Send, Some(time))?)
    }

    /// Who it is, for people.
    pub(super) fn peer(&self) -> &str {
        &self.peer
    }

    /// What [`HangUp`] needs, apart from the rest.
    pub(super) fn hang_up(&self) -> io::Result<HangUp> {
        Ok(HangUp(self.socket.try_clone()?))
    }

    /// Says that nothing follows.
    pub(super) fn finish(&mut self) {
        if let Out::Tls(stream) = &mut self.out {
            stream.conn.send_close_notify();
            // A client that has gone needs no farewell.
            let _ = stream.flush();
        }
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Connection({})", self.peer)
    }
}

impl Write for Connection {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.out {
            Out::Unix(stream) => stream.write(bytes),
            Out::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.out {
            Out::Unix(stream) => stream.flush(),
            Out::Tls(stream) => stream.flush(),
        }
    }
}

/// Ends a connection from another thread.
#[derive(Debug)]
pub(super) struct HangUp(OwnedFd);

impl HangUp {
    /// Ends it now, also if a write is stuck.
    pub(super) fn now(&self) {
        // A connection that is closed already needs nothing.
        let _ = shutdown(&self.0, Shutdown::Both);
    }
}
