//! The programs of the free path: how each protocol frees, allocates, drains, and takes a CPU
//! offline and online.
//!
//! `spb-allocator` 2.3, 3.1, 3.3, 3.4, 3.6.

use super::program::{Cpu, IrqsOff, List, LockId, Op, Page, Program, Reached};
use super::state::Level;
use crate::mm::free_path::Protocol;

/// How owned pageblocks leave the list of a CPU that went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Teardown {
    /// Each entry by itself.
    Detach,
    /// Only the head is re-initialised.
    ReinitHead,
}

/// Who runs a program: the protocol in force, and where.
#[derive(Clone, Copy, Debug)]
pub struct Runner {
    /// The protocol.
    pub protocol: Protocol,
    /// The CPU that runs.
    pub cpu: Cpu,
    /// What runs.
    pub level: Level,
    /// Interrupts are switched off around the own lock (builds for one processor before their
    /// try-locks could fail).
    pub irqs_off: bool,
}

impl Runner {
    /// On a CPU, with interrupts as they are.
    #[must_use]
    pub fn new(protocol: Protocol, cpu: Cpu, level: Level) -> Runner {
        Runner { protocol, cpu, level, irqs_off: false }
    }

    fn has_llist(&self) -> bool {
        self.protocol == Protocol::LocalTrylockRemoteLlist
    }

    /// Frees a page of a pageblock that `owner` owns.
    pub fn free(&self, program: &mut Program, page: Page, owner: Cpu) {
        program.within("free_frozen_pages", |p| {
            if self.has_llist() && owner != self.cpu {
                self.free_remote(p, page, owner);
            } else {
                self.free_locked(p, page, owner);
            }
        });
    }

    /// Puts the page on the owner's lists under its lock.
    fn free_locked(&self, program: &mut Program, page: Page, owner: Cpu) {
        let list = List::Pcp(owner);
        let commit = |p: &mut Program| {
            p.branch(
                |dead| Op::IfDead(owner, dead),
                |p| {
                    p.op(Op::Read(list));
                    p.op(Op::Push(list, page));
                    self.unlock_pcp(p, owner);
                },
                |p| {
                    p.shows(Reached::FoundDead);
                    self.unlock_pcp(p, owner);
                    self.free_to_zone(p, page);
                },
            );
        };
        self.with_pcp(program, owner, commit, |p| {
            p.shows(Reached::ZoneFallback);
            self.free_to_zone(p, page);
        });
    }

    /// Pushes the page on the owner's lock-free list.
    fn free_remote(&self, program: &mut Program, page: Page, owner: Cpu) {
        program.branch(
            |dead| Op::IfDead(owner, dead),
            |p| {
                p.shows(Reached::RemotePush);
                p.op(Op::PushFree(List::Remote(owner), page));
            },
            |p| {
                p.shows(Reached::FoundDead);
                self.free_to_zone(p, page);
            },
        );
    }

    /// Takes the lock of a CPU's lists as the protocol says, and does `then` or `busy`.
    fn with_pcp(
        &self,
        program: &mut Program,
        owner: Cpu,
        then: impl FnOnce(&mut Program),
        busy: impl FnOnce(&mut Program),
    ) {
        let lock = LockId::Pcp(owner);
        if self.protocol == Protocol::Blocking && self.level == Level::Task {
            program.op(Op::Lock(lock, IrqsOff::No));
            then(program);
            return;
        }
        if self.irqs_off {
            program.op(Op::IrqSave);
        }
        program.branch(
            |target| Op::TryLock(lock, target),
            then,
            |p| {
                if self.irqs_off {
                    p.op(Op::IrqRestore);
                }
                busy(p);
            },
        );
    }

    fn unlock_pcp(&self, program: &mut Program, owner: Cpu) {
        let irqs = if self.irqs_off { IrqsOff::Save } else { IrqsOff::No };
        program.op(Op::Unlock(LockId::Pcp(owner), irqs));
    }

    /// Gives the page to the zone; an NMI may only try.
    fn free_to_zone(&self, program: &mut Program, page: Page) {
        let put = |p: &mut Program, irqs| {
            p.op(Op::Read(List::Zone));
            p.op(Op::Push(List::Zone, page));
            p.op(Op::Unlock(LockId::Zone, irqs));
        };
        program.within("free_one_page", |p| {
            if self.level != Level::Nmi {
                p.op(Op::Lock(LockId::Zone, IrqsOff::Save));
                put(p, IrqsOff::Save);
                return;
            }
            p.branch(
                |busy| Op::TryLock(LockId::Zone, busy),
                |p| put(p, IrqsOff::No),
                |p| {
                    p.shows(Reached::Deferred);
                    p.op(Op::PushFree(List::Deferred, page));
                },
            );
        });
    }

    /// Takes a page from the own lists, or from the zone.
    pub fn alloc(&self, program: &mut Program) {
        let (own, list) = (self.cpu, List::Pcp(self.cpu));
        program.within("rmqueue_pcplist", |p| {
            let hit = |p: &mut Program| {
                self.absorb(p, own);
                p.op(Op::Read(list));
                p.branch(
                    |empty| Op::Pop(list, empty),
                    |p| self.unlock_pcp(p, own),
                    |p| {
                        self.unlock_pcp(p, own);
                        self.alloc_from_zone(p);
                    },
                );
            };
            self.with_pcp(p, own, hit, |p| {
                p.shows(Reached::ZoneFallback);
                self.alloc_from_zone(p);
            });
        });
    }

    fn alloc_from_zone(&self, program: &mut Program) {
        let take = |p: &mut Program, irqs| {
            p.op(Op::Read(List::Zone));
            p.branch(|empty| Op::Pop(List::Zone, empty), |_| {}, |_| {});
            p.op(Op::Unlock(LockId::Zone, irqs));
        };
        program.within("rmqueue_buddy", |p| {
            if self.level == Level::Nmi {
                p.branch(|busy| Op::TryLock(LockId::Zone, busy), |p| take(p, IrqsOff::No), |_| {});
            } else {
                p.op(Op::Lock(LockId::Zone, IrqsOff::Save));
                take(p, IrqsOff::Save);
            }
        });
    }

    /// Takes in what other CPUs freed; the lock of the lists is held.
    fn absorb(&self, program: &mut Program, owner: Cpu) {
        if !self.has_llist() {
            return;
        }
        let list = List::Pcp(owner);
        program.within("pcp_absorb_remote", |p| {
            p.branch(
                |none| Op::TakeFree(List::Remote(owner), none),
                |p| {
                    p.shows(Reached::Absorbed);
                    p.op(Op::Read(list));
                    p.op(Op::PutTaken(list));
                },
                |_| {},
            );
        });
    }

    /// Gives a CPU's pages to the zone. Waits for its lock, so only a task may do it.
    pub fn drain(&self, program: &mut Program, owner: Cpu) {
        program.within("drain_pages_zone", |p| {
            p.op(Op::Lock(LockId::Pcp(owner), IrqsOff::No));
            self.absorb(p, owner);
            give_all_back(p, owner, |_| {});
            p.op(Op::Unlock(LockId::Pcp(owner), IrqsOff::No));
        });
    }

    /// Waits for a CPU to stop, marks its lists dead, empties them, and lets go of its pageblocks.
    pub fn offline(&self, program: &mut Program, gone: Cpu, teardown: Teardown) {
        program.within("page_alloc_cpu_dead", |p| {
            p.op(Op::WaitStopped(gone));
            p.op(Op::Lock(LockId::Pcp(gone), IrqsOff::No));
            p.op(Op::SetDead(gone, true));
            self.absorb(p, gone);
            give_all_back(p, gone, |p| {
                p.op(match teardown {
                    Teardown::Detach => Op::OwnedDetachAll(gone),
                    Teardown::ReinitHead => Op::OwnedInit(gone),
                });
            });
            p.op(Op::Unlock(LockId::Pcp(gone), IrqsOff::No));
        });
    }

    /// Lets a CPU run again, with what raced with its end.
    pub fn online(&self, program: &mut Program, back: Cpu) {
        program.within("page_alloc_cpu_online", |p| {
            p.op(Op::Lock(LockId::Pcp(back), IrqsOff::No));
            p.op(Op::SetDead(back, false));
            self.absorb(p, back);
            p.op(Op::Unlock(LockId::Pcp(back), IrqsOff::No));
            p.op(Op::Start(back));
        });
    }

    /// Comes to own a pageblock, parts of which stay in the zone.
    pub fn adopt(&self, program: &mut Program, block: u8) {
        program.within("rmqueue_bulk", |p| {
            p.op(Op::Lock(LockId::Zone, IrqsOff::Save));
            p.op(Op::OwnedAdd(self.cpu, block));
            p.op(Op::Unlock(LockId::Zone, IrqsOff::Save));
        });
    }

    /// Frees the last page of a pageblock to the zone, which ends its ownership.
    pub fn complete(&self, program: &mut Program, block: u8) {
        program.within("__free_one_page", |p| {
            p.op(Op::Lock(LockId::Zone, IrqsOff::Save));
            p.op(Op::OwnedDel(block));
            p.op(Op::Unlock(LockId::Zone, IrqsOff::Save));
        });
    }

    /// Does `body` with the xarray lock held: interrupts off, whoever runs.
    pub fn with_xarray(&self, program: &mut Program, body: impl FnOnce(&mut Program)) {
        program.within("xas_store", |p| {
            p.op(Op::Lock(LockId::Xarray, IrqsOff::Save));
            body(p);
            p.op(Op::Unlock(LockId::Xarray, IrqsOff::Save));
        });
    }
}

/// Moves a CPU's pages to the zone and does what else needs the zone lock.
fn give_all_back(program: &mut Program, owner: Cpu, also: impl FnOnce(&mut Program)) {
    program.op(Op::Lock(LockId::Zone, IrqsOff::Save));
    program.op(Op::Read(List::Zone));
    program.op(Op::MoveAll(List::Zone, List::Pcp(owner)));
    also(program);
    program.op(Op::Unlock(LockId::Zone, IrqsOff::Save));
}
