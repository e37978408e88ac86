//! Who may follow an agent: the unauthenticated, the wrongly authenticated, the slow and the
//! malicious get nothing and change nothing.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fragscope_agent::tls;
use fragscope_trace::reader::TraceReader;
use rustix::process::{Gid, Signal, Uid};
use rustix::thread::{set_thread_groups, set_thread_res_uid};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::common::{Guarded, agent, turn};
use crate::pki::Pki;
use crate::serve::{connect, follow};

type Tls = StreamOwned<ClientConnection, TcpStream>;

/// How long anything may take before a test fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// An agent that serves over TLS.
struct Server {
    agent: Guarded,
    address: SocketAddr,
    pki: Pki,
}

impl Server {
    fn start() -> Server {
        let pki = Pki::new();
        // Free a moment ago, and nobody else here takes ports.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let files = pki.files("agent");
        let mut command = agent();
        command.args(["serve", "--listen", &format!("tls:{address}"), "--tls-cert"]);
        command.arg(files.cert).arg("--tls-key").arg(files.key).arg("--tls-client-ca");
        command.arg(files.ca).stderr(Stdio::piped());
        let server = Server { agent: Guarded::start(&mut command), address, pki };
        server.tcp();
        server
    }

    /// A bare connection, as soon as the agent listens.
    fn tcp(&self) -> TcpStream {
        let begun = Instant::now();
        loop {
            match TcpStream::connect(self.address) {
                Ok(stream) => {
                    stream.set_read_timeout(Some(PATIENCE)).unwrap();
                    stream.set_write_timeout(Some(PATIENCE)).unwrap();
                    return stream;
                }
                Err(error) => assert!(begun.elapsed() < PATIENCE, "{error}"),
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn tls(&self, config: Arc<ClientConfig>) -> Tls {
        let name = self.address.ip().into();
        StreamOwned::new(ClientConnection::new(config, name).unwrap(), self.tcp())
    }

    fn client(&self, name: &str) -> Tls {
        self.tls(tls::client(&self.pki.files(name)).unwrap())
    }

    /// Ends it; what it said meanwhile.
    fn stop(self) -> String {
        self.agent.signal(Signal::TERM);
        let output = self.agent.finish();
        assert_eq!(output.status.code(), Some(0));
        String::from_utf8_lossy(&output.stderr).into_owned()
    }
}

/// A client that knows nothing but how to speak TLS.
fn without_certificate(pki: &Pki) -> Arc<ClientConfig> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject as _;
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(pki.files("agent").ca).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap();
    Arc::new(config.with_root_certificates(roots).with_no_client_auth())
}

/// What a TLS client is told before it is turned away.
fn told(stream: Tls) -> (Vec<u8>, io::Error) {
    let mut told = Vec::new();
    // One who is told more is told everything, without end.
    let error = stream.take(1).read_to_end(&mut told).expect_err("is told something");
    (told, error)
}

/// Whether only TLS records of handshakes (22), of alerts (21), or of a change of cipher (20) came
/// until the agent hung up: never data (23), as far as can be seen without keys.
fn hears_no_data(mut stream: TcpStream) -> bool {
    let mut heard = Vec::new();
    match stream.read_to_end(&mut heard) {
        Err(error) if error.kind() != io::ErrorKind::ConnectionReset => panic!("{error}"),
        _ => {}
    }
    heard.first().is_none_or(|kind| (20..=22).contains(kind))
}

#[test]
fn strangers_get_nothing_and_clients_go_on() {
    let Some(_turn) = turn() else { return };
    let server = Server::start();
    let mut good = follow(server.client("client"), 10);

    for (name, reason) in [("stranger", "UnknownCA"), ("expired", "Expired")] {
        let (told, error) = told(server.client(name));
        assert!(told.is_empty(), "{name} was told {} bytes", told.len());
        assert!(format!("{error:?}").contains(reason), "{name}: {error:?}");
    }
    let (nothing, error) = told(server.tls(without_certificate(&server.pki)));
    assert!(nothing.is_empty(), "{} bytes", nothing.len());
    assert!(format!("{error:?}").contains("CertificateRequired"), "{error:?}");

    let mut garbage = server.tcp();
    garbage.write_all(b"GET / HTTP/1.1\r\nHost: agent\r\n\r\n").unwrap();
    assert!(hears_no_data(garbage));
    // Handshake records without end: the first message claims 16 MiB.
    let mut huge = server.tcp();
    let mut record = vec![22, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff];
    record.resize(5 + 0x4000, 0);
    while huge.write_all(&record).is_ok() {}
    assert!(hears_no_data(huge));
    // One that says nothing, and one that says so little at a time that no read ever waits long.
    let silent = server.tcp();
    let mut slow = server.tcp();
    let mut hello = Vec::new();
    let name = server.address.ip().into();
    let mut hesitant = ClientConnection::new(without_certificate(&server.pki), name).unwrap();
    hesitant.write_tls(&mut hello).unwrap();
    let begun = Instant::now();
    let mut bytes = hello.iter().cycle();
    while slow.write_all(&[*bytes.next().unwrap()]).is_ok() {
        assert!(begun.elapsed() < PATIENCE, "a slow handshake goes on and on");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(hears_no_data(slow));
    assert!(hears_no_data(silent));

    // One with a certificate, who talks instead of listening: nobody reads it.
    let mut talker = server.client("client");
    talker.sock.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    let begun = Instant::now();
    while talker.write_all(&[7; 1 << 14]).is_ok() {
        assert!(begun.elapsed() < PATIENCE, "what nobody reads finds room");
    }
    drop(talker);

    // The first client was served all the time, and others still are.
    for _ in 0..3 {
        assert!(good.next_frame().unwrap().is_some());
    }
    follow(server.client("client"), 10);
    let said = server.stop();
    assert!(said.contains("is not served (handshake)"), "{said}");
}

#[test]
fn an_agent_without_certificates_does_not_listen_on_the_network() {
    let output = agent().args(["serve", "--listen", "tls:127.0.0.1:0"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("--tls-client-ca"), "{text}");
    assert_eq!(output.status.code(), Some(1));
}

/// Connects as another user of this host, with one supplementary group.
pub(crate) fn connect_as(path: &Path, uid: u32, gid: u32) -> io::Result<UnixStream> {
    std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
            // These change this thread alone.
            set_thread_groups(&[gid])?;
            set_thread_res_uid(uid, uid, uid)?;
            let stream = UnixStream::connect(path)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            Ok(stream)
        });
        other.join().unwrap()
    })
}

#[test]
fn processes_of_others_are_served_only_if_allowed() {
    let Some(_turn) = turn() else { return };
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can be somebody else");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let (open, closed) = (dir.path().join("open"), dir.path().join("closed"));
    let mut command = agent();
    command.arg("serve").arg("--listen").arg(format!("unix:{}", open.display()));
    command.args(["--socket-mode", "0666", "--allow-uid", "4711", "--allow-gid", "4712"]);
    let server = Guarded::start(command.stderr(Stdio::piped()));
    drop(connect(&open));

    for (uid, gid) in [(4711, 1), (4713, 4712)] {
        let stream = connect_as(&open, uid, gid).unwrap();
        TraceReader::new(stream).unwrap_or_else(|error| panic!("{uid} {gid}: {error}"));
    }
    let mut nothing = Vec::new();
    match connect_as(&open, 4713, 4711).unwrap().take(1).read_to_end(&mut nothing) {
        Ok(_) => assert!(nothing.is_empty(), "a stranger was told {} bytes", nothing.len()),
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
    }
    server.signal(Signal::TERM);
    let said = String::from_utf8(server.finish().stderr).unwrap();
    assert!(said.contains("of user 4713 is not served (caller)"), "{said}");

    let mut command = agent();
    command.arg("serve").arg("--listen").arg(format!("unix:{}", closed.display()));
    let server = Guarded::start(&mut command);
    drop(connect(&closed));
    let refused = connect_as(&closed, 4711, 4712).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
    server.signal(Signal::TERM);
    server.finish();
}
