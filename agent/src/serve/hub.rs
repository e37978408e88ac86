//! From one stream of frames to many clients: each frame is encoded once.

use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, select, unbounded};
use fragscope_agent::live::Control;
use fragscope_agent::live::queue::Recycler;
use fragscope_trace::frame::Frame;
use fragscope_trace::header::Header;
use fragscope_trace::writer::{TraceWriter, WriteError};

use super::client::{Client, Frames, Refusal};

/// A client waits this long for its snapshot; then it gets events without.
const SNAPSHOT_PATIENCE: Duration = Duration::from_secs(35);
/// Clients get this long for the last frames.
const LAST_FRAMES: Duration = Duration::from_millis(50);

/// What came of serving.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Served {
    /// Clients that came.
    pub(super) clients: u64,
    /// Clients dropped because they were too slow.
    pub(super) dropped: u64,
}

/// The state of the serving thread.
pub(super) struct Hub {
    control: Control,
    recycler: Recycler,
    joined: Receiver<UnixStream>,
    /// Encodes; its output is taken out after each frame.
    writer: Option<TraceWriter<Vec<u8>>>,
    header: Frames,
    /// Waiting for a snapshot, since when.
    waiting: Vec<(Client, Instant)>,
    clients: Vec<Client>,
    /// Every writing thread holds a sender; all gone means all have ended.
    writing: Sender<()>,
    ended: Receiver<()>,
    served: Served,
}

impl Hub {
    /// A hub, and where to send the connections of clients.
    pub(super) fn new(control: Control, recycler: Recycler) -> (Hub, Sender<UnixStream>) {
        let (tx, joined) = unbounded();
        let (writing, ended) = bounded(0);
        let hub = Hub {
            control,
            recycler,
            joined,
            writer: None,
            header: Frames::from([]),
            waiting: Vec::new(),
            clients: Vec::new(),
            writing,
            ended,
            served: Served::default(),
        };
        (hub, tx)
    }

    /// Serves until the stream ends.
    pub(super) fn run(mut self, frames: &Receiver<Frame>) -> Result<Served, String> {
        let joined = self.joined.clone();
        loop {
            select! {
                recv(frames) -> frame => match frame {
                    Ok(frame) => self.pass_on(frame).map_err(|error| error.to_string())?,
                    Err(_) => break,
                },
                recv(joined) -> stream => {
                    if let Ok(stream) = stream {
                        self.admit(stream);
                    }
                }
            }
        }
        self.hang_up();
        Ok(self.served)
    }

    fn admit(&mut self, stream: UnixStream) {
        match Client::start(stream, self.writing.clone()) {
            Ok(client) => {
                self.served.clients += 1;
                self.waiting.push((client, Instant::now()));
                self.control.snapshot();
            }
            Err(error) => log::warn!("a client could not be served: {error}"),
        }
    }

    fn pass_on(&mut self, frame: Frame) -> Result<(), WriteError> {
        match frame {
            Frame::Header(header) => self.begin(&header)?,
            Frame::Snapshot(snapshot) => {
                let frames = self.encode(|writer| writer.snapshot(&snapshot))?;
                self.start_waiting(|_| true);
                self.broadcast(&frames);
            }
            Frame::Events(batch) => {
                self.start_waiting(|since| since.elapsed() > SNAPSHOT_PATIENCE);
                if !self.clients.is_empty() {
                    let frames = self.encode(|writer| writer.events(&batch))?;
                    self.broadcast(&frames);
                }
                self.recycler.recycle(batch);
            }
            Frame::End(end) => {
                let frames = self.encode(|writer| writer.end(&end))?;
                self.start_waiting(|_| true);
                self.broadcast(&frames);
            }
        }
        Ok(())
    }

    fn begin(&mut self, header: &Header) -> Result<(), WriteError> {
        let mut writer = TraceWriter::new(Vec::new(), header)?;
        self.header = Frames::from(std::mem::take(writer.get_mut()));
        self.writer = Some(writer);
        Ok(())
    }

    fn encode(
        &mut self,
        write: impl FnOnce(&mut TraceWriter<Vec<u8>>) -> Result<(), WriteError>,
    ) -> Result<Frames, WriteError> {
        let Some(writer) = &mut self.writer else { return Ok(Frames::from([])) };
        write(writer)?;
        let frames = Frames::from(writer.get_mut().as_slice());
        writer.get_mut().clear();
        Ok(frames)
    }

    /// Lets clients in that wait since a time for which `due` holds.
    fn start_waiting(&mut self, due: impl Fn(Instant) -> bool) {
        let (due, waiting) =
            std::mem::take(&mut self.waiting).into_iter().partition(|(_, since)| due(*since));
        self.waiting = waiting;
        for (client, _) in due {
            if client.send(&self.header).is_ok() {
                self.clients.push(client);
            }
        }
    }

    fn broadcast(&mut self, frames: &Frames) {
        let served = &mut self.served;
        self.clients.retain(|client| match client.send(frames) {
            Ok(()) => true,
            Err(Refusal::Gone) => false,
            Err(Refusal::Slow) => {
                client.hang_up();
                served.dropped += 1;
                log::warn!("a client was dropped: it was too slow ({} so far)", served.dropped);
                false
            }
        });
    }

    /// Gives the clients a moment to take what is queued.
    fn hang_up(&mut self) {
        self.waiting.clear();
        let streams = std::mem::take(&mut self.clients);
        let (writing, _) = bounded(0);
        self.writing = writing;
        // Senders only ever vanish, so this ends with the last of them or with the time.
        drop(streams);
        let _ = self.ended.recv_timeout(LAST_FRAMES);
    }
}
