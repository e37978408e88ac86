//! Names of cgroups: each id is told once, before the first context that has it.
//!
//! The id of a cgroup (v2) is the inode of its directory. A new one is looked for in the whole
//! tree, so that is done at most once a second; a group that was removed before keeps its id only.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use fragscope_trace::event::{SideEvent, SideKind, TimeNs};

/// Id of the root, which is mounted or not.
const ROOT: u64 = 1;
/// Time between two walks of the tree.
const WALK_EVERY_NS: TimeNs = 1_000_000_000;
/// Groups that are looked at in a walk; what lies beyond keeps its id.
const GROUPS_MAX: usize = 1 << 14;

/// Paths of cgroups by id, and which are told.
#[derive(Debug, Default)]
pub struct Cgroups {
    /// Where the tree is mounted, if it is.
    mount: Option<PathBuf>,
    paths: HashMap<u64, String>,
    told: HashSet<u64>,
    walked_ns: TimeNs,
}

impl Cgroups {
    /// The groups of this host.
    #[must_use]
    pub fn of_host() -> Cgroups {
        Cgroups { mount: mount_of_host(), ..Cgroups::default() }
    }

    /// A `Cgroup` event that must come before this context if its group was not told yet.
    pub fn resolve(&mut self, event: &SideEvent) -> Option<SideEvent> {
        let SideKind::Context { cgroup, .. } = event.kind else { return None };
        if cgroup == 0 || self.told.contains(&cgroup) {
            return None;
        }
        let path = self.path(cgroup, event.time_ns)?;
        self.told.insert(cgroup);
        let kind = SideKind::Cgroup { id: cgroup, path };
        Some(SideEvent { time_ns: event.time_ns, cpu: None, kind })
    }

    fn path(&mut self, id: u64, now_ns: TimeNs) -> Option<String> {
        if id == ROOT {
            return Some("/".to_owned());
        }
        let is_due = self.paths.is_empty() || now_ns >= self.walked_ns + WALK_EVERY_NS;
        if !self.paths.contains_key(&id) && is_due {
            self.walked_ns = now_ns;
            self.paths = self.mount.as_deref().map(walk).unwrap_or_default();
        }
        self.paths.get(&id).cloned()
    }
}

/// Where this host's tree is mounted, if it is.
#[must_use]
pub fn mount_of_host() -> Option<PathBuf> {
    mount_point(&fs::read_to_string("/proc/self/mountinfo").unwrap_or_default())
}

/// Where `mountinfo` says that cgroup2 is mounted.
fn mount_point(mountinfo: &str) -> Option<PathBuf> {
    let of = |line: &str| {
        let (mount, kind) = line.split_once(" - ")?;
        let is_cgroup2 = kind.split(' ').next() == Some("cgroup2");
        is_cgroup2.then(|| mount.split(' ').nth(4).map(PathBuf::from))?
    };
    mountinfo.lines().find_map(of)
}

/// All groups below a mount point, by the inodes of their directories.
fn walk(mount: &Path) -> HashMap<u64, String> {
    let mut paths = HashMap::new();
    let mut left = vec![mount.to_owned()];
    while let Some(directory) = left.pop() {
        let Ok(entries) = fs::read_dir(&directory) else { continue };
        let groups = entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir()));
        for group in groups {
            let (path, Ok(metadata)) = (group.path(), group.metadata()) else { continue };
            let name = path.strip_prefix(mount).unwrap_or(&path).display();
            paths.insert(metadata.ino(), format!("/{name}"));
            if paths.len() >= GROUPS_MAX {
                return paths;
            }
            left.push(path);
        }
    }
    paths
}

#[cfg(test)]
mod tests {
    use fragscope_trace::gfp::Gfp;
    use fragscope_trace::page::Pfn;

    use super::*;

    const MOUNTS: &str = "\
30 23 0:26 / /sys/fs/cgroup/cpu rw,relatime shared:5 - cgroup cgroup rw,cpu
31 23 0:27 / /sys/fs/cgroup/unified rw,nosuid shared:6 - cgroup2 cgroup2 rw,nsdelegate
";

    fn context(time_ns: TimeNs, cgroup: u64) -> SideEvent {
        let kind = SideKind::Context {
            pfn: Pfn(1),
            order: 0,
            gfp: Gfp::KERNEL,
            pid: 1,
            comm: "make".into(),
            cgroup,
            stack: 0,
        };
        SideEvent { time_ns, cpu: None, kind }
    }

    #[test]
    fn the_tree_of_version_2_is_found() {
        assert_eq!(mount_point(MOUNTS), Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(mount_point("30 23 0:26 / /sys/fs/cgroup rw - cgroup cgroup rw,cpu"), None);
    }

    #[test]
    fn a_group_is_told_once_and_before_its_context() {
        let tree = tempfile::tempdir().unwrap();
        let group = tree.path().join("system.slice/build.service");
        fs::create_dir_all(&group).unwrap();
        let id = fs::metadata(&group).unwrap().ino();
        let mount = Some(tree.path().to_owned());
        let mut cgroups = Cgroups { mount, ..Cgroups::default() };
        let told = cgroups.resolve(&context(5, id)).expect("a new group");
        let path = "/system.slice/build.service".to_owned();
        assert_eq!((told.time_ns, told.kind), (5, SideKind::Cgroup { id, path }));
        assert_eq!(cgroups.resolve(&context(6, id)), None);
        assert_eq!(cgroups.resolve(&context(6, 0)), None);
        let late = tree.path().join("late");
        fs::create_dir(&late).unwrap();
        let id = fs::metadata(&late).unwrap().ino();
        assert_eq!(cgroups.resolve(&context(7, id)), None, "the tree was walked just now");
        assert!(cgroups.resolve(&context(5 + WALK_EVERY_NS, id)).is_some());
        let root = cgroups.resolve(&context(8, ROOT)).map(|e| e.kind);
        assert_eq!(root, Some(SideKind::Cgroup { id: ROOT, path: "/".into() }));
    }
}
