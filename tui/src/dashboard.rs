//! The dashboard: workers, the loop, and the terminal around it.

use anyhow::{Context as _, Result};
use tokio::runtime::Builder;
use tokio::sync::mpsc::channel;

use crate::app::{App, Left};
use crate::cli::Cli;
use crate::config::Config;
use crate::engine::outbox::Outbox;
use crate::engine::worker;
use crate::epoch::Epoch;
use crate::launch;
use crate::signals::Signals;
use crate::state::HostId;
use crate::state::cursor::Position;
use crate::term::Screen;

/// News that may be on their way to the screen.
const NEWS_MAX: usize = 256;

/// Runs until the user or a signal ends it.
///
/// # Errors
/// If the trace can't be opened or the terminal fails.
pub fn run(cli: &Cli, config: Config, epoch: Epoch) -> Result<Left> {
    let opened = launch::open(cli, epoch)?;
    let (sender, news) = channel(NEWS_MAX);
    let (mut hosts, mut sources) = (Vec::new(), Vec::new());
    for one in opened {
        hosts.push(one.host);
        sources.push(one.source);
    }
    let live: Vec<bool> = hosts.iter().map(|h| h.origin.is_live()).collect();
    let mut state = launch::state(hosts, cli);
    if let Some(speed) = cli.speed {
        let cursor = &mut state.host_mut().cursor;
        (cursor.speed, cursor.position) = (speed, Position::Playing(0));
    }
    let Config { theme, keys, mouse } = config;
    let mut app = App { state, theme, keys, controls: Vec::new(), epoch };
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    // The loop runs on this thread, signals on the runtime's.
    runtime.block_on(async {
        let signals = Signals::watch().context("cannot watch for signals")?;
        let mut screen = Screen::enter(mouse).context("cannot take over the terminal")?;
        let mut workers = Vec::new();
        for (i, source) in sources.into_iter().enumerate() {
            let outbox = Outbox::new(HostId(i), sender.clone(), !live[i]);
            let settings = worker::Settings { starts: cli.start, live: live[i] };
            let (control, controls) = std::sync::mpsc::channel();
            app.controls.push(control);
            workers.push(worker::spawn(source, settings, outbox, controls, epoch)?);
        }
        drop(sender);
        app.run(&mut screen, news, signals).await
    })
}
