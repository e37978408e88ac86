//! Addresses of remote agents.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use thiserror::Error;

/// Where an agent serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A Unix socket.
    Unix(PathBuf),
    /// TLS over the network.
    Tls {
        /// Name or number of the host, as its certificate must have it.
        host: String,
        /// TCP port.
        port: u16,
    },
}

/// No address.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "`{0}` is no address of an agent: expected unix:PATH, for example unix:/run/fragscope.sock, or \
     tls:HOST:PORT, for example tls:db17:9469"
)]
pub struct BadAddress(String);

impl FromStr for Address {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Address, BadAddress> {
        let address = match text.split_once(':') {
            Some(("unix", path)) if !path.is_empty() => Some(Address::Unix(PathBuf::from(path))),
            Some(("tls", rest)) => tls(rest.strip_prefix("//").unwrap_or(rest)),
            _ => None,
        };
        address.ok_or_else(|| BadAddress(text.to_owned()))
    }
}

/// `host:port`, the host in brackets if it has colons itself.
fn tls(text: &str) -> Option<Address> {
    let (host, port) = text.rsplit_once(':')?;
    let bare = match host.strip_prefix('[') {
        Some(bracketed) => bracketed.strip_suffix(']')?,
        None => Some(host).filter(|host| !host.contains(':'))?,
    };
    let port = port.parse().ok().filter(|port| *port != 0)?;
    (!bare.is_empty()).then(|| Address::Tls { host: bare.to_owned(), port })
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
            Address::Tls { host, port } if host.contains(':') => write!(f, "tls:[{host}]:{port}"),
            Address::Tls { host, port } => write!(f, "tls:{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_written_alike() {
        for text in
            ["unix:/run/fragscope.sock", "tls:db17:9469", "tls:10.0.0.1:1", "tls:[::1]:9469"]
        {
            assert_eq!(text.parse::<Address>().map(|a| a.to_string()), Ok(text.to_owned()));
        }
        assert_eq!("tls://db17:9469".parse::<Address>(), "tls:db17:9469".parse());
        let bad = ["", "unix:", "/run/fragscope.sock", "tcp:host:1", "tls:", "tls:host", "tls::1"];
        for bad in
            bad.into_iter().chain(["tls:host:0", "tls:host:99999", "tls:::1:9", "tls:[::1:9"])
        {
            let error = bad.parse::<Address>().expect_err(bad).to_string();
            assert!(error.contains("unix:PATH") && error.contains("tls:HOST:PORT"), "{error}");
        }
    }
}
