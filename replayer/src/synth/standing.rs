//! What is in use before the trace begins: placed in random order, without events, and found in
//! the opening snapshot.

use fragscope_trace::page::{CpuId, Migratetype};

use super::kernel::Block;
use super::random::Rng;
use super::workload::{Shape, Standing, Workload};
use crate::mm::StockMm;
use crate::mm::allocator::PageAllocator;
use crate::mm::request::Request;

/// A block, and how many seconds it still lives; `None` is longer than the trace.
pub(super) type Placed = (Block, Option<f64>);

/// Places all standing blocks of a workload. What does not fit is left out.
pub(super) fn place(allocator: &StockMm, workload: &Workload, seed: u64) -> Vec<Placed> {
    let mut rng = Rng::stream(seed, "standing");
    let mut loads: Vec<(&Standing, u64)> = workload
        .loads
        .iter()
        .filter_map(|load| match &load.shape {
            Shape::Standing(standing) => Some((standing, standing.blocks)),
            _ => None,
        })
        .collect();
    let mut placed = Vec::new();
    loop {
        let left: u64 = loads.iter().map(|(_, blocks)| blocks).sum();
        if left == 0 {
            return placed;
        }
        let mut pick = rng.below(left);
        let chosen = loads.iter_mut().find(|(_, blocks)| {
            let here = pick < *blocks;
            pick -= if here { 0 } else { *blocks };
            here
        });
        let Some((standing, blocks)) = chosen else { return placed };
        *blocks -= 1;
        let cpu = CpuId(rng.below(workload.machine.cpus.into()) as u16);
        if let Some(block) = place_one(allocator, standing, cpu, &mut rng) {
            placed.push((block, standing.life_s.draw(&mut rng)));
        }
    }
}

fn place_one(allocator: &StockMm, standing: &Standing, cpu: CpuId, rng: &mut Rng) -> Option<Block> {
    let order = standing.orders.draw(rng);
    let request = Request::new(order, standing.gfp.0, cpu);
    let frame = allocator.alloc(&request).ok()?;
    Some(Block { frame, cpu, order, movable: request.migratetype() == Migratetype::Movable })
}
