//! The loop: keys, news, signals and the time go into the state; the state is drawn.

use std::future::poll_fn;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::mpsc::Sender;
use std::time::Duration;

use anyhow::{Context as _, Result};
use crossterm::event::{Event, EventStream, KeyEventKind, MouseButton, MouseEvent, MouseEventKind};
use futures_core::Stream;
use ratatui::layout::{Position, Rect};
use tokio::sync::mpsc::Receiver;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::engine::worker::Control;
use crate::epoch::Epoch;
use crate::export::svg;
use crate::input::{Action, KeyMap};
use crate::signals::{Signal, Signals};
use crate::state::act::{Effect, Typed};
use crate::state::host::Update;
use crate::state::{HostId, State};
use crate::term::Screen;
use crate::view::theme::Theme;
use crate::view::{Context, hit, render};

/// The time passes in steps of this: ten a second for what counts tenths.
const TICK: Duration = Duration::from_millis(100);
/// News alone redraw the screen no more often than this; keys do at once.
const REDRAW: Duration = Duration::from_millis(50);
/// News are taken in for so long before keys are looked at again.
const NEWS_AT_ONCE: Duration = Duration::from_millis(5);

/// Rows that one step of the mouse wheel moves by.
const WHEEL_ROWS: isize = 3;

/// Why the dashboard was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// The user wanted to.
    Quit,
    /// A signal came.
    Signal(Signal),
}

/// What the loop works with.
pub struct App {
    /// What is known and looked at.
    pub state: State,
    /// How it looks.
    pub theme: Theme,
    /// The keys.
    pub keys: KeyMap,
    /// To the hosts' workers, in their order.
    pub controls: Vec<Sender<Control>>,
    /// The beginning of time.
    pub epoch: Epoch,
}

impl App {
    /// Runs until the user or a signal ends it.
    ///
    /// # Errors
    /// If the terminal fails.
    pub async fn run(
        mut self,
        screen: &mut Screen,
        mut news: Receiver<(HostId, Update)>,
        mut signals: Signals,
    ) -> Result<Left> {
        let mut events = EventStream::new();
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut pending = true;
        let mut drawn = Instant::now();
        loop {
            if pending && drawn.elapsed() >= REDRAW {
                self.draw(screen)?;
                (pending, drawn) = (false, Instant::now());
            }
            let redraw_at = drawn + REDRAW;
            tokio::select! {
                biased;
                signal = signals.next() => return Ok(Left::Signal(signal)),
                event = next_event(&mut events) => {
                    let event = event.context("the terminal has gone")?;
                    if self.take(&event.context("cannot read keys")?) == Some(Effect::Quit) {
                        return Ok(Left::Quit);
                    }
                    self.draw(screen)?;
                    (pending, drawn) = (false, Instant::now());
                }
                Some((host, update)) = news.recv() => {
                    self.state.update(host, update);
                    let until = Instant::now() + NEWS_AT_ONCE;
                    while Instant::now() < until
                        && let Ok((host, update)) = news.try_recv()
                    {
                        self.state.update(host, update);
                    }
                    pending = true;
                }
                _ = tick.tick() => pending |= self.state.tick(self.epoch.read()),
                () = tokio::time::sleep_until(redraw_at), if pending => {}
            }
        }
    }

    fn draw(&self, screen: &mut Screen) -> Result<()> {
        let context = self.context();
        let draw = |frame: &mut ratatui::Frame<'_>| {
            let area = frame.area();
            render(context, area, frame.buffer_mut());
        };
        screen.terminal().draw(draw).context("cannot write to the terminal")?;
        Ok(())
    }

    fn context(&self) -> Context<'_> {
        Context { state: &self.state, theme: self.theme, keys: &self.keys }
    }

    /// Takes in what the terminal says.
    fn take(&mut self, event: &Event) -> Option<Effect> {
        let effect = match event {
            Event::Key(key) if key.kind != KeyEventKind::Release => {
                match self.state.type_key(*key) {
                    Typed::Taken(effect) => effect,
                    Typed::NotMine => self.state.act(self.keys.action(*key)?),
                }
            }
            Event::Mouse(mouse) => self.state.act(self.clicked(*mouse)?),
            _ => None,
        };
        match effect {
            Some(Effect::ExportSvg) => self.export(),
            Some(Effect::Save) => self.save(),
            Some(Effect::Quit) | None => {}
        }
        effect
    }

    /// What the mouse does: the wheel moves, a click selects or opens.
    fn clicked(&self, mouse: MouseEvent) -> Option<Action> {
        match mouse.kind {
            MouseEventKind::ScrollUp => Some(Action::Move(-WHEEL_ROWS)),
            MouseEventKind::ScrollDown => Some(Action::Move(WHEEL_ROWS)),
            MouseEventKind::Down(MouseButton::Left) => {
                let (width, height) = crossterm::terminal::size().ok()?;
                let at = Position { x: mouse.column, y: mouse.row };
                hit::action(self.context(), Rect::new(0, 0, width, height), at)
            }
            _ => None,
        }
    }

    /// Asks the host's worker to write what it keeps to a new file in the current directory.
    fn save(&mut self) {
        let stamp = self.state.now.wall.to_zoned(self.state.zone.clone());
        let host = self.state.host().name();
        let host: String = host.chars().filter(|c| c.is_alphanumeric() || *c == '-').collect();
        let name = format!("fragscope-{host}-{}.fst", stamp.strftime("%Y%m%d-%H%M%S"));
        let control = self.controls.get(self.state.selected_host());
        let asked = control.is_some_and(|c| c.send(Control::Save(name.into())).is_ok());
        let text = if asked { "saving .." } else { "the replay of this host has ended" };
        self.state.ui.message = Some(text.to_owned());
    }

    /// Writes the screen to a new file in the current directory.
    fn export(&mut self) {
        let (width, height) = crossterm::terminal::size().unwrap_or((120, 40));
        let stamp = self.state.now.wall.to_zoned(self.state.zone.clone());
        let view = self.state.ui.view.name();
        let name = format!("fragscope-{view}-{}.svg", stamp.strftime("%Y%m%d-%H%M%S"));
        let text = svg::screen(self.context(), width, height);
        self.state.ui.message = Some(match std::fs::write(PathBuf::from(&name), text) {
            Ok(()) => format!("written: {name}"),
            Err(error) => format!("cannot write {name}: {error}"),
        });
    }
}

/// What the terminal says next; `None` once it has gone.
async fn next_event(events: &mut EventStream) -> Option<std::io::Result<Event>> {
    poll_fn(|cx| Pin::new(&mut *events).poll_next(cx)).await
}
