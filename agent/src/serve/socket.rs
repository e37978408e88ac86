//! The listening socket.

use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use crossbeam_channel::Sender;
use rustix::fs::Mode;

/// A listening socket that only its owner can use. Its file goes when it is dropped.
#[derive(Debug)]
pub(super) struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

impl Socket {
    /// Listens at `path`. A socket file that nobody listens at any more is replaced.
    pub(super) fn bind(path: &Path) -> Result<Socket> {
        remove_stale(path)?;
        // The mode must be right from the beginning, hence the mask and not a later change.
        let before = rustix::process::umask(Mode::RWXG | Mode::RWXO | Mode::XUSR);
        let listener = UnixListener::bind(path);
        rustix::process::umask(before);
        let listener = listener.with_context(|| format!("cannot listen at {}", path.display()))?;
        Ok(Socket { listener, path: path.to_owned() })
    }

    /// Hands every client to `joined`.
    pub(super) fn accept_on_thread(&self, joined: Sender<UnixStream>) -> Result<()> {
        let listener = self.listener.try_clone()?;
        std::thread::Builder::new().name("listener".to_owned()).spawn(move || {
            for client in listener.incoming().flatten() {
                if joined.send(client).is_err() {
                    return;
                }
            }
        })?;
        Ok(())
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
        let socket = Socket::bind(&path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let error = Socket::bind(&path).unwrap_err().to_string();
        assert!(error.contains("is listening"), "{error}");
        drop(socket);
        assert!(!path.exists());
        std::fs::write(&path, "mine").unwrap();
        let error = Socket::bind(&path).unwrap_err().to_string();
        assert!(error.contains("no socket"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), b"mine");
    }
}
