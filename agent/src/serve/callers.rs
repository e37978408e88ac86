//! Which processes of this host may follow: by the credentials that the kernel vouches for.

#![expect(unsafe_code, reason = "SO_PEERGROUPS has no safe interface")]

use std::collections::BTreeSet;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;

use rustix::net::sockopt::socket_peercred;

/// Groups that a process may be in, at most (`NGROUPS_MAX`).
const GROUPS_MAX: usize = 65_536;

/// Users and groups that may follow, beside root and the user of this program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Callers {
    pub(super) uids: BTreeSet<u32>,
    pub(super) gids: BTreeSet<u32>,
}

/// Who is at the other end, as of when it connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Caller {
    pub(super) pid: i32,
    pub(super) uid: u32,
    /// Its group and its supplementary ones.
    pub(super) gids: Vec<u32>,
}

impl Caller {
    /// Asks the kernel.
    pub(super) fn of(stream: &UnixStream) -> io::Result<Caller> {
        let credentials = socket_peercred(stream)?;
        let mut gids = supplementary_groups(stream)?;
        gids.push(credentials.gid.as_raw());
        Ok(Caller {
            pid: credentials.pid.as_raw_nonzero().get(),
            uid: credentials.uid.as_raw(),
            gids,
        })
    }
}

impl std::fmt::Display for Caller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "process {} of user {}", self.pid, self.uid)
    }
}

impl Callers {
    /// Whether `caller` may follow an agent that runs as `own_uid`.
    pub(super) fn admit(&self, caller: &Caller, own_uid: u32) -> bool {
        caller.uid == 0
            || caller.uid == own_uid
            || self.uids.contains(&caller.uid)
            || caller.gids.iter().any(|gid| self.gids.contains(gid))
    }
}

/// First for a few groups, then for as many as the kernel says there are.
fn supplementary_groups(stream: &UnixStream) -> io::Result<Vec<u32>> {
    let mut groups = vec![0u32; 64];
    loop {
        let mut bytes = size_of_val(groups.as_slice()) as libc::socklen_t;
        // SAFETY: the kernel writes at most `bytes` bytes, all inside `groups`, and the length.
        let rc = unsafe {
            libc::getsockopt(
                stream.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut bytes,
            )
        };
        let found = bytes as usize / size_of::<u32>();
        if rc == 0 {
            groups.truncate(found);
            return Ok(groups);
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::ERANGE) || found > GROUPS_MAX {
            return Err(error);
        }
        groups.resize(found, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_vouches_for_this_very_process() {
        let (one, _other) = UnixStream::pair().unwrap();
        let caller = Caller::of(&one).unwrap();
        assert_eq!(caller.uid, rustix::process::geteuid().as_raw());
        assert_eq!(caller.pid, std::process::id() as i32);
        assert!(caller.gids.contains(&rustix::process::getegid().as_raw()));
    }

    #[test]
    fn only_root_the_own_user_and_those_allowed_are_admitted() {
        let callers = Callers { uids: [1000].into(), gids: [50, 60].into() };
        let admits =
            |uid, gids: &[u32]| callers.admit(&Caller { pid: 1, uid, gids: gids.to_vec() }, 990);
        assert!(admits(0, &[]) && admits(990, &[]) && admits(1000, &[]) && admits(1001, &[7, 60]));
        assert!(!admits(1001, &[7, 0]) && !admits(50, &[1000]));
    }
}
