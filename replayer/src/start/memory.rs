//! Whether this host has the memory that tracks of a machine take.
//!
//! Tables are address space until their pages are touched, and a start state touches them for
//! every page that a snapshot names. A host that cannot give that memory would kill the process,
//! or another one, so the tracks are refused before.

use std::fs;
use std::path::Path;

use fragscope_trace::page::Content;
use fragscope_trace::snapshot::Snapshot;

use crate::mm::allocator::BuildError;

/// What the kernel track keeps of 64 pages, in bytes.
const KERNEL_BYTES: u64 = 332;
/// What a policy's track keeps of 64 pages: 16 bytes of each, and a pageblock's part.
const POLICY_BYTES: u64 = 1034;
/// What the rest of the process may take; a need smaller than that is not worth asking for.
const REST_BYTES: u64 = 256 << 20;

/// Refuses tracks for which there is no memory: the kernel's and so many of policies at once.
/// Where the host does not say how much there is, they may try.
///
/// # Errors
/// [`BuildError::Memory`].
pub fn check(snapshot: &Snapshot, policies: usize) -> Result<(), BuildError> {
    let there = |content: Content| content != Content::Absent;
    let runs = snapshot.runs.iter().filter(|run| there(run.content)).map(|run| run.pages);
    let pages = runs.fold(0, u64::saturating_add);
    // Asking takes longer than a small replay.
    let available = (needed_bytes(pages, policies) >= REST_BYTES).then(available_bytes);
    compare(pages, policies, available.flatten())
}

fn needed_bytes(pages: u64, policies: usize) -> u64 {
    let of_64 = (policies as u64).saturating_mul(POLICY_BYTES).saturating_add(KERNEL_BYTES);
    (pages / 64 + 1).saturating_mul(of_64)
}

fn compare(pages: u64, policies: usize, available: Option<u64>) -> Result<(), BuildError> {
    let need_bytes = needed_bytes(pages, policies);
    match available {
        Some(available_bytes) if need_bytes.saturating_add(REST_BYTES) > available_bytes => {
            Err(BuildError::Memory {
                need_bytes,
                pages,
                policies,
                available_bytes,
                one_bytes: needed_bytes(pages, 1),
            })
        }
        _ => Ok(()),
    }
}

/// Memory that this process can still get: what the host has, and what its control groups leave.
/// `None` where the host does not say.
#[must_use]
pub fn available_bytes() -> Option<u64> {
    let host = meminfo_available(&fs::read_to_string("/proc/meminfo").ok()?)?;
    let groups = fs::read_to_string("/proc/self/cgroup").ok();
    let group = groups.as_deref().and_then(own_group).map(Path::new);
    let left = group.into_iter().flat_map(Path::ancestors).filter_map(left_bytes);
    Some(left.fold(host, u64::min))
}

/// `MemAvailable` of `/proc/meminfo`.
fn meminfo_available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// The process's group in the unified hierarchy.
fn own_group(groups: &str) -> Option<&str> {
    groups.lines().find_map(|line| line.strip_prefix("0::/"))
}

/// What a group's limit leaves; `None` where it has none.
fn left_bytes(group: &Path) -> Option<u64> {
    let read = |file: &str| -> Option<u64> {
        let path = Path::new("/sys/fs/cgroup").join(group).join(file);
        fs::read_to_string(path).ok()?.trim().parse().ok()
    };
    let (limit, used) = (read("memory.max")?, read("memory.current")?);
    Some(limit.saturating_sub(used))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIB_PAGES: u64 = 1 << 28;

    #[test]
    fn what_fits_is_not_refused() {
        // 4 TiB: 16.16 + 5.19 bytes of each of 2^30 pages.
        let need = needed_bytes(4 * TIB_PAGES, 1);
        assert_eq!(need >> 20, 21_856, "MiB");
        assert_eq!(compare(4 * TIB_PAGES, 1, Some(need + REST_BYTES)), Ok(()));
        assert_eq!(compare(4 * TIB_PAGES, 1, None), Ok(()));
        assert!(compare(4 * TIB_PAGES, 1, Some(need + REST_BYTES - 1)).is_err());
    }

    #[test]
    fn a_refusal_says_what_is_needed_found_and_possible() {
        let refusal = compare(4 * TIB_PAGES, 2, Some(24 << 30)).expect_err("too little");
        let text = refusal.to_string();
        for part in ["37.5 GiB", "24.0 GiB", "1073741824 pages", "2 policies", "21.3 GiB"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn figures_of_the_host_are_read() {
        let meminfo = "MemTotal:       24000000 kB\nMemAvailable:   12000000 kB\n";
        assert_eq!(meminfo_available(meminfo), Some(12_000_000 << 10));
        assert_eq!(meminfo_available("MemTotal: 1 kB\n"), None);
        assert_eq!(own_group("1:name=systemd:/a\n0::/user.slice/b\n"), Some("user.slice/b"));
        assert_eq!(own_group("1:name=systemd:/a\n"), None);
    }

    #[test]
    fn needs_grow_with_pages_and_tracks_and_never_wrap() {
        assert!(needed_bytes(TIB_PAGES, 1) < needed_bytes(TIB_PAGES, 2));
        assert!(needed_bytes(TIB_PAGES, 1) < needed_bytes(2 * TIB_PAGES, 1));
        assert_eq!(needed_bytes(u64::MAX, usize::MAX), u64::MAX);
    }
}
