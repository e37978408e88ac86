//! The file that `run --events` writes: the series' tracepoints, one JSON object a line.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};

use super::usage;
use crate::mm::spb::event::{RecordedEvent, Recorder, SpbEvent};

/// An open file and the first error that writing to it met; nothing is written after that.
#[derive(Debug)]
struct Lines {
    file: BufWriter<File>,
    names: Vec<String>,
    failed: Option<io::Error>,
}

impl Lines {
    fn write(&mut self, batch: &[RecordedEvent]) {
        let wanted = |e: &&RecordedEvent| {
            self.names.is_empty() || self.names.iter().any(|name| name == e.event.name())
        };
        for event in batch.iter().filter(wanted) {
            if self.failed.is_none() {
                let line = serde_json::to_writer(&mut self.file, event).map_err(io::Error::from);
                self.failed = line.and_then(|()| self.file.write_all(b"\n")).err();
            }
        }
    }
}

/// Takes tracepoints into a file.
#[derive(Debug)]
pub(super) struct EventFile {
    path: PathBuf,
    lines: Arc<Mutex<Lines>>,
    recorder: Recorder,
}

impl EventFile {
    /// A new file for the tracepoints of these names; none means all.
    ///
    /// # Errors
    /// If there is no such tracepoint, or the file cannot be created.
    pub(super) fn create(path: &Path, names: &[String]) -> Result<EventFile> {
        if let Some(name) = names.iter().find(|name| !SpbEvent::NAMES.contains(&name.as_str())) {
            let known = SpbEvent::NAMES.join(", ");
            return Err(usage(format!("no tracepoint is named {name:?}; there are: {known}")));
        }
        let name = || path.display().to_string();
        let file = BufWriter::new(File::create(path).with_context(name)?);
        let lines = Arc::new(Mutex::new(Lines { file, names: names.to_vec(), failed: None }));
        let into = Arc::clone(&lines);
        let recorder = Recorder::to(move |batch| {
            into.lock().unwrap_or_else(PoisonError::into_inner).write(batch);
        });
        Ok(EventFile { path: path.to_owned(), lines, recorder })
    }

    /// What an allocator is to record to.
    pub(super) fn recorder(&self) -> Recorder {
        self.recorder.clone()
    }

    /// Writes what is left.
    ///
    /// # Errors
    /// The first error of all writing.
    pub(super) fn finish(self) -> Result<()> {
        self.recorder.flush();
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = lines.failed.take();
        let written = failed.map_or_else(|| lines.file.flush(), Err);
        written.with_context(|| self.path.display().to_string())
    }
}
