//! Which key does what, and how that is shown.

use std::collections::HashMap;

use crossterm::event::{KeyCode, KeyEvent};
use thiserror::Error;

use super::action::Action;
use super::chord::Chord;
use super::command::COMMANDS;
use crate::state::ui::ViewId;

/// Actions that are shown together.
#[derive(Clone, Debug, PartialEq)]
pub struct Binding {
    /// Keys and what each does.
    pub keys: Vec<(Chord, Action)>,
    /// A line of the help.
    pub help: &'static str,
    /// Section of the help.
    pub section: Section,
    /// A word for the footer, if it belongs there.
    pub footer: Option<&'static str>,
}

/// Parts of the help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// Views.
    Views,
    /// Lists.
    Lists,
    /// The time cursor.
    Time,
    /// The rest.
    General,
}

impl Section {
    /// All sections in the order of the help.
    pub const ALL: [Section; 4] = [Section::Views, Section::Lists, Section::Time, Section::General];

    /// Its heading.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Section::Views => "views",
            Section::Lists => "lists",
            Section::Time => "time",
            Section::General => "general",
        }
    }
}

/// The bindings in force.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyMap {
    bindings: Vec<Binding>,
}

impl KeyMap {
    /// What a key event does.
    #[must_use]
    pub fn action(&self, event: KeyEvent) -> Option<Action> {
        let chord = Chord::of(event);
        let mut keys = self.bindings.iter().flat_map(|b| &b.keys);
        keys.find(|(c, _)| *c == chord).map(|(_, action)| *action)
    }

    /// All bindings, in the order of the help.
    #[must_use]
    pub fn bindings(&self) -> &[Binding] {
        &self.bindings
    }

    /// The keys of an action.
    #[must_use]
    pub fn chords_of(&self, action: Action) -> Vec<Chord> {
        let keys = self.bindings.iter().flat_map(|b| &b.keys);
        keys.filter(|(_, a)| *a == action).map(|(chord, _)| *chord).collect()
    }

    /// Gives actions other keys than they have.
    ///
    /// # Errors
    /// If a key is wanted twice, also by an action that keeps its own, or an action gets none.
    pub fn rebind(&mut self, wanted: &[(Action, Vec<Chord>)]) -> Result<(), BadBinding> {
        for (action, chords) in wanted {
            let name = |a: Action| COMMANDS.iter().find(|c| c.action == a).map_or("", |c| c.name);
            if chords.is_empty() {
                return Err(BadBinding::Unreachable(name(*action)));
            }
            if *chords == self.chords_of(*action) {
                continue;
            }
            for binding in &mut self.bindings {
                let Some(at) = binding.keys.iter().position(|(_, a)| a == action) else {
                    continue;
                };
                binding.keys.retain(|(_, a)| a != action);
                let keys = chords.iter().map(|chord| (*chord, *action));
                let at = at.min(binding.keys.len());
                binding.keys.splice(at..at, keys);
            }
        }
        let mut seen: HashMap<Chord, Action> = HashMap::new();
        for (chord, action) in self.bindings.iter().flat_map(|b| &b.keys) {
            if let Some(other) = seen.insert(*chord, *action)
                && other != *action
            {
                let name =
                    |a: Action| COMMANDS.iter().find(|c| c.action == a).map_or("", |c| c.name);
                return Err(BadBinding::Twice(*chord, name(other), name(*action)));
            }
        }
        Ok(())
    }

    /// The key shown for an action: the first bound to it.
    #[must_use]
    pub fn key_of(&self, action: Action) -> Option<Chord> {
        let mut keys = self.bindings.iter().flat_map(|b| &b.keys);
        keys.find(|(_, a)| *a == action).map(|(chord, _)| *chord)
    }
}

impl Default for KeyMap {
    fn default() -> KeyMap {
        let bindings = [views(), lists(), time(), general()].concat();
        KeyMap { bindings }
    }
}

/// Keys that cannot be bound so.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BadBinding {
    /// One key, two actions.
    #[error("`{0}` is bound to both {1} and {2}: give one of them another key")]
    Twice(Chord, &'static str, &'static str),
    /// An action that no key does.
    #[error("{0} has no key: expected at least one")]
    Unreachable(&'static str),
}

fn bind<const N: usize>(
    section: Section,
    keys: [(Chord, Action); N],
    help: &'static str,
    footer: Option<&'static str>,
) -> Binding {
    Binding { keys: keys.to_vec(), help, section, footer }
}

fn ch(c: char, action: Action) -> (Chord, Action) {
    (Chord::char(c), action)
}

fn key(code: KeyCode, action: Action) -> (Chord, Action) {
    (Chord::key(code), action)
}

fn views() -> Vec<Binding> {
    let tab = |number: char, view: ViewId, help: &'static str| {
        bind(Section::Views, [ch(number, Action::View(view))], help, None)
    };
    vec![
        tab('0', ViewId::Hosts, "hosts: a line for each, where there are several"),
        tab('1', ViewId::Overview, "overview: how many 1 GiB pages, and where"),
        tab('2', ViewId::Regions, "regions: each 1 GiB region in every track"),
        tab('3', ViewId::Blame, "blame: who tainted regions"),
        tab('4', ViewId::Allocator, "allocator: counters of the policies"),
        tab('5', ViewId::Health, "health: rates, losses, fidelity, own cost"),
        bind(
            Section::Views,
            [
                key(KeyCode::Tab, Action::NextView),
                key(KeyCode::BackTab, Action::PreviousView),
                key(KeyCode::Right, Action::NextView),
                key(KeyCode::Left, Action::PreviousView),
            ],
            "next, previous view",
            None,
        ),
        bind(
            Section::Views,
            [ch('b', Action::ToggleStart)],
            "policy tracks as-found (from now on) or from-boot (had it ruled since boot)",
            Some("start"),
        ),
        bind(Section::Views, [ch('H', Action::NextHost)], "next host", None),
    ]
}

fn lists() -> Vec<Binding> {
    let list = Section::Lists;
    vec![
        bind(
            list,
            [
                key(KeyCode::Up, Action::Move(-1)),
                key(KeyCode::Down, Action::Move(1)),
                ch('k', Action::Move(-1)),
                ch('j', Action::Move(1)),
            ],
            "move the selection",
            None,
        ),
        bind(
            list,
            [key(KeyCode::PageUp, Action::Page(-1)), key(KeyCode::PageDown, Action::Page(1))],
            "move by a page",
            None,
        ),
        bind(
            list,
            [
                ch('g', Action::First),
                ch('G', Action::Last),
                key(KeyCode::Home, Action::First),
                key(KeyCode::End, Action::Last),
            ],
            "first, last row; beginning, newest where there is no list",
            None,
        ),
        bind(
            list,
            [
                key(KeyCode::Enter, Action::Enter),
                key(KeyCode::Esc, Action::Back),
                ch('l', Action::Enter),
                ch('h', Action::Back),
            ],
            "open, close",
            None,
        ),
        bind(
            list,
            [ch('s', Action::Sort), ch('S', Action::ReverseSort)],
            "sort by the next column, turn the order round",
            Some("sort"),
        ),
        bind(list, [ch('/', Action::Filter)], "show only rows with a text", Some("filter")),
    ]
}

fn time() -> Vec<Binding> {
    let time = Section::Time;
    vec![
        bind(time, [ch(' ', Action::Pause)], "pause, go on; play a recording", Some("pause")),
        bind(
            time,
            [ch('[', Action::Step(-1)), ch(']', Action::Step(1))],
            "one sample back, on",
            Some("step"),
        ),
        bind(
            time,
            [ch('{', Action::Minutes(-1)), ch('}', Action::Minutes(1))],
            "one minute back, on",
            None,
        ),
        bind(
            time,
            [ch('n', Action::Taint(1)), ch('N', Action::Taint(-1))],
            "next, previous taint of the kernel track",
            Some("taint"),
        ),
        bind(time, [ch('L', Action::FirstLoss)], "where the first 1 GiB page was lost", None),
        bind(time, [ch('t', Action::GoToTime)], "go to a time", Some("time")),
        bind(
            time,
            [ch('>', Action::Speed(1)), ch('<', Action::Speed(-1))],
            "play faster, slower",
            None,
        ),
        bind(
            time,
            [ch('+', Action::Zoom(1)), ch('-', Action::Zoom(-1)), ch('=', Action::Zoom(1))],
            "less, more time in the charts",
            Some("zoom"),
        ),
    ]
}

fn general() -> Vec<Binding> {
    let general = Section::General;
    vec![
        bind(general, [ch('?', Action::Help)], "this help", Some("help")),
        bind(general, [ch(':', Action::Palette)], "type a command", Some("command")),
        bind(
            general,
            [ch('w', Action::Save)],
            "write what is kept of a live trace to a file",
            None,
        ),
        bind(general, [ch('x', Action::ExportSvg)], "write this screen to an SVG file", None),
        bind(
            general,
            [ch('q', Action::Quit), (Chord::control('c'), Action::Quit)],
            "quit",
            Some("quit"),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_key_is_bound_twice() {
        let map = KeyMap::default();
        let mut seen = HashSet::new();
        for (chord, _) in map.bindings().iter().flat_map(|b| &b.keys) {
            assert!(seen.insert(*chord), "{chord} is bound twice");
        }
    }

    #[test]
    fn every_view_has_its_number() {
        let map = KeyMap::default();
        for (i, view) in ViewId::ALL.into_iter().enumerate() {
            let digit = char::from_digit(i as u32, 10).expect("few views");
            assert_eq!(map.key_of(Action::View(view)), Some(Chord::char(digit)));
        }
    }

    #[test]
    fn control_is_not_ignored() {
        use crossterm::event::KeyModifiers;
        let map = KeyMap::default();
        let event = |modifiers| KeyEvent::new(KeyCode::Char('c'), modifiers);
        assert_eq!(map.action(event(KeyModifiers::CONTROL)), Some(Action::Quit));
        assert_eq!(map.action(event(KeyModifiers::NONE)), None);
    }
}
