//! Loading of the BPF programs, and what the kernel admits of them.
//!
//! * [`tracefs`], [`format`](mod@format): classic tracepoints and their layouts;
//! * [`calibrate`]: where the kernel keeps its struct pages;
//! * [`host`]: what else the programs must be told of this kernel;
//! * [`rights`]: whether this process may trace;
//! * [`tracer`]: the loaded and attached programs;
//! * [`memory`], [`pagemap`], [`counts`]: shared memory of maps.

pub mod calibrate;
pub mod clock;
pub mod counts;
pub mod format;
mod functions;
pub mod host;
mod late_close;
pub mod memory;
pub mod pagemap;
mod plan;
mod programs;
pub mod rights;
pub mod taint;
pub mod tracefs;
pub mod tracer;

/// Lets this process lock as much memory as BPF maps need. Kernels before 5.11 charge maps to this
/// limit; later ones do not look at it, so a failure is of no consequence there and shows up as a
/// failing load otherwise.
pub fn raise_memlock_limit() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let unlimited = Rlimit { current: None, maximum: None };
    if let Err(error) = setrlimit(Resource::Memlock, unlimited) {
        log::debug!("RLIMIT_MEMLOCK can't be raised: {error}");
    }
}
