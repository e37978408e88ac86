//! Loads: bounded work that makes the kernel's allocator do something in particular.

use std::fs;
use std::process::Command;
use std::ptr::null_mut;

use anyhow::{Context as _, Result, bail};
use fragscope_agent::bpf::memory::touch_fresh_pages;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous};

const MIB: usize = 1 << 20;
const PAGE: usize = 4096;
/// Memory with holes that is compacted.
const HOLES_MIB: usize = 256;
const FILES: usize = 3000;
const FORKS: usize = 40;
const GIGANTIC_TRIES: u32 = 4;
/// Memory that is left when movable pages fill the rest, and what of it unmovable pages take.
const LEFT_MIB: usize = 400;
const UNMOVABLE_MIB: usize = 200;

/// Runs the load `name`.
pub(crate) fn run(name: &str) -> Result<()> {
    match name {
        "nothing" => Ok(()),
        "mixed" => {
            touch_fresh_pages(64 * MIB)?;
            files()?;
            forks()?;
            compaction()
        }
        "gigantic" => gigantic(),
        "taint" => taint(),
        other => bail!("no load {other:?}"),
    }
}

/// Many small files, of which every other stays: slab, page cache, page tables.
pub(crate) fn files() -> Result<()> {
    fs::create_dir_all("/tmp/files")?;
    for number in 0..FILES {
        fs::write(format!("/tmp/files/{number}"), vec![1; 100 + number % 9000])?;
    }
    for number in (0..FILES).step_by(2) {
        fs::remove_file(format!("/tmp/files/{number}"))?;
    }
    Ok(())
}

/// Processes that end at once: page tables, and kernel stacks, which come in bulk.
pub(crate) fn forks() -> Result<()> {
    for _ in 0..FORKS {
        Command::new("/init").arg("nothing").status()?;
    }
    Ok(())
}

/// Leaves every other page of some memory, and lets the kernel move the rest together.
pub(crate) fn compaction() -> Result<()> {
    let bytes = HOLES_MIB * MIB;
    let rights = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a fresh mapping at an address of the kernel's choice.
    let at = unsafe { mmap_anonymous(null_mut(), bytes, rights, MapFlags::PRIVATE) }?;
    // SAFETY: the mapping just made, which nothing refers to; it stays until the process ends.
    unsafe {
        madvise(at, bytes, Advice::LinuxNoHugepage)?;
        for page in 0..bytes / PAGE {
            at.cast::<u8>().add(page * PAGE).write_volatile(1);
        }
        for page in (0..bytes / PAGE).step_by(2) {
            madvise(at.cast::<u8>().add(page * PAGE).cast(), PAGE, Advice::LinuxDontNeed)?;
        }
    }
    fs::write("/proc/sys/vm/compact_memory", "1").context("cannot compact")
}

/// Asks for one page of 1 GiB, a few times if need be, and gives it back. Prints how many there were.
fn gigantic() -> Result<()> {
    const POOL: &str = "/sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages";
    let mut granted = String::new();
    for _ in 0..GIGANTIC_TRIES {
        fs::write(POOL, "1").context("cannot ask for a page of 1 GiB")?;
        granted = fs::read_to_string(POOL)?;
        if granted.trim() != "0" {
            break;
        }
        // Slabs that stand in the way may go.
        fs::write("/proc/sys/vm/drop_caches", "2")?;
    }
    println!("{}", granted.trim());
    fs::write(POOL, "0")?;
    Ok(())
}

/// Fills memory with movable pages but for a little, and then pipes with unmovable ones, which have to
/// go where none were.
fn taint() -> Result<()> {
    let available = meminfo("MemAvailable:")?;
    let bytes = available.saturating_sub(LEFT_MIB * MIB);
    let rights = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a fresh mapping at an address of the kernel's choice.
    let at = unsafe { mmap_anonymous(null_mut(), bytes, rights, MapFlags::PRIVATE) }?;
    // SAFETY: the mapping just made, which nothing refers to; it stays until the process ends.
    unsafe {
        madvise(at, bytes, Advice::LinuxHugepage)?;
        for page in 0..bytes / PAGE {
            at.cast::<u8>().add(page * PAGE).write_volatile(1);
        }
    }
    let mut pipes = Vec::new();
    for _ in 0..UNMOVABLE_MIB {
        let (reader, writer) = rustix::pipe::pipe()?;
        rustix::pipe::fcntl_setpipe_size(&writer, MIB)?;
        let written = rustix::io::write(&writer, &vec![1; MIB])?;
        anyhow::ensure!(written == MIB, "a pipe took {written} bytes");
        pipes.push((reader, writer));
    }
    files()
}

/// A line of `/proc/meminfo`, in bytes.
fn meminfo(name: &str) -> Result<usize> {
    let text = fs::read_to_string("/proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)).context("no such line")?;
    let kib: usize = line.split_whitespace().next().context("no number")?.parse()?;
    Ok(kib << 10)
}
