//! Where a trace goes.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use crossbeam_channel::{Receiver, Sender};
use fragscope_agent::live::queue::Recycler;
use fragscope_agent::privileges::{Sandbox, spawn};
use fragscope_trace::frame::Frame;
use fragscope_trace::writer::{TraceWriter, WriteError};

/// Permissions of a new file: a trace says what processes of others do.
const MODE: u32 = 0o600;

/// A file or standard output.
#[derive(Debug)]
pub(super) struct Output {
    file: File,
}

/// What became of the writing.
#[derive(Debug)]
pub(super) struct Written {
    /// Bytes of whole frames.
    pub(super) bytes: u64,
    /// Events in them.
    pub(super) events: u64,
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

impl Output {
    /// Opens the output; a file of this name is emptied, and keeps its permissions. A new one is for
    /// its owner alone.
    pub(super) fn open(path: &Path) -> Result<Output> {
        let file = if is_stdout(path) {
            use std::os::fd::AsFd as _;
            File::from(io::stdout().as_fd().try_clone_to_owned()?)
        } else {
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(true).mode(MODE);
            options.open(path).with_context(|| format!("cannot create {}", path.display()))?
        };
        Ok(Output { file })
    }

    /// Whether it is a file, which takes bytes as fast as the machine can.
    pub(super) fn is_file(&self) -> bool {
        self.file.metadata().is_ok_and(|m| m.is_file())
    }

    /// Writes `frames` to their end. `ready` is told when the trace has begun: the header, and the
    /// opening snapshot if there is to be one, are written. Batches go back to `recycler`.
    pub(super) fn write_on_thread(
        self,
        frames: Receiver<Frame>,
        recycler: Recycler,
        with_snapshot: bool,
        ready: Sender<()>,
        written: Sender<Written>,
        sandbox: Option<&Arc<Sandbox>>,
    ) -> Result<()> {
        spawn("writer", None, sandbox, move || {
            let ready = Some(ready);
            let mut sink = Sink { writer: None, recycler, ready, with_snapshot, events: 0 };
            let mut file = Some(self.file);
            let result = frames.iter().try_for_each(|frame| sink.write(frame, &mut file));
            let bytes = sink.writer.as_ref().map_or(0, TraceWriter::bytes_written);
            // Nobody listens when this program is ending.
            let _ = written.send(Written { bytes, events: sink.events, result });
        })?;
        Ok(())
    }
}

/// The writing thread's state. Frames go out in one write each; the writer keeps its buffers, so
/// that a long recording allocates no memory of its own.
struct Sink<W: Write> {
    writer: Option<TraceWriter<W>>,
    recycler: Recycler,
    ready: Option<Sender<()>>,
    with_snapshot: bool,
    /// Written so far.
    events: u64,
}

impl<W: Write> Sink<W> {
    fn write(&mut self, frame: Frame, out: &mut Option<W>) -> Result<(), WriteError> {
        if let (Frame::Header(header), Some(out)) = (&frame, out.take()) {
            self.writer = Some(TraceWriter::new(out, header)?);
            if !self.with_snapshot {
                self.tell_ready();
            }
            return Ok(());
        }
        let Some(writer) = &mut self.writer else { return Ok(()) };
        match frame {
            Frame::Header(_) => {}
            Frame::Snapshot(snapshot) => {
                writer.snapshot(&snapshot)?;
                self.tell_ready();
            }
            Frame::Events(batch) => {
                writer.events(&batch)?;
                self.events += batch.len() as u64;
                self.recycler.recycle(batch);
                // Events come first only if the opening snapshot failed.
                self.tell_ready();
            }
            Frame::End(end) => writer.end(&end)?,
        }
        Ok(())
    }

    fn tell_ready(&mut self) {
        if let Some(ready) = self.ready.take() {
            // Nobody listens when this program is ending.
            let _ = ready.send(());
        }
    }
}
