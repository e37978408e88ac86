//! The choice between the two sources.

use fragscope_trace::page::PfnRange;
use fragscope_trace::snapshot::{Snapshot, SnapshotRole, SnapshotSource};

use super::grow::Absences;
use super::struct_pages::StructPages;
use super::{Limits, SnapshotError, kpageflags};
use crate::bpf::calibrate::Vmemmap;
use crate::machine::{read_machine, read_zones};

/// Which source to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum SourceChoice {
    /// Struct pages if they can be read, else /proc/kpageflags
    #[default]
    Auto,
    /// Struct pages, copied by a BPF program
    StructPages,
    /// /proc/kpageflags: no BPF needed, much stays unknown
    Kpageflags,
}

/// Takes snapshots from one source, any number of them.
#[derive(Debug)]
pub struct Snapshotter {
    struct_pages: Option<StructPages>,
    /// Why struct pages are not used although they were wanted.
    refused: Option<String>,
}

impl Snapshotter {
    /// Opens the chosen source. `vmemmap` saves the search for the array of struct pages.
    ///
    /// # Errors
    /// If struct pages were asked for and cannot be read. With [`SourceChoice::Auto`] the reason
    /// becomes a note in each snapshot instead.
    pub fn open(
        choice: SourceChoice,
        vmemmap: Option<Vmemmap>,
    ) -> Result<Snapshotter, SnapshotError> {
        let mut snapshotter = Snapshotter { struct_pages: None, refused: None };
        if choice == SourceChoice::Kpageflags {
            return Ok(snapshotter);
        }
        match StructPages::open(vmemmap) {
            Ok(struct_pages) => snapshotter.struct_pages = Some(struct_pages),
            Err(error) if choice == SourceChoice::Auto => {
                snapshotter.refused = Some(error.to_string());
            }
            Err(error) => return Err(error),
        }
        Ok(snapshotter)
    }

    /// What is used.
    #[must_use]
    pub fn source(&self) -> SnapshotSource {
        match self.struct_pages {
            Some(_) => SnapshotSource::StructPages,
            None => SnapshotSource::KpageFlags,
        }
    }

    /// Reads the state of all frames.
    ///
    /// # Errors
    /// If the source fails or time was up.
    pub fn take(&mut self, role: SnapshotRole, limits: &Limits) -> Result<Snapshot, SnapshotError> {
        if let Some(struct_pages) = &mut self.struct_pages {
            return struct_pages.take(role, limits);
        }
        let mut snapshot = kpageflags::take(read_machine()?, role, limits)?;
        if let Some(reason) = &self.refused {
            snapshot.notes.insert(0, format!("struct pages can't be read: {reason}"));
        }
        Ok(snapshot)
    }

    /// Frames that got memory since `absences` was made or updated: only zones whose `managed`
    /// has grown are looked at, and of them only frames that had none. Reserved frames are left
    /// out. Without growth this costs one look at `/proc/zoneinfo`.
    ///
    /// # Errors
    /// If the source fails.
    pub fn grown(&mut self, absences: &mut Absences) -> Result<Vec<PfnRange>, SnapshotError> {
        let candidates = absences.candidates(&read_zones()?);
        if candidates.is_empty() {
            return Ok(Vec::new());
        }
        let present = match &mut self.struct_pages {
            Some(struct_pages) => struct_pages.present_in(&candidates)?,
            None => kpageflags::present_in(&candidates)?,
        };
        absences.remove(&present);
        Ok(present)
    }
}
