//! What the metrics say: kept from the frames as they are passed on.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use fragscope_agent::live::tally::Tally;
use fragscope_trace::event::{EventBatch, SideKind};
use fragscope_trace::frame::Frame;
use fragscope_trace::header::Header;
use fragscope_trace::machine::Zone;
use fragscope_trace::region::{RegionState, RegionTotals, census};
use fragscope_trace::snapshot::Snapshot;

/// The figures of a running session.
#[derive(Debug, Default)]
pub(crate) struct Figures(Mutex<Known>);

/// What is known so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    pub(crate) header: Option<Header>,
    /// Events passed on.
    pub(crate) tally: Tally,
    pub(crate) cpu_ns: u64,
    pub(crate) rss_bytes: u64,
    pub(crate) ring_peak_permille: u32,
    /// Zones as at the last snapshot, with the free and per-CPU pages of the last check.
    pub(crate) zones: Vec<ZoneFigures>,
    pub(crate) totals: Option<RegionTotals>,
    pub(crate) snapshots: u64,
    /// When the last one came, in seconds since 1970.
    pub(crate) snapshot_unix_seconds: f64,
}

/// One zone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ZoneFigures {
    pub(crate) node: u16,
    pub(crate) name: &'static str,
    /// Its 1 GiB regions by state, as of the last snapshot.
    pub(crate) regions: BTreeMap<RegionState, u64>,
    pub(crate) free_pages: u64,
    pub(crate) pcp_pages: u64,
}

impl Figures {
    /// Takes note of a frame.
    pub(super) fn note(&self, frame: &Frame) {
        match frame {
            Frame::Header(header) => self.known().header = Some((**header).clone()),
            Frame::Snapshot(snapshot) => self.snapshot(snapshot),
            Frame::Events(batch) => self.known().events(batch),
            Frame::End(_) => {}
        }
    }

    fn snapshot(&self, snapshot: &Snapshot) {
        // Counted before the lock is taken: whoever reads must not wait for it.
        let regions = census(snapshot);
        let mut zones: Vec<ZoneFigures> = snapshot.machine.zones.iter().map(of_zone).collect();
        for region in &regions {
            let states = &mut zones[usize::from(region.zone)].regions;
            *states.entry(region.state()).or_default() += 1;
        }
        let totals = RegionTotals::new(&snapshot.machine, &regions);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut known = self.known();
        known.zones = zones;
        known.totals = Some(totals);
        known.snapshots += 1;
        known.snapshot_unix_seconds = now.as_secs_f64();
    }

    /// What is known now.
    pub(crate) fn read(&self) -> Known {
        self.known().clone()
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn of_zone(zone: &Zone) -> ZoneFigures {
    ZoneFigures {
        node: zone.node,
        name: zone.kind.name(),
        regions: BTreeMap::new(),
        free_pages: zone.free_pages,
        pcp_pages: zone.pcp_pages(),
    }
}

impl Known {
    fn events(&mut self, batch: &EventBatch) {
        self.tally.add(&Tally::of(batch));
        for (_, side) in &batch.sides {
            self.side(&side.kind);
        }
    }

    fn side(&mut self, kind: &SideKind) {
        match kind {
            SideKind::Cost { cpu_ns, rss_bytes, ring_peak_permille } => {
                self.cpu_ns += cpu_ns;
                self.rss_bytes = *rss_bytes;
                self.ring_peak_permille = *ring_peak_permille;
            }
            SideKind::Check { free_pages, pcp_pages, .. } => {
                for (zone, free) in self.zones.iter_mut().zip(free_pages) {
                    zone.free_pages = *free;
                }
                for (zone, pcp) in self.zones.iter_mut().zip(pcp_pages) {
                    zone.pcp_pages = *pcp;
                }
            }
            _ => {}
        }
    }
}
