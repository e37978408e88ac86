//! From one stream of frames to many clients: each frame is encoded once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, select, unbounded};
use fragscope_agent::live::Control;
use fragscope_agent::live::queue::Recycler;
use fragscope_trace::frame::Frame;
use fragscope_trace::header::Header;
use fragscope_trace::writer::{TraceWriter, WriteError};

use super::census::{Census, Refusal};
use super::client::{Client, Frames, NoMore};
use super::connection::Connection;
use super::figures::Figures;
use super::notify::Notifier;

/// A client waits this long for its snapshot; then it gets events without.
const SNAPSHOT_PATIENCE: Duration = Duration::from_secs(35);
/// Clients get this long for the last frames.
const LAST_FRAMES: Duration = Duration::from_millis(50);
/// Time between two snapshots for clients: those that come sooner share the next. Coming again and
/// again must not keep the host busy with snapshots.
const SNAPSHOT_REST: Duration = Duration::from_secs(2);

/// The state of the serving thread.
pub(super) struct Hub {
    control: Control,
    recycler: Recycler,
    joined: Receiver<Connection>,
    census: Arc<Census>,
    figures: Arc<Figures>,
    notifier: Notifier,
    clients_max: usize,
    /// Encodes; its output is taken out after each frame.
    writer: Option<TraceWriter<Vec<u8>>>,
    header: Frames,
    /// Waiting for a snapshot, since when.
    waiting: Vec<(Client, Instant)>,
    clients: Vec<Client>,
    /// Every writing thread holds a sender; all gone means all have ended.
    writing: Sender<()>,
    ended: Receiver<()>,
    /// When a snapshot was last ordered, and whether it is still to come.
    ordered: Option<Instant>,
    is_awaited: bool,
}

impl Hub {
    /// A hub, and where to send the connections of clients.
    pub(super) fn new(
        control: Control,
        recycler: Recycler,
        (census, figures): (Arc<Census>, Arc<Figures>),
        notifier: Notifier,
        clients_max: usize,
    ) -> (Hub, Sender<Connection>) {
        let (tx, joined) = unbounded();
        let (writing, ended) = bounded(0);
        let hub = Hub {
            control,
            recycler,
            joined,
            census,
            figures,
            notifier,
            clients_max,
            writer: None,
            header: Frames::from([]),
            waiting: Vec::new(),
            clients: Vec::new(),
            writing,
            ended,
            ordered: None,
            is_awaited: false,
        };
        (hub, tx)
    }

    /// Serves until the stream ends.
    pub(super) fn run(mut self, frames: &Receiver<Frame>) -> Result<(), String> {
        let joined = self.joined.clone();
        loop {
            select! {
                recv(frames) -> frame => match frame {
                    Ok(frame) => self.pass_on(frame).map_err(|error| error.to_string())?,
                    Err(_) => break,
                },
                recv(joined) -> connection => {
                    if let Ok(connection) = connection {
                        self.admit(connection);
                    }
                }
            }
            self.order_snapshot();
            self.census.set_connected(self.clients.len() + self.waiting.len());
        }
        self.hang_up();
        Ok(())
    }

    fn admit(&mut self, connection: Connection) {
        if self.clients.len() + self.waiting.len() >= self.clients_max {
            let detail = format!("at most {} clients are served", self.clients_max);
            self.census.refuse(Refusal::Full, connection.peer(), &detail);
            return;
        }
        match Client::start(connection, self.writing.clone()) {
            Ok(client) => {
                self.census.admit();
                log::info!("{} follows, beside {}", client.peer(), self.census.connected());
                self.waiting.push((client, Instant::now()));
            }
            Err(error) => log::warn!("a client could not be served: {error}"),
        }
    }

    /// Orders a snapshot for those who wait, one for all of them. Whoever comes before it is passed
    /// on gets it, too.
    fn order_snapshot(&mut self) {
        let is_rested = self.ordered.is_none_or(|at| at.elapsed() >= SNAPSHOT_REST);
        if !self.waiting.is_empty() && !self.is_awaited && is_rested {
            self.control.snapshot();
            self.ordered = Some(Instant::now());
            self.is_awaited = true;
        }
    }

    fn pass_on(&mut self, frame: Frame) -> Result<(), WriteError> {
        self.figures.note(&frame);
        // Frames come every second at least: what watches over this program watches over them.
        let (census, figures) = (&self.census, &self.figures);
        self.notifier.alive(|| status(census, figures));
        match frame {
            Frame::Header(header) => self.begin(&header)?,
            Frame::Snapshot(snapshot) => {
                self.is_awaited = false;
                let frames = self.encode(|writer| writer.snapshot(&snapshot))?;
                self.start_waiting(|_| true);
                self.broadcast(&frames);
            }
            Frame::Events(batch) => {
                // A snapshot that failed is never passed on.
                self.is_awaited &= self.ordered.is_some_and(|at| at.elapsed() < SNAPSHOT_PATIENCE);
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
        let census = &self.census;
        self.clients.retain(|client| match client.send(frames) {
            Ok(()) => true,
            Err(NoMore::Gone) => {
                log::info!("{} has gone", client.peer());
                false
            }
            Err(NoMore::Slow) => {
                client.hang_up();
                census.refuse(Refusal::Slow, client.peer(), "it takes too little");
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

/// One line on how it goes.
pub(super) fn status(census: &Census, figures: &Figures) -> String {
    let known = figures.read();
    let lost = known.tally.totals.lost_events();
    let clients = census.connected();
    match known.totals {
        Some(totals) => format!(
            "{clients} clients, {lost} events lost, {} of {} regions tainted, {} obtainable",
            totals.tainted_1g.min, totals.whole_1g, totals.obtainable_1g.min
        ),
        None => format!("{clients} clients, {lost} events lost, no snapshot yet"),
    }
}
