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
}

/// No address.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "`{0}` is no address of an agent: expected unix:PATH, for example unix:/run/fragscope.sock"
)]
pub struct BadAddress(String);

impl FromStr for Address {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Address, BadAddress> {
        match text.strip_prefix("unix:") {
            Some(path) if !path.is_empty() => Ok(Address::Unix(PathBuf::from(path))),
            _ => Err(BadAddress(text.to_owned())),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_written_alike() {
        let text = "unix:/run/fragscope.sock";
        assert_eq!(text.parse::<Address>().map(|a| a.to_string()), Ok(text.to_owned()));
        for bad in ["", "unix:", "/run/fragscope.sock", "tcp:host:1"] {
            let error = bad.parse::<Address>().expect_err(bad).to_string();
            assert!(error.contains("unix:PATH"), "{error}");
        }
    }
}
