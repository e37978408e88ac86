//! Processes: anonymous memory that is touched, kept and given back, with the page tables and
//! stacks that come along.

use fragscope_trace::gfp::Gfp;
use fragscope_trace::page::{CpuId, PAGEBLOCK_ORDER};

use super::SynthError;
use super::host::{Host, ns};
use super::kernel::{Block, Caller};
use super::queue::Task;
use super::random::Rng;
use super::workload::{Arrivals, Processes};

/// Pages touched in one go.
const FAULT_AROUND: u64 = 64;
const HUGE_PAGES: u64 = 1 << PAGEBLOCK_ORDER;
/// Seconds between looks at how much is resident.
const LOOK_S: f64 = 0.02;

/// An anonymous page fault (0x140dca).
const ANONYMOUS: Gfp = Gfp::HIGHUSER_MOVABLE.union(Gfp::ZERO).union(Gfp::COMP);
/// A huge page fault where neither reclaim nor compaction is wanted (`GFP_TRANSHUGE_LIGHT`).
const HUGE: Gfp = ANONYMOUS
    .union(Gfp::NOMEMALLOC)
    .union(Gfp::NOWARN)
    .difference(Gfp::DIRECT_RECLAIM)
    .difference(Gfp::KSWAPD_RECLAIM);
/// A page table (`GFP_PGTABLE_USER`) or stack page.
const TABLE: Gfp = Gfp::KERNEL.union(Gfp::ZERO).union(Gfp::ACCOUNT);

/// One process.
#[derive(Debug)]
pub(super) struct Process {
    pid: u32,
    cpu: CpuId,
    wanted: u64,
    touched: u64,
    /// Single pages until the next huge one is tried.
    single_left: u64,
    /// Its memory, in no order.
    pub(super) anonymous: Vec<Block>,
    kernel: Vec<Block>,
    ending: bool,
}

/// A load of processes.
pub(super) struct ProcessLoad<'w> {
    index: u16,
    config: &'w Processes,
    caller: Caller<'w>,
    rng: Rng,
    /// Pages that the living ones want altogether.
    wanted: u64,
    storm_left: u32,
    next_pid: u32,
}

impl<'w> ProcessLoad<'w> {
    pub(super) fn new(index: u16, config: &'w Processes, caller: Caller<'w>, rng: Rng) -> Self {
        let next_pid = caller.pid;
        ProcessLoad { index, config, caller, rng, wanted: 0, storm_left: 0, next_pid }
    }

    /// Starts processes as their arrivals say.
    pub(super) fn step(&mut self, host: &mut Host<'_>) -> Result<(), SynthError> {
        let next = match self.config.arrivals {
            Arrivals::Resident { share } => {
                if (self.wanted as f64) < share * host.managed_pages as f64 {
                    self.start(host)?;
                }
                LOOK_S
            }
            Arrivals::Random { per_s } => {
                self.start(host)?;
                self.rng.exponential() / per_s
            }
            Arrivals::Storms { every_s, count, over_s } => {
                self.start(host)?;
                self.storm_left = self.storm_left.checked_sub(1).unwrap_or(count - 1);
                match self.storm_left {
                    0 => every_s * self.rng.exponential(),
                    _ => over_s / f64::from(count) * self.rng.exponential(),
                }
            }
        };
        host.step_after(self.index, next);
        Ok(())
    }

    fn start(&mut self, host: &mut Host<'_>) -> Result<(), SynthError> {
        let pages = self.config.pages.draw(&mut self.rng).unwrap_or(0.0);
        // No process may want more than there is.
        let wanted = (pages as u64).clamp(1, host.managed_pages / 2);
        self.next_pid += 1;
        let mut process = Process {
            pid: self.next_pid,
            cpu: host.random_cpu(),
            wanted,
            touched: 0,
            single_left: 0,
            anonymous: Vec::new(),
            kernel: Vec::new(),
            ending: false,
        };
        for _ in 0..self.config.kernel_pages {
            self.table(&mut process, host)?;
        }
        self.wanted += wanted;
        let free = host.processes.iter().position(Option::is_none);
        let slot = free.unwrap_or_else(|| {
            host.processes.push(None);
            host.processes.len() - 1
        });
        host.processes[slot] = Some(process);
        let task = Task::Process { load: self.index, slot: slot as u32 };
        host.queue.put(host.kernel.now_ns(), task);
        Ok(())
    }

    /// Lets a process touch its next pages, or end.
    pub(super) fn go_on(&mut self, slot: u32, host: &mut Host<'_>) -> Result<(), SynthError> {
        let Some(mut process) = host.processes[slot as usize].take() else { return Ok(()) };
        if process.ending {
            return self.end(process, host);
        }
        let before = process.touched;
        let goal = (before + FAULT_AROUND).min(process.wanted);
        while process.touched < goal && self.touch(&mut process, host)? {}
        let after = if process.touched >= process.wanted || process.touched == before {
            process.ending = true;
            self.config.life_s.draw(&mut self.rng)
        } else {
            Some((process.touched - before) as f64 / self.config.fault_pages_per_s)
        };
        host.processes[slot as usize] = Some(process);
        if let Some(seconds) = after {
            let task = Task::Process { load: self.index, slot };
            host.queue.put(host.kernel.now_ns() + ns(seconds), task);
        }
        Ok(())
    }

    /// One page fault. Whether memory was there.
    fn touch(&mut self, process: &mut Process, host: &mut Host<'_>) -> Result<bool, SynthError> {
        let per_table = u64::from(self.config.pages_per_table);
        if process.touched.is_multiple_of(per_table) {
            self.table(process, host)?;
        }
        let order = self.fault_order(process);
        let gfp = if order == 0 { ANONYMOUS } else { HUGE };
        let mut block = host.alloc(process.cpu, order, gfp, &self.caller)?;
        if block.is_none() && order > 0 {
            process.single_left = HUGE_PAGES;
            block = host.alloc(process.cpu, 0, ANONYMOUS, &self.caller)?;
        }
        let Some(block) = block else { return Ok(false) };
        process.single_left = process.single_left.saturating_sub(1);
        process.touched += 1 << block.order;
        process.anonymous.push(block);
        Ok(true)
    }

    /// Huge or not is decided once for each stretch of 512 pages.
    fn fault_order(&mut self, process: &mut Process) -> u8 {
        let room = process.wanted - process.touched >= HUGE_PAGES;
        if process.single_left > 0 || !room || self.config.thp_share == 0.0 {
            return 0;
        }
        if self.rng.chance(self.config.thp_share) {
            return PAGEBLOCK_ORDER;
        }
        process.single_left = HUGE_PAGES;
        0
    }

    fn table(&mut self, process: &mut Process, host: &mut Host<'_>) -> Result<(), SynthError> {
        let caller = Caller { pid: process.pid, ..self.caller };
        let page = host.alloc(process.cpu, 0, TABLE, &caller)?;
        process.kernel.extend(page);
        Ok(())
    }

    fn end(&mut self, process: Process, host: &mut Host<'_>) -> Result<(), SynthError> {
        self.wanted -= process.wanted;
        let cpu = match process.anonymous.first() {
            Some(block) => host.freeing_cpu(*block),
            None => process.cpu,
        };
        for block in process.anonymous {
            if block.order > 0 && self.rng.chance(self.config.thp_split_share) {
                host.kernel.free_split(block, cpu)?;
            } else {
                host.kernel.free(block, cpu)?;
            }
        }
        process.kernel.into_iter().try_for_each(|block| host.kernel.free(block, cpu))
    }
}
