//! Traces over sockets and from inputs that stall.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;

use fragscope_trace::frame::Frame;
use fragscope_trace::reader::{ReadError, TraceReader};

use crate::golden;

/// Frames of the golden trace: snapshot, events, end.
const FRAMES: usize = 3;

#[test]
fn a_socket_delivers_frames_as_they_come() {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let sender = thread::spawn(move || {
        for piece in golden::trace().chunks(7) {
            ours.write_all(piece).unwrap();
        }
        ours
    });
    let mut reader = TraceReader::new(theirs).unwrap();
    for _ in 0..FRAMES {
        assert!(reader.next_frame().unwrap().is_some());
    }
    // The end frame ends the trace; the socket is still open.
    assert_eq!(reader.next_frame().unwrap(), None);
    drop(sender.join().unwrap());
}

/// A header, then frames from later on: what a client that joins late is sent.
#[test]
fn joining_late_needs_only_the_header() {
    let bytes = golden::trace();
    let offsets = crate::raw::offsets(&bytes);
    let events = offsets[offsets.len() - 3];
    let joined = [&bytes[..offsets[1]], &bytes[events..]].concat();
    let mut reader = TraceReader::new(&joined[..]).unwrap();
    assert!(matches!(reader.next_frame(), Ok(Some(Frame::Events(_)))));
    assert!(matches!(reader.next_frame(), Ok(Some(Frame::End(_)))));
}

/// Times out before every piece after the header.
struct Stalling<'a> {
    bytes: &'a [u8],
    header: usize,
    stall: bool,
}

impl Read for Stalling<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.header > 0 {
            let size = self.header.min(buffer.len());
            self.header -= size;
            return self.bytes.read(&mut buffer[..size]);
        }
        self.stall = !self.stall;
        if self.stall {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let size = buffer.len().min(11);
        self.bytes.read(&mut buffer[..size])
    }
}

#[test]
fn a_read_that_timed_out_goes_on_where_it_stopped() {
    let bytes = golden::trace();
    let header = crate::raw::offsets(&bytes)[1];
    let mut reader = TraceReader::new(Stalling { bytes: &bytes, header, stall: false }).unwrap();
    let (mut frames, mut stalls) = (0, 0);
    loop {
        match reader.next_frame() {
            Ok(Some(_)) => frames += 1,
            Ok(None) => break,
            Err(ReadError::Io { source, .. }) => {
                assert_eq!(source.kind(), io::ErrorKind::WouldBlock);
                stalls += 1;
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(frames, FRAMES);
    assert!(stalls > 10);
}

#[test]
fn a_failed_output_closes_the_writer() {
    struct Full(usize);
    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let taken = bytes.len().min(self.0);
            self.0 -= taken;
            if taken == 0 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(taken) }
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    use fragscope_trace::writer::{TraceWriter, WriteError};
    let header = crate::arbitrary::small_header();
    let room = crate::raw::offsets(&golden::trace())[1] + 10;
    let mut writer = TraceWriter::new(Full(room), &header).unwrap();
    let end = crate::arbitrary::small_end();
    assert!(matches!(writer.end(&end), Err(WriteError::Io { .. })));
    assert!(matches!(writer.end(&end), Err(WriteError::Closed)));
}
