//! What loads a synthetic machine: the shapes and their parameters, as a configuration spells
//! them out.

use fragscope_trace::gfp::Gfp;
use serde::{Deserialize, Serialize};

use super::SynthError;
use super::distribution::{Distribution, OrderMix, check_share};
use super::gfp_text::GfpText;
use super::machine::MachineSpec;

/// A machine and everything that runs on it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// What it is called.
    pub name: String,
    /// Where it runs.
    pub machine: MachineSpec,
    /// Virtual seconds.
    pub duration_s: f64,
    /// How memory is taken back when it runs out.
    pub reclaim: Reclaim,
    /// Share of frees that happen on another CPU than the allocation.
    pub remote_free_share: f64,
    /// What runs, at the same time.
    pub loads: Vec<Load>,
}

/// How memory is taken back: below the low watermarks, up to the high ones, in random order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reclaim {
    /// Share of reclaimed blocks that are anonymous memory (swapped out, never back in); the
    /// others are page cache.
    pub swap_share: f64,
}

/// One source of requests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Load {
    /// What it is called; names its random stream, so two loads must not share a name.
    pub name: String,
    /// Process that the trace names for its non-movable allocations.
    pub comm: String,
    /// Kernel stack of these, innermost first. Without one the trace does not say who allocated.
    pub stack: Vec<String>,
    /// What it does.
    pub shape: Shape,
}

/// The shapes that matter to fragmentation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// File pages: they fill memory and leave when it is reclaimed, or when files go.
    Cache(Cache),
    /// Processes with anonymous memory, page tables and stacks.
    Processes(Processes),
    /// Blocks that live a time of their own: network buffers, pipes, long-lived kernel buffers.
    Objects(Objects),
    /// Slab whose footprint rises and falls, with a share that stays.
    Slab(Slab),
    /// Blocks that are in use before the trace begins.
    Standing(Standing),
}

/// Page cache.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cache {
    /// Pages read per second until memory (or the limit) is reached for the first time.
    pub fill_pages_per_s: f64,
    /// Pages read per second afterwards.
    pub steady_pages_per_s: f64,
    /// Pages that are read together.
    pub window_pages: u32,
    /// Folio orders; a large folio that cannot be had becomes single pages.
    pub orders: OrderMix,
    /// Flags; large folios ask without reclaim.
    pub gfp: GfpText,
    /// Share of managed memory that it never exceeds.
    pub limit_share: f64,
    /// Files deleted per second, whose pages go at once.
    pub deletions_per_s: f64,
    /// Blocks of a deleted file.
    pub deleted_blocks: Distribution,
}

/// Processes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Processes {
    /// When they start.
    pub arrivals: Arrivals,
    /// Anonymous pages that each touches.
    pub pages: Distribution,
    /// Pages that each touches per second until it has them all.
    pub fault_pages_per_s: f64,
    /// Seconds that each lives after that.
    pub life_s: Distribution,
    /// Share of its memory that it asks for as huge pages.
    pub thp_share: f64,
    /// Share of huge pages that were split before they are freed, as single pages.
    pub thp_split_share: f64,
    /// Unmovable pages that each starts with: stack, top page tables, descriptors.
    pub kernel_pages: u32,
    /// Pages of anonymous memory to one page table.
    pub pages_per_table: u32,
}

/// When processes start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Arrivals {
    /// Whenever all of them together hold less than this share of managed memory.
    Resident {
        /// The share.
        share: f64,
    },
    /// At random times.
    Random {
        /// Mean number per second.
        per_s: f64,
    },
    /// Many at once.
    Storms {
        /// Mean seconds between storms.
        every_s: f64,
        /// Processes in each.
        count: u32,
        /// Seconds over which they start.
        over_s: f64,
    },
}

/// Blocks with a lifetime of their own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Objects {
    /// Mean blocks per second.
    pub per_s: f64,
    /// Blocks that come together.
    pub burst: Distribution,
    /// Orders.
    pub orders: OrderMix,
    /// Flags.
    pub gfp: GfpText,
    /// Seconds until each is freed.
    pub life_s: Distribution,
}

/// Blocks that are in use before the trace begins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Standing {
    /// How many.
    pub blocks: u64,
    /// Orders.
    pub orders: OrderMix,
    /// Flags.
    pub gfp: GfpText,
    /// Seconds until each is freed.
    pub life_s: Distribution,
}

/// Slab.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slab {
    /// Pages to which it shrinks.
    pub low_pages: u64,
    /// Pages to which it grows.
    pub high_pages: u64,
    /// Seconds from one shrink to the next.
    pub period_s: f64,
    /// Part of the period in which it grows.
    pub growing_share: f64,
    /// Whether the two figures are of all non-movable memory of the machine, of which slab then
    /// makes up the rest, or of this load alone.
    pub of_machine: bool,
    /// Slab orders.
    pub orders: OrderMix,
    /// Share that is reclaimable (inodes, directory entries).
    pub reclaimable_share: f64,
    /// Share of blocks that are never freed.
    pub long_lived_share: f64,
    /// Blocks replaced per second on top of the rise and fall.
    pub churn_per_s: f64,
}

impl Workload {
    /// Reads a configuration in JSON.
    ///
    /// # Errors
    /// Where the text is no such configuration, or a parameter makes no sense.
    pub fn from_json(text: &str) -> Result<Workload, SynthError> {
        let workload: Workload = serde_json::from_str(text)?;
        workload.check()?;
        Ok(workload)
    }

    /// Checks every parameter but those of the machine.
    ///
    /// # Errors
    /// Names the first that makes no sense.
    pub fn check(&self) -> Result<(), SynthError> {
        let fault = |what: &str, found: String, expected: &str| {
            let (what, expected) = (what.to_owned(), expected.to_owned());
            Err(SynthError::Config { what, found, expected })
        };
        if !(0.001..=1e7).contains(&self.duration_s) {
            return fault("duration", self.duration_s.to_string(), "0.001 to 10,000,000 s");
        }
        if self.loads.is_empty() {
            return fault("the number of loads", "0".into(), "at least 1");
        }
        for (index, load) in self.loads.iter().enumerate() {
            if self.loads[..index].iter().any(|other| other.name == load.name) {
                return fault("load names", format!("{:?} twice", load.name), "each name once");
            }
        }
        let shares = check_share("swap_share", self.reclaim.swap_share)
            .and(check_share("remote_free_share", self.remote_free_share));
        shares.map_err(|fault| SynthError::Parameter { load: self.name.clone(), fault })?;
        for load in &self.loads {
            let checked = load.shape.check();
            checked.map_err(|fault| SynthError::Parameter { load: load.name.clone(), fault })?;
        }
        Ok(())
    }

    /// Multiplies the rates of all loads.
    pub fn scale_rates(&mut self, factor: f64) {
        for load in &mut self.loads {
            match &mut load.shape {
                Shape::Cache(cache) => {
                    cache.fill_pages_per_s *= factor;
                    cache.steady_pages_per_s *= factor;
                    cache.deletions_per_s *= factor;
                }
                Shape::Processes(Processes { arrivals, .. }) => match arrivals {
                    Arrivals::Resident { .. } => {}
                    Arrivals::Random { per_s } => *per_s *= factor,
                    Arrivals::Storms { every_s, .. } => *every_s /= factor,
                },
                Shape::Objects(objects) => objects.per_s *= factor,
                Shape::Slab(slab) => slab.churn_per_s *= factor,
                Shape::Standing(_) => {}
            }
        }
    }
}

impl Shape {
    fn check(&self) -> Result<(), String> {
        match self {
            Shape::Cache(cache) => cache.check(),
            Shape::Processes(processes) => processes.check(),
            Shape::Objects(objects) => objects.check(),
            Shape::Slab(slab) => slab.check(),
            Shape::Standing(standing) => standing.check(),
        }
    }
}

/// A rate may be 0 but not negative or endless.
fn check_rate(name: &str, rate: f64) -> Result<(), String> {
    match (0.0..=1e9).contains(&rate) {
        true => Ok(()),
        false => Err(format!("{name} is {rate}; expected 0 to 1,000,000,000")),
    }
}

/// A time between things must not be 0.
fn check_seconds(name: &str, seconds: f64) -> Result<(), String> {
    match (1e-6..=1e9).contains(&seconds) {
        true => Ok(()),
        false => Err(format!("{name} is {seconds}; expected 0.000001 to 1,000,000,000")),
    }
}

fn check_count(name: &str, count: u32) -> Result<(), String> {
    match count {
        1..=1_000_000 => Ok(()),
        _ => Err(format!("{name} is {count}; expected 1 to 1,000,000")),
    }
}

impl Cache {
    fn check(&self) -> Result<(), String> {
        check_rate("fill_pages_per_s", self.fill_pages_per_s)?;
        check_rate("steady_pages_per_s", self.steady_pages_per_s)?;
        check_rate("deletions_per_s", self.deletions_per_s)?;
        check_count("window_pages", self.window_pages)?;
        check_share("limit_share", self.limit_share)?;
        self.deleted_blocks.check()?;
        self.orders.check()
    }
}

impl Processes {
    fn check(&self) -> Result<(), String> {
        match self.arrivals {
            Arrivals::Resident { share } => check_share("share", share)?,
            Arrivals::Random { per_s } => check_rate("per_s", per_s)?,
            Arrivals::Storms { every_s, count, over_s } => {
                check_seconds("every_s", every_s)?;
                check_count("count", count)?;
                check_rate("over_s", over_s)?;
            }
        }
        check_rate("fault_pages_per_s - 1", self.fault_pages_per_s - 1.0)?;
        check_share("thp_share", self.thp_share)?;
        check_share("thp_split_share", self.thp_split_share)?;
        check_count("pages_per_table", self.pages_per_table)?;
        self.pages.check()?;
        self.life_s.check()
    }
}

impl Objects {
    fn check(&self) -> Result<(), String> {
        check_rate("per_s", self.per_s)?;
        check_one_type(self.gfp.0)?;
        self.burst.check()?;
        self.orders.check()?;
        self.life_s.check()
    }
}

fn check_one_type(gfp: Gfp) -> Result<(), String> {
    match gfp.contains(Gfp::MOVABLE | Gfp::RECLAIMABLE) {
        true => Err("gfp has both MOVABLE and RECLAIMABLE; expected one at most".to_owned()),
        false => Ok(()),
    }
}

impl Standing {
    fn check(&self) -> Result<(), String> {
        check_one_type(self.gfp.0)?;
        self.orders.check()?;
        self.life_s.check()
    }
}

impl Slab {
    fn check(&self) -> Result<(), String> {
        if self.low_pages > self.high_pages {
            let (low, high) = (self.low_pages, self.high_pages);
            return Err(format!("low_pages is {low}; expected at most high_pages, {high}"));
        }
        check_seconds("period_s", self.period_s)?;
        check_share("growing_share", self.growing_share)?;
        check_share("reclaimable_share", self.reclaimable_share)?;
        check_share("long_lived_share", self.long_lived_share)?;
        check_rate("churn_per_s", self.churn_per_s)?;
        self.orders.check()
    }
}
