//! Whatever a trace claims, reading it allocates no more than its limits.
#![expect(unsafe_code, reason = "a counting allocator cannot be written without")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use fragscope_trace::info::decode_any;
use fragscope_trace::reader::Limits;

struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(now, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the pointer came from `alloc` with this layout, as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Most that decoding `bytes` had allocated at any time, in bytes.
fn peak_of(bytes: &[u8], limits: Limits) -> usize {
    let before = NOW.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let outcome = decode_any(bytes, limits);
    let peak = PEAK.load(Ordering::Relaxed) - before;
    assert!(outcome.is_err() || bytes.is_empty() || outcome.is_ok_and(|i| i.truncated.is_some()));
    peak
}

/// A frame by `FORMAT.md`, with checksums that hold.
fn frame(kind: u8, storage: u8, claimed: [u32; 2], payload: &[u8]) -> Vec<u8> {
    let mut bytes = b"\xf5FST\x01\x00".to_vec();
    bytes.extend([kind, storage]);
    bytes.extend(claimed[0].to_le_bytes());
    bytes.extend(claimed[1].to_le_bytes());
    bytes.extend(crc32fast::hash(payload).to_le_bytes());
    bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
    bytes.extend(payload);
    bytes
}

fn packed(kind: u8, payload: &[u8]) -> Vec<u8> {
    let stored = zstd::bulk::compress(payload, 1).unwrap();
    frame(kind, 1, [stored.len() as u32, payload.len() as u32], &stored)
}

fn golden() -> Vec<u8> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/golden.fst");
    std::fs::read(path).unwrap()
}

fn header() -> Vec<u8> {
    let golden = golden();
    let stored = u32::from_le_bytes(golden[8..12].try_into().unwrap()) as usize;
    golden[..24 + stored].to_vec()
}

const MIB: usize = 1 << 20;
const SNAPSHOT: usize = 8 * MIB;
const LIMITS: Limits = Limits { snapshot_bytes: SNAPSHOT as u64 };

/// One test, because the counters are the process's.
#[test]
fn claims_do_not_allocate() {
    // A length of 32 MiB with nothing behind it.
    let long = 32 << 20;
    let claim = [header(), frame(3, 1, [long, long], b"x")].concat();
    assert!(peak_of(&claim, LIMITS) < MIB, "{}", peak_of(&claim, LIMITS));

    // A bomb: more comes out than is announced. The announced size is all that is reserved.
    let zeros = zstd::bulk::compress(&vec![0; 64 * MIB], 1).unwrap();
    let bomb = [header(), frame(3, 1, [zeros.len() as u32, 1000], &zeros)].concat();
    assert!(peak_of(&bomb, LIMITS) < MIB);

    // Counts of events, lists and exceptions that no bytes follow.
    let most = [0xff, 0xff, 0xff, 0xff, 0x0f];
    for kind in [3, 5, 6, 7, 8, 9] {
        let counts = [header(), packed(4, &begin()), packed(kind, &most)].concat();
        assert!(peak_of(&counts, LIMITS) < MIB, "kind {kind}");
    }

    // Kernel stacks of a million empty names: one byte each becomes a string.
    let mut stack = vec![0, 1];
    stack.extend([0; 8]);
    // Position, time, cpu; a length of 1,000,005; kind 3, id 1, 1,000,000 names.
    stack.extend([0, 0, 0, 0xc5, 0x84, 0x3d, 3, 1, 0xc0, 0x84, 0x3d]);
    stack.extend(vec![0; 1_000_000]);
    let stacks = [header(), packed(3, &stack)].concat();
    let peak = peak_of(&stacks, LIMITS);
    assert!(peak > 20 * MIB && peak < 64 * MIB, "{peak}");
    let mut many = stack[..10].to_vec();
    many[1] = 20;
    many.extend(stack[10..].repeat(20));
    let stacks = [header(), packed(3, &many)].concat();
    assert!(peak_of(&stacks, LIMITS) < 32 * MIB, "{}", peak_of(&stacks, LIMITS));

    // Snapshot parts without end, 262,144 runs each from a few bytes.
    let mut part = vec![0x80, 0x80, 0x10];
    part.extend(vec![0; 2 << 18]);
    part.extend([0, 0, 0, 0]);
    let parts = [header(), packed(4, &begin()), packed(5, &part).repeat(100)].concat();
    let peak = peak_of(&parts, LIMITS);
    assert!(peak > MIB && peak < SNAPSHOT + 12 * MIB, "{peak}");
}

/// The payload of the golden trace's snapshot-begin frame.
fn begin() -> Vec<u8> {
    let golden = golden();
    let bytes = &golden[header().len()..];
    let length = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    zstd::bulk::decompress(&bytes[24..24 + length(8)], length(12)).unwrap()
}
