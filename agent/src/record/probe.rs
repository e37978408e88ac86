//! `--probe-1g`: the probe at the end of a recording.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::{Receiver, bounded};
use fragscope_agent::live::Control;
use fragscope_agent::probe_1g::{Probe, ProbeError, ThisHost, probe};

/// A probe that is going to be made, or is made, by the session's own thread. Dropping this waits
/// until the kernel has its pages back: this program must not end before, whatever ends it.
#[derive(Debug)]
pub(super) struct ProbeAtEnd {
    stop: Arc<AtomicBool>,
    outcome: Receiver<Result<Probe, ProbeError>>,
}

impl ProbeAtEnd {
    /// Orders the probe. Fails now, not at the end, where there is nothing to ask for.
    pub(super) fn order(control: &Control) -> Result<ProbeAtEnd, ProbeError> {
        let host = ThisHost::open()?;
        let stop = Arc::new(AtomicBool::new(false));
        let (tell, outcome) = bounded(1);
        let asked_to_stop = Arc::clone(&stop);
        control.at_the_end(move || {
            let result = probe(&host, None, &asked_to_stop);
            let event = result.as_ref().map(Probe::to_event).ok();
            // The other end lives as long as this program waits for the session.
            let _ = tell.send(result);
            event.into_iter().collect()
        });
        Ok(ProbeAtEnd { stop, outcome })
    }

    /// Lets it end after the request at hand.
    pub(super) fn interrupt(&self) {
        self.stop.store(true, Ordering::Release);
    }

    /// What came of it; `None` if it was never begun. Waits for a probe that is being made.
    pub(super) fn outcome(&self) -> Option<Result<Probe, ProbeError>> {
        self.outcome.recv().ok()
    }
}

impl Drop for ProbeAtEnd {
    fn drop(&mut self) {
        self.interrupt();
        while self.outcome.recv().is_ok() {}
    }
}
