//! Files that take rights to open, or that show less to those without: opened once, with rights,
//! and read through these descriptors ever after.
//!
//! | file | who may open it | who is shown addresses |
//! |---|---|---|
//! | `/proc/kpageflags`, `/proc/pagetypeinfo` | root, or `CAP_DAC_READ_SEARCH` | |
//! | `/proc/iomem` | everybody | whoever opened it with `CAP_SYS_ADMIN` |
//! | `/proc/kallsyms` | everybody | whoever opened it with `CAP_SYSLOG` |

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

const PATHS: [&str; 4] =
    ["/proc/kpageflags", "/proc/pagetypeinfo", "/proc/iomem", "/proc/kallsyms"];

/// Bytes read at once.
const PIECE_BYTES: usize = 64 << 10;

static HELD: OnceLock<Vec<(&str, Arc<File>)>> = OnceLock::new();

/// Opens them for the rest of this process. What can't be opened now is tried when it is needed,
/// and then says why.
pub fn hold() {
    HELD.get_or_init(|| {
        let open = |path: &'static str| Some((path, Arc::new(File::open(path).ok()?)));
        PATHS.into_iter().filter_map(open).collect()
    });
}

/// The held file of this name, if it is one. Its position is shared: only to be read at offsets.
fn find(path: &Path) -> Option<Arc<File>> {
    let (_, file) = HELD.get()?.iter().find(|(held, _)| Path::new(held) == path)?;
    Some(Arc::clone(file))
}

/// The file at `path`, held or opened now; only to be read at offsets.
///
/// # Errors
/// As of [`File::open`].
pub fn open(path: &str) -> io::Result<Arc<File>> {
    match find(Path::new(path)) {
        Some(held) => Ok(held),
        None => File::open(path).map(Arc::new),
    }
}

/// All of the file at `path`, held or not.
///
/// One thread at a time reads a held file: the kernel makes up the text of such a file as it is
/// read, and for an offset other than where the last read ended it begins again from the first
/// line. Two threads that take turns would do so for each page of it (over 30 s of CPU
/// for `/proc/kallsyms`).
///
/// # Errors
/// As of [`std::fs::read`].
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    static TURN: Mutex<()> = Mutex::new(());
    let Some(file) = find(path) else { return std::fs::read(path) };
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut bytes = Vec::new();
    loop {
        let begin = bytes.len();
        bytes.resize(begin + PIECE_BYTES, 0);
        match file.read_at(&mut bytes[begin..], begin as u64) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => bytes.truncate(begin),
            read => {
                let read = read?;
                bytes.truncate(begin + read);
                if read == 0 {
                    return Ok(bytes);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_file_reads_as_the_file_does_to_several_at_once() {
        hold();
        for path in ["/proc/iomem", "/proc/kallsyms"].map(Path::new) {
            assert!(find(path).is_some());
            let expected = std::fs::read(path).unwrap();
            let alike = || (0..2).all(|_| read(path).unwrap() == expected);
            std::thread::scope(|scope| {
                for reader in [scope.spawn(alike), scope.spawn(alike)] {
                    assert!(reader.join().unwrap(), "{path:?}");
                }
            });
        }
        assert!(find(Path::new("/proc/meminfo")).is_none());
    }
}
