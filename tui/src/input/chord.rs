//! A key with its modifiers, and its name.

use std::fmt;
use std::str::FromStr;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// A key as it is bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Chord {
    code: KeyCode,
    control: bool,
}

impl Chord {
    /// A key without modifiers.
    #[must_use]
    pub const fn key(code: KeyCode) -> Chord {
        Chord { code, control: false }
    }

    /// A character.
    #[must_use]
    pub const fn char(c: char) -> Chord {
        Chord::key(KeyCode::Char(c))
    }

    /// A character with Control.
    #[must_use]
    pub const fn control(c: char) -> Chord {
        Chord { code: KeyCode::Char(c), control: true }
    }

    /// The chord of a key event. Shift is part of the character, or of `BackTab`.
    #[must_use]
    pub fn of(event: KeyEvent) -> Chord {
        Chord { code: event.code, control: event.modifiers.contains(KeyModifiers::CONTROL) }
    }
}

/// Keys that have a name of their own.
const NAMED: [(&str, KeyCode); 16] = [
    ("space", KeyCode::Char(' ')),
    ("shift-tab", KeyCode::BackTab),
    ("pgup", KeyCode::PageUp),
    ("pgdn", KeyCode::PageDown),
    ("tab", KeyCode::Tab),
    ("enter", KeyCode::Enter),
    ("esc", KeyCode::Esc),
    ("backspace", KeyCode::Backspace),
    ("del", KeyCode::Delete),
    ("ins", KeyCode::Insert),
    ("up", KeyCode::Up),
    ("down", KeyCode::Down),
    ("left", KeyCode::Left),
    ("right", KeyCode::Right),
    ("home", KeyCode::Home),
    ("end", KeyCode::End),
];

/// No key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no key: expected a character, ^ and a character, f1 to f12, space, enter, ..")]
pub struct BadChord(String);

impl FromStr for Chord {
    type Err = BadChord;

    fn from_str(text: &str) -> Result<Chord, BadChord> {
        let single = |text: &str| {
            let mut chars = text.chars();
            chars.next().filter(|c| !c.is_control() && chars.next().is_none())
        };
        if let Some((_, code)) = NAMED.iter().find(|(name, _)| *name == text) {
            return Ok(Chord::key(*code));
        }
        if let Some(c) = single(text) {
            return Ok(Chord::char(c));
        }
        if let Some(c) = text.strip_prefix('^').and_then(single) {
            return Ok(Chord::control(c));
        }
        let number = text.strip_prefix('f').and_then(|n| n.parse().ok());
        match number.filter(|n| (1..=12).contains(n)) {
            Some(n) => Ok(Chord::key(KeyCode::F(n))),
            None => Err(BadChord(text.to_owned())),
        }
    }
}

impl fmt::Display for Chord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.control {
            f.write_str("^")?;
        }
        match self.code {
            KeyCode::Char(c) if c != ' ' => write!(f, "{c}"),
            code => match NAMED.iter().find(|(_, known)| *known == code) {
                Some((name, _)) => f.write_str(name),
                None => f.write_str(&code.to_string().to_lowercase()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chords_have_short_names() {
        let names = [
            Chord::char(' '),
            Chord::char('?'),
            Chord::control('c'),
            Chord::key(KeyCode::Up),
            Chord::key(KeyCode::BackTab),
            Chord::key(KeyCode::Esc),
        ]
        .map(|c| c.to_string());
        assert_eq!(names, ["space", "?", "^c", "up", "shift-tab", "esc"]);
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        let named = NAMED.iter().map(|(_, code)| Chord::key(*code));
        let others = [Chord::char('^'), Chord::control('x'), Chord::key(KeyCode::F(11))];
        for chord in named.chain(others) {
            assert_eq!(chord.to_string().parse(), Ok(chord), "{chord}");
        }
        for bad in ["", "f13", "ctrl-x", "^^^", "upp"] {
            assert!(bad.parse::<Chord>().is_err(), "{bad}");
        }
    }
}
