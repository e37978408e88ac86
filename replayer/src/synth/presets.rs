//! Workloads with a name.
//!
//! The two headline workloads are those for which the superpageblock series states its result
//! (2 of 13 regions tainted on 16 GiB, under 20 of 238 on 256 GiB); the figures of their loads
//! are assumptions, and every one of them can be read and changed as JSON.

use fragscope_trace::gfp::Gfp;

use super::SynthError;
use super::distribution::{Distribution, OrderMix};
use super::gfp_text::GfpText;
use super::machine::MachineSpec;
use super::workload::{Arrivals, Cache, Load, Objects, Processes, Reclaim, Shape, Slab, Workload};

const GIB: u64 = 1 << 30;
const GIB_PAGES: f64 = 262_144.0;

/// A named workload.
#[derive(Clone, Copy, Debug)]
pub struct Preset {
    /// Its name.
    pub name: &'static str,
    /// What it is for.
    pub meaning: &'static str,
    /// RAM, unless another size is asked for; loads scale with it.
    pub memory_bytes: u64,
    build: fn(&Preset, u64) -> Workload,
}

/// All named workloads.
pub const PRESETS: [Preset; 5] = [
    Preset {
        name: "headline-16g",
        meaning: "13 Normal regions, memory full from 60 s on, 0.4 to 1.2 GiB non-movable",
        memory_bytes: 16 * GIB,
        build: headline_16g,
    },
    Preset {
        name: "headline-256g",
        // 3 GiB below 4 GiB, 238 whole regions, and the memory map at the end of Normal.
        meaning: "238 whole Normal regions, memory full, up to 12 GiB non-movable",
        memory_bytes: 245 * GIB,
        build: headline_256g,
    },
    Preset {
        name: "half-used",
        meaning: "control: headline-16g with memory at most half used",
        memory_bytes: 16 * GIB,
        build: half_used,
    },
    Preset {
        name: "two-nodes",
        meaning: "headline-16g on two nodes, of which node 1 has no DMA32 zone",
        memory_bytes: 32 * GIB,
        build: two_nodes,
    },
    Preset {
        name: "small",
        meaning: "20 s of everything on 2 GiB, for trying things out",
        memory_bytes: 2 * GIB,
        build: small,
    },
];

/// The workload of a name, on a machine of the given size or of its own.
///
/// # Errors
/// If there is none of this name; the error lists them.
pub fn preset(name: &str, memory_bytes: Option<u64>) -> Result<Workload, SynthError> {
    let Some(preset) = PRESETS.iter().find(|preset| preset.name == name) else {
        let known = PRESETS.map(|preset| preset.name).join(", ");
        return Err(SynthError::UnknownWorkload { name: name.to_owned(), known });
    };
    Ok((preset.build)(preset, memory_bytes.unwrap_or(preset.memory_bytes)))
}

/// What distinguishes the sizes of one kind of server.
struct Server {
    cpus: u16,
    duration_s: f64,
    /// Share of memory that is anonymous.
    anonymous: f64,
    process_pages: f64,
    process_life_s: f64,
    thp_share: f64,
    /// Pages of file reads per second and GiB of memory, at first and later.
    fill: f64,
    steady: f64,
    cache_orders: OrderMix,
    cache_limit: f64,
    /// Non-movable memory, as shares of all.
    low: f64,
    high: f64,
    period_s: f64,
    /// Atomic allocations per second.
    atomic: f64,
}

/// 16 GiB: many processes of moderate size, files of moderate size.
fn medium() -> Server {
    Server {
        cpus: 8,
        duration_s: 480.0,
        anonymous: 0.35,
        process_pages: 24_576.0,
        process_life_s: 40.0,
        thp_share: 0.3,
        fill: 4000.0,
        steady: 1250.0,
        cache_orders: OrderMix(vec![(0, 80.0), (2, 12.0), (4, 7.0), (6, 1.0)]),
        cache_limit: 1.0,
        low: 0.4 / 16.0,
        high: 1.2 / 16.0,
        period_s: 45.0,
        atomic: 5000.0,
    }
}

fn headline_16g(preset: &Preset, memory_bytes: u64) -> Workload {
    server(preset, memory_bytes, &medium())
}

fn headline_256g(preset: &Preset, memory_bytes: u64) -> Workload {
    let large = Server {
        cpus: 32,
        duration_s: 960.0,
        anonymous: 0.55,
        process_pages: 1_000_000.0,
        process_life_s: 400.0,
        thp_share: 0.9,
        fill: 500.0,
        steady: 160.0,
        cache_orders: OrderMix(vec![(0, 45.0), (2, 20.0), (4, 25.0), (6, 6.0), (9, 4.0)]),
        low: 4.0 / 245.0,
        high: 12.0 / 245.0,
        period_s: 120.0,
        ..medium()
    };
    server(preset, memory_bytes, &large)
}

fn half_used(preset: &Preset, memory_bytes: u64) -> Workload {
    let half = Server { anonymous: 0.18, cache_limit: 0.2, ..medium() };
    server(preset, memory_bytes, &half)
}

fn two_nodes(preset: &Preset, memory_bytes: u64) -> Workload {
    let mut workload = server(preset, memory_bytes, &medium());
    workload.machine.nodes = 2;
    workload
}

fn small(preset: &Preset, memory_bytes: u64) -> Workload {
    let short = Server {
        cpus: 4,
        duration_s: 20.0,
        process_pages: 4096.0,
        process_life_s: 4.0,
        fill: 50_000.0,
        steady: 10_000.0,
        period_s: 5.0,
        atomic: 2000.0,
        ..medium()
    };
    server(preset, memory_bytes, &short)
}

fn server(preset: &Preset, memory_bytes: u64, server: &Server) -> Workload {
    let gib = memory_bytes as f64 / GIB as f64;
    Workload {
        name: preset.name.to_owned(),
        machine: MachineSpec::new(memory_bytes, server.cpus),
        duration_s: server.duration_s,
        reclaim: Reclaim { swap_share: 0.0 },
        remote_free_share: 0.29,
        loads: vec![
            files(server, gib),
            services(server),
            forks(),
            mappings(),
            network(server),
            buffers(),
            slab(server, gib),
        ],
    }
}

/// Frames of every slow way into the allocator, innermost first.
fn stack(callers: &[&str]) -> Vec<String> {
    let allocator = ["__alloc_frozen_pages_noprof", "alloc_pages_mpol"];
    allocator.iter().chain(callers).map(|frame| (*frame).to_owned()).collect()
}

fn log_normal(median: f64, sigma: f64) -> Distribution {
    Distribution::LogNormal { median, sigma }
}

fn files(server: &Server, gib: f64) -> Load {
    Load {
        name: "files".into(),
        comm: "reader".into(),
        stack: Vec::new(),
        shape: Shape::Cache(Cache {
            fill_pages_per_s: server.fill * gib,
            steady_pages_per_s: server.steady * gib,
            window_pages: 32,
            orders: server.cache_orders.clone(),
            gfp: GfpText(Gfp::HIGHUSER_MOVABLE | Gfp::NORETRY | Gfp::NOWARN),
            limit_share: server.cache_limit,
            deletions_per_s: 2.0,
            deleted_blocks: log_normal(200.0, 1.5),
        }),
    }
}

fn services(server: &Server) -> Load {
    Load {
        name: "services".into(),
        comm: "service".into(),
        stack: stack(&["__pte_alloc", "do_anonymous_page", "handle_mm_fault"]),
        shape: Shape::Processes(Processes {
            arrivals: Arrivals::Resident { share: server.anonymous },
            pages: log_normal(server.process_pages, 1.0),
            fault_pages_per_s: 50_000.0,
            life_s: log_normal(server.process_life_s, 1.0),
            thp_share: server.thp_share,
            thp_split_share: 0.05,
            kernel_pages: 20,
            pages_per_table: 512,
        }),
    }
}

/// Short-lived children.
fn forks() -> Load {
    Load {
        name: "forks".into(),
        comm: "sh".into(),
        stack: stack(&["alloc_thread_stack_node", "dup_task_struct", "copy_process"]),
        shape: Shape::Processes(Processes {
            arrivals: Arrivals::Storms { every_s: 5.0, count: 60, over_s: 0.5 },
            pages: log_normal(400.0, 0.8),
            fault_pages_per_s: 100_000.0,
            life_s: Distribution::Exponential { mean: 0.2 },
            thp_share: 0.0,
            thp_split_share: 0.0,
            kernel_pages: 14,
            pages_per_table: 128,
        }),
    }
}

/// Mappings that are touched and dropped at once.
fn mappings() -> Load {
    Load {
        name: "mappings".into(),
        comm: "batch".into(),
        stack: stack(&["__pte_alloc", "do_anonymous_page", "handle_mm_fault"]),
        shape: Shape::Processes(Processes {
            arrivals: Arrivals::Storms { every_s: 8.0, count: 4, over_s: 0.2 },
            pages: log_normal(16_384.0, 0.5),
            fault_pages_per_s: 200_000.0,
            life_s: Distribution::Exponential { mean: 0.05 },
            thp_share: 0.5,
            thp_split_share: 0.0,
            kernel_pages: 4,
            pages_per_table: 512,
        }),
    }
}

fn network(server: &Server) -> Load {
    Load {
        name: "network".into(),
        comm: "ksoftirqd/0".into(),
        stack: Vec::new(),
        shape: Shape::Objects(Objects {
            per_s: server.atomic,
            burst: log_normal(6.0, 1.0),
            orders: OrderMix(vec![(0, 60.0), (1, 15.0), (2, 10.0), (3, 15.0)]),
            gfp: GfpText(Gfp::ATOMIC | Gfp::COMP),
            life_s: log_normal(0.010, 1.5),
        }),
    }
}

/// Buffers of drivers and file systems; some stay for good.
fn buffers() -> Load {
    Load {
        name: "buffers".into(),
        comm: "kworker/u8:1".into(),
        stack: stack(&["kvmalloc_node_noprof", "xfs_buf_alloc_backing_mem", "xfs_buf_get_map"]),
        shape: Shape::Objects(Objects {
            per_s: 20.0,
            burst: log_normal(2.0, 0.7),
            orders: OrderMix(vec![(0, 50.0), (1, 15.0), (2, 15.0), (3, 15.0), (5, 5.0)]),
            gfp: GfpText(Gfp::KERNEL | Gfp::COMP),
            life_s: Distribution::Mixture {
                share: 0.03,
                minor: Box::new(Distribution::Never),
                major: Box::new(log_normal(20.0, 2.0)),
            },
        }),
    }
}

fn slab(server: &Server, gib: f64) -> Load {
    Load {
        name: "slab".into(),
        comm: "find".into(),
        stack: stack(&[
            "allocate_slab",
            "___slab_alloc",
            "kmem_cache_alloc_lru_noprof",
            "__d_alloc",
        ]),
        shape: Shape::Slab(Slab {
            low_pages: (server.low * gib * GIB_PAGES) as u64,
            high_pages: (server.high * gib * GIB_PAGES) as u64,
            period_s: server.period_s,
            growing_share: 0.8,
            of_machine: true,
            orders: OrderMix(vec![(0, 30.0), (1, 25.0), (2, 20.0), (3, 25.0)]),
            reclaimable_share: 0.6,
            long_lived_share: 0.03,
            churn_per_s: 500.0,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_are_sound_and_survive_their_own_json() {
        for known in PRESETS {
            let workload = preset(known.name, None).unwrap();
            let text = serde_json::to_string(&workload).unwrap();
            assert_eq!(Workload::from_json(&text).unwrap(), workload, "{}", known.name);
        }
    }

    #[test]
    fn an_unknown_name_lists_the_known() {
        let error = preset("hedline", None).unwrap_err().to_string();
        assert!(error.contains("headline-16g") && error.contains("two-nodes"), "{error}");
    }
}
