//! The first process of a guest: runs the scenario that the kernel's command line names, puts what
//! came of it into memory that the host shares, and turns the machine off.
//!
//! Started with arguments it is a load instead, for `record -- COMMAND`.

#![expect(unsafe_code, reason = "shared memory of a device, and memory with holes")]

#[path = "../cpio.rs"]
#[expect(dead_code, reason = "a guest only packs files")]
mod cpio;
#[path = "../facts.rs"]
mod facts;
mod load;
mod scenario;
mod share;

use std::collections::BTreeMap;
use std::fs;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail};
use cpio::Archive;
use rustix::mount::{MountFlags, mount};
use rustix::system::{RebootCommand, reboot};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.get(1) {
        Some(name) => load::run(name),
        None => first_process(),
    }
}

fn first_process() -> Result<()> {
    let mut results = Results::default();
    let outcome = run(&mut results);
    let text = outcome.map_or_else(|error| format!("{error:#}"), |()| "done".to_owned());
    println!("guest: {text}");
    results.text("outcome", &text);
    if let Err(error) = share::hand_over(&results.archive.finish()) {
        println!("guest: nothing handed over: {error:#}");
    }
    reboot(RebootCommand::PowerOff).context("cannot power off")
}

fn run(results: &mut Results) -> Result<()> {
    for (kind, place) in [("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev")] {
        mount(kind, place, kind, MountFlags::empty(), None)
            .with_context(|| format!("cannot mount {kind}"))?;
    }
    let line = fs::read_to_string("/proc/cmdline")?;
    let words = line.split_whitespace().filter_map(|word| word.split_once('='));
    let words: BTreeMap<&str, &str> = words.collect();
    match words.get("fragscope.scenario").copied() {
        Some("version") => scenario::version(results, words.get("fragscope.agent")),
        Some("change") => scenario::change(results),
        Some("taint") => scenario::taint(results),
        other => bail!("no scenario {other:?}; known are version, change and taint"),
    }
}

/// What is handed over at the end.
#[derive(Default)]
struct Results {
    archive: Archive,
}

impl Results {
    fn text(&mut self, name: &str, text: &str) {
        self.archive.file(name, 0o644, text.as_bytes());
    }

    /// Keeps a file of the guest.
    fn keep(&mut self, name: &str, path: &str) -> Result<()> {
        let data = fs::read(path).with_context(|| format!("cannot read {path}"))?;
        self.archive.file(name, 0o644, &data);
        Ok(())
    }

    /// Runs a command to its end and keeps what it printed and its exit status.
    fn run(&mut self, name: &str, command: &mut Command) -> Result<()> {
        let started = start(name, command)?;
        self.finish(name, started)
    }

    /// The same for one that was started.
    fn finish(&mut self, name: &str, started: Child) -> Result<()> {
        let output = started.wait_with_output()?;
        self.archive.file(&format!("{name}.out"), 0o644, &output.stdout);
        self.archive.file(&format!("{name}.err"), 0o644, &output.stderr);
        self.text(&format!("{name}.status"), &output.status.to_string());
        Ok(())
    }
}

fn start(name: &str, command: &mut Command) -> Result<Child> {
    println!("guest: {name}, {}", fs::read_to_string("/proc/uptime")?.trim());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().with_context(|| format!("cannot run {command:?}"))
}
