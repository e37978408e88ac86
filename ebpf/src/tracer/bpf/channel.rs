//! Delivery of page events: the rings of `fragscope_ebpf::ring`, or BPF ring buffers.

use core::ptr::{addr_of, addr_of_mut};

use aya_ebpf::btf_maps::{ArrayOfMaps, RingBuf};
use aya_ebpf::macros::{btf_map, map};
use aya_ebpf::maps::Array;
use fragscope_ebpf::record::Record;
use fragscope_ebpf::ring::{CHANNEL_RINGBUF, Header, PAGE_BYTES, PAGE_RECORDS, PAGE_RECORDS_SHIFT};

use super::settings::{CHANNEL, COUNT_REGIONS, RING_DATA_PAGES, RING_KINDS};

/// `BPF_F_MMAPABLE`.
pub(super) const MMAPABLE: u32 = 1 << 10;
/// `BPF_RB_NO_WAKEUP`: the reader polls.
pub(super) const NO_WAKEUP: u64 = 1;

#[map]
static RINGS: Array<[u8; PAGE_BYTES]> = Array::with_max_entries(1, MMAPABLE);
#[btf_map]
static RING_BUFFERS: ArrayOfMaps<RingBuf<Record, 4096>, 1> = ArrayOfMaps::new();

/// The ring of one program on this CPU.
#[derive(Clone, Copy)]
pub(super) struct Ring {
    header: *mut Header,
    first_data: u32,
    pub(super) cpu: u32,
}

impl Ring {
    /// The ring of `kind` on this CPU. There is one for every possible CPU.
    #[inline(always)]
    pub(super) fn of(kind: u32) -> Option<Ring> {
        let cpu = super::this_cpu();
        let number = cpu * RING_KINDS.load() + kind;
        let element = number * (RING_DATA_PAGES.load() + 1);
        let header = RINGS.get_ptr_mut(element)?.cast::<Header>();
        Some(Ring { header, first_data: element + 1, cpu })
    }

    /// Counts an event that is going to be delivered or counted as lost.
    #[inline(always)]
    pub(super) fn count_emitted(self) {
        // SAFETY: the header is a valid map element.
        unsafe { self.add(addr_of_mut!((*self.header).emitted)) };
    }

    /// Counts an event that made no sense.
    #[inline(always)]
    pub(super) fn count_bad(self) {
        // SAFETY: as above.
        unsafe { self.add(addr_of_mut!((*self.header).lost_bad)) };
    }

    /// Whether the reader wants events counted by region and not recorded.
    #[inline(always)]
    pub(super) fn is_shedding(self) -> bool {
        // SAFETY: the header is a valid map element; the reader writes the word whole.
        COUNT_REGIONS.load() != 0
            && unsafe { addr_of!((*self.header).shedding).read_volatile() } != 0
    }

    /// Counts an event that was counted by region.
    #[inline(always)]
    pub(super) fn count_shed(self) {
        // SAFETY: the header is a valid map element.
        unsafe { self.add(addr_of_mut!((*self.header).shed)) };
    }

    /// Delivers `record`, or counts it as lost.
    #[inline(always)]
    pub(super) fn push(self, record: Record) {
        let delivered = if CHANNEL.load() == CHANNEL_RINGBUF {
            match RING_BUFFERS.get(self.cpu) {
                Some(buffer) => buffer.output(record, NO_WAKEUP).is_ok(),
                None => false,
            }
        } else {
            self.write(record)
        };
        if !delivered {
            // SAFETY: as above.
            unsafe { self.add(addr_of_mut!((*self.header).lost_full)) };
        }
    }

    /// Writes behind `head` unless the ring is full, and publishes by advancing `head`.
    #[inline(always)]
    fn write(self, record: Record) -> bool {
        let data_pages = u64::from(RING_DATA_PAGES.load());
        let capacity = data_pages << PAGE_RECORDS_SHIFT;
        // SAFETY: only this program on this CPU writes the first line of the header, and it does
        // not nest in itself; volatile keeps the order of the stores.
        unsafe {
            let head_at = addr_of_mut!((*self.header).head);
            let cached_at = addr_of_mut!((*self.header).cached_tail);
            let head = head_at.read_volatile();
            if head.wrapping_sub(cached_at.read_volatile()) >= capacity {
                let tail = addr_of!((*self.header).tail).read_volatile();
                cached_at.write_volatile(tail);
                if head.wrapping_sub(tail) >= capacity {
                    return false;
                }
            }
            let page = (head >> PAGE_RECORDS_SHIFT) as u32 & (data_pages as u32).wrapping_sub(1);
            let Some(page) = RINGS.get_ptr_mut(self.first_data + page) else { return false };
            let slot = page.cast::<Record>().add((head & (PAGE_RECORDS - 1)) as usize);
            addr_of_mut!((*slot).what).write_volatile(record.what);
            addr_of_mut!((*slot).when).write_volatile(record.when);
            head_at.write_volatile(head + 1);
        }
        true
    }

    /// Adds 1. Programs that may nest or share (the BPF ring buffer's) need an atomic addition.
    ///
    /// # Safety
    /// `at` is a counter in the header.
    #[inline(always)]
    unsafe fn add(self, at: *mut u64) {
        // SAFETY: the caller's promise.
        unsafe {
            if CHANNEL.load() == CHANNEL_RINGBUF {
                add_one(at);
            } else {
                at.write_volatile(at.read_volatile() + 1);
            }
        }
    }
}

/// Atomic addition without a result (one `lock add`).
///
/// # Safety
/// `at` is an aligned word of a map.
#[inline(always)]
pub(super) unsafe fn add_one<T: Copy + From<u8>>(at: *mut T) {
    // SAFETY: the caller's promise.
    unsafe {
        core::intrinsics::atomic_xadd::<T, T, { core::intrinsics::AtomicOrdering::Relaxed }>(
            at,
            T::from(1),
        );
    }
}
