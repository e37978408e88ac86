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
    fn the_effective_set_is_found() {
        assert_eq!(
            effective_capabilities("Name:\tx\nCapEff:\t000001ffffffffff\n"),
            Some((1 << 41) - 1)
        );
        assert_eq!(effective_capabilities("Name:\tx\n"), None);
    }
}
