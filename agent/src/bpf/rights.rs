//! Whether this process may trace, and what to say if not.

use std::path::PathBuf;

/// Bit numbers of capabilities.
const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

/// Names of the capabilities that this process lacks for loading tracing programs.
#[must_use]
pub fn missing_capabilities() -> Vec<&'static str> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    missing_of(effective_capabilities(&status).unwrap_or(0))
}

fn effective_capabilities(status: &str) -> Option<u64> {
    let hex = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(hex.trim(), 16).ok()
}

/// `CAP_SYS_ADMIN` stands for both others, as it did before Linux 5.8 split them off.
fn missing_of(effective: u64) -> Vec<&'static str> {
    let has = |bit: u32| effective >> bit & 1 == 1 || effective >> CAP_SYS_ADMIN & 1 == 1;
    let wanted = [(CAP_BPF, "CAP_BPF"), (CAP_PERFMON, "CAP_PERFMON")];
    wanted.into_iter().filter(|(bit, _)| !has(*bit)).map(|(_, name)| name).collect()
}

/// `kernel.perf_event_paranoid` from which on kernels of some distributions (Debian) let nobody but
/// `CAP_SYS_ADMIN` open events. Kernels without that rule know nothing above 2.
const PARANOID: i32 = 3;

/// Why a program may have been refused in spite of [`missing_capabilities`]; empty if nothing is known.
#[must_use]
pub fn suspicion() -> String {
    let level = std::fs::read_to_string("/proc/sys/kernel/perf_event_paranoid");
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    suspicion_of(
        level.ok().and_then(|level| level.trim().parse().ok()).unwrap_or(0),
        effective_capabilities(&status).unwrap_or(0),
    )
}

fn suspicion_of(paranoid: i32, effective: u64) -> String {
    if paranoid < PARANOID || effective >> CAP_SYS_ADMIN & 1 == 1 {
        return String::new();
    }
    format!(
        ". kernel.perf_event_paranoid is {paranoid}, with which kernels of some distributions \
         (Debian) want CAP_SYS_ADMIN besides: sysctl kernel.perf_event_paranoid=2"
    )
}

/// What to do about missing rights.
#[must_use]
pub fn remedy() -> String {
    let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("fragscope-agent"));
    format!(
        "Run as root, or: setcap cap_bpf,cap_perfmon,cap_sys_admin,cap_dac_read_search+ep {}",
        program.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sys_admin_stands_for_the_others() {
        assert_eq!(missing_of(1 << CAP_SYS_ADMIN), [""; 0]);
        assert_eq!(missing_of(1 << CAP_BPF), ["CAP_PERFMON"]);
        assert_eq!(missing_of(0), ["CAP_BPF", "CAP_PERFMON"]);
    }

    #[test]
    fn a_paranoid_kernel_is_suspected_only_without_sys_admin() {
        assert_eq!(suspicion_of(2, 0), "");
        assert_eq!(suspicion_of(3, 1 << CAP_SYS_ADMIN), "");
        let told = suspicion_of(3, 1 << CAP_BPF | 1 << CAP_PERFMON);
        assert!(told.ends_with("sysctl kernel.perf_event_paranoid=2"), "{told}");
    }

    #[test]
    fn the_effective_set_is_found() {
        assert_eq!(
            effective_capabilities("Name:\tx\nCapEff:\t000001ffffffffff\n"),
            Some((1 << 41) - 1)
        );
        assert_eq!(effective_capabilities("Name:\tx\n"), None);
    }
}
