//! Names, sizes and offsets of the running kernel's types, from its BTF.
//!
//! aya reads BTF too, but keeps offsets of members to itself. This module knows the format and
//! answers questions by name; which types and members matter is the matter of
//! `snapshot::layout`.

mod parse;

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::Path;

use parse::{Kind, Members, TypeRecord};
use thiserror::Error;

/// Where the kernel shows its BTF.
pub const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";

/// Typedefs of typedefs and arrays of arrays, at most; the kernel's deepest are 4.
const NESTING_MAX: u32 = 32;
/// Anonymous members, within each other or not, that one search enters.
const ANONYMOUS_MAX: usize = 1000;

/// Why BTF could not be read, or lacks a name.
#[derive(Debug, Error)]
pub enum BtfError {
    /// The file could not be read.
    #[error("cannot read the kernel's BTF at {path}: {source} (needs CONFIG_DEBUG_INFO_BTF)")]
    Io {
        /// Which file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The bytes do not begin as little-endian BTF does.
    #[error("not little-endian BTF version 1: found magic {magic:#06x}, version {version}")]
    Header {
        /// First two bytes; BTF has 0xeb9f.
        magic: u16,
        /// Third byte.
        version: u8,
    },
    /// A section or record reaches beyond the bytes that hold it.
    #[error("BTF is cut off or damaged: {what} at byte {at} needs {need} bytes, {have} are left")]
    Truncated {
        /// What was being read.
        what: &'static str,
        /// Offset from the start.
        at: usize,
        /// Bytes it needs.
        need: usize,
        /// Bytes there are.
        have: usize,
    },
    /// A record of a kind that was added after this reader was written; its length is unknown.
    #[error("BTF type {id} has the unknown kind {kind}")]
    UnknownKind {
        /// Number of the type.
        id: u32,
        /// Its kind.
        kind: u8,
    },
    /// No struct, union or enum has this name.
    #[error("this kernel's BTF has no {what} {name}")]
    NoType {
        /// Struct or enum.
        what: &'static str,
        /// The name asked for.
        name: String,
    },
    /// The type has no such member or enumerator.
    #[error("this kernel's {type_name} has no {member}")]
    NoMember {
        /// The type asked for.
        type_name: String,
        /// The member asked for.
        member: String,
    },
}

/// A member of a struct, with anonymous structs and unions resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Bits from the start of the struct.
    pub bit_offset: u32,
    /// Its type.
    type_id: u32,
}

/// The type information of one kernel.
#[derive(Debug)]
pub struct Btf {
    bytes: Vec<u8>,
    strings: std::ops::Range<usize>,
    types: Vec<TypeRecord>,
    /// Defined structs and unions by name; of several with one name, the first.
    structs: HashMap<Box<str>, u32>,
    /// Named enums.
    enums: HashMap<Box<str>, u32>,
}

impl Btf {
    /// Reads the running kernel's BTF.
    ///
    /// # Errors
    /// If the file is absent or damaged.
    pub fn of_kernel() -> Result<Btf, BtfError> {
        Btf::read(Path::new(KERNEL_BTF))
    }

    /// Reads BTF from a file.
    ///
    /// # Errors
    /// If it cannot be read or is not BTF.
    pub fn read(path: &Path) -> Result<Btf, BtfError> {
        let shown = || path.display().to_string();
        let bytes = std::fs::read(path).map_err(|source| BtfError::Io { path: shown(), source })?;
        Btf::parse(bytes)
    }

    /// Reads BTF from memory.
    ///
    /// # Errors
    /// If the bytes are not well-formed BTF.
    pub fn parse(bytes: Vec<u8>) -> Result<Btf, BtfError> {
        let (types, strings) = parse::tables(&bytes)?;
        let mut btf = Btf { bytes, strings, types, structs: HashMap::new(), enums: HashMap::new() };
        btf.index();
        Ok(btf)
    }

    /// Fills the tables of names.
    fn index(&mut self) {
        let (mut structs, mut enums) = (HashMap::new(), HashMap::new());
        for (id, record) in self.types.iter().enumerate() {
            let table = match record.kind {
                Kind::Struct | Kind::Union => &mut structs,
                Kind::Enum | Kind::Enum64 => &mut enums,
                _ => continue,
            };
            let name = self.string(record.name);
            if !name.is_empty() {
                table.entry(name.into()).or_insert(id as u32);
            }
        }
        (self.structs, self.enums) = (structs, enums);
    }

    /// Size of a struct or union in bytes.
    ///
    /// # Errors
    /// If there is none of this name.
    pub fn size_of(&self, name: &str) -> Result<u64, BtfError> {
        let id = self.struct_id(name)?;
        Ok(u64::from(self.types[id as usize].size_or_type))
    }

    /// Byte offset of a member; `path` descends through named members: `lru.next`.
    ///
    /// # Errors
    /// If the struct or one of the members does not exist.
    pub fn offset_of(&self, name: &str, path: &str) -> Result<u64, BtfError> {
        Ok(u64::from(self.member(name, path)?.bit_offset / 8))
    }

    /// Size of a member in bytes.
    ///
    /// # Errors
    /// As [`Btf::offset_of`].
    pub fn member_size(&self, name: &str, path: &str) -> Result<u64, BtfError> {
        let member = self.member(name, path)?;
        self.type_size(member.type_id, 0).ok_or_else(|| no_member(name, path))
    }

    /// Number of elements of a member that is an array.
    ///
    /// # Errors
    /// As [`Btf::offset_of`], or if it is no array.
    pub fn member_len(&self, name: &str, path: &str) -> Result<u32, BtfError> {
        let member = self.member(name, path)?;
        let record = &self.types[self.strip(member.type_id) as usize];
        match record.array(&self.bytes) {
            Some(array) if record.kind == Kind::Array => Ok(array.elements),
            _ => Err(no_member(name, &format!("array {path}"))),
        }
    }

    /// Value of an enumerator.
    ///
    /// # Errors
    /// If there is no such enum or enumerator.
    pub fn enum_value(&self, name: &str, enumerator: &str) -> Result<i64, BtfError> {
        let all = self.enumerators(name)?;
        let found = all.into_iter().find(|(n, _)| n == enumerator);
        found.map(|(_, value)| value).ok_or_else(|| no_member(name, enumerator))
    }

    /// Enumerators of an enum, in the order of their definition.
    ///
    /// # Errors
    /// If there is no enum of this name.
    pub fn enumerators(&self, name: &str) -> Result<Vec<(String, i64)>, BtfError> {
        let none = || BtfError::NoType { what: "enum", name: name.to_owned() };
        let id = *self.enums.get(name).ok_or_else(none)?;
        let record = &self.types[id as usize];
        let named = |(name, value)| (self.string(name).to_owned(), value);
        Ok(record.enumerators(&self.bytes).map(named).collect())
    }

    fn struct_id(&self, name: &str) -> Result<u32, BtfError> {
        let none = || BtfError::NoType { what: "struct", name: name.to_owned() };
        self.structs.get(name).copied().ok_or_else(none)
    }

    /// Finds a member by its dotted path.
    fn member(&self, name: &str, path: &str) -> Result<Member, BtfError> {
        let mut at = Member { bit_offset: 0, type_id: self.struct_id(name)? };
        for part in path.split('.') {
            let found = self.member_of(at.type_id, part, &mut HashSet::new());
            let found = found.ok_or_else(|| no_member(name, path))?;
            at = Member {
                bit_offset: at.bit_offset.saturating_add(found.bit_offset),
                type_id: found.type_id,
            };
        }
        Ok(at)
    }

    /// Finds a direct member, or one inside anonymous members. A type that was `seen` does not have
    /// it; so each is looked at once, even where damaged types hold each other.
    fn member_of(&self, type_id: u32, wanted: &str, seen: &mut HashSet<u32>) -> Option<Member> {
        let type_id = self.strip(type_id);
        if seen.len() > ANONYMOUS_MAX || !seen.insert(type_id) {
            return None;
        }
        self.members(type_id).find_map(|(name, member)| match self.string(name) {
            found if found == wanted => Some(member),
            "" => {
                let inner = self.member_of(member.type_id, wanted, seen)?;
                let bit_offset = member.bit_offset.saturating_add(inner.bit_offset);
                Some(Member { bit_offset, ..inner })
            }
            _ => None,
        })
    }

    fn members(&self, type_id: u32) -> Members<'_> {
        self.types[type_id as usize].members(&self.bytes)
    }

    /// Follows typedefs and qualifiers. Unknown or circular references end at type 0 (void).
    fn strip(&self, mut type_id: u32) -> u32 {
        for _ in 0..NESTING_MAX {
            let Some(record) = self.types.get(type_id as usize) else { return 0 };
            match record.kind {
                Kind::Alias => type_id = record.size_or_type,
                _ => return type_id,
            }
        }
        0
    }

    /// Size of a type in bytes, where it has one.
    fn type_size(&self, type_id: u32, depth: u32) -> Option<u64> {
        let record = self.types.get(self.strip(type_id) as usize)?;
        match record.kind {
            Kind::Sized | Kind::Struct | Kind::Union | Kind::Enum | Kind::Enum64 => {
                Some(u64::from(record.size_or_type))
            }
            Kind::Pointer => Some(8),
            Kind::Array if depth < NESTING_MAX => {
                let array = record.array(&self.bytes)?;
                let element = self.type_size(array.element_type, depth + 1)?;
                element.checked_mul(u64::from(array.elements))
            }
            _ => None,
        }
    }

    /// The string at an offset in the string table; empty where it is damaged.
    fn string(&self, offset: u32) -> &str {
        let table = &self.bytes[self.strings.clone()];
        let tail = table.get(offset as usize..).unwrap_or_default();
        let end = tail.iter().position(|b| *b == 0).unwrap_or(0);
        std::str::from_utf8(&tail[..end]).unwrap_or_default()
    }
}

fn no_member(type_name: &str, member: &str) -> BtfError {
    BtfError::NoMember { type_name: type_name.to_owned(), member: member.to_owned() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Builds BTF by hand: what the tests compare the reader with.
    #[derive(Default)]
    struct Builder {
        types: Vec<u8>,
        strings: Vec<u8>,
        count: u32,
    }

    impl Builder {
        fn new() -> Builder {
            Builder { strings: vec![0], ..Builder::default() }
        }

        fn name(&mut self, name: &str) -> u32 {
            if name.is_empty() {
                return 0;
            }
            let at = self.strings.len() as u32;
            self.strings.extend_from_slice(name.as_bytes());
            self.strings.push(0);
            at
        }

        fn record(&mut self, name: &str, kind: u32, vlen: u32, size: u32, tail: &[u32]) -> u32 {
            let name = self.name(name);
            for word in [name, kind << 24 | vlen, size].iter().chain(tail) {
                self.types.extend_from_slice(&word.to_le_bytes());
            }
            self.count += 1;
            self.count
        }

        /// Members are (name, type, byte offset).
        fn structure(&mut self, name: &str, size: u32, members: &[(&str, u32, u32)]) -> u32 {
            let tail: Vec<u32> =
                members.iter().flat_map(|(n, t, o)| [self.name(n), *t, *o * 8]).collect();
            self.record(name, 4, members.len() as u32, size, &tail)
        }

        fn bytes(&self) -> Vec<u8> {
            let (types, strings) = (self.types.len() as u32, self.strings.len() as u32);
            let mut out = 0xeb9fu16.to_le_bytes().to_vec();
            out.extend([1, 0]);
            for word in [24, 0, types, types, strings] {
                out.extend_from_slice(&u32::to_le_bytes(word));
            }
            out.extend_from_slice(&self.types);
            out.extend_from_slice(&self.strings);
            out
        }
    }

    fn sample() -> Builder {
        let mut b = Builder::new();
        let long = b.record("long", 1, 0, 8, &[64]);
        let alias = b.record("word_t", 8, 0, long, &[]);
        let inner = b.structure("", 16, &[("first", alias, 0), ("second", long, 8)]);
        let list = b.structure("list_head", 16, &[("next", long, 0), ("prev", long, 8)]);
        let array = b.record("", 3, 0, 0, &[list, long, 3]);
        let members = [("flags", long, 0), ("", inner, 8), ("lists", array, 24)];
        b.structure("page", 72, &members);
        let (a, z) = (b.name("PGTY_a"), b.name("PGTY_z"));
        b.record("pagetype", 6, 2, 4, &[a, 0xf0, z, u32::MAX]);
        b
    }

    #[test]
    fn members_are_found_through_anonymous_ones_and_typedefs() {
        let btf = Btf::parse(sample().bytes()).unwrap();
        assert_eq!(btf.size_of("page").unwrap(), 72);
        assert_eq!(btf.offset_of("page", "second").unwrap(), 16);
        assert_eq!(btf.member_size("page", "first").unwrap(), 8);
        assert_eq!(btf.member_size("page", "lists").unwrap(), 48);
        assert_eq!(btf.member_len("page", "lists").unwrap(), 3);
        assert_eq!(btf.enum_value("pagetype", "PGTY_a").unwrap(), 0xf0);
    }

    #[test]
    fn what_is_missing_is_named() {
        let btf = Btf::parse(sample().bytes()).unwrap();
        let text = |r: Result<u64, BtfError>| r.unwrap_err().to_string();
        assert_eq!(text(btf.offset_of("page", "third")), "this kernel's page has no third");
        assert_eq!(text(btf.size_of("folio")), "this kernel's BTF has no struct folio");
        assert_eq!(
            btf.enum_value("zone_type", "X").unwrap_err().to_string(),
            "this kernel's BTF has no enum zone_type"
        );
    }

    /// Asks everything that can be asked; only the absence of a panic matters.
    fn exercise(btf: &Btf) {
        for name in btf.structs.keys() {
            let _ = (btf.size_of(name), btf.offset_of(name, "second"));
            let _ = (btf.member_size(name, "lists"), btf.member_len(name, "lists"));
        }
        for name in btf.enums.keys() {
            let _ = btf.enumerators(name);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_give_an_error_or_a_table(bytes: Vec<u8>) {
            if let Ok(btf) = Btf::parse(bytes) {
                exercise(&btf);
            }
        }

        /// Mutations of well-formed BTF reach the deeper parts.
        #[test]
        fn damaged_btf_never_panics(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut bytes = sample().bytes();
            for (at, value) in changes {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            bytes.truncate(cut.index(bytes.len() * 4).max(1));
            if let Ok(btf) = Btf::parse(bytes) {
                exercise(&btf);
            }
        }
    }

    #[test]
    fn types_that_hold_themselves_are_searched_once() {
        let mut b = sample();
        let own = b.count + 1;
        b.structure("page_like", 8, &[("", own, 0), ("", own, 0), ("", own, 0), ("x", own, 0)]);
        let btf = Btf::parse(b.bytes()).unwrap();
        assert_eq!(btf.offset_of("page_like", "x").unwrap(), 0);
        assert!(btf.offset_of("page_like", "y").is_err());
    }

    #[test]
    fn an_empty_section_behind_the_end_is_refused() {
        let mut bytes = Builder::new().bytes();
        bytes[8..12].copy_from_slice(&63u32.to_le_bytes());
        let error = Btf::parse(bytes).map(drop).unwrap_err();
        assert!(matches!(error, BtfError::Truncated { at: 87, need: 0, have: 0, .. }), "{error}");
    }

    #[test]
    fn the_running_kernel_is_readable() {
        if !Path::new(KERNEL_BTF).exists() {
            println!("skipped: this kernel shows no BTF");
            return;
        }
        let btf = Btf::of_kernel().unwrap();
        assert_eq!(btf.size_of("list_head").unwrap(), 16);
        assert_eq!(btf.offset_of("list_head", "prev").unwrap(), 8);
        assert_eq!(btf.enum_value("migratetype", "MIGRATE_MOVABLE").unwrap(), 1);
    }
}
