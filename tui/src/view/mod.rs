//! The screen: draws what the state says and changes nothing.

pub mod allocator;
pub mod blame;
pub mod blocks;
pub mod braille;
pub mod chart;
pub mod facts;
pub mod footer;
pub mod free_lists;
pub mod header;
pub mod help;
pub mod hit;
pub mod hosts;
pub mod map;
pub mod notes;
pub mod numbers;
pub mod overview;
pub mod palette;
pub mod pane;
pub mod region;
pub mod regions;
pub mod strip;
pub mod table;
pub mod theme;
pub mod who;

use fragscope_trace::event::TimeNs;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use crate::input::KeyMap;
use crate::state::State;
use crate::state::ui::{PromptKind, ViewId};
use theme::Theme;

/// What every part of the screen is drawn from.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// What is known and looked at.
    pub state: &'a State,
    /// How things look.
    pub theme: Theme,
    /// The keys in force.
    pub keys: &'a KeyMap,
}

impl Context<'_> {
    /// A time of the trace as the clock on the wall, empty where that is not known.
    fn time(&self, time_ns: TimeNs) -> String {
        let state = self.state;
        let clock = state.host().clock.as_ref();
        clock.map(|c| c.text(time_ns, state.now.wall, &state.zone)).unwrap_or_default()
    }
}

/// Draws the whole screen.
pub fn render(context: Context<'_>, area: Rect, buffer: &mut Buffer) {
    if area.height < 3 || area.width < 10 {
        return;
    }
    let (head, rest) = split_top(area, 1);
    let (body, foot) = split_top(rest, rest.height - 1);
    header::draw(context, head, buffer);
    match context.state.ui.view {
        ViewId::Hosts => hosts::draw(context, body, buffer),
        ViewId::Overview => overview::draw(context, body, buffer),
        ViewId::Regions if context.state.ui.region_open => region::draw(context, body, buffer),
        ViewId::Regions => regions::draw(context, body, buffer),
        ViewId::Blame => blame::draw(context, body, buffer),
        ViewId::Allocator => allocator::draw(context, body, buffer),
        ViewId::Health => facts::draw(context, body, buffer),
    }
    footer::draw(context, foot, buffer);
    if let Some(prompt) = context.state.ui.prompt.as_ref().filter(|p| p.kind == PromptKind::Command)
    {
        palette::draw(context, prompt, body, buffer);
    }
    if context.state.ui.help {
        help::draw(context, body, buffer);
    }
}

/// The first `rows` rows of an area, and the others.
#[must_use]
pub fn split_top(area: Rect, rows: u16) -> (Rect, Rect) {
    let rows = rows.min(area.height);
    let top = Rect { height: rows, ..area };
    let rest = Rect { y: area.y + rows, height: area.height - rows, ..area };
    (top, rest)
}
