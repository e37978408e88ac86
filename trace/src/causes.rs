//! An error with its causes, in one line.

use std::error::Error;

/// The error and what caused it, with colons between; a cause that the error before it has named
/// already is not named again.
#[must_use]
pub fn in_one_line(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let part = error.to_string();
        if !text.contains(&part) {
            text = format!("{text}: {part}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::writer::WriteError;

    #[derive(Debug, thiserror::Error)]
    #[error("saving")]
    struct Saving(#[source] WriteError);

    #[test]
    fn each_cause_is_named_once() {
        let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
        let line = in_one_line(&Saving(WriteError::Io { at: 7, source: full }));
        assert_eq!(line, "saving: writing the trace at byte 7: no storage space");
    }
}
