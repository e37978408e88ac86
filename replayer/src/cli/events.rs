//! The file that `run --events` writes: the series' tracepoints, as Parquet where the file's name
//! ends in `.parquet`, otherwise one JSON object a line.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};

use super::usage;
#[cfg(feature = "analysis")]
use crate::export::spb_events::SpbEventTable;
use crate::mm::spb::event::{RecordedEvent, Recorder, SpbEvent};

/// The file in its form.
enum Form {
    Lines(BufWriter<File>),
    #[cfg(feature = "analysis")]
    Table(Box<SpbEventTable>),
}

impl Form {
    fn create(path: &Path) -> Result<Form> {
        if path.extension().is_some_and(|extension| extension == "parquet") {
            return Form::table(path);
        }
        let file = File::create(path).with_context(|| path.display().to_string())?;
        Ok(Form::Lines(BufWriter::new(file)))
    }

    #[cfg(feature = "analysis")]
    fn table(path: &Path) -> Result<Form> {
        Ok(Form::Table(Box::new(SpbEventTable::create(path)?)))
    }

    #[cfg(not(feature = "analysis"))]
    fn table(path: &Path) -> Result<Form> {
        Err(usage(format!(
            "{}: this program was built without Parquet (feature analysis); a name that does not \
             end in .parquet gives JSON lines",
            path.display()
        )))
    }

    fn write(&mut self, event: &RecordedEvent) -> Result<()> {
        match self {
            Form::Lines(file) => {
                serde_json::to_writer(&mut *file, event)?;
                file.write_all(b"\n")?;
            }
            #[cfg(feature = "analysis")]
            Form::Table(table) => table.push(event)?,
        }
        Ok(())
    }

    fn finish(self) -> Result<()> {
        match self {
            Form::Lines(mut file) => file.flush()?,
            #[cfg(feature = "analysis")]
            Form::Table(table) => table.finish()?,
        }
        Ok(())
    }
}

/// An open file; nothing is written to it after the first error.
struct Open {
    form: Form,
    names: Vec<String>,
    written: Result<()>,
}

impl Open {
    fn write(&mut self, batch: &[RecordedEvent]) {
        let wanted = |e: &&RecordedEvent| {
            self.names.is_empty() || self.names.iter().any(|name| name == e.event.name())
        };
        for event in batch.iter().filter(wanted) {
            if self.written.is_ok() {
                self.written = self.form.write(event);
            }
        }
    }
}

/// Takes tracepoints into a file.
pub(super) struct EventFile {
    path: PathBuf,
    open: Arc<Mutex<Option<Open>>>,
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
        let file = Open { form: Form::create(path)?, names: names.to_vec(), written: Ok(()) };
        let open = Arc::new(Mutex::new(Some(file)));
        let into = Arc::clone(&open);
        let recorder = Recorder::to(move |batch| {
            if let Some(open) = into.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
                open.write(batch);
            }
        });
        Ok(EventFile { path: path.to_owned(), open, recorder })
    }

    /// What an allocator is to record to.
    pub(super) fn recorder(&self) -> Recorder {
        self.recorder.clone()
    }

    /// Writes what is left, and the file's end.
    ///
    /// # Errors
    /// The first error of all writing.
    pub(super) fn finish(self) -> Result<()> {
        self.recorder.flush();
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Open { form, written, .. }) = open else { return Ok(()) };
        written.and_then(|()| form.finish()).with_context(|| self.path.display().to_string())
    }
}
