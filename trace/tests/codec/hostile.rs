//! Bytes that are no trace, or were one: an error or a shorter trace, never a panic.

use std::panic::catch_unwind;

use fragscope_trace::frame::Frame;
use fragscope_trace::info::decode_any;
use fragscope_trace::reader::{Limits, ReadError, TraceReader};

use crate::golden;
use crate::raw::{self, RawFrame};

const LIMITS: Limits = Limits { snapshot_bytes: 1 << 20 };

/// Frames of a trace as far as they can be read, and how that ended.
fn read(bytes: &[u8]) -> (Vec<Frame>, Result<Option<u64>, ReadError>) {
    let mut frames = Vec::new();
    let mut reader = match TraceReader::with_limits(bytes, LIMITS) {
        Ok(reader) => reader,
        Err(error) => return (frames, Err(error)),
    };
    loop {
        match reader.next_frame() {
            Ok(Some(frame)) => frames.push(frame),
            Ok(None) => return (frames, Ok(reader.truncated().map(|cut| cut.at))),
            Err(error) => return (frames, Err(error)),
        }
    }
}

fn error_of(bytes: &[u8]) -> String {
    read(bytes).1.unwrap_err().to_string()
}

#[test]
fn a_trace_cut_at_any_byte_is_readable_up_to_its_last_whole_frame() {
    let bytes = golden::trace();
    let offsets = raw::offsets(&bytes);
    let (whole, _) = read(&bytes);
    for cut in 0..bytes.len() {
        let (frames, outcome) = read(&bytes[..cut]);
        if cut < offsets[1] {
            assert!(matches!(outcome, Err(ReadError::NoHeader(_))), "cut {cut}: {outcome:?}");
            continue;
        }
        let at = outcome.unwrap().unwrap_or_else(|| panic!("cut {cut}: not noticed"));
        assert!(at <= cut as u64 && offsets.contains(&(at as usize)), "cut {cut} at {at}");
        assert_eq!(frames, whole[..frames.len()], "cut {cut}");
        let last = *offsets.iter().filter(|offset| **offset <= cut).max().unwrap();
        // The last whole frame is lost only where it is part of a snapshot that is not whole.
        assert!(at == last as u64 || frames.is_empty(), "cut {cut} at {at}");
    }
}

#[test]
fn what_is_no_trace_is_named() {
    assert_eq!(
        error_of(b"PAR1 and so on"),
        "not a fragscope trace: expected magic f5 46 53 54, found 50 41 52 31"
    );
    assert!(error_of(b"").ends_with("cut off at byte 0: it is empty"), "{}", error_of(b""));
    assert!(error_of(b"x").contains("found 78"));
}

#[test]
fn other_versions_are_refused_by_name() {
    let mut bytes = golden::trace();
    bytes[4] = 9;
    assert_eq!(error_of(&bytes), "trace format version 9; this program reads 1");
}

#[test]
fn a_trace_without_its_beginning_is_refused() {
    let bytes = golden::trace();
    let offsets = raw::offsets(&bytes);
    let tail = error_of(&bytes[offsets[1]..]);
    assert_eq!(
        tail,
        "found a frame of kind snapshot-begin at byte 0; expected the header of a trace"
    );
    assert!(error_of(&bytes[offsets[1] + 5..]).starts_with("not a fragscope trace"));
}

#[test]
fn damage_in_the_middle_names_the_frame_and_stops() {
    let mut bytes = golden::trace();
    let offsets = raw::offsets(&bytes);
    let events = offsets.len() - 3;
    bytes[offsets[events] + 30] ^= 4;
    let mut reader = TraceReader::new(&bytes[..]).unwrap();
    assert!(matches!(reader.next_frame(), Ok(Some(Frame::Snapshot(_)))));
    let at = offsets[events];
    let expected = format!("the events frame at byte {at} is damaged: its checksum does not match");
    assert_eq!(reader.next_frame().unwrap_err().to_string(), expected);
    assert!(matches!(reader.next_frame(), Err(ReadError::Unreadable { .. })));
}

#[test]
fn unknown_frames_and_side_events_are_skipped_and_counted() {
    let mut frames = raw::split(&golden::trace());
    let (whole, _) = read(&golden::trace());
    let unknown = RawFrame { kind: 200, payload: b"from the future".to_vec() };
    for at in [frames.len() - 1, 3, 3] {
        frames.insert(at, unknown.clone());
    }
    // A frame without page events, with one side event: of kind 300, with one byte of fields.
    let mut future = vec![0, 1];
    future.extend(5u64.to_le_bytes());
    future.extend([0, 0, 0, 3, 0xac, 0x02, 9]);
    frames.insert(1, RawFrame { kind: 3, payload: future });
    let bytes = raw::join(&frames);
    let info = decode_any(&bytes, LIMITS).unwrap();
    assert_eq!(info.skipped.frames.into_iter().collect::<Vec<_>>(), [(200, 3)]);
    assert_eq!(info.skipped.side_events.into_iter().collect::<Vec<_>>(), [(300, 1)]);
    assert_eq!(read(&bytes).0[1..], whole);
}

/// A snapshot that lacks a part is not delivered as a smaller one.
#[test]
fn a_missing_part_of_a_snapshot_is_noticed() {
    let frames = raw::split(&golden::trace());
    for part in 2..6 {
        let mut frames = frames.clone();
        frames.remove(part);
        let error = error_of(&raw::join(&frames));
        assert!(error.contains("of the snapshot: found 0, expected "), "{error}");
    }
}

#[test]
fn snapshot_memory_is_limited() {
    let limits = Limits { snapshot_bytes: 100 };
    let error = decode_any(&golden::trace(), limits).unwrap_err().to_string();
    assert!(error.contains("bytes of a snapshot"), "{error}");
}

/// Replaces the only place of `from` in payloads of `kind`.
fn patch(kind: u8, from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut frames = raw::split(&golden::trace());
    let mut places = 0;
    for frame in frames.iter_mut().filter(|frame| frame.kind == kind) {
        for at in 0..frame.payload.len().saturating_sub(from.len()) {
            if frame.payload[at..].starts_with(from) {
                frame.payload[at..at + from.len()].copy_from_slice(to);
                places += 1;
            }
        }
    }
    assert_eq!(places, 1);
    raw::join(&frames)
}

#[test]
fn values_that_would_mislead_consumers_are_refused() {
    let page_size = patch(4, b"\"page_size\":4096", b"\"page_size\":8192");
    assert!(error_of(&page_size).contains("page size: found 8192, expected 4096"));
    // Length 4, then `Move { from: 1, to: 2, order }`.
    let order = patch(3, &[4, 0, 1, 2, 3], &[4, 0, 1, 2, 31]);
    assert!(error_of(&order).contains("order 31, expected at most 30"));
}

/// Every byte of every payload that is not JSON, one bit or one step off.
#[test]
fn no_single_byte_makes_a_decoder_panic() {
    let frames = raw::split(&golden::trace());
    for (index, frame) in frames.iter().enumerate().filter(|(_, frame)| frame.payload[0] != b'{') {
        for at in 0..frame.payload.len() {
            let byte = frame.payload[at];
            let flipped = (0..8).map(|bit| byte ^ 1 << bit);
            for value in flipped.chain([byte.wrapping_add(1), byte.wrapping_sub(1)]) {
                let mut frames = frames.clone();
                frames[index].payload[at] = value;
                let bytes = raw::join(&frames);
                let outcome = catch_unwind(|| decode_any(&bytes, LIMITS).is_ok());
                assert!(outcome.is_ok(), "frame {index}, byte {at} = {value}");
            }
        }
    }
}

/// xorshift64*.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }
}

/// Damages bytes in one of several ways.
fn mutate(bytes: &mut Vec<u8>, random: &mut Random) {
    if bytes.is_empty() {
        return;
    }
    let (a, b) = (random.below(bytes.len()), random.below(bytes.len()));
    let (from, to) = (a.min(b), a.max(b));
    match random.below(7) {
        0 => bytes[a] ^= 1 << random.below(8),
        1 => bytes[a] = random.next() as u8,
        2 => drop(bytes.drain(from..to.min(from + 40))),
        3 => {
            let piece = bytes[from..to.min(from + 40)].to_vec();
            bytes.splice(b..b, piece);
        }
        4 => {
            let extreme = [0, 1, 0x7f, 0x80, 0xfe, 0xff][random.below(6)];
            for byte in bytes[from..].iter_mut().take(1 + random.below(10)) {
                *byte = extreme;
            }
        }
        5 => bytes.truncate(a),
        _ => {
            let (length, at) = (random.next() as u32 >> random.below(32), a & !3);
            for (byte, new) in bytes[at..].iter_mut().zip(length.to_le_bytes()) {
                *byte = new;
            }
        }
    }
}

/// One damaged trace: the file itself, the file with checksums put right, or a payload, so that
/// every decoder is reached.
fn mutant(whole: &[u8], frames: &[RawFrame], random: &mut Random) -> Vec<u8> {
    let rounds = 1 + random.below(4);
    match random.below(4) {
        way @ 0..=1 => {
            let mut bytes = whole.to_vec();
            (0..rounds).for_each(|_| mutate(&mut bytes, random));
            if way == 1 {
                raw::fix_checksums(&mut bytes);
            }
            bytes
        }
        _ => {
            let mut frames = frames.to_vec();
            for _ in 0..rounds {
                let at = random.below(frames.len());
                match random.below(12) {
                    0 => drop(frames.remove(at)),
                    1 => frames.insert(at, frames[random.below(frames.len())].clone()),
                    2 => frames[at].kind = random.below(11) as u8,
                    _ => mutate(&mut frames[at].payload, random),
                }
                if frames.is_empty() {
                    break;
                }
            }
            raw::join(&frames)
        }
    }
}

#[test]
fn mutated_traces_give_an_error_or_a_trace() {
    let whole = golden::trace();
    let frames = raw::split(&whole);
    let mut decoded = 0;
    for seed in 1..=20_000u64 {
        let bytes = mutant(&whole, &frames, &mut Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        let outcome = catch_unwind(|| decode_any(&bytes, LIMITS).is_ok());
        decoded += u64::from(outcome.unwrap_or_else(|_| panic!("seed {seed} panics")));
    }
    // Some mutants must decode, else only the first check was tested; most must not.
    assert!((500..15_000).contains(&decoded), "{decoded} of 20000 decoded");
}
