//! A trace in a file, in memory, or coming through a pipe.

use std::fs::File;
use std::io::{self, BufReader, IsTerminal, Read};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use fragscope_trace::event::EventBatch;
use fragscope_trace::frame::Frame;
use fragscope_trace::header::Header;
use fragscope_trace::reader::TraceReader;

use super::source::{Arrival, Source};

/// Bytes read at once.
const BUFFER_BYTES: usize = 256 << 10;

/// A trace that is read to its end.
pub struct Recording<R> {
    reader: TraceReader<R>,
    /// The header, until it was given out.
    header: Option<Header>,
    length_bytes: Option<u64>,
    is_over: bool,
}

/// Opens a recording.
///
/// # Errors
/// If it can't be read or is no trace.
pub fn open(path: &Path) -> Result<Recording<BufReader<File>>> {
    let name = path.display();
    let file = File::open(path).with_context(|| format!("cannot open {name}"))?;
    let length = file.metadata().ok().filter(std::fs::Metadata::is_file).map(|m| m.len());
    let input = BufReader::with_capacity(BUFFER_BYTES, file);
    Recording::new(input, length).with_context(|| format!("cannot read {name}"))
}

/// Begins to read a trace from standard input.
///
/// # Errors
/// If it is a terminal, or what comes is no trace.
pub fn standard_input() -> Result<Recording<BufReader<io::Stdin>>> {
    if io::stdin().is_terminal() {
        bail!(
            "standard input is a terminal, expected a trace: \
             fragscope-agent record --output - | fragscope -"
        );
    }
    let input = BufReader::with_capacity(BUFFER_BYTES, io::stdin());
    Recording::new(input, None).context("cannot read standard input")
}

impl<R: Read> Recording<R> {
    /// Reads the header. `length_bytes` is that of the whole trace, if known.
    ///
    /// # Errors
    /// If it is no trace.
    pub fn new(input: R, length_bytes: Option<u64>) -> Result<Recording<R>> {
        let reader = TraceReader::new(input)?;
        let header = Some(reader.header().clone());
        Ok(Recording { reader, header, length_bytes, is_over: false })
    }
}

impl<R: Read + Send> Source for Recording<R> {
    fn next(&mut self, _patience: Duration) -> Arrival {
        if let Some(header) = self.header.take() {
            return Arrival::Frame(Frame::Header(Box::new(header)));
        }
        if self.is_over {
            return Arrival::Over(None);
        }
        match self.reader.next_frame() {
            Ok(Some(frame)) => Arrival::Frame(frame),
            Ok(None) => {
                self.is_over = true;
                Arrival::Over(self.reader.truncated().map(|t| format!("the trace is {t}")))
            }
            // What was read before stays worth showing.
            Err(error) => {
                self.is_over = true;
                Arrival::Over(Some(error.to_string()))
            }
        }
    }

    fn progress(&self) -> Option<f64> {
        let length = self.length_bytes.filter(|l| *l > 0)?;
        Some((self.reader.position() as f64 / length as f64).min(1.0))
    }

    fn stop(&mut self) {
        self.is_over = true;
    }

    fn recycle(&mut self, batch: EventBatch) {
        self.reader.recycle(batch);
    }
}
