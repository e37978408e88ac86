//! Where a trace goes: standard output, a file, or one file after the other.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use crossbeam_channel::{Receiver, Sender};
use fragscope_agent::live::Control;
use fragscope_agent::live::queue::Recycler;
use fragscope_agent::privileges::{Sandbox, spawn};
use fragscope_trace::frame::Frame;
use fragscope_trace::writer::WriteError;

use super::disk::DiskFile;
use super::parts::{self, Parts, Retention};
use super::sink::{Limit, Sink};
use crate::cli::SizeArgs;

/// Permissions of a new file: a trace says what processes of others do.
const MODE: u32 = 0o600;

/// Files of a recording, the first of them open.
#[derive(Debug)]
pub(super) struct Output {
    target: Target,
    limit: Option<Limit>,
}

/// What became of the writing.
#[derive(Debug)]
pub(super) struct Written {
    /// Bytes of whole frames.
    pub(super) bytes: u64,
    /// Events in them.
    pub(super) events: u64,
    /// Events that had no place in a file of the size allowed.
    pub(super) left_out: u64,
    /// Files.
    pub(super) files: u64,
    /// Whether all was written.
    pub(super) result: Result<(), WriteError>,
}

/// Whether `path` means standard output.
pub(super) fn is_stdout(path: &Path) -> bool {
    path == Path::new("-")
}

/// Whether the reader of a pipe has gone, which is its right.
pub(super) fn is_broken_pipe(error: &WriteError) -> bool {
    matches!(error, WriteError::Io { source, .. } if source.kind() == io::ErrorKind::BrokenPipe)
}

/// Folders in which files are made and removed while recording.
pub(super) fn folders_written(path: &Path, size: &SizeArgs) -> Vec<PathBuf> {
    if size.rotate { vec![parts::folder_of(path)] } else { Vec::new() }
}

impl Output {
    /// Opens the output; a file of this name is emptied, and keeps its permissions, but one with a
    /// number never is. A new one is for its owner alone.
    pub(super) fn open(path: &Path, size: &SizeArgs) -> Result<Output> {
        let limit = size.max_size.map(|bytes| Limit { bytes, rotate: size.rotate });
        let retention = Retention { files: size.keep_files, age: size.keep_age };
        let target = match (is_stdout(path), size.rotate) {
            (true, true) => bail!("--rotate needs a file: standard output has no second name"),
            (true, false) => Target::stdout()?,
            (false, false) => {
                let mut options = OpenOptions::new();
                let file = options.write(true).create(true).truncate(true).mode(MODE).open(path);
                let file = file.with_context(|| format!("cannot create {}", path.display()))?;
                Target { file: DiskFile::new(file), parts: None, retention }
            }
            (false, true) => {
                let parts = Parts::beside(path)
                    .with_context(|| format!("cannot look beside {}", path.display()))?;
                Target::first_part(parts, retention)?
            }
        };
        Ok(Output { target, limit })
    }

    /// Whether it is a file, which takes bytes as fast as the machine can.
    pub(super) fn is_file(&self) -> bool {
        self.target.file.is_file()
    }

    /// Writes `frames` to their end. `ready` is told when the trace has begun: the header, and the
    /// opening snapshot if there is to be one, are written. Batches go back to `recycler`.
    pub(super) fn write_on_thread(
        self,
        (frames, recycler, control): (Receiver<Frame>, Recycler, Control),
        with_snapshot: bool,
        (ready, written): (Sender<()>, Sender<Written>),
        sandbox: Option<&Arc<Sandbox>>,
    ) -> Result<()> {
        let mut sink = Sink::new(self.target, self.limit, with_snapshot);
        spawn("writer", None, sandbox, move || {
            let mut ready = Some(ready);
            let result = frames.iter().try_for_each(|frame| {
                let wish = sink.write(&frame)?;
                if sink.has_begun()
                    && let Some(ready) = ready.take()
                {
                    // Nobody listens when this program is ending.
                    let _ = ready.send(());
                }
                wish.tell(&control);
                if let Frame::Events(batch) = frame {
                    recycler.recycle(batch);
                }
                Ok(())
            });
            // Nobody listens when this program is ending.
            let _ = written.send(sink.written(result));
        })?;
        Ok(())
    }
}

/// The file that is being written, and where others would be.
#[derive(Debug)]
pub(super) struct Target {
    file: DiskFile,
    parts: Option<Parts>,
    retention: Retention,
}

impl Target {
    fn stdout() -> Result<Target> {
        use std::os::fd::AsFd as _;
        let file = DiskFile::new(File::from(io::stdout().as_fd().try_clone_to_owned()?));
        Ok(Target { file, parts: None, retention: Retention::default() })
    }

    fn first_part(mut parts: Parts, retention: Retention) -> Result<Target> {
        let path = parts.next_path();
        let file =
            create_new(&path).with_context(|| format!("cannot create {}", path.display()))?;
        parts.advance();
        Ok(Target { file: DiskFile::new(file), parts: Some(parts), retention })
    }

    /// Writes all of `bytes` to the present file.
    pub(super) fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }

    /// Name of the file that [`Target::go_on`] would begin.
    pub(super) fn next_path(&self) -> Option<PathBuf> {
        self.parts.as_ref().map(Parts::next_path)
    }

    /// Begins the next file, and removes those that are not to be kept.
    pub(super) fn go_on(&mut self) -> io::Result<()> {
        let Some(parts) = &mut self.parts else { return Ok(()) };
        self.file = DiskFile::new(create_new(&parts.next_path())?);
        parts.advance();
        if let Err(error) = parts.prune(self.retention, std::time::SystemTime::now()) {
            log::warn!("an old file could not be removed: {error}");
        }
        Ok(())
    }
}

fn create_new(path: &Path) -> io::Result<File> {
    File::options().write(true).create_new(true).mode(MODE).open(path)
}

#[cfg(test)]
impl Target {
    /// A file at `path`, with further ones beside it.
    pub(super) fn rotating(path: &Path, retention: Retention) -> Target {
        Target::first_part(Parts::beside(path).unwrap(), retention).unwrap()
    }

    /// A single file.
    pub(super) fn single(path: &Path) -> Target {
        let file = DiskFile::new(File::create(path).unwrap());
        Target { file, parts: None, retention: Retention::default() }
    }
}
