//! Signals that end the program, and the last resort when it does not end.

use std::io;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{Receiver, channel};

use crate::term;

/// A signal that ends the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGINT
    Interrupt,
    /// SIGTERM
    Terminate,
    /// SIGHUP
    Hangup,
}

impl Signal {
    /// Its number.
    #[must_use]
    pub const fn number(self) -> i32 {
        match self {
            Signal::Hangup => 1,
            Signal::Interrupt => 2,
            Signal::Terminate => 15,
        }
    }

    const fn kind(self) -> SignalKind {
        match self {
            Signal::Hangup => SignalKind::hangup(),
            Signal::Interrupt => SignalKind::interrupt(),
            Signal::Terminate => SignalKind::terminate(),
        }
    }
}

/// After a signal the program has this long to end by itself. It may be stuck in a write to a
/// terminal that takes nothing.
const GRACE: Duration = Duration::from_secs(1);

/// Signals as they come.
pub struct Signals(Receiver<Signal>);

impl Signals {
    /// Watches for signals on the runtime's other threads.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn watch() -> io::Result<Signals> {
        let (sender, receiver) = channel(4);
        for which in [Signal::Interrupt, Signal::Terminate, Signal::Hangup] {
            let mut stream = signal(which.kind())?;
            let sender = sender.clone();
            tokio::spawn(async move {
                if stream.recv().await.is_some() {
                    // A full channel means that several were sent already.
                    let _ = sender.try_send(which);
                    tokio::time::sleep(GRACE).await;
                    term::restore();
                    std::process::exit(128 + which.number());
                }
            });
        }
        Ok(Signals(receiver))
    }

    /// The next signal.
    pub async fn next(&mut self) -> Signal {
        match self.0.recv().await {
            Some(signal) => signal,
            None => std::future::pending().await,
        }
    }
}
