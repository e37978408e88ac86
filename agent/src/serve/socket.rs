//! The listening socket on this host: for whom its mode and the kernel's word on callers admit.

use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use crossbeam_channel::Sender;
use rustix::fs::Mode;

use super::callers::{Caller, Callers};
use super::census::{Census, Refusal};
use super::connection::Connection;

/// A listening socket. Its file goes when it is dropped.
#[derive(Debug)]
pub(super) struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

impl Socket {
    /// Listens at `path`, whose file gets permissions `mode`. A socket file that nobody listens at
    /// any more is replaced.
    pub(super) fn bind(path: &Path, mode: u32) -> Result<Socket> {
        remove_stale(path)?;
        // The mode must be right from the beginning, hence the mask and not a later change.
        let before = rustix::process::umask(Mode::from_raw_mode(0o777 & !mode));
        let listener = UnixListener::bind(path);
        rustix::process::umask(before);
        let listener = listener.with_context(|| format!("cannot listen at {}", path.display()))?;
        Ok(Socket { listener, path: path.to_owned() })
    }

    /// A second handle on the listening side, for the thread that accepts.
    pub(super) fn door(&self) -> io::Result<Door> {
        Ok(Door { listener: self.listener.try_clone()? })
    }
}

/// The side of a socket that accepts.
#[derive(Debug)]
pub(super) struct Door {
    listener: UnixListener,
}

impl Door {
    /// Hands every client that `callers` admits to `joined`.
    pub(super) fn accept(
        &self,
        joined: &Sender<Connection>,
        callers: impl Fn() -> Callers,
        census: &Arc<Census>,
    ) {
        let own_uid = rustix::process::geteuid().as_raw();
        loop {
            let Ok((stream, _)) = self.listener.accept() else {
                // Out of descriptors, most likely: others must go first.
                std::thread::sleep(Duration::from_millis(100));
                continue;
            };
            let caller = match Caller::of(&stream) {
                Ok(caller) if callers().admit(&caller, own_uid) => caller,
                Ok(caller) => {
                    census.refuse(Refusal::Caller, &caller.to_string(), "not allowed");
                    continue;
                }
                Err(error) => {
                    census.refuse(Refusal::Caller, "a process", &error.to_string());
                    continue;
                }
            };
            match Connection::unix(stream, caller.to_string()) {
                Ok(connection) => {
                    if joined.send(connection).is_err() {
                        return;
                    }
                }
                Err(error) => log::warn!("{caller} can't be served: {error}"),
            }
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            log::warn!("{} was not removed: {error}", self.path.display());
        }
    }
}

fn remove_stale(path: &Path) -> Result<()> {
    let kind = match std::fs::symlink_metadata(path) {
        Ok(found) => found.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("cannot use {}", path.display())),
    };
    if !kind.is_socket() {
        bail!("{} exists and is no socket; choose another path", path.display());
    }
    match UnixStream::connect(path) {
        Ok(_) => bail!("something is listening at {} already", path.display()),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path)
                .with_context(|| format!("cannot replace the dead socket {}", path.display()))
        }
        Err(error) => Err(error).with_context(|| format!("cannot use {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn only_dead_sockets_are_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        // The standard library leaves the file behind, as a killed program does.
        drop(UnixListener::bind(&path).unwrap());
        let socket = Socket::bind(&path, 0o600).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let error = Socket::bind(&path, 0o600).unwrap_err().to_string();
        assert!(error.contains("is listening"), "{error}");
        drop(socket);
        assert!(!path.exists());
        std::fs::write(&path, "mine").unwrap();
        let error = Socket::bind(&path, 0o600).unwrap_err().to_string();
        assert!(error.contains("no socket"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), b"mine");
    }
}
