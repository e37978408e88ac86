//! A file that is written from its beginning to its end and takes little of the page cache.
//!
//! What a recorder writes nobody reads soon, and the pages that hold it would push out those of the
//! host that is observed. So every so many bytes the kernel is asked to write them out, and to
//! forget those before, which are on disk by then.

#![expect(unsafe_code, reason = "sync_file_range is a call of the C library")]

use std::fs::File;
use std::io::{self, Seek as _, Write};
use std::num::NonZeroU64;
use std::os::fd::AsRawFd as _;

use fragscope_trace::page::PAGE_SIZE;
use rustix::fs::{Advice, fadvise};

/// Bytes after which the kernel is asked. Of twice as many pages may be in the cache.
const CHUNK_BYTES: u64 = 1 << 20;

/// The file. Every write reaches the kernel before it returns, so that nothing is lost with the
/// process.
#[derive(Debug)]
pub(super) struct DiskFile {
    file: File,
    /// End of what was written.
    written: u64,
    /// End of what the kernel was asked to write out.
    started: u64,
    /// End of what it was asked to forget.
    forgotten: u64,
    /// Whether there is a page cache to spare; not for pipes.
    bounded: bool,
}

impl DiskFile {
    /// Writes to `file` from where it stands.
    pub(super) fn new(mut file: File) -> DiskFile {
        let bounded = file.metadata().is_ok_and(|m| m.is_file());
        let at = if bounded { file.stream_position().unwrap_or(0) } else { 0 };
        let at = at.next_multiple_of(PAGE_SIZE);
        DiskFile { file, written: at, started: at, forgotten: at, bounded }
    }

    /// Whether it is a file on a disk or the like, and no pipe.
    pub(super) fn is_file(&self) -> bool {
        self.bounded
    }

    fn bound_cache(&mut self) -> io::Result<()> {
        let end = self.written - self.written % PAGE_SIZE;
        if !self.bounded || end < self.started + CHUNK_BYTES {
            return Ok(());
        }
        sync_range(&self.file, self.started, end, libc::SYNC_FILE_RANGE_WRITE)?;
        if let Some(bytes) = NonZeroU64::new(self.started - self.forgotten) {
            let wait = libc::SYNC_FILE_RANGE_WAIT_BEFORE
                | libc::SYNC_FILE_RANGE_WRITE
                | libc::SYNC_FILE_RANGE_WAIT_AFTER;
            sync_range(&self.file, self.forgotten, self.started, wait)?;
            fadvise(&self.file, self.forgotten, Some(bytes), Advice::DontNeed)?;
            self.forgotten = self.started;
        }
        self.started = end;
        Ok(())
    }
}

impl Write for DiskFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.written += written as u64;
        match self.bound_cache() {
            Ok(()) => {}
            // An error of writing out is one of the file; others say that it has no such cache.
            Err(error) if error.raw_os_error() == Some(libc::EIO) => return Err(error),
            Err(error) if error.kind() == io::ErrorKind::StorageFull => return Err(error),
            Err(error) => {
                log::info!("the output may stay in the page cache: {error}");
                self.bounded = false;
            }
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn sync_range(file: &File, from: u64, to: u64, flags: libc::c_uint) -> io::Result<()> {
    let (offset, bytes) = (from as i64, (to - from) as i64);
    // SAFETY: the descriptor is open as long as `file`; the call touches no memory of ours.
    match unsafe { libc::sync_file_range(file.as_raw_fd(), offset, bytes, flags) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use std::ptr::null_mut;

    use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

    use super::*;

    /// Pages of the file that are in memory, without touching any.
    fn resident_pages(file: &File) -> usize {
        let bytes = file.metadata().unwrap().len() as usize;
        let mut pages = vec![0u8; bytes.div_ceil(PAGE_SIZE as usize)];
        // SAFETY: a fresh mapping that is never accessed and removed at once; the vector has a byte
        // for each of its pages.
        unsafe {
            let at = mmap(null_mut(), bytes, ProtFlags::READ, MapFlags::SHARED, file, 0).unwrap();
            assert_eq!(libc::mincore(at, bytes, pages.as_mut_ptr()), 0);
            munmap(at, bytes).unwrap();
        }
        pages.iter().filter(|page| **page & 1 == 1).count()
    }

    /// Beside this program, because a file in memory has nowhere else to be.
    fn file() -> File {
        let program = std::env::current_exe().unwrap();
        tempfile::tempfile_in(program.parent().unwrap()).unwrap()
    }

    #[test]
    fn what_was_written_long_ago_is_not_in_memory() {
        let file = file();
        let mut disk = DiskFile::new(file.try_clone().unwrap());
        let chunk = vec![7u8; 100_000];
        for _ in 0..240 {
            disk.write_all(&chunk).unwrap();
        }
        if !disk.bounded {
            eprintln!("skipped: this file system has no page cache to spare");
            return;
        }
        assert_eq!(file.metadata().unwrap().len(), 24_000_000);
        let most = 3 * CHUNK_BYTES as usize / PAGE_SIZE as usize;
        let resident = resident_pages(&file);
        assert!(resident <= most, "{resident} pages, expected at most {most}");
    }

    #[test]
    fn a_pipe_is_written_as_it_is() {
        let (reader, writer) = std::io::pipe().unwrap();
        let mut disk = DiskFile::new(File::from(std::os::fd::OwnedFd::from(writer)));
        disk.write_all(b"frames").unwrap();
        assert!(!disk.is_file());
        drop(disk);
        assert_eq!(std::io::read_to_string(reader).unwrap(), "frames");
    }
}
