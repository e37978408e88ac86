//! What is done in a guest. The host looks at the results.

use std::fs;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use fragscope_trace::page::REGION_PAGES;
use rustix::mount::{MountFlags, mount};

use super::{Results, facts, load, start};

const AGENT: &str = "/agent";
/// The tests that trace the running kernel, and those of them that make sense here.
const LIVE_TESTS: &str = "/live";
const LIVE: [&str; 3] = ["snapshot::", "whole_through_ring_buffers", "whole_through_classic"];
const TRACING: &str = "/sys/kernel/tracing";
/// Rings that hold a whole load: nothing depends on when the reader gets a CPU.
const RING_BYTES: &str = "8MiB";
/// The longest wait for something that the kernel or the host does.
const PATIENCE: Duration = Duration::from_secs(600);

/// What one version of the kernel offers: a recording of a contiguous allocation, the diagnosis,
/// a recording under load, and the tests of the live parts.
pub(crate) fn version(results: &mut Results, agent: Option<&&str>) -> Result<()> {
    // The tests look for the program where it was built.
    let agent = agent.context("the command line does not say where the agent was built")?;
    // While memory is as good as new.
    record(results, "gigantic", &["/init", "gigantic"])?;
    results.run("doctor", Command::new(AGENT).args(["doctor", "--json"]))?;
    results.text("facts", &serde_json::to_string(&facts::of_this_kernel())?);
    record(results, "mixed", &["/init", "mixed"])?;
    fs::create_dir_all(std::path::Path::new(agent).parent().context("no folder")?)?;
    std::os::unix::fs::symlink(AGENT, agent)?;
    let mut tests = Command::new(LIVE_TESTS);
    results.run("live", tests.args(LIVE).args(["--test-threads", "1"]))
}

fn recorder(name: &str) -> Command {
    let mut command = Command::new(AGENT);
    command.args(["record", "--json", "--ring-bytes", RING_BYTES]);
    // Everything takes long under emulation.
    command.args(["--snapshot-timeout", "300s", "--close-timeout", "300s"]);
    command.args(["--output", &format!("/tmp/{name}.fst")]);
    command
}

/// A recording while a command runs.
fn record(results: &mut Results, name: &str, command: &[&str]) -> Result<()> {
    results.run(name, recorder(name).arg("--").args(command))?;
    results.keep(&format!("{name}.fst"), &format!("/tmp/{name}.fst"))
}

/// A CPU goes and comes back, and memory arrives, while two nodes are recorded.
pub(crate) fn change(results: &mut Results) -> Result<()> {
    results.run("doctor", Command::new(AGENT).args(["doctor", "--json"]))?;
    let recording = start("change", &mut recorder("change"))?;
    await_that("the recording has begun", || {
        fs::metadata("/tmp/change.fst").is_ok_and(|m| m.len() > 20_000)
    })?;
    on_each_cpu()?;
    let cpu1 = "/sys/devices/system/cpu/cpu1/online";
    fs::write(cpu1, "0").context("cannot take CPU 1 offline")?;
    load::files()?;
    next_looks();
    fs::write(cpu1, "1").context("cannot take CPU 1 online")?;
    next_looks();
    on_each_cpu()?;

    fs::write("/sys/devices/system/memory/auto_online_blocks", "online")?;
    let before = managed_pages()?;
    println!("guest: @memory");
    await_that("memory has arrived", || managed_pages().is_ok_and(|now| now > before))?;
    let mut last = 0;
    await_that("no more arrives", || {
        let now = managed_pages().unwrap_or(0);
        sleep(Duration::from_secs(1));
        std::mem::replace(&mut last, now) == now
    })?;
    results.text("managed", &format!("{before} {}", managed_pages()?));
    load::forks()?;
    load::compaction()?;
    next_looks();
    let pid = rustix::process::Pid::from_child(&recording);
    rustix::process::kill_process(pid, rustix::process::Signal::INT)?;
    results.finish("change", recording)?;
    results.keep("change.fst", "/tmp/change.fst")
}

/// Non-movable allocations in a region that had none: recorded, while ftrace keeps the kernel's own
/// stack of each.
pub(crate) fn taint(results: &mut Results) -> Result<()> {
    let Some(region) = clean_region()? else {
        results.text("region", "none");
        return Ok(());
    };
    results.text("region", &region.to_string());
    mount("tracefs", TRACING, "tracefs", MountFlags::empty(), None)
        .context("cannot mount tracefs")?;
    let event = |file: &str| format!("events/kmem/mm_page_alloc/{file}");
    let end = region + REGION_PAGES;
    let wanted = format!("pfn >= {region} && pfn < {end} && migratetype != 1");
    trace("trace_clock", "mono")?;
    trace("buffer_size_kb", "16384")?;
    trace(&event("filter"), &wanted)?;
    trace(&event("trigger"), &format!("stacktrace if {wanted}"))?;
    trace(&event("enable"), "1")?;
    // By their times the makers are found that ftrace tells of.
    results.run("taint", recorder("taint").args(["--exact-times", "--", "/init", "taint"]))?;
    results.keep("taint.fst", "/tmp/taint.fst")?;
    trace(&event("enable"), "0")?;
    results.keep("ftrace", &format!("{TRACING}/trace"))
}

/// Where the first region without non-movable pages begins, if there is one. It lies in the zone that
/// allocations fall back to.
fn clean_region() -> Result<Option<u64>> {
    let output = Command::new(AGENT).args(["snapshot", "--json"]).output()?;
    let report: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let regions = report["regions"].as_array().context("no regions")?;
    let is_clean = |region: &&serde_json::Value| {
        let pages = |field: &str| region[field].as_u64().unwrap_or(0);
        let kinds = ["slab_pages", "pagetable_pages", "kernel_pages", "pinned_pages"];
        pages("free_pages") > REGION_PAGES / 2 && kinds.iter().all(|kind| pages(kind) == 0)
    };
    let clean = regions.iter().find(is_clean);
    Ok(clean.and_then(|region| region["start_pfn"].as_u64()))
}

fn trace(file: &str, value: &str) -> Result<()> {
    fs::write(format!("{TRACING}/{file}"), value).with_context(|| format!("{file}: {value}"))
}

/// Touches memory on every CPU that is online.
fn on_each_cpu() -> Result<()> {
    for cpu in 0..2 {
        let mut only = rustix::thread::CpuSet::new();
        only.set(cpu);
        rustix::thread::sched_setaffinity(None, &only)?;
        fragscope_agent::bpf::memory::touch_fresh_pages(8 << 20)?;
    }
    let mut all = rustix::thread::CpuSet::new();
    (0..2).for_each(|cpu| all.set(cpu));
    Ok(rustix::thread::sched_setaffinity(None, &all)?)
}

/// The recorder looks at CPUs and zones once a second, or somewhat later where the host is busy.
fn next_looks() {
    sleep(Duration::from_secs(5));
}

fn managed_pages() -> Result<u64> {
    let zones = fragscope_agent::machine::read_zones()?;
    Ok(zones.iter().map(|zone| zone.managed_pages).sum())
}

fn await_that(what: &str, mut is_so: impl FnMut() -> bool) -> Result<()> {
    let begun = Instant::now();
    while !is_so() {
        if begun.elapsed() > PATIENCE {
            bail!("waited {PATIENCE:?} until {what}, in vain");
        }
        sleep(Duration::from_millis(50));
    }
    println!("guest: {what}");
    Ok(())
}
