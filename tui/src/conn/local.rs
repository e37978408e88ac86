//! The agent inside this process: this host, live.

use std::time::Duration;

use anyhow::Result;
use crossbeam_channel::RecvTimeoutError;
use fragscope_agent::live::{LiveAgent, LiveOptions};
use fragscope_agent::snapshots;
use fragscope_trace::event::EventBatch;
use fragscope_trace::frame::Frame;
use fragscope_trace::header::{EndReason, TraceMode};

use super::source::{Arrival, Source};

/// Time between snapshots: each checks the kernel track and repairs what was missed.
const SNAPSHOT_EVERY: Duration = Duration::from_secs(60);
/// Time that a closing snapshot may take.
const CLOSING_MAX: Duration = Duration::from_secs(10);
/// How long the end of the session may take; then its threads are left to themselves.
const STOP_MAX: Duration = Duration::from_millis(100);

/// A running session.
pub struct Local {
    agent: Option<LiveAgent>,
    is_stopping: bool,
}

impl Local {
    /// Starts to trace this host.
    ///
    /// # Errors
    /// If that is impossible: rights or BPF are missing. The text says what to do.
    pub fn start(mode: TraceMode) -> Result<Local> {
        let mut options =
            LiveOptions { snapshot_every: Some(SNAPSHOT_EVERY), ..LiveOptions::default() };
        options.tracer.mode = mode;
        let agent = LiveAgent::start(options, Some(snapshots::taker()?))?;
        Ok(Local { agent: Some(agent), is_stopping: false })
    }
}

impl Source for Local {
    fn next(&mut self, patience: Duration) -> Arrival {
        let Some(agent) = &self.agent else {
            return Arrival::Over(None);
        };
        match agent.frames().recv_timeout(patience) {
            Ok(frame) => Arrival::Frame(frame),
            Err(RecvTimeoutError::Timeout) => Arrival::Nothing,
            Err(RecvTimeoutError::Disconnected) => {
                self.agent = None;
                match self.is_stopping {
                    true => Arrival::Over(None),
                    false => Arrival::Failed("tracing has ended unexpectedly".to_owned()),
                }
            }
        }
    }

    /// The end comes with a closing snapshot, to check the kernel track by.
    fn stop(&mut self) {
        self.is_stopping = true;
        if let Some(agent) = &self.agent {
            agent.control().stop(EndReason::Duration, Some(CLOSING_MAX));
        }
    }

    fn recycle(&mut self, batch: EventBatch) {
        if let Some(agent) = &self.agent {
            agent.recycler().recycle(batch);
        }
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        if let Some(agent) = self.agent.take() {
            agent.control().abandon(EndReason::Interrupted);
            // Frames that nobody takes would keep the session from ending.
            while let Ok(Frame::Events(_) | Frame::Snapshot(_) | Frame::Header(_)) =
                agent.frames().recv_timeout(STOP_MAX)
            {}
            let _ = agent.join_within(STOP_MAX);
        }
    }
}
