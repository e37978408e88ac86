//! Names of enumerations as tables spell them: those of the trace's JSON.

use fragscope_trace::event::{PageEventKind, Tags};
use fragscope_trace::page::{Content, Migratetype};
use fragscope_trace::region::RegionState;
use fragscope_trace::snapshot::{SnapshotRole, SnapshotSource};
use serde::Serialize;

use super::ExportError;

/// A value that tables name.
pub trait Named: Copy + PartialEq + 'static {
    /// All values with their names.
    const NAMES: &'static [(Self, &'static str)];

    /// Its name.
    fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(value, _)| *value == self).map_or("", |(_, name)| name)
    }

    /// The value of a name.
    fn of_name(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(_, known)| *known == name).map(|(value, _)| *value)
    }

    /// All names, to tell what was expected.
    fn names() -> String {
        Self::NAMES.iter().map(|(_, name)| *name).collect::<Vec<_>>().join(", ")
    }
}

macro_rules! named {
    ($($type:ident { $($value:ident = $name:literal),* $(,)? })*) => {$(
        impl Named for $type {
            const NAMES: &'static [(Self, &'static str)] = &[$(($type::$value, $name)),*];
        }
    )*};
}

/// For types of the trace that know all their values and their names.
macro_rules! named_by_the_trace {
    ($($type:ident),*) => {$(
        impl Named for $type {
            const NAMES: &'static [(Self, &'static str)] = &{
                let mut names = [($type::ALL[0], ""); $type::ALL.len()];
                let mut i = 0;
                while i < names.len() {
                    names[i] = ($type::ALL[i], $type::ALL[i].name());
                    i += 1;
                }
                names
            };
        }
    )*};
}

named_by_the_trace!(PageEventKind, RegionState);

named! {
    Migratetype {
        Unmovable = "unmovable",
        Movable = "movable",
        Reclaimable = "reclaimable",
        HighAtomic = "high_atomic",
        Cma = "cma",
        Isolate = "isolate",
    }
    Content {
        Absent = "absent",
        Reserved = "reserved",
        Free = "free",
        Pcp = "pcp",
        Movable = "movable",
        Anon = "anon",
        File = "file",
        MovableOps = "movable_ops",
        Pinned = "pinned",
        Slab = "slab",
        Reclaimable = "reclaimable",
        PageTable = "page_table",
        Kernel = "kernel",
        Hugetlb = "hugetlb",
        Gigantic = "gigantic",
        Isolated = "isolated",
        Offline = "offline",
        Unknown = "unknown",
    }
    SnapshotSource {
        StructPages = "struct_pages",
        KpageFlags = "kpageflags",
        Debugfs = "debugfs",
        Synthetic = "synthetic",
    }
    SnapshotRole {
        Opening = "opening",
        Interval = "interval",
        Closing = "closing",
        Standalone = "standalone",
    }
}

const TAGS: [(Tags, &str); 4] = [
    (Tags::OWN, "own"),
    (Tags::MIGRATION, "migration"),
    (Tags::LATE, "late"),
    (Tags::INFERRED, "inferred"),
];

/// Tags joined by `|`.
#[must_use]
pub fn tags_text(tags: Tags) -> String {
    let set = TAGS.iter().filter(|(tag, _)| tags.contains(*tag));
    set.map(|(_, name)| *name).collect::<Vec<_>>().join("|")
}

/// The tags of a text, or `None` if it names one that does not exist.
#[must_use]
pub fn tags_of(text: &str) -> Option<Tags> {
    let mut tags = Tags::empty();
    for name in text.split('|').filter(|name| !name.is_empty()) {
        tags |= TAGS.iter().find(|(_, known)| *known == name)?.0;
    }
    Some(tags)
}

/// A value that its JSON spells as one word.
pub(crate) fn json_name(value: &impl Serialize) -> Result<String, ExportError> {
    Ok(serde_json::to_value(value)?.as_str().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spelled_as_in_json<T: Named + serde::Serialize>(count: usize) {
        assert_eq!(T::NAMES.len(), count);
        for (value, name) in T::NAMES {
            assert_eq!(serde_json::to_value(value).unwrap(), *name);
            assert!(T::of_name(name) == Some(*value));
        }
    }

    #[test]
    fn names_are_those_of_the_traces_json() {
        spelled_as_in_json::<PageEventKind>(PageEventKind::ALL.len());
        spelled_as_in_json::<Migratetype>(Migratetype::COUNT);
        spelled_as_in_json::<Content>(Content::COUNT);
        spelled_as_in_json::<RegionState>(RegionState::ALL.len());
        spelled_as_in_json::<SnapshotSource>(4);
        spelled_as_in_json::<SnapshotRole>(4);
    }

    #[test]
    fn tags_come_back() {
        for bits in 0..16 {
            let tags = Tags::from_bits_truncate(bits);
            assert_eq!(tags_of(&tags_text(tags)), Some(tags));
        }
        assert_eq!(tags_of("own|lost"), None);
    }
}
