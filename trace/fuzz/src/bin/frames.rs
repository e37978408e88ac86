//! Frames behind their checksums: decoded, and written again they decode to the same.
#![no_main]

use fragscope_fuzz::{LIMITS, with_checksums};
use fragscope_trace::frame::Frame;
use fragscope_trace::info::decode_any;
use fragscope_trace::reader::TraceReader;
use fragscope_trace::writer::TraceWriter;
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: fragscope_fuzz::seed(), |bytes: &[u8]| {
    let bytes = with_checksums(bytes);
    let _ = decode_any(&bytes, LIMITS);
    let (Some(frames), _) = read(&bytes) else { return };
    let Some(again) = write(&frames) else { return };
    let (read_again, ended) = read(&again);
    assert!(ended, "what was written can be read to its end");
    assert_eq!(events_of(&read_again.expect("a header was written")), events_of(&frames));
});

/// The frames up to the first that cannot be read, and whether there was none such.
fn read(bytes: &[u8]) -> (Option<Vec<Frame>>, bool) {
    let Ok(mut reader) = TraceReader::with_limits(bytes, LIMITS) else { return (None, false) };
    let mut frames = vec![Frame::Header(Box::new(reader.header().clone()))];
    loop {
        match reader.next_frame() {
            Ok(Some(frame)) => frames.push(frame),
            Ok(None) => return (Some(frames), true),
            Err(_) => return (Some(frames), false),
        }
    }
}

/// A trace of these frames, if they may stand in one.
fn write(frames: &[Frame]) -> Option<Vec<u8>> {
    let Frame::Header(header) = &frames[0] else { return None };
    let mut bytes = Vec::new();
    let mut writer = TraceWriter::new(&mut bytes, header).ok()?;
    for frame in frames {
        match frame {
            Frame::Header(_) => {}
            Frame::Snapshot(snapshot) => writer.snapshot(snapshot).ok()?,
            Frame::Events(batch) => writer.events(batch).ok()?,
            Frame::End(_) => break,
        }
    }
    drop(writer);
    Some(bytes)
}

/// All events, however they are batched.
fn events_of(frames: &[Frame]) -> Vec<String> {
    let batches = frames.iter().filter_map(|frame| match frame {
        Frame::Events(batch) => Some(batch),
        _ => None,
    });
    batches.flat_map(|batch| batch.iter().map(|event| format!("{event:?}"))).collect()
}
