//! The protocols of the free path: how a free reaches the lists of the CPU that owns its
//! pageblock.
//!
//! `spb-allocator` 3.1 and its history. The allocator follows them (setting `free_path`), and
//! `fragscope-replay locks` searches them for deadlocks.

use std::fmt;

/// How a free reaches the lists of the CPU that owns the page's pageblock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// Tasks wait for the owner's lock (v1 patch 02). Interrupts try. This can deadlock.
    Blocking,
    /// Everybody tries the owner's lock; the zone takes what finds it busy (v1 patch 03).
    TrylockZone,
    /// The own lock is tried; other owners get the page on a lock-free list (v2 patch 03).
    LocalTrylockRemoteLlist,
}

impl Protocol {
    /// All of them, oldest first.
    pub const ALL: [Protocol; 3] =
        [Protocol::Blocking, Protocol::TrylockZone, Protocol::LocalTrylockRemoteLlist];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Protocol::Blocking => "blocking",
            Protocol::TrylockZone => "trylock-zone",
            Protocol::LocalTrylockRemoteLlist => "local-trylock-remote-llist",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
