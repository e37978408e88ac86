//! Names and ages of the files of a recording that goes on in further files.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Digits of a number in a name; larger numbers have more.
const DIGITS: usize = 4;

/// How many files stay.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Retention {
    /// So many.
    pub(super) files: Option<u32>,
    /// Those that were written within this time.
    pub(super) age: Option<Duration>,
}

/// The folder that `path` is in.
pub(super) fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Files with the names `NAME.0001.fst`, `NAME.0002.fst`, and so on, for `NAME.fst`.
#[derive(Debug)]
pub(super) struct Parts {
    folder: PathBuf,
    stem: String,
    extension: Option<String>,
    next: u64,
}

impl Parts {
    /// The files beside `path`. Numbers go on after those that are there.
    pub(super) fn beside(path: &Path) -> io::Result<Parts> {
        let text = |part: Option<&std::ffi::OsStr>| part.map(|p| p.to_string_lossy().into_owned());
        let folder = folder_of(path);
        let stem = text(path.file_stem())
            .ok_or_else(|| io::Error::other(format!("{} names no file", path.display())))?;
        let mut parts = Parts { folder, stem, extension: text(path.extension()), next: 1 };
        parts.next = parts.found()?.last().map_or(1, |(number, _)| number + 1);
        Ok(parts)
    }

    /// The name of the next file.
    pub(super) fn next_path(&self) -> PathBuf {
        let (stem, number) = (&self.stem, self.next);
        let name = match &self.extension {
            Some(extension) => format!("{stem}.{number:0DIGITS$}.{extension}"),
            None => format!("{stem}.{number:0DIGITS$}"),
        };
        self.folder.join(name)
    }

    /// Takes the next name as used.
    pub(super) fn advance(&mut self) {
        self.next += 1;
    }

    /// Removes what `retention` does not keep. The newest file always stays.
    pub(super) fn prune(&self, retention: Retention, now: SystemTime) -> io::Result<()> {
        let found = self.found()?;
        let old = |path: &Path| {
            let age = retention.age?;
            let written = fs::metadata(path).and_then(|m| m.modified()).ok()?;
            Some(now.duration_since(written).ok()? > age)
        };
        let surplus = retention.files.map_or(0, |n| found.len().saturating_sub(n as usize));
        let last = found.len().saturating_sub(1);
        for (at, (_, path)) in found[..last].iter().enumerate() {
            if at < surplus || old(path) == Some(true) {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    /// The files that are there, by number.
    fn found(&self) -> io::Result<Vec<(u64, PathBuf)>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            if let Some(number) = self.number_of(&path) {
                found.push((number, path));
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    /// The number in the name of one of these files; `None` for any other.
    fn number_of(&self, path: &Path) -> Option<u64> {
        let name = path.file_name()?.to_str()?;
        let rest = name.strip_prefix(&self.stem)?.strip_prefix('.')?;
        let digits = match &self.extension {
            Some(extension) => rest.strip_suffix(extension)?.strip_suffix('.')?,
            None => rest,
        };
        let is_number = digits.len() >= DIGITS && digits.bytes().all(|b| b.is_ascii_digit());
        if is_number { digits.parse().ok() } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<String> =
            entries.map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    fn touch(folder: &Path, list: &[&str]) {
        for name in list {
            fs::write(folder.join(name), "x").unwrap();
        }
    }

    #[test]
    fn numbers_go_on_and_other_files_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let others = ["a.fst", "a.1.fst", "a.0007.txt", "b.0009.fst", "a.000x.fst"];
        touch(dir.path(), &others);
        touch(dir.path(), &["a.0001.fst", "a.0002.fst", "a.0003.fst"]);
        let mut parts = Parts::beside(&dir.path().join("a.fst")).unwrap();
        assert_eq!(parts.next_path(), dir.path().join("a.0004.fst"));
        touch(dir.path(), &["a.0004.fst"]);
        parts.advance();
        assert_eq!(parts.next_path(), dir.path().join("a.0005.fst"));
        let two = Retention { files: Some(2), age: None };
        parts.prune(two, SystemTime::now()).unwrap();
        let mut expected: Vec<&str> = others.to_vec();
        expected.extend(["a.0003.fst", "a.0004.fst"]);
        expected.sort_unstable();
        assert_eq!(names(dir.path()), expected);
    }

    #[test]
    fn what_is_too_old_goes_but_for_the_newest() {
        let dir = tempfile::tempdir().unwrap();
        touch(dir.path(), &["a.0001", "a.0002"]);
        let parts = Parts::beside(&dir.path().join("a")).unwrap();
        let hour = Retention { files: None, age: Some(Duration::from_secs(3600)) };
        parts.prune(hour, SystemTime::now()).unwrap();
        assert_eq!(names(dir.path()).len(), 2);
        parts.prune(hour, SystemTime::now() + Duration::from_secs(3700)).unwrap();
        assert_eq!(names(dir.path()), ["a.0002"]);
        assert_eq!(parts.next_path(), dir.path().join("a.0003"));
    }
}
