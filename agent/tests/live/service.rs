//! `serve` as a service: settings from a file, read again on SIGHUP; what its manager and its
//! metrics are told.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use fragscope_trace::reader::TraceReader;
use rustix::process::Signal;

use crate::access::connect_as;
use crate::common::{Guarded, agent, turn};

/// How long anything may take before a test fails.
const PATIENCE: Duration = Duration::from_secs(60);

struct Service {
    agent: Guarded,
    manager: UnixDatagram,
    metrics: SocketAddr,
    socket: PathBuf,
    settings: PathBuf,
    _dir: tempfile::TempDir,
}

impl Service {
    fn start() -> Service {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let at = |name: &str| dir.path().join(name);
        let manager = UnixDatagram::bind(at("notify")).unwrap();
        manager.set_read_timeout(Some(PATIENCE)).unwrap();
        let metrics = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let settings = at("agent.toml");
        write_settings(&settings, &at("socket"), metrics, "");
        let mut command = agent();
        command.args(["--log-format", "json", "serve", "--config"]).arg(&settings);
        command.env("NOTIFY_SOCKET", at("notify")).env("WATCHDOG_USEC", "3000000");
        command.env_remove("WATCHDOG_PID").stderr(Stdio::piped());
        let agent = Guarded::start(&mut command);
        Service { agent, manager, metrics, socket: at("socket"), settings, _dir: dir }
    }

    /// The next message to the manager that begins so.
    fn told(&self, begin: &str) -> String {
        loop {
            let mut bytes = [0; 1000];
            let len = self.manager.recv(&mut bytes).unwrap();
            let text = String::from_utf8_lossy(&bytes[..len]).into_owned();
            if text.starts_with(begin) {
                return text;
            }
        }
    }

    fn ask(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.metrics).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// Metrics, as soon as there was a snapshot.
    fn metrics(&self) -> String {
        let begun = Instant::now();
        loop {
            let text = self.ask("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
            if value(&text, "fragscope_snapshots_total") > 0.0 {
                return text;
            }
            assert!(begun.elapsed() < PATIENCE, "{text}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn write_settings(path: &Path, socket: &Path, metrics: SocketAddr, more: &str) {
    let text = format!(
        "listen = [\"unix:{}\"]\nmetrics = \"{metrics}\"\nsocket-mode = \"0666\"\n{more}\n",
        socket.display()
    );
    fs::write(path, text).unwrap();
}

/// The value of a metric, with its labels as written; 0 if it is not there.
fn value(text: &str, metric: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(metric)?.strip_prefix(' '));
    line.map_or(0.0, |value| value.parse().unwrap())
}

/// Whether an agent says anything.
fn is_served(stream: UnixStream) -> bool {
    TraceReader::new(stream).is_ok()
}

#[test]
fn a_service_speaks_to_its_manager_and_in_metrics() {
    let Some(_turn) = turn() else { return };
    let service = Service::start();
    assert!(service.told("READY=1").contains("STATUS=0 clients"));
    assert!(service.told("WATCHDOG=1").contains("events lost"));
    let text = service.metrics();
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && text.ends_with("# EOF\n"), "{text}");
    let regions: f64 = text
        .lines()
        .filter(|line| line.starts_with("fragscope_regions{"))
        .map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap())
        .sum();
    let machine = fragscope_agent::machine::read_machine().unwrap();
    assert_eq!(regions, fragscope_trace::region::regions_of(&machine).len() as f64, "{text}");
    assert!(value(&text, "fragscope_free_1g{bound=\"min\"}") <= regions);
    assert!(text.contains(&format!("hostname=\"{}\"", machine.hostname)), "{text}");
    for metric in ["lost_events_total{cause=\"ring_full\"}", "clients ", "agent_cpu_seconds_total"]
    {
        assert!(text.contains(&format!("\nfragscope_{metric}")), "{metric}: {text}");
    }
    // Ticks come each second, and with them events.
    let begun = Instant::now();
    while value(&service.metrics(), "fragscope_events_total{kind=\"alloc\"}") == 0.0 {
        assert!(begun.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(service.ask("GET /other HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404"));
    assert!(service.ask("POST /metrics HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 405"));
    assert!(service.ask("what\u{0}\r\n\r\n").starts_with("HTTP/1.1 400"));
    service.agent.signal(Signal::TERM);
    service.told("STOPPING=1");
    let output = service.agent.finish();
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn settings_on_who_may_come_in_are_read_again() {
    let Some(_turn) = turn() else { return };
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can be somebody else");
        return;
    }
    let service = Service::start();
    service.told("READY=1");
    let as_somebody = || is_served(connect_as(&service.socket, 4711, 1).unwrap());
    let rewrite = |more| {
        write_settings(&service.settings, &service.socket, service.metrics, more);
        service.agent.signal(Signal::HUP);
        let told = service.told("RELOADING=1\nMONOTONIC_USEC=");
        assert!(told.trim_end().ends_with(|c: char| c.is_ascii_digit()));
        service.told("READY=1");
    };
    assert!(!as_somebody());
    rewrite("allow-uid = [4711]");
    assert!(as_somebody());
    // What is no setting leaves all as it was.
    rewrite("allow-uid = []\nalow-uid = [1]");
    assert!(as_somebody());
    rewrite("allow-uid = []");
    assert!(!as_somebody());
    service.agent.signal(Signal::TERM);
    let output = service.agent.finish();
    let said = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<serde_json::Value> =
        said.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let wrong = |line: &serde_json::Value| line.to_string().contains("unknown key `alow-uid`");
    assert!(lines.iter().any(wrong), "{said}");
}

#[test]
fn metrics_for_other_hosts_take_a_word() {
    let mut command = agent();
    let dir = tempfile::tempdir().unwrap();
    let socket = format!("unix:{}", dir.path().join("socket").display());
    command.args(["serve", "--listen", &socket, "--metrics", "0.0.0.0:0"]);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("--metrics-anywhere"), "{said}");
    let nowhere = agent().arg("serve").output().unwrap();
    let said = String::from_utf8_lossy(&nowhere.stderr);
    assert_eq!(nowhere.status.code(), Some(2), "{said}");
    assert!(said.contains("--listen is missing"), "{said}");
}
