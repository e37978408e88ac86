//! A workload like a recording: rates, orders, flags and lifetimes are measured and become loads
//! of their own; how well that fits is measured in the same way on the synthetic trace.
//!
//! What is not fitted: changes of rates over time, which frees follow which allocations, and
//! what one process does. Each kind of request (by its flags) is independent of the others.

mod fit;
mod measure;
mod survival;

use std::io::Read;

use fragscope_trace::machine::{Machine, ZoneKind};
use fragscope_trace::page::PAGE_SIZE;
use fragscope_trace::reader::{ReadError, TraceReader};
use serde::Serialize;

pub use fit::{ClassFit, FitReport, fit};
pub use measure::{Class, Measured, measure};

use super::distribution::{Distribution, OrderMix};
use super::gfp_text::GfpText;
use super::machine::MachineSpec;
use super::workload::{Load, Objects, Reclaim, Shape, Standing, Workload};

/// Kinds of requests that get a load of their own; rarer ones join the commonest of their type.
const CLASSES: usize = 24;

/// What was measured on a recording and what follows from it.
#[derive(Clone, Debug, Serialize)]
pub struct Calibration {
    /// The workload.
    pub workload: Workload,
    /// What was measured.
    #[serde(skip)]
    pub measured: Measured,
}

/// Measures a recording and makes a workload like it.
///
/// # Errors
/// If the recording cannot be read.
pub fn calibrate<R: Read>(reader: &mut TraceReader<R>) -> Result<Calibration, ReadError> {
    let machine = reader.header().machine.clone();
    let mut measured = measure(reader)?;
    measured.merge_rare(CLASSES);
    let duration_s = measured.duration_s();
    let mut loads: Vec<Load> =
        measured.classes.iter().map(|class| load(class, duration_s)).collect();
    loads.extend(standing(&measured));
    let workload = Workload {
        name: format!("like {}", machine.hostname),
        machine: spec(&machine),
        duration_s,
        reclaim: Reclaim { swap_share: 0.0 },
        remote_free_share: measured.remote_free_share(),
        loads,
    };
    Ok(Calibration { workload, measured })
}

fn load(class: &Class, duration_s: f64) -> Load {
    let flags = GfpText(class.gfp);
    Load {
        name: flags.print(),
        comm: "calibrated".into(),
        stack: Vec::new(),
        shape: Shape::Objects(Objects {
            per_s: class.allocs as f64 / duration_s,
            burst: class.bursts.distribution(),
            orders: class.order_mix(),
            gfp: flags,
            life_s: class.lives.distribution(),
        }),
    }
}

/// What was in use before the recording, by type.
fn standing(measured: &Measured) -> impl Iterator<Item = Load> {
    let present = measured.standing.iter().filter(|standing| standing.pages > 0);
    present.map(|standing| Load {
        name: format!("standing {}", standing.name),
        comm: "calibrated".into(),
        stack: Vec::new(),
        shape: Shape::Standing(Standing {
            blocks: standing.pages,
            orders: OrderMix::only(0),
            gfp: GfpText(standing.gfp),
            life_s: standing.distribution(),
        }),
    })
}

/// The nearest machine that can be made. Memory that the host has not given to its allocator
/// (lazily initialised, or hotplugged later) does not count.
fn spec(machine: &Machine) -> MachineSpec {
    let section_pages = (128 << 20) / PAGE_SIZE;
    let managed_bytes = |low: bool| {
        let zones = machine.zones.iter().filter(|zone| (zone.kind <= ZoneKind::Dma32) == low);
        let pages: u64 = zones.map(|zone| zone.managed_pages).sum();
        pages.next_multiple_of(section_pages) * PAGE_SIZE
    };
    let mut nodes: Vec<u16> = machine.zones.iter().map(|zone| zone.node).collect();
    nodes.sort_unstable();
    nodes.dedup();
    let low_bytes = managed_bytes(true).clamp(256 << 20, 4 << 30);
    MachineSpec {
        memory_bytes: low_bytes + managed_bytes(false),
        low_bytes,
        cpus: machine.cpus.len().max(1) as u16,
        nodes: nodes.len().max(1) as u16,
    }
}

impl Class {
    /// Its orders as a workload asks for them.
    fn order_mix(&self) -> OrderMix {
        let orders = self.orders.iter().enumerate().filter(|(_, count)| **count > 0);
        OrderMix(orders.map(|(order, count)| (order as u8, *count as f64)).collect())
    }
}

impl measure::StandingPages {
    /// Seconds until they are freed; most never are.
    fn distribution(&self) -> Distribution {
        self.lives.distribution()
    }
}
