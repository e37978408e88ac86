//! A key with its modifiers, and its name.

use std::fmt;

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

impl fmt::Display for Chord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.control {
            f.write_str("^")?;
        }
        match self.code {
            KeyCode::Char(' ') => f.write_str("space"),
            KeyCode::Char(c) => write!(f, "{c}"),
            KeyCode::BackTab => f.write_str("shift-tab"),
            KeyCode::PageUp => f.write_str("pgup"),
            KeyCode::PageDown => f.write_str("pgdn"),
            code => f.write_str(&code.to_string().to_lowercase()),
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
}
