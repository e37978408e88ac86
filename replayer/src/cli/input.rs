//! Where a trace comes from: a file, which can be read more than once, or standard input.

use std::fs::File;
use std::io::{self, Cursor, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use fragscope_trace::reader::{ReadError, TraceReader};

/// Something to read a trace from.
pub(super) type Reader = TraceReader<Box<dyn Read>>;

/// A trace that can be opened again and again.
#[derive(Debug)]
pub(super) enum Input {
    File(PathBuf),
    /// What came through standard input.
    Bytes(Arc<[u8]>),
}

impl Input {
    /// A trace of events, to be replayed.
    pub(super) fn of_events(path: &Path) -> Result<Input> {
        let input = Input::new(path)?;
        // What cannot be opened says so when it is needed.
        if let Ok(reader) = input.open()
            && !reader.header().mode.is_full()
        {
            bail!(
                "{} was recorded in count mode: it has counters by GiB of memory and no events, so \
                 there is nothing to replay. `fragscope-replay info` and `fragscope` show what it \
                 has; `fragscope-agent record --mode full` records events",
                input.name()
            );
        }
        Ok(input)
    }

    /// The trace at `path`; `-` reads all of standard input into memory, since a replay goes over
    /// a trace more than once.
    pub(super) fn new(path: &Path) -> Result<Input> {
        if path != Path::new("-") {
            return Ok(Input::File(path.to_owned()));
        }
        let mut bytes = Vec::new();
        io::stdin().lock().read_to_end(&mut bytes).context("reading standard input")?;
        Ok(Input::Bytes(bytes.into()))
    }

    /// Its size, or 0 if it has none.
    #[cfg(feature = "analysis")]
    pub(super) fn bytes(&self) -> u64 {
        match self {
            Input::File(path) => std::fs::metadata(path).map_or(0, |file| file.len()),
            Input::Bytes(bytes) => bytes.len() as u64,
        }
    }

    /// What people know it by.
    pub(super) fn name(&self) -> String {
        match self {
            Input::File(path) => path.display().to_string(),
            Input::Bytes(_) => "standard input".to_owned(),
        }
    }

    /// Opens it and reads its header.
    pub(super) fn open(&self) -> Result<Reader, ReadError> {
        let input: Box<dyn Read> = match self {
            Input::File(path) => {
                Box::new(File::open(path).map_err(|source| ReadError::Io { at: 0, source })?)
            }
            Input::Bytes(bytes) => Box::new(Cursor::new(Arc::clone(bytes))),
        };
        TraceReader::new(input)
    }
}
