//! Which system calls a confined thread may make: those of reading, writing, memory and threads.
//! All others fail with `EPERM`.

use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch, apply_filter,
};

use super::{Needs, SandboxError};

/// Allowed whatever their arguments.
const ALWAYS: &[c_long] = &[
    // Files that are open, and what can be learned of files.
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_lseek,
    libc::SYS_close,
    libc::SYS_dup,
    libc::SYS_fcntl,
    libc::SYS_ioctl,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_sync_file_range,
    libc::SYS_fadvise64,
    libc::SYS_fallocate,
    libc::SYS_ftruncate,
    libc::SYS_fstat,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_statx,
    libc::SYS_newfstatat,
    libc::SYS_fstatfs,
    libc::SYS_statfs,
    libc::SYS_getdents64,
    libc::SYS_readlink,
    libc::SYS_readlinkat,
    libc::SYS_access,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_getcwd,
    // Connections that came in, and sockets made before.
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_shutdown,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_wait,
    libc::SYS_epoll_pwait,
    libc::SYS_eventfd2,
    libc::SYS_pipe2,
    // Memory, but for code (see `rules`).
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    // Threads, time and signals of this process.
    libc::SYS_futex,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_getpriority,
    libc::SYS_setpriority,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_gettimeofday,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_set_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_rseq,
    libc::SYS_membarrier,
    libc::SYS_getcpu,
    libc::SYS_wait4,
    libc::SYS_waitid,
    libc::SYS_exit,
    libc::SYS_exit_group,
    // What this process is.
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getrandom,
    libc::SYS_getrusage,
    libc::SYS_getrlimit,
    libc::SYS_sysinfo,
    libc::SYS_uname,
    // Answered by the other filter.
    libc::SYS_clone3,
];

/// Commands of `bpf` on what is loaded: look up, update, delete, next key, test run, info, look up
/// many. Nothing is loaded or attached.
const BPF_COMMANDS: [u64; 7] = [1, 2, 3, 4, 10, 15, 24];

/// Flags of `open` that change files, or make them.
const OPEN_TO_WRITE: u64 =
    (libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC | libc::O_APPEND) as u64;

/// Both filters, compiled.
#[derive(Debug)]
pub(super) struct Filter {
    /// Says of `clone3` that there is no such call: its flags are out of a filter's sight, and C
    /// libraries then use `clone`.
    no_clone3: BpfProgram,
    allowed: BpfProgram,
}

impl Filter {
    pub(super) fn new(needs: &Needs) -> Result<Filter, SandboxError> {
        let arch: TargetArch = std::env::consts::ARCH.try_into()?;
        let absent = SeccompAction::Errno(libc::ENOSYS as u32);
        let refused = SeccompAction::Errno(libc::EPERM as u32);
        let clone3 = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
        let no_clone3 = SeccompFilter::new(clone3, SeccompAction::Allow, absent, arch)?;
        let allowed = SeccompFilter::new(rules(needs)?, refused, SeccompAction::Allow, arch)?;
        Ok(Filter { no_clone3: no_clone3.try_into()?, allowed: allowed.try_into()? })
    }

    /// Confines the calling thread; sets `no_new_privs`, too.
    pub(super) fn enter(&self) -> Result<(), SandboxError> {
        apply_filter(&self.no_clone3)?;
        Ok(apply_filter(&self.allowed)?)
    }
}

/// One condition on one argument.
fn on(argument: u8, op: SeccompCmpOp, value: u64) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Qword, op, value)
}

fn rule(argument: u8, op: SeccompCmpOp, value: u64) -> Result<SeccompRule, BackendError> {
    SeccompRule::new(vec![on(argument, op, value)?])
}

fn rules(needs: &Needs) -> Result<BTreeMap<c_long, Vec<SeccompRule>>, BackendError> {
    use SeccompCmpOp::{Eq, MaskedEq};
    let mut rules: BTreeMap<c_long, Vec<SeccompRule>> =
        ALWAYS.iter().map(|call| (*call, Vec::new())).collect();
    // No memory that can be executed.
    let no_code = || rule(2, MaskedEq(libc::PROT_EXEC as u64), 0);
    rules.insert(libc::SYS_mmap, vec![no_code()?]);
    rules.insert(libc::SYS_mprotect, vec![no_code()?]);
    // Threads, but no processes.
    let thread = libc::CLONE_THREAD as u64;
    rules.insert(libc::SYS_clone, vec![rule(0, MaskedEq(thread), thread)?]);
    let bpf: Result<_, _> = BPF_COMMANDS.iter().map(|command| rule(0, Eq, *command)).collect();
    rules.insert(libc::SYS_bpf, bpf?);
    rules.insert(libc::SYS_prctl, vec![rule(0, Eq, libc::PR_SET_NAME as u64)?]);
    // Limits may be asked for, not set.
    rules.insert(libc::SYS_prlimit64, vec![rule(2, Eq, 0)?]);
    // How a program aborts.
    rules.insert(libc::SYS_tgkill, vec![rule(0, Eq, u64::from(std::process::id()))?]);
    if needs.signals {
        rules.insert(libc::SYS_kill, Vec::new());
    }
    let writes = !needs.write_in.is_empty();
    let read_only = |argument| rule(argument, MaskedEq(OPEN_TO_WRITE), 0);
    rules.insert(libc::SYS_openat, if writes { Vec::new() } else { vec![read_only(2)?] });
    rules.insert(libc::SYS_open, if writes { Vec::new() } else { vec![read_only(1)?] });
    if writes {
        let renames = [libc::SYS_rename, libc::SYS_renameat, libc::SYS_renameat2];
        rules.extend(renames.map(|call| (call, Vec::new())));
    }
    if writes || !needs.remove_in.is_empty() {
        rules.extend([libc::SYS_unlink, libc::SYS_unlinkat].map(|call| (call, Vec::new())));
    }
    Ok(rules)
}
