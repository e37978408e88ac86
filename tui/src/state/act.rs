//! What each action does to the state.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use fragscope_replay::observe::StartState;
use fragscope_trace::event::TimeNs;

use super::hosts::hosts;
use super::rows::{regions, row_count, sorts};
use super::seek::{Wanted, parse};
use super::ui::{Prompt, PromptKind, ViewId, ZOOMS};
use super::{HostId, State};
use crate::input::Action;
use crate::input::command::matching;

/// What the program must do outside the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Leave.
    Quit,
    /// Write the screen to a file.
    ExportSvg,
    /// Write what is kept of the live trace to a file.
    Save,
}

/// What became of a key that was typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Typed {
    /// No prompt is open: the key means what it is bound to.
    NotMine,
    /// The prompt took it.
    Taken(Option<Effect>),
}

const SECOND_NS: u64 = 1_000_000_000;
/// Rows that a page of a list moves by.
const PAGE_ROWS: isize = 10;
/// The help is never longer than this.
const HELP_LINES_MAX: usize = 60;

impl State {
    /// Does what the user asked for.
    pub fn act(&mut self, action: Action) -> Option<Effect> {
        let effect = self.act_unseen(action);
        self.host_mut().refresh();
        effect
    }

    fn act_unseen(&mut self, action: Action) -> Option<Effect> {
        self.ui.message = None;
        match action {
            Action::Quit => return Some(Effect::Quit),
            Action::ExportSvg => return Some(Effect::ExportSvg),
            Action::Save => return self.save(),
            Action::Help => {
                self.ui.help = !self.ui.help;
                self.ui.help_scroll = 0;
            }
            Action::View(view) => self.show(view),
            Action::NextView => self.show(self.ui.view.neighbour(1, self.hosts.len())),
            Action::PreviousView => self.show(self.ui.view.neighbour(-1, self.hosts.len())),
            Action::Move(by) => self.move_by(by),
            Action::Page(by) => self.move_by(by * PAGE_ROWS),
            Action::First => self.go_to_end(false),
            Action::Last => self.go_to_end(true),
            Action::Select(row) => self.ui.list_mut().selected = row,
            Action::OpenRegion(index) => self.open_region(index),
            Action::GoTo(time_ns) => self.host_mut().seek(time_ns),
            Action::Enter => self.enter(),
            Action::Back => self.back(),
            Action::Pause => self.pause(),
            Action::Step(by) => self.host_mut().step(by),
            Action::Minutes(by) => self.host_mut().shift_ns(by * 60_000_000_000),
            Action::Taint(by) => self.seek_taint(by > 0),
            Action::FirstLoss => self.seek_first_loss(),
            Action::Speed(by) => self.change_speed(by),
            Action::Zoom(by) => self.zoom(by),
            Action::Sort => self.sort(),
            Action::ReverseSort => self.ui.list_mut().reversed ^= true,
            Action::Filter => self.prompt(PromptKind::Filter),
            Action::Palette => self.prompt(PromptKind::Command),
            Action::GoToTime => self.prompt(PromptKind::Time),
            Action::ToggleStart => self.toggle_start(),
            Action::NextHost => self.next_host(),
        }
        None
    }

    fn show(&mut self, view: ViewId) {
        self.ui.help = false;
        if !ViewId::of(self.hosts.len()).contains(&view) {
            self.ui.message = Some("there is only one host: --connect takes several".to_owned());
            return;
        }
        self.ui.view = view;
    }

    fn enter(&mut self) {
        match self.ui.view {
            ViewId::Regions if self.ui.region_open => self.ui.free_lists ^= true,
            ViewId::Regions => self.ui.region_open = true,
            ViewId::Hosts => {
                let list = self.ui.list(ViewId::Hosts);
                let rows = hosts(self, list);
                let index = rows.get(list.selected.min(rows.len().saturating_sub(1)));
                if let Some(index) = index.map(|r| r.index) {
                    self.show_host(index);
                    self.show(ViewId::Overview);
                }
            }
            _ => {}
        }
    }

    /// Out of what is open, then out of a filter, then out of the host.
    fn back(&mut self) {
        if self.ui.help {
            self.ui.help = false;
        } else if self.ui.view == ViewId::Regions && self.ui.region_open {
            self.ui.region_open = false;
        } else if !self.ui.list_mut().filter.is_empty() {
            self.ui.list_mut().filter.clear();
        } else if self.hosts.len() > 1 {
            self.show(ViewId::Hosts);
        }
    }

    /// Opens a region by its position in the tracks' lists, whatever the list of regions hides.
    fn open_region(&mut self, index: usize) {
        self.ui.view = ViewId::Regions;
        let row = |state: &State| {
            let list = state.ui.list(ViewId::Regions);
            let sample = state.host().shown()?;
            let rows = regions(state.host(), sample, state.ui.start, list);
            rows.iter().position(|r| r.index == index)
        };
        let found = row(self).or_else(|| {
            self.ui.list_mut().filter.clear();
            row(self)
        });
        if let Some(selected) = found {
            self.ui.list_mut().selected = selected;
            self.ui.region_open = true;
        }
    }

    /// Scrolls the help where it is open; in an open region, moves to its neighbour in the list.
    fn move_by(&mut self, by: isize) {
        if self.ui.help {
            self.ui.help_scroll = self.ui.help_scroll.saturating_add_signed(by).min(HELP_LINES_MAX);
            return;
        }
        let open = std::mem::take(&mut self.ui.region_open);
        let rows = row_count(self);
        self.ui.region_open = open;
        if let Some(rows) = rows {
            self.ui.list_mut().move_by(by, rows);
        }
    }

    fn go_to_end(&mut self, last: bool) {
        match (row_count(self), last) {
            (Some(_), false) => self.ui.list_mut().selected = 0,
            (Some(rows), true) => self.ui.list_mut().selected = rows.saturating_sub(1),
            (None, false) => self.go_to(Wanted::Start),
            (None, true) => self.go_to(Wanted::End),
        }
    }

    fn pause(&mut self) {
        let host = self.host_mut();
        if let Some(range) = host.range() {
            let live = host.is_growing() && host.origin.is_live();
            host.cursor.toggle(range, live);
        }
    }

    fn change_speed(&mut self, by: isize) {
        self.host_mut().cursor.change_speed(by);
        self.ui.message = Some(format!("speed {}x", self.host().cursor.speed));
    }

    fn seek_taint(&mut self, forward: bool) {
        if !self.host_mut().seek_taint(forward) {
            let side = if forward { "after" } else { "before" };
            let known = self.so_far();
            self.ui.message =
                Some(format!("no taint of the kernel track {side} this moment{known}"));
        }
    }

    fn seek_first_loss(&mut self) {
        if !self.host_mut().seek_first_loss() {
            let known = self.so_far();
            self.ui.message = Some(format!("no 1 GiB page was lost since the beginning{known}"));
        }
    }

    /// What to add to a search without result.
    fn so_far(&self) -> &'static str {
        if self.host().is_being_read() { ", as far as the recording is read" } else { "" }
    }

    /// Only a live trace is not in a file already.
    fn save(&mut self) -> Option<Effect> {
        if self.host().origin.is_live() {
            return Some(Effect::Save);
        }
        self.ui.message = Some("this is a recording: it is in a file already".to_owned());
        None
    }

    fn zoom(&mut self, by: isize) {
        let last = ZOOMS.len() - 1;
        self.ui.zoom = self.ui.zoom.saturating_add_signed(-by).min(last);
    }

    fn sort(&mut self) {
        let columns = sorts(self.ui.view);
        if !columns.is_empty() {
            let list = self.ui.list_mut();
            list.sort = (list.sort + 1) % columns.len();
            self.ui.message = Some(format!("sorted by {}", columns[list.sort]));
        }
    }

    fn toggle_start(&mut self) {
        let other = match self.ui.start {
            StartState::AsFound => StartState::FromBoot,
            _ => StartState::AsFound,
        };
        let has = |s: &std::sync::Arc<fragscope_replay::observe::Sample>| {
            s.tracks.iter().any(|t| t.start == other)
        };
        if self.host().shown().is_none_or(has) {
            self.ui.start = other;
        } else {
            let why = self.host().left_out.as_deref();
            let why = why.unwrap_or("the other start is still being made");
            self.ui.message = Some(format!("only as found is replayed: {why}"));
        }
    }

    fn prompt(&mut self, kind: PromptKind) {
        let text = match kind {
            PromptKind::Filter if sorts(self.ui.view).is_empty() => {
                self.ui.message = Some("this view has no list to filter".to_owned());
                return;
            }
            PromptKind::Filter => self.ui.list(self.ui.view).filter.clone(),
            PromptKind::Time | PromptKind::Command => String::new(),
        };
        self.ui.prompt = Some(Prompt { kind, text, selected: 0 });
    }

    /// Gives a key to the prompt, if one is open.
    pub fn type_key(&mut self, key: KeyEvent) -> Typed {
        let Some(prompt) = &mut self.ui.prompt else {
            return Typed::NotMine;
        };
        let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('c') if is_control => self.ui.prompt = None,
            KeyCode::Char(c) if !is_control => {
                prompt.text.push(c);
                prompt.selected = 0;
            }
            KeyCode::Backspace => {
                prompt.text.pop();
                prompt.selected = 0;
            }
            KeyCode::Up => prompt.selected = prompt.selected.saturating_sub(1),
            KeyCode::Down => {
                let last = matching(&prompt.text).len().saturating_sub(1);
                prompt.selected = (prompt.selected + 1).min(last);
            }
            KeyCode::Esc => self.ui.prompt = None,
            KeyCode::Enter => return Typed::Taken(self.answer()),
            _ => {}
        }
        Typed::Taken(None)
    }

    fn answer(&mut self) -> Option<Effect> {
        let prompt = self.ui.prompt.take()?;
        match prompt.kind {
            PromptKind::Filter => {
                let list = self.ui.list_mut();
                list.filter = prompt.text.to_lowercase();
                list.selected = 0;
            }
            PromptKind::Time => self.seek_text(&prompt.text),
            PromptKind::Command => match matching(&prompt.text).get(prompt.selected) {
                Some(command) => return self.act(command.action),
                None => self.ui.message = Some(format!("`{}` is no command", prompt.text)),
            },
        }
        None
    }

    /// Goes to a time as people type it; says what is wrong with it in the footer.
    pub fn seek_text(&mut self, text: &str) {
        let host = self.host();
        let (Some(clock), Some(range)) = (&host.clock, host.range()) else {
            self.ui.message = Some("nothing is kept yet".to_owned());
            return;
        };
        match parse(text, clock.at(range.1), &self.zone) {
            Ok(wanted) => self.go_to(wanted),
            Err(error) => self.ui.message = Some(error.to_string()),
        }
        self.host_mut().refresh();
    }

    /// Moves the time cursor; says so where there is nothing, or nothing yet, at that time.
    fn go_to(&mut self, wanted: Wanted) {
        let id = HostId(self.selected);
        let host = self.host_mut();
        let (Some(range), Some(clock)) = (host.range(), &host.clock) else {
            return;
        };
        let time_ns = match wanted {
            Wanted::Start => range.0,
            Wanted::End => {
                host.cursor.position = super::cursor::Position::Newest;
                return;
            }
            Wanted::Offset(by) => host.cursor.time_ns(range).saturating_add_signed(by),
            Wanted::Wall(time) => clock.host_ns(time),
        };
        let outside = self.say_if_outside(id, time_ns);
        let host = self.host_mut();
        if !outside || host.is_being_read() || matches!(wanted, Wanted::Offset(_)) {
            host.seek(time_ns);
        }
    }

    /// Says what is kept, or read, where a time lies outside of that; returns whether it does.
    pub(super) fn say_if_outside(&mut self, id: HostId, time_ns: TimeNs) -> bool {
        let host = &self.hosts[id.0];
        let (Some(range), Some(clock)) = (host.range(), &host.clock) else {
            return false;
        };
        // A time of day names a whole second, and the range need not begin at one.
        let early = time_ns.saturating_add(SECOND_NS) < range.0;
        let late = time_ns > range.1.saturating_add(SECOND_NS);
        let text = |t| clock.text(t, self.now.wall, &self.zone);
        let message = match host.is_being_read() {
            true if late => format!(
                "{} is not read yet, only up to {}: it is shown when it comes (space: stay here)",
                text(time_ns),
                text(range.1)
            ),
            true => format!("the recording begins at {}", text(range.0)),
            false => format!("recorded range is {} - {}", text(range.0), text(range.1)),
        };
        if (early || late) && id.0 == self.selected {
            self.ui.message = Some(message);
        }
        early || late
    }
}
