//! Programs on classic tracepoints that are left to the kernel to detach.
//!
//! Detaching a program from a classic tracepoint waits for grace periods of the kernel, 20 to 90 ms
//! on a busy machine, and a process that exits waits with it. Here only a map refers to the event
//! that the program is attached to. The map goes with this process, but the kernel frees maps, and
//! what they refer to, on a thread of its own. Until then the program runs, which is of no
//! consequence for one that is seldom run.

#![expect(unsafe_code, reason = "perf_event_open and the attaching of a program to an event")]

use std::fs;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::path::Path;

use aya::maps::{Array, Map, MapData, MapError};
use aya_obj::generated::bpf_map_type::BPF_MAP_TYPE_PERF_EVENT_ARRAY;
use aya_obj::generated::perf_type_id::PERF_TYPE_TRACEPOINT;
use libc::{c_int, c_ulong, pid_t};

/// `BPF_F_PRESERVE_ELEMS` of Linux 5.10: elements stay when the process that put them there closes
/// the map.
const PRESERVE_ELEMS: u32 = 1 << 11;
/// `PERF_ATTR_SIZE_VER0`: the attributes that every kernel knows, as words.
const ATTR_WORDS: usize = 8;
/// `PERF_FLAG_FD_CLOEXEC`.
const CLOSE_ON_EXEC: c_ulong = 1 << 3;
/// `PERF_EVENT_IOC_SET_BPF`.
const SET_BPF: libc::Ioctl = 0x4004_2408;

/// A program attached to a classic tracepoint. Dropping this detaches it some time later.
pub(crate) struct LateLink {
    _map: Array<MapData, u32>,
}

impl std::fmt::Debug for LateLink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LateLink")
    }
}

impl LateLink {
    /// Attaches a loaded program to `event` (`category/name`).
    ///
    /// # Errors
    /// If the kernel does not admit this. Then nothing is attached.
    pub(crate) fn attach(
        program: BorrowedFd<'_>,
        tracefs: &Path,
        event: &str,
    ) -> io::Result<LateLink> {
        let path = tracefs.join("events").join(event).join("id");
        let id = fs::read_to_string(path)?.trim().parse().map_err(io::Error::other)?;
        let event = open_event(id)?;
        let mut map = event_array().map_err(io::Error::other)?;
        map.set(0, event.as_raw_fd() as u32, 0).map_err(io::Error::other)?;
        // SAFETY: both descriptors are open; the kernel checks what they are.
        let rc = unsafe { libc::ioctl(event.as_raw_fd(), SET_BPF, program.as_raw_fd()) };
        if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(LateLink { _map: map }) }
    }
}

/// An array for one event. Its elements are set as descriptors, hence the type of an array of
/// numbers.
fn event_array() -> Result<Array<MapData, u32>, MapError> {
    let kind = BPF_MAP_TYPE_PERF_EVENT_ARRAY as u32;
    let map = aya_obj::Map::new_from_params(kind, 4, 4, 1, PRESERVE_ELEMS);
    Array::try_from(Map::Array(MapData::create(map, "late_link", None)?))
}

/// An event on the tracepoint `id`. It is one of the first CPU, but programs run on all.
fn open_event(id: u64) -> io::Result<OwnedFd> {
    let mut attributes = [0u64; ATTR_WORDS];
    let size = size_of_val(&attributes) as u64;
    attributes[0] = PERF_TYPE_TRACEPOINT as u64 | size << 32;
    attributes[1] = id;
    let (any_process, first_cpu, no_group): (pid_t, c_int, c_int) = (-1, 0, -1);
    // SAFETY: the attributes are as long as they say, and only read.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            attributes.as_ptr(),
            any_process,
            first_cpu,
            no_group,
            CLOSE_ON_EXEC,
        )
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel gave this descriptor to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}
