//! The bytes between this program and an agent: over a Unix socket, or TLS over the network.

use std::io::{self, Read};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use super::address::Address;

/// What this program shows to agents, and what they must show.
pub type Identity = Arc<ClientConfig>;

/// An open connection.
pub enum Wire {
    /// To an agent of this host.
    Unix(UnixStream),
    /// To one elsewhere.
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Wire {
    /// Connects; reads fail after `patience` without a byte from then on, and so does this.
    ///
    /// # Errors
    /// If the agent can't be reached, or is not who it should be.
    pub fn connect(
        address: &Address,
        identity: Option<&Identity>,
        patience: Duration,
    ) -> io::Result<Wire> {
        let wire = match address {
            Address::Unix(path) => Wire::Unix(UnixStream::connect(path)?),
            Address::Tls { host, port } => {
                let identity = identity.ok_or_else(|| {
                    io::Error::other("there is no certificate to show (--tls-cert)")
                })?;
                Wire::Tls(Box::new(tls(host, *port, identity, patience)?))
            }
        };
        wire.read_timeout()?.set(patience)?;
        Ok(wire)
    }

    /// What changes how long reads may take, when the wire itself is in use elsewhere.
    ///
    /// # Errors
    /// If no further descriptor can be had.
    pub fn read_timeout(&self) -> io::Result<ReadTimeout> {
        let socket = match self {
            Wire::Unix(stream) => stream.as_fd(),
            Wire::Tls(stream) => stream.sock.as_fd(),
        };
        Ok(ReadTimeout(socket.try_clone_to_owned()?))
    }
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Wire::Unix(stream) => stream.read(buffer),
            Wire::Tls(stream) => stream.read(buffer),
        }
    }
}

/// The timeout of a socket: it belongs to the socket, not to the handle.
pub struct ReadTimeout(OwnedFd);

impl ReadTimeout {
    /// Reads that get nothing for so long fail.
    ///
    /// # Errors
    /// If the time is zero.
    pub fn set(&self, time: Duration) -> io::Result<()> {
        Ok(set_socket_timeout(&self.0, Timeout::Recv, Some(time))?)
    }
}

/// Connects to the first of the host's addresses that answers, and shows the certificate.
fn tls(
    host: &str,
    port: u16,
    identity: &Identity,
    patience: Duration,
) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let connection = ClientConnection::new(Arc::clone(identity), name).map_err(io::Error::other)?;
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, patience) {
            Ok(stream) => {
                stream.set_read_timeout(Some(patience))?;
                stream.set_write_timeout(Some(patience))?;
                let mut stream = StreamOwned::new(connection, stream);
                while stream.conn.is_handshaking() {
                    stream.conn.complete_io(&mut stream.sock)?;
                }
                return Ok(stream);
            }
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::TcpListener;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    use fragscope_agent::tls;
    use rustls::ServerConnection;

    use super::*;

    /// A certificate for 127.0.0.1 that is its own authority.
    fn made(dir: &Path, name: &str) -> tls::Files {
        let key = rcgen::KeyPair::generate().expect("a key");
        let params = rcgen::CertificateParams::new(["127.0.0.1".to_owned()]).expect("a name");
        let certificate = params.self_signed(&key).expect("a certificate");
        let at = |end: &str| dir.join(format!("{name}.{end}"));
        let files = tls::Files { cert: at("cert"), key: at("key"), ca: at("cert") };
        std::fs::write(&files.cert, certificate.pem()).expect("written");
        std::fs::write(&files.key, key.serialize_pem()).expect("written");
        let private = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(&files.key, private).expect("private");
        files
    }

    /// Says one word to one client, if it is let in.
    fn serve_once(files: &tls::Files) -> (Address, std::thread::JoinHandle<io::Result<()>>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let config = tls::server(files).expect("usable files");
        let served = std::thread::spawn(move || {
            let (stream, _) = listener.accept()?;
            let tls = ServerConnection::new(config).map_err(io::Error::other)?;
            let mut stream = StreamOwned::new(tls, stream);
            stream.write_all(b"hello")?;
            stream.conn.send_close_notify();
            stream.flush()
        });
        (Address::Tls { host: "127.0.0.1".to_owned(), port }, served)
    }

    #[test]
    fn both_sides_must_be_vouched_for() {
        let dir = tempfile::tempdir().expect("a directory");
        let (agent, other) = (made(dir.path(), "agent"), made(dir.path(), "other"));
        let trusting = |own: &tls::Files| tls::Files { ca: agent.cert.clone(), ..own.clone() };
        let connect = |address: &Address, files: &tls::Files| {
            let identity = tls::client(files).expect("usable files");
            let mut wire = Wire::connect(address, Some(&identity), Duration::from_secs(60))?;
            let mut text = String::new();
            wire.read_to_string(&mut text).map(|_| text)
        };
        let (address, served) = serve_once(&agent);
        assert_eq!(connect(&address, &agent).expect("let in"), "hello");
        served.join().expect("no panic").expect("served");
        // An agent that is not vouched for, and a client that is not.
        let (address, served) = serve_once(&agent);
        connect(&address, &other).expect_err("an unknown agent");
        served.join().expect("no panic").expect_err("was not spoken to");
        let (address, served) = serve_once(&agent);
        connect(&address, &trusting(&other)).expect_err("not let in");
        served.join().expect("no panic").expect_err("is nobody known");
        Wire::connect(&address, None, Duration::from_secs(1)).err().expect("no certificate");
    }
}
