//! The metrics over HTTP/1.1: one request a connection, within a time and a number of bytes.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::metrics::Metrics;

/// A request must be complete by then, and an answer be taken as long again.
const REQUEST_TIME: Duration = Duration::from_secs(2);
/// Longest request.
const REQUEST_BYTES: usize = 8 << 10;
/// Most header lines of a request.
const HEADERS_MAX: usize = 64;

/// Listens for requests.
#[derive(Debug)]
pub(super) struct MetricsDoor {
    listener: TcpListener,
}

impl MetricsDoor {
    /// Listens at `address`: of this host alone, unless `anywhere`. Nobody is authenticated here.
    pub(super) fn bind(address: SocketAddr, anywhere: bool) -> Result<MetricsDoor> {
        if !address.ip().is_loopback() && !anywhere {
            bail!(
                "--metrics {address} could be read by other hosts, unauthenticated: choose an \
                 address of this host alone, such as 127.0.0.1:9184, or add --metrics-anywhere"
            );
        }
        let listener = TcpListener::bind(address)
            .with_context(|| format!("cannot listen at {address} for metrics"))?;
        Ok(MetricsDoor { listener })
    }

    /// A second handle on it, for the thread that answers.
    pub(super) fn another(&self) -> io::Result<MetricsDoor> {
        Ok(MetricsDoor { listener: self.listener.try_clone()? })
    }

    /// Answers one request after the other.
    pub(super) fn answer(&self, metrics: &Metrics) {
        for stream in self.listener.incoming() {
            let answered = stream.and_then(|stream| answer(stream, metrics));
            if let Err(error) = answered {
                log::debug!("a request for metrics was not answered: {error}");
            }
        }
    }
}

fn answer(mut stream: TcpStream, metrics: &Metrics) -> io::Result<()> {
    let (status, body) = match request(&mut stream)? {
        Request::Metrics => ("200 OK", metrics.text().map_err(io::Error::other)?),
        Request::Other => ("404 Not Found", "There is /metrics here.\n".to_owned()),
        Request::Method => ("405 Method Not Allowed", "Only GET is understood.\n".to_owned()),
        Request::Bad => ("400 Bad Request", "This is no request.\n".to_owned()),
    };
    stream.set_write_timeout(Some(REQUEST_TIME))?;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

/// What was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Request {
    Metrics,
    Other,
    Method,
    Bad,
}

fn request(stream: &mut TcpStream) -> io::Result<Request> {
    let until = Instant::now() + REQUEST_TIME;
    let mut bytes = vec![0; REQUEST_BYTES];
    let mut have = 0;
    while have < bytes.len() {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut bytes[have..])? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => have += read,
        }
        if let Some(request) = understand(&bytes[..have]) {
            return Ok(request);
        }
    }
    Ok(Request::Bad)
}

/// `None` for a request that is not complete.
fn understand(bytes: &[u8]) -> Option<Request> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(bytes) {
        Ok(httparse::Status::Partial) => None,
        Err(_) => Some(Request::Bad),
        Ok(httparse::Status::Complete(_)) => Some(match (request.method, request.path) {
            (Some("GET"), Some("/metrics")) => Request::Metrics,
            (Some("GET"), _) => Request::Other,
            _ => Request::Method,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_told_apart() {
        let whole = |line: &str| understand(format!("{line}\r\nHost: h\r\n\r\n").as_bytes());
        assert_eq!(whole("GET /metrics HTTP/1.1"), Some(Request::Metrics));
        assert_eq!(whole("GET / HTTP/1.1"), Some(Request::Other));
        assert_eq!(whole("POST /metrics HTTP/1.1"), Some(Request::Method));
        assert_eq!(whole("\u{0}\u{1}"), Some(Request::Bad));
        assert_eq!(understand(b"GET /metrics HTTP/1.1\r\nHost"), None);
    }

    #[test]
    fn other_hosts_are_not_told_by_mistake() {
        let anywhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let error = MetricsDoor::bind(anywhere, false).unwrap_err().to_string();
        assert!(error.contains("--metrics-anywhere"), "{error}");
        MetricsDoor::bind(SocketAddr::from(([127, 0, 0, 1], 0)), false).unwrap();
    }
}
