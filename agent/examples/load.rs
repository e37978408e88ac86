//! Bounded loads for recordings and tests: each shapes memory in one way and ends by itself.
//!
//! ```text
//! load hold  --leave-mib 1500 --seconds 600   hold anonymous memory so that this much stays free
//! load files --dir D --count 200000           grow the inode and dentry caches
//! load cache --dir D --mib 2000 --seconds 60  write, read and delete files
//! load fork  --seconds 60                     start short processes as fast as they end
//! load fill  --dir D --leave-mib 900 --seconds 600   fill memory with clean page cache
//! load storm --seconds 60 --kind pipe         allocate and free pages on every CPU
//! ```
//!
//! `hold` asks to be the first that the OOM killer takes. `fill` reads a sparse file, each page
//! once: its pages are the first that reclaim takes, so that nobody else runs out of memory.

use std::fs;
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Parser;
use fragscope_agent::bpf::memory::touch_fresh_pages;

const MIB: usize = 1 << 20;
const PAGE: usize = 4096;

#[derive(Parser)]
#[command(about = "Bounded memory loads")]
enum Load {
    /// Hold anonymous memory so that only so much stays free.
    Hold {
        /// MiB that stay free.
        #[arg(long)]
        leave_mib: u64,
        /// For how long.
        #[arg(long)]
        seconds: u64,
        /// Release memory when less than this many MiB are available to others.
        #[arg(long, default_value_t = 700)]
        safety_mib: u64,
    },
    /// Create many small files, then look at them all.
    Files {
        /// Where; a new folder in it is made and removed.
        #[arg(long)]
        dir: PathBuf,
        /// How many.
        #[arg(long)]
        count: u32,
        /// Keep a file of every so many, as long as the load runs.
        #[arg(long, default_value_t = 10)]
        keep_every: u32,
        /// Hold the remaining ones for this long.
        #[arg(long, default_value_t = 0)]
        hold_seconds: u64,
    },
    /// Write, read and delete files.
    Cache {
        /// Where; a new folder in it is made and removed.
        #[arg(long)]
        dir: PathBuf,
        /// MiB of files at a time.
        #[arg(long)]
        mib: u32,
        /// For how long.
        #[arg(long)]
        seconds: u64,
    },
    /// Start short processes as fast as they end.
    Fork {
        /// For how long.
        #[arg(long)]
        seconds: u64,
    },
    /// Fill memory with clean page cache so that only so much stays free.
    Fill {
        /// Where; a new folder in it is made and removed.
        #[arg(long)]
        dir: PathBuf,
        /// MiB that stay free.
        #[arg(long)]
        leave_mib: u64,
        /// For how long.
        #[arg(long)]
        seconds: u64,
    },
    /// Allocate and free single pages on every CPU.
    Storm {
        /// For how long.
        #[arg(long)]
        seconds: u64,
        /// Events per second, all CPUs together; as many as there can be if not said.
        #[arg(long)]
        rate: Option<f64>,
        /// What takes the pages.
        #[arg(long, value_enum, default_value_t = StormKind::Touch)]
        kind: StormKind,
    },
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum StormKind {
    /// Memory that is touched and unmapped.
    Touch,
    /// Pipes that are filled and emptied.
    Pipe,
}

fn main() -> Result<()> {
    match Load::parse() {
        Load::Hold { leave_mib, seconds, safety_mib } => hold(leave_mib, seconds, safety_mib),
        Load::Files { dir, count, keep_every, hold_seconds } => {
            in_new_folder(&dir, |dir| files(dir, count, keep_every.max(1), hold_seconds))
        }
        Load::Cache { dir, mib, seconds } => in_new_folder(&dir, |dir| cache(dir, mib, seconds)),
        Load::Fork { seconds } => fork(seconds),
        Load::Storm { seconds, rate, kind } => storm(Duration::from_secs(seconds), rate, kind),
        Load::Fill { dir, leave_mib, seconds } => {
            in_new_folder(&dir, |dir| fill(dir, leave_mib, seconds))
        }
    }
}

/// Makes a folder for the load and removes it afterwards, also when the load fails.
fn in_new_folder(parent: &Path, load: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let dir = parent.join(format!("load-{}", std::process::id()));
    fs::create_dir(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let result = load(&dir);
    fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    result
}

/// One line of `/proc/meminfo`, in MiB.
fn meminfo_mib(name: &str) -> Result<u64> {
    let text = fs::read_to_string("/proc/meminfo").context("cannot read /proc/meminfo")?;
    let line = text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'));
    let kib = line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok());
    kib.map(|k| k / 1024).with_context(|| format!("/proc/meminfo has no {name}"))
}

fn touched_chunk() -> Vec<u8> {
    let mut chunk = vec![0; 16 * MIB];
    for page in chunk.chunks_mut(PAGE) {
        page[0] = 1;
    }
    chunk
}

fn hold(leave_mib: u64, seconds: u64, safety_mib: u64) -> Result<()> {
    fs::write("/proc/self/oom_score_adj", "1000")
        .context("cannot offer itself to the OOM killer")?;
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut held: Vec<Vec<u8>> = Vec::new();
    while Instant::now() < end {
        let available = meminfo_mib("MemAvailable")?;
        if available < safety_mib {
            held.truncate(held.len().saturating_sub(8));
        } else if available > leave_mib + 32 {
            held.push(touched_chunk());
            continue;
        }
        std::thread::sleep(Duration::from_millis(500));
    }
    println!("held {} MiB at the end", held.len() * 16);
    Ok(())
}

fn files(dir: &Path, count: u32, keep_every: u32, hold_seconds: u64) -> Result<()> {
    let path = |n: u32| dir.join(format!("{}/{n}", n % 512));
    for n in 0..512 {
        fs::create_dir(dir.join(n.to_string()))?;
    }
    for n in 0..count {
        fs::write(path(n), n.to_string())?;
    }
    let mut bytes = 0;
    for n in 0..count {
        bytes += fs::metadata(path(n))?.len();
        if n % keep_every != 0 {
            fs::remove_file(path(n))?;
        }
    }
    println!("{count} files, {bytes} bytes");
    std::thread::sleep(Duration::from_secs(hold_seconds));
    Ok(())
}

fn cache(dir: &Path, mib: u32, seconds: u64) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(seconds);
    let block = vec![0x5a; MIB];
    let mut rounds = 0;
    while Instant::now() < end {
        for n in 0..mib.div_ceil(64) {
            let mut file = fs::File::create(dir.join(n.to_string()))?;
            for _ in 0..64 {
                file.write_all(&block)?;
            }
        }
        let mut back = vec![0; MIB];
        for entry in fs::read_dir(dir)? {
            let mut file = fs::File::open(entry?.path())?;
            while file.read(&mut back)? > 0 {}
        }
        for entry in fs::read_dir(dir)? {
            fs::remove_file(entry?.path())?;
        }
        rounds += 1;
    }
    println!("{rounds} rounds of {mib} MiB");
    Ok(())
}

fn fork(seconds: u64) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut started = 0u64;
    while Instant::now() < end {
        let mut children = Vec::new();
        for _ in 0..32 {
            children.push(Command::new("true").spawn().context("cannot start `true`")?);
        }
        for mut child in children {
            if !child.wait()?.success() {
                bail!("a child failed");
            }
            started += 1;
        }
    }
    println!("{started} processes");
    Ok(())
}

/// Bytes of the sparse file; reading starts over at its end.
const SPARSE_BYTES: u64 = 256 << 30;

fn fill(dir: &Path, leave_mib: u64, seconds: u64) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(seconds);
    let path = dir.join("sparse");
    fs::File::create(&path)?.set_len(SPARSE_BYTES)?;
    let mut file = fs::File::open(&path)?;
    // Single pages: reading ahead in large folios would keep reclaim and compaction busy with
    // making large blocks, and memory would not stay full.
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::Random)?;
    let mut block = vec![0; MIB];
    let mut blocks = 0u64;
    while Instant::now() < end {
        if meminfo_mib("MemFree")? <= leave_mib {
            std::thread::sleep(Duration::from_millis(200));
            continue;
        }
        for _ in 0..16 {
            if file.read(&mut block)? == 0 {
                file.rewind()?;
            }
            blocks += 1;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    println!("read {blocks} MiB of holes");
    Ok(())
}

/// Storms on each CPU and prints how many events there were.
fn storm(time: Duration, rate: Option<f64>, kind: StormKind) -> Result<()> {
    let cpus = std::thread::available_parallelism()?.get();
    let (begun, each) = (Instant::now(), rate.map(|rate| rate / cpus as f64));
    let events: u64 = std::thread::scope(|scope| {
        let run = || storm_on_one_cpu(kind, each, begun, time);
        let threads: Vec<_> = (0..cpus).map(|_| scope.spawn(run)).collect();
        let joined = threads.into_iter().map(|thread| thread.join().expect("a storm"));
        joined.sum::<Result<u64>>()
    })?;
    eprintln!("{:.0} events/s", events as f64 / begun.elapsed().as_secs_f64());
    Ok(())
}

/// Events of one thread, which waits where it is ahead of `rate`.
fn storm_on_one_cpu(
    kind: StormKind,
    rate: Option<f64>,
    begun: Instant,
    time: Duration,
) -> Result<u64> {
    let mut buffer = vec![0; MIB];
    let (mut reader, mut writer) = std::io::pipe()?;
    rustix::pipe::fcntl_setpipe_size(&writer, MIB)?;
    let mut events = 0;
    while begun.elapsed() < time {
        match kind {
            StormKind::Touch => touch_fresh_pages(MIB)?,
            StormKind::Pipe => {
                writer.write_all(&buffer)?;
                reader.read_exact(&mut buffer)?;
            }
        }
        // Each page is allocated and freed.
        events += 2 * (MIB / PAGE) as u64;
        let due = rate.map(|rate| Duration::from_secs_f64(events as f64 / rate));
        std::thread::sleep(due.unwrap_or_default().saturating_sub(begun.elapsed()));
    }
    Ok(events)
}
