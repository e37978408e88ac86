//! What a trace says of the names of processes and cgroups: themselves, hashes, or nothing.
//!
//! A hash tells apart and says no more: it is keyed with a random number that is made for the
//! session and kept nowhere, so that nobody can try names.

use fragscope_trace::event::SideKind;
use ring::hmac;
use ring::rand::SystemRandom;

/// Bytes of a hash that are shown.
const SHOWN_BYTES: usize = 8;

/// What becomes of names.
#[derive(Clone, Debug, Default)]
pub enum Names {
    /// They are recorded.
    #[default]
    Keep,
    /// A hash of each is recorded.
    Hash(hmac::Key),
    /// They are left out. Numbers of processes and cgroups stay.
    Omit,
}

impl Names {
    /// Hashes with a key that is forgotten with this value.
    ///
    /// # Errors
    /// If the kernel gives no random numbers.
    pub fn hashed() -> Result<Names, ring::error::Unspecified> {
        Ok(Names::Hash(hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())?))
    }

    /// Whether a command line may be recorded as it is.
    #[must_use]
    pub fn are_kept(&self) -> bool {
        matches!(self, Names::Keep)
    }

    /// The event as it may be recorded; `None` if nothing of it is left.
    #[must_use]
    pub fn admit(&self, mut kind: SideKind) -> Option<SideKind> {
        match (&mut kind, self) {
            (SideKind::Context { comm, .. }, Names::Hash(key)) => *comm = hash(key, comm),
            (SideKind::Context { comm, .. }, Names::Omit) => comm.clear(),
            (SideKind::Cgroup { path, .. }, Names::Hash(key)) => *path = hash_path(key, path),
            (SideKind::Cgroup { .. }, Names::Omit) => return None,
            _ => {}
        }
        Some(kind)
    }
}

/// `#` and sixteen hexadecimal digits.
fn hash(key: &hmac::Key, name: &str) -> String {
    let tag = hmac::sign(key, name.as_bytes());
    let digits = tag.as_ref().iter().take(SHOWN_BYTES).map(|byte| format!("{byte:02x}"));
    std::iter::once("#".to_owned()).chain(digits).collect()
}

/// Name by name, so that groups of one parent are seen to be such.
fn hash_path(key: &hmac::Key, path: &str) -> String {
    let hashed = |name: &str| if name.is_empty() { String::new() } else { hash(key, name) };
    path.split('/').map(hashed).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use fragscope_trace::gfp::Gfp;
    use fragscope_trace::page::Pfn;

    use super::*;

    fn context(comm: &str) -> SideKind {
        SideKind::Context {
            pfn: Pfn(1),
            order: 0,
            gfp: Gfp::KERNEL,
            pid: 7,
            comm: comm.to_owned(),
            cgroup: 3,
            stack: 0,
        }
    }

    fn cgroup(path: &str) -> SideKind {
        SideKind::Cgroup { id: 3, path: path.to_owned() }
    }

    fn comm(kind: Option<SideKind>) -> String {
        let Some(SideKind::Context { comm, .. }) = kind else { panic!("{kind:?}") };
        comm
    }

    #[test]
    fn kept_names_stay_and_omitted_ones_go() {
        assert_eq!(Names::Keep.admit(context("make")), Some(context("make")));
        assert_eq!(Names::Keep.admit(cgroup("/a/b")), Some(cgroup("/a/b")));
        assert_eq!(Names::Omit.admit(context("make")), Some(context("")));
        assert_eq!(Names::Omit.admit(cgroup("/a/b")), None);
    }

    #[test]
    fn hashes_tell_apart_within_a_session_only() {
        let names = Names::hashed().unwrap();
        let of = |name| comm(names.admit(context(name)));
        assert_eq!(of("make"), of("make"));
        assert_ne!(of("make"), of("cc1"));
        assert_eq!(of("make").len(), 1 + 2 * SHOWN_BYTES);
        assert_ne!(of("make"), comm(Names::hashed().unwrap().admit(context("make"))));
    }

    #[test]
    fn hashed_groups_keep_their_tree() {
        let names = Names::hashed().unwrap();
        let of = |path| match names.admit(cgroup(path)) {
            Some(SideKind::Cgroup { path, .. }) => path,
            other => panic!("{other:?}"),
        };
        let (one, two) = (of("/system.slice/a"), of("/system.slice/b"));
        assert_eq!(one.rsplit_once('/').unwrap().0, two.rsplit_once('/').unwrap().0);
        assert_ne!(one, two);
        assert_eq!(of("/"), "/");
        assert!(!one.contains("slice"));
    }
}
