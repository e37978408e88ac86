//! Archives in cpio's "newc" format: what a kernel unpacks as its first file system, and how results
//! leave a guest.

use std::collections::{BTreeMap, BTreeSet};

const MAGIC: &[u8] = b"070701";
const TRAILER: &str = "TRAILER!!!";
/// Magic and 13 numbers of eight hexadecimal digits.
const HEADER_BYTES: usize = 6 + 13 * 8;
const FOLDER: u32 = 0o040_755;
const FILE: u32 = 0o100_000;
const CHARACTERS: u32 = 0o020_600;

/// An archive in the making. Folders come by themselves, each before what is in it.
#[derive(Default)]
pub(crate) struct Archive {
    bytes: Vec<u8>,
    entries: u32,
    folders: BTreeSet<String>,
}

impl Archive {
    /// Adds a file with the permissions `mode`.
    pub(crate) fn file(&mut self, path: &str, mode: u32, data: &[u8]) {
        self.folders_of(path);
        self.entry(path, FILE | mode, (0, 0), data);
    }

    /// Adds a character device.
    pub(crate) fn device(&mut self, path: &str, major: u32, minor: u32) {
        self.folders_of(path);
        self.entry(path, CHARACTERS, (major, minor), &[]);
    }

    /// Adds an empty folder.
    pub(crate) fn folder(&mut self, path: &str) {
        self.folders_of(path);
        if self.folders.insert(path.to_owned()) {
            self.entry(path, FOLDER, (0, 0), &[]);
        }
    }

    fn folders_of(&mut self, path: &str) {
        if let Some((parent, _)) = path.rsplit_once('/').filter(|(parent, _)| !parent.is_empty()) {
            self.folder(parent);
        }
    }

    fn entry(&mut self, path: &str, mode: u32, device: (u32, u32), data: &[u8]) {
        let name = path.trim_start_matches('/');
        self.entries += 1;
        let size = u32::try_from(data.len()).expect("a file below 4 GiB");
        let name_bytes = name.len() as u32 + 1;
        let numbers =
            [self.entries, mode, 0, 0, 1, 0, size, 0, 0, device.0, device.1, name_bytes, 0];
        self.bytes.extend_from_slice(MAGIC);
        for number in numbers {
            self.bytes.extend_from_slice(format!("{number:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.align();
        self.bytes.extend_from_slice(data);
        self.align();
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// The whole archive.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.entry(TRAILER, 0, (0, 0), &[]);
        self.bytes
    }
}

/// Files of an archive by path; `None` if it is damaged or has no end.
pub(crate) fn unpack(mut bytes: &[u8]) -> Option<BTreeMap<String, Vec<u8>>> {
    let mut files = BTreeMap::new();
    loop {
        let header = bytes.strip_prefix(MAGIC)?.get(..HEADER_BYTES - MAGIC.len())?;
        let number = |index: usize| {
            let digits = std::str::from_utf8(header.get(index * 8..index * 8 + 8)?).ok()?;
            u32::from_str_radix(digits, 16).ok()
        };
        let (mode, size, name_bytes) = (number(1)?, number(6)? as usize, number(11)? as usize);
        let data_at = (HEADER_BYTES + name_bytes).next_multiple_of(4);
        let name = bytes.get(HEADER_BYTES..HEADER_BYTES + name_bytes.checked_sub(1)?)?;
        let name = String::from_utf8(name.to_vec()).ok()?;
        if name == TRAILER {
            return Some(files);
        }
        let data = bytes.get(data_at..data_at + size)?;
        if mode & FILE == FILE {
            files.insert(name, data.to_vec());
        }
        bytes = bytes.get((data_at + size).next_multiple_of(4)..)?;
    }
}
