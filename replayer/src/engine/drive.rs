//! A whole trace through an observatory.

use std::io::Read;

use fragscope_trace::frame::Frame;
use fragscope_trace::reader::{ReadError, TraceReader};
use thiserror::Error;

use super::backfill::Backfill;
use super::observatory::{Observatory, ReplayError};

/// A trace that could not be replayed to its end.
#[derive(Debug, Error)]
pub enum DriveError {
    /// It could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It could not be replayed.
    #[error(transparent)]
    Replay(#[from] ReplayError),
}

/// Feeds all frames that are left. A trace that was cut off ends where it was cut.
///
/// # Errors
/// If the trace cannot be read or replayed.
pub fn drive<R: Read>(
    reader: &mut TraceReader<R>,
    observatory: &mut Observatory,
) -> Result<(), DriveError> {
    while let Some(frame) = reader.next_frame()? {
        observatory.feed(&frame)?;
        if let Frame::Events(batch) = frame {
            reader.recycle(batch);
        }
    }
    Ok(observatory.finish()?)
}

/// A pass over the whole trace that looks for allocations without events.
///
/// # Errors
/// If the trace cannot be read or replayed.
pub fn untraced<R: Read>(reader: &mut TraceReader<R>) -> Result<Backfill, DriveError> {
    let mut observatory = Observatory::new(reader.header(), Vec::new())?;
    observatory.keep_unmatched();
    drive(reader, &mut observatory)?;
    Ok(Backfill::new(&observatory.take_unmatched()))
}
