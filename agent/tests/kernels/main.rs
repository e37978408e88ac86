//! The agent on other kernels than this host's, in guests under software emulation.
//!
//! Each guest boots Debian's kernel into `guest`, which records under load with the agent; the
//! recordings are checked here. What the kernels differ in is in `docs/KERNELS.md`.
//!
//! ```text
//! agent/tests/kernels/fetch
//! cargo test -p fragscope-agent --test kernels -- --ignored
//! ```
//!
//! With `FRAGSCOPE_KEEP=FOLDER` the results of each guest stay there.

mod change;
mod cpio;
mod documented;
mod facts;
#[path = "../live/makers.rs"]
mod makers;
mod model;
mod programs;
mod qemu;
mod recording;
mod taint;
mod version;

use qemu::{Guest, Kernel};

/// A machine with room for pages of 1 GiB.
const PLAIN: [&str; 2] = ["-m", "5G"];

fn check_version(series: &'static str) {
    let guest = Guest::boot(&Kernel::of(series), "version", &PLAIN);
    version::check(&guest.results(), series);
}

/// Two nodes with a CPU each, and room for more memory.
const CHANGING: [&str; 10] = [
    "-m",
    "2G,slots=2,maxmem=4G",
    "-object",
    "memory-backend-ram,id=first,size=1G",
    "-object",
    "memory-backend-ram,id=second,size=1G",
    "-numa",
    "node,nodeid=0,memdev=first,cpus=0",
    "-numa",
    "node,nodeid=1,memdev=second,cpus=1",
];

/// Half a GiB for the second node.
const MORE_MEMORY: [&str; 2] = [
    r#"{"execute":"object-add","arguments":{"qom-type":"memory-backend-ram","id":"more","size":536870912}}"#,
    r#"{"execute":"device_add","arguments":{"driver":"pc-dimm","id":"dimm","memdev":"more","node":1}}"#,
];

fn check_change(series: &'static str) {
    let mut guest = Guest::boot(&Kernel::of(series), "change", &CHANGING);
    guest.await_line("guest: @memory");
    guest.commands(&MORE_MEMORY);
    change::check(&guest.results(), series);
}

fn check_taint(series: &'static str) {
    let guest = Guest::boot(&Kernel::of(series), "taint", &PLAIN);
    taint::check(&guest.results(), series);
}

#[test]
#[ignore = "boots a virtual machine: needs qemu-system-x86 and agent/tests/kernels/fetch"]
fn linux_6_1() {
    check_version("6.1");
}

#[test]
#[ignore = "boots a virtual machine: needs qemu-system-x86 and agent/tests/kernels/fetch"]
fn linux_6_12() {
    check_version("6.12");
}

#[test]
#[ignore = "boots a virtual machine: needs qemu-system-x86 and agent/tests/kernels/fetch"]
fn linux_6_1_changing() {
    check_change("6.1");
}

#[test]
#[ignore = "boots a virtual machine: needs qemu-system-x86 and agent/tests/kernels/fetch"]
fn linux_6_12_changing() {
    check_change("6.12");
}

#[test]
#[ignore = "boots a virtual machine: needs qemu-system-x86 and agent/tests/kernels/fetch"]
fn linux_6_12_tainted() {
    check_taint("6.12");
}
