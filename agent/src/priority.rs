//! Priorities of this process's threads, as nice values.
//!
//! On a busy machine a thread at the usual priority waits some tens of milliseconds for a CPU each
//! time that it wakes. Raising it takes `CAP_SYS_NICE`; without, threads stay as they are.

use rustix::process::{Pid, setpriority_process};

/// The highest.
pub const HIGHEST: i32 = -20;

/// Raises the calling thread to `nice`.
pub fn raise_this_thread(nice: i32) {
    raise(rustix::thread::gettid(), nice);
}

/// Raises the main thread. Processes that it starts inherit that.
pub fn raise_main_thread(nice: i32) {
    raise(rustix::process::getpid(), nice);
}

/// Raises all threads: for a program that must be out soon.
pub fn raise_all_threads(nice: i32) {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let ids = tasks.filter_map(|task| task.file_name().to_str()?.parse().ok());
    for thread in ids.filter_map(Pid::from_raw) {
        raise(thread, nice);
    }
}

/// On Linux a thread's id names that thread alone here.
fn raise(thread: Pid, nice: i32) {
    if let Err(error) = setpriority_process(Some(thread), nice) {
        log::debug!("a thread keeps its priority: {error}");
    }
}
